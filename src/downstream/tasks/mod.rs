//! The downstream tasks: a file each.

mod detect;
mod finetune;
mod ground;
mod masks;
mod probe;
mod retrieve;
mod segment;
mod zero_shot;

pub use segment::{Loss, Segmenting, Transfer};

use super::classified::mean;
use super::cohort::fraction;
use super::evaluation::{Evaluation, percent};
use super::learner::Fitted;
use super::report::{FEW, Figure};
use super::subject::Part;
use crate::base::counted;
use crate::data::Split;
use crate::error::Error;

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Classification by prompts.
    ZeroShot,
    /// Linear classification on frozen features.
    Probe,
    /// Classification with the whole encoder.
    Finetune,
    /// Segmentation by a U-Net.
    Segment,
    /// Phrase grounding.
    Ground,
    /// Detection by a YOLOv3 head.
    Detect,
    /// Reports for films, and films for reports.
    Retrieve,
    /// Pseudo masks against true masks.
    Masks,
}

impl Task {
    /// All, the quickest first.
    pub const ALL: [Self; 8] = [
        Self::ZeroShot,
        Self::Retrieve,
        Self::Ground,
        Self::Masks,
        Self::Probe,
        Self::Segment,
        Self::Finetune,
        Self::Detect,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZeroShot => "zero-shot",
            Self::Probe => "probe",
            Self::Finetune => "finetune",
            Self::Segment => "segment",
            Self::Ground => "ground",
            Self::Detect => "detect",
            Self::Retrieve => "retrieve",
            Self::Masks => "masks",
        }
    }

    /// Parts of the pre-trained model without which it cannot be done.
    pub(super) fn parts(self) -> &'static [Part] {
        match self {
            Self::Probe | Self::Masks => &[Part::Encoder, Part::ImageProjection],
            Self::Finetune | Self::Segment | Self::Detect => &[Part::Encoder],
            Self::ZeroShot | Self::Ground | Self::Retrieve => &[Part::Encoder, Part::ImageProjection, Part::Text],
        }
    }

    pub(super) fn run(self, evaluation: &mut Evaluation<'_>) -> Result<Vec<Figure>, Error> {
        match self {
            Self::ZeroShot => zero_shot::run(evaluation),
            Self::Probe => probe::run(evaluation),
            Self::Finetune => finetune::run(evaluation),
            Self::Segment => segment::run(evaluation),
            Self::Ground => ground::run(evaluation),
            Self::Detect => detect::run(evaluation),
            Self::Retrieve => retrieve::run(evaluation),
            Self::Masks => masks::run(evaluation),
        }
    }
}

/// Refuses a task without labels, and notes the classes that the test films cannot tell apart.
fn need_classes(evaluation: &mut Evaluation<'_>, task: Task) -> Result<(), Error> {
    let cohort = evaluation.cohort;
    let (films, truth) = cohort.labelled(Split::Test);
    let folder = cohort.dataset.folder().display();
    if cohort.classes.is_empty() || films.is_empty() {
        let what = "no film of the test split has a label in `findings`; label them and pack again";
        return Err(Error::Usage(format!("{} cannot be done on {folder}: {what}", task.name())));
    }
    let count = cohort.classes.len();
    let one_sided: Vec<&str> = (0..count)
        .filter(|&class| is_one_sided(&truth, count, class))
        .map(|class| cohort.classes[class].as_str())
        .collect();
    if one_sided.len() == count {
        let what = "every class has only films with it, or only films without it, in the test split";
        return Err(Error::Usage(format!("{} cannot be done on {folder}: {what}", task.name())));
    }
    let unknown: usize =
        Split::ALL.iter().map(|&split| cohort.split(split).len() - cohort.labelled(split).0.len()).sum();
    if unknown > 0 {
        let unknown = counted(unknown, "film");
        evaluation.note(format!("left out of classification, with nothing stated in `findings`: {unknown}"));
    }
    if !one_sided.is_empty() {
        evaluation
            .note(format!("classes with no film, or with every film, in the test split: {}", one_sided.join(", ")));
    }
    note_rare(evaluation);
    Ok(())
}

