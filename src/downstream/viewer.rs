//! A model held open for a person who looks at film after film: what it makes of each, beside findings and reports.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::cohort::Cohort;
use super::encoder::normalise;
use super::explain::{Explainer, Explanation};
use super::prompts::{Prompts, Sides, scores};
use super::subject::{Part, Subject};
use crate::data::Dataset;
use crate::error::Error;
use crate::train::Resources;

/// What is asked of a film where no data say what is looked for: the findings that chest films are most often labelled with.
const FINDINGS: &[&str] = &[
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
    "Pneumonia",
    "Pneumothorax",
    "Nodule",
];
/// Reports that are shown with a film.
const NEAREST: usize = 5;
/// Reports that are embedded between two looks at whether to stop.
const AT_ONCE: usize = 64;

/// How likely prompts make a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// See [`scores`]: above one half, the film is nearer to the sentences that say that it is there.
    pub score: f64,
}

/// A report that is like a film.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Near {
    /// Name of the film that it was packed with.
    pub id: String,
    /// The report, as it was packed.
    pub text: String,
    /// Labels of that film, as they were packed.
    pub findings: String,
    /// Cosine between the film that is looked at and the report.
    pub similarity: f64,
}

/// What a model makes of a film.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// How its masks come about, and where the phrase is true.
    pub explanation: Explanation,
    /// Findings, in the order of [`Viewer::findings`].
    pub findings: Vec<Finding>,
    /// The nearest reports, the nearest first.
    pub reports: Vec<Near>,
}

/// Reports that are searched: distinct texts, and their embeddings [reports, projection_dim] of length 1.
struct Reports {
    dataset: Arc<Dataset>,
    /// The first film of each text.
    samples: Vec<usize>,
    rows: Vec<f32>,
}

/// See the [module](self).
pub struct Viewer {
    explainer: Explainer,
    findings: Vec<String>,
    /// Of each finding.
    sides: Vec<Sides>,
    reports: Option<Reports>,
    notes: Vec<String>,
}

impl Viewer {
    /// The model of `subject`; reports are searched and findings named as in `data`, where it is given. `progress` is told how many
    /// reports are read, and how many there are.
    ///
    /// # Errors
    /// If weights or tokenizer do not fit, a record cannot be read, or it was `cancelled`.
    pub fn open(
        subject: &Subject,
        on: &Resources,
        data: Option<Arc<Dataset>>,
        progress: &dyn Fn(usize, usize),
        cancelled: &AtomicBool,
    ) -> Result<Self, Error> {
        if data.is_some() {
            subject.needs("a search among reports", &[Part::Text])?;
        }
        // A search among reports says itself that it needs the tokenizer.
        let with_texts = subject.has(Part::Text) && (data.is_some() || subject.tokenizer.exists());
        let explainer = Explainer::open(subject, on, with_texts)?;
        let mut viewer = Self { explainer, findings: Vec::new(), sides: Vec::new(), reports: None, notes: Vec::new() };
        if !with_texts {
            let missing = match subject.has(Part::Text) {
                true => format!("there is no {}", subject.tokenizer.display()),
                false => "these weights have no text tower".into(),
            };
            viewer.notes.push(format!("{missing}: neither phrases nor findings are asked for"));
            return Ok(viewer);
        }
        match data {
            None => viewer.ask(FINDINGS.iter().map(|&name| name.to_owned()).collect())?,
            Some(data) => {
                viewer.ask(Cohort::of(data.clone())?.classes)?;
                viewer.reports = Some(Reports::read(data, &mut viewer.explainer, progress, cancelled)?);
            }
        }
        Ok(viewer)
    }

    /// Embeds the prompts of findings.
    fn ask(&mut self, findings: Vec<String>) -> Result<(), Error> {
        for finding in findings {
            match Sides::of(&Prompts::of(&finding), |sentences| self.explainer.prompts(sentences)) {
                Ok(sides) => {
                    self.findings.push(finding);
                    self.sides.push(sides);
                }
                // A model of short texts has no room for the prompts of long names.
                Err(Error::Usage(why)) => self.notes.push(format!("{finding} is not asked for: {why}")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Pixels along a side of a film.
    pub fn side(&self) -> usize {
        self.explainer.config().image_size
    }

    /// Whether a phrase may be given.
    pub fn takes_phrases(&self) -> bool {
        self.explainer.takes_texts()
    }

    /// Findings that are scored.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Distinct reports that are searched.
    pub fn reports(&self) -> usize {
        self.reports.as_ref().map_or(0, |reports| reports.samples.len())
    }

    /// What was left out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the model makes of a film of gray values [side, side] and a phrase.
    ///
    /// # Errors
    /// As [`Explainer::explain`], or if a report that was read at the start cannot be read any more.
    pub fn view(&mut self, pixels: &[u8], text: Option<&str>) -> Result<View, Error> {
        let explanation = self.explainer.explain(pixels, text)?;
        let film: Vec<f32> = self.explainer.embedding()?.into_iter().map(|number| number as f32).collect();
        let scored = self.findings.iter().cloned().zip(scores(&film, &self.sides));
        let findings = scored.map(|(name, score)| Finding { name, score }).collect();
        let reports = self.reports.as_ref().map(|reports| reports.nearest(film)).transpose()?.unwrap_or_default();
        Ok(View { explanation, findings, reports })
    }
}

impl Reports {
    /// Embeds every distinct text of a data set, once for all films that will be looked at.
    fn read(
        dataset: Arc<Dataset>,
        explainer: &mut Explainer,
        progress: &dyn Fn(usize, usize),
        cancelled: &AtomicBool,
    ) -> Result<Self, Error> {
        let with_text = dataset.select(None, true);
        let (mut samples, mut rows, mut known) = (Vec::new(), Vec::new(), HashSet::new());
        for (done, part) in with_text.chunks(AT_ONCE).enumerate() {
            progress(done * AT_ONCE, with_text.len());
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Stopped("reports were being read, nothing was written".into()));
            }
            let mut texts = Vec::new();
            for &sample in part {
                let text = dataset.record(sample)?.text;
                if known.insert(blake3::hash(text.as_bytes())) {
                    samples.push(sample);
                    texts.push(text);
                }
            }
            rows.extend(explainer.reports(&texts)?);
        }
        if samples.is_empty() {
            let folder = dataset.folder().display();
            return Err(Error::Usage(format!(
                "{folder} has no film with a report; leave out --data, or give other shards"
            )));
        }
        Ok(Self { dataset, samples, rows })
    }

    fn nearest(&self, mut film: Vec<f32>) -> Result<Vec<Near>, Error> {
        let width = film.len();
        normalise(&mut film, width);
        let cosine = |row: &[f32]| row.iter().zip(&film).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut found: Vec<(f64, usize)> =
            self.rows.chunks_exact(width).map(cosine).zip(self.samples.iter().copied()).collect();
        // Of equal ones the one that was packed first.
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let near = |(similarity, sample): (f64, usize)| {
            let record = self.dataset.record(sample)?;
            Ok(Near { id: record.id, text: record.text, findings: record.findings, similarity })
        };
        found.into_iter().take(NEAREST).map(near).collect()
    }
}
