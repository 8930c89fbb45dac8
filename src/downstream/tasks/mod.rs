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
use super::evaluation::Evaluation;
use super::report::Figure;
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
    let having = |class: usize| truth.chunks_exact(count).filter(|film| film[class]).count();
    let one_sided: Vec<&str> = (0..count)
        .filter(|&class| [0, films.len()].contains(&having(class)))
        .map(|class| cohort.classes[class].as_str())
        .collect();
    if one_sided.len() == count {
        let what = "every class has only films with it, or only films without it, in the test split";
        return Err(Error::Usage(format!("{} cannot be done on {folder}: {what}", task.name())));
    }
    let (_, learned) = cohort.labelled(Split::Train);
    let unlearned: Vec<&str> = (0..count)
        .filter(|&class| !one_sided.contains(&cohort.classes[class].as_str()))
        .filter(|&class| !learned.chunks_exact(count).any(|film| film[class]))
        .map(|class| cohort.classes[class].as_str())
        .collect();
    let unknown: usize =
        Split::ALL.iter().map(|&split| cohort.split(split).len() - cohort.labelled(split).0.len()).sum();
    if unknown > 0 {
        let unknown = counted(unknown, "film");
        evaluation.note(format!("left out of classification, with nothing stated in `findings`: {unknown}"));
    }
    if !unlearned.is_empty() && matches!(task, Task::Probe | Task::Finetune) {
        let all = unlearned.join(", ");
        evaluation.note(format!(
            "no training film has {all}: heads learned nothing of them, and their AUC counts in the mean"
        ));
    }
    if !one_sided.is_empty() {
        evaluation
            .note(format!("classes with no film, or with every film, in the test split: {}", one_sided.join(", ")));
    }
    Ok(())
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