/// Notes the classes that few films of the test split have, or lack: their intervals say more than is known.
fn note_rare(evaluation: &mut Evaluation<'_>) {
    let cohort = evaluation.cohort;
    let (_, truth) = cohort.labelled(Split::Test);
    let classes = cohort.classes.len();
    let rare = |class: usize| {
        let has = truth.iter().skip(class).step_by(classes);
        let (films, with) = (has.clone().count(), has.filter(|&&has| has).count());
        let fewer = with.min(films - with);
        (1..FEW).contains(&fewer).then(|| format!("{} ({with} of {films})", cohort.classes[class]))
    };
    let rare: Vec<String> = (0..classes).filter_map(rare).collect();
    if !rare.is_empty() {
        let what = "do not rely on their figures and intervals, which resample these few";
        evaluation.note(format!("classes that few test films have, or lack: {}: {what}", rare.join(", ")));
    }
}

/// Whether all films have the class or none has; `truth` is [films, classes].
fn is_one_sided(truth: &[bool], classes: usize, class: usize) -> bool {
    let mut has = truth.iter().skip(class).step_by(classes);
    let first = has.next();
    has.all(|has| Some(has) == first)
}

/// Of the classes that the test films tell apart notes those that no training film has which is drawn for `part`, in one or more
/// of the draws of `count` seeds.
fn note_unlearned(evaluation: &mut Evaluation<'_>, task: Task, part: f64, count: u64) {
    let cohort = evaluation.cohort;
    let (films, truth) = cohort.labelled(Split::Train);
    let films: Vec<usize> = (0..films.len()).collect();
    let draws: Vec<Vec<usize>> = evaluation.seeds(count).map(|seed| fraction(&films, part, seed)).collect();
    let classes = cohort.classes.len();
    let (_, test) = cohort.labelled(Split::Test);
    let absent = |class: usize| draws.iter().any(|draw| !draw.iter().any(|film| truth[film * classes + class]));
    let absent: Vec<&str> = (0..classes)
        .filter(|&class| absent(class) && !is_one_sided(&test, classes, class))
        .map(|class| cohort.classes[class].as_str())
        .collect();
    if !absent.is_empty() {
        let (name, percent, all) = (task.name(), percent(part), absent.join(", "));
        let draws = if count > 1 { format!("in at least one of {count} draws ") } else { String::new() };
        evaluation.note(format!(
            "{name}, {percent} % of training: {draws}no film has {all}: nothing is learned of them, and their AUC counts in the mean"
        ));
    }
}

/// Notes that no validation film told the best weights from the last ones: none is what `lacking` says.
fn note_unjudged(evaluation: &mut Evaluation<'_>, task: Task, fitted: &Fitted, lacking: &str) {
    if fitted.best.is_none() {
        let what = "so the last weights are kept, not the best";
        evaluation.note(format!("{}: no validation film {lacking}, {what}", task.name()));
    }
}

/// Binary cross entropy of logits, the mean; `None` of no films.
fn bce(logits: &[f64], truth: &[bool]) -> Option<f64> {
    let one = |(&x, &has): (&f64, &bool)| (if has { -x } else { x }).max(0.0) + (-x.abs()).exp().ln_1p();
    mean(logits.iter().zip(truth).map(one).collect())
}

/// Cross entropy of the softmax of logits [films, classes] whose films have one class each, the mean; `None` of no films.
fn cross_entropy(logits: &[f64], truth: &[bool], classes: usize) -> Option<f64> {
    let one = |(logits, truth): (&[f64], &[bool])| {
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|&logit| (logit - most).exp()).sum();
        let own = logits.iter().zip(truth).find(|&(_, &has)| has).map_or(most, |(&logit, _)| logit);
        most + sum.ln() - own
    };
    mean(logits.chunks_exact(classes).zip(truth.chunks_exact(classes)).map(one).collect())
}
