//! Figures of a classification: AUC of each class and their mean, and the accuracy where classes exclude each other, with
//! intervals.

use super::evaluation::figure;
use super::metrics::classification::{auc, top1};
use super::report::Figure;
use super::tasks::Task;
use crate::base::Estimate;

/// What was predicted for the test films.
pub struct Classified<'a> {
    /// Names of the classes.
    pub classes: &'a [String],
    /// Whether each film has each class [films, classes].
    pub truth: &'a [bool],
    /// Scores [films, classes], more is more likely; of each repetition.
    pub scores: &'a [Vec<f64>],
}

impl Classified<'_> {
    /// Films.
    pub fn films(&self) -> usize {
        self.truth.len() / self.classes.len()
    }

    /// Scores and truth of a class for films at these places.
    pub fn class(&self, class: usize, repetition: usize, films: &[usize]) -> (Vec<f64>, Vec<bool>) {
        let at = |&film: &usize| film * self.classes.len() + class;
        let scores = &self.scores[repetition];
        (films.iter().map(|film| scores[at(film)]).collect(), films.iter().map(|film| self.truth[at(film)]).collect())
    }

    /// The mean over repetitions of the AUC of a class; `None` where all films have it or none has.
    fn auc(&self, class: usize, films: &[usize]) -> Option<f64> {
        let of = |repetition| {
            let (scores, truth) = self.class(class, repetition, films);
            auc(&scores, &truth).ok()
        };
        mean((0..self.scores.len()).map(of).collect::<Option<Vec<f64>>>()?)
    }

    /// The mean over the classes of which there is an AUC.
    fn macro_auc(&self, films: &[usize]) -> Option<f64> {
        mean((0..self.classes.len()).filter_map(|class| self.auc(class, films)).collect())
    }

    /// The figures: a class without positives or without negatives among the test films has none.
    pub fn aucs(&self, task: Task, setting: &str) -> Vec<Figure> {
        let films = self.films();
        let class = |class: usize| {
            let estimate = Estimate::of_statistic(films, |films| self.auc(class, films))?;
            Some(figure(task, setting, &self.classes[class], "AUC", estimate))
        };
        let whole: Vec<usize> = (0..films).collect();
        let repeated = |repetition: usize| {
            let one = Classified { scores: &self.scores[repetition..=repetition], ..*self };
            one.macro_auc(&whole)
        };
        let all = Estimate::of_statistic(films, |films| self.macro_auc(films)).map(|estimate| Figure {
            seeds: match self.scores.len() {
                1 => Vec::new(),
                count => (0..count).filter_map(repeated).collect(),
            },
            ..figure(task, setting, "macro", "AUC", estimate)
        });
        all.into_iter().chain((0..self.classes.len()).filter_map(class)).collect()
    }

    /// The part of films whose highest score is that of their class, the mean over repetitions; for classes that exclude
    /// each other.
    pub fn accuracy(&self, task: Task, setting: &str) -> Option<Figure> {
        let classes = self.classes.len();
        let label = |film: &[bool]| film.iter().position(|&has| has);
        let labels: Vec<usize> = self.truth.chunks_exact(classes).map(label).collect::<Option<_>>()?;
        let hits: Vec<Vec<f64>> =
            self.scores.iter().map(|scores| top1(scores, classes, &labels).ok()).collect::<Option<_>>()?;
        let film = |film: usize| hits.iter().map(|hits| hits[film]).sum::<f64>() / hits.len() as f64;
        let estimate = Estimate::of_mean(&(0..labels.len()).map(film).collect::<Vec<f64>>())?;
        Some(figure(task, setting, "all", "top-1", estimate))
    }
}

/// The mean of what there is.
pub fn mean(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn an_auc_is_the_mean_over_repetitions_and_over_classes_that_have_one() {
        let classes = named(&["a", "b", "all have it"]);
        let truth = [true, false, true, true, true, true, false, false, true, false, false, true];
        // Four films of three classes. Of a: every positive above every negative, then three of four pairs, one tied.
        let first = vec![0.9, 0.1, 0.3, 0.8, 0.9, 0.9, 0.2, 0.2, 0.5, 0.1, 0.3, 0.1];
        let second = vec![0.9, 0.9, 0.3, 0.4, 0.2, 0.9, 0.4, 0.3, 0.5, 0.3, 0.4, 0.1];
        let repeated = [first, second];
        let classified = Classified { classes: &classes, truth: &truth, scores: &repeated };
        let figures = classified.aucs(Task::Probe, "setting");
        let names: Vec<&str> = figures.iter().map(|figure| figure.class.as_str()).collect();
        assert_eq!(names, ["macro", "a", "b"]);
        let values: Vec<f64> = figures.iter().map(|figure| figure.estimate.value).collect();
        // a: 1 and 3.5 of 4; b: 1 and none.
        let (a, b) = ((1.0 + 0.875) / 2.0, 0.5);
        assert_eq!(values, [(a + b) / 2.0, a, b]);
        assert_eq!(figures[0].seeds, [1.0, (0.875 + 0.0) / 2.0]);
        let once = Classified { scores: &repeated[..1], ..classified };
        assert!(once.aucs(Task::Probe, "setting").iter().all(|figure| figure.seeds.is_empty()));
    }

    #[test]
    fn nothing_is_said_where_all_classes_have_one_side() {
        let classes = named(&["a", "b"]);
        let classified = Classified { classes: &classes, truth: &[true, false, true, false], scores: &[vec![0.5; 4]] };
        assert!(classified.aucs(Task::Probe, "setting").is_empty());
    }

    #[test]
    fn an_accuracy_is_the_mean_of_what_each_repetition_hits() {
        let classes = named(&["a", "b", "c"]);
        let truth = [true, false, false, false, true, false];
        let scores = [vec![0.9, 0.1, 0.2, 0.9, 0.1, 0.2], vec![0.9, 0.1, 0.2, 0.1, 0.9, 0.2]];
        let classified = Classified { classes: &classes, truth: &truth, scores: &scores };
        let found = classified.accuracy(Task::Probe, "setting").unwrap();
        assert_eq!((found.estimate.value, found.estimate.n, found.class.as_str()), (0.75, 2, "all"));
        // A film without any class is of none that could be hit.
        let unknown = Classified { truth: &[true, false, false, false, false, false], ..classified };
        assert_eq!(unknown.accuracy(Task::Probe, "setting"), None);
    }
}
