//! The two styles of phantoms: whose chests they show, how the films are taken, and in which words they are reported.

use super::wording::{self, Words};

/// Which phantoms: the findings, labels, masks and boxes mean the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// What a model is trained on.
    #[default]
    Training,
    /// What it is tested on: other chests, other films, and reports that share no sentence with those of training.
    Evaluation,
}

impl Style {
    /// Begins the names of its films.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Training => "ph",
            Self::Evaluation => "pe",
        }
    }

    pub(super) fn build(self) -> &'static Build {
        match self {
            Self::Training => &BUILDS[0],
            Self::Evaluation => &BUILDS[1],
        }
    }

    pub(super) fn technique(self) -> &'static Technique {
        match self {
            Self::Training => &TECHNIQUES[0],
            Self::Evaluation => &TECHNIQUES[1],
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::Training => &wording::TRAINING,
            Self::Evaluation => &wording::EVALUATION,
        }
    }
}

/// The least and the most that is drawn.
pub(super) type Span = [f32; 2];

/// Chests of a style; see [`super::anatomy::Anatomy`] for what is drawn and in which units.
#[derive(Debug)]
pub(super) struct Build {
    pub reach: Span,
    /// From the lungs' reach to the half-width of the trunk.
    pub flank: Span,
    pub dome: Span,
    /// Width of the heart to that of the thorax, if it is not enlarged.
    pub ratio: Span,
    /// How far the heart reaches right of the midline; the less, the more it lies on the left.
    pub right: Span,
    /// How far below the usual place the left ventricle is widest: the axis of the heart.
    pub axis: Span,
    pub knob: Span,
    /// The air's attenuation as a share of the chest's.
    pub air: Span,
    pub slope: Span,
    pub bend: Span,
    pub bone: Span,
    pub markings: Span,
    /// Ribs on each side, how many fit the height of a lung, and how steep they are against the usual.
    pub ribs: usize,
    pub ribs_a_lung: Span,
    pub steep: Span,
}

const BUILDS: [Build; 2] = [
    Build {
        reach: [0.9, 1.02],
        flank: [0.16, 0.36],
        dome: [0.34, 0.66],
        ratio: [0.4, 0.49],
        right: [0.24, 0.3],
        axis: [0.0, 0.0],
        knob: [0.24, 0.34],
        air: [0.56, 0.66],
        slope: [0.25, 0.55],
        bend: [-0.03, 0.03],
        bone: [0.75, 1.2],
        markings: [0.7, 1.2],
        ribs: 10,
        ribs_a_lung: [9.6, 10.6],
        steep: [1.0, 1.0],
    },
    Build {
        reach: [0.8, 0.92],
        flank: [0.28, 0.46],
        dome: [0.5, 0.78],
        ratio: [0.37, 0.46],
        right: [0.17, 0.24],
        axis: [0.05, 0.12],
        knob: [0.3, 0.38],
        air: [0.5, 0.6],
        slope: [0.5, 0.75],
        bend: [-0.07, 0.07],
        bone: [0.55, 0.9],
        markings: [1.0, 1.5],
        ribs: 9,
        ribs_a_lung: [8.2, 9.2],
        steep: [1.3, 1.7],
    },
];

/// How films of a style are taken.
#[derive(Debug)]
pub(super) struct Technique {
    /// Width to height at the bedside and elsewhere.
    pub bedside_aspects: &'static [f32],
    pub aspects: &'static [f32],
    /// Half the thorax as a share of the film's width.
    pub fit: Span,
    /// Turn in the film's plane: deviation and limit, radians.
    pub turn: [f32; 2],
    /// Turn about the body's long axis; see [`super::anatomy::Pose`].
    pub turned: Span,
    /// Weight of the focal blur.
    pub blur: Span,
    /// Scattered radiation at the bedside and elsewhere.
    pub bedside_scatter: Span,
    pub scatter: Span,
    /// Photons against the usual: the fewer, the noisier.
    pub photons: Span,
    /// Shares of films with lifted local contrast, collimated borders, a letter (and a left one), cables.
    pub equalised: f64,
    pub collimated: f64,
    pub lettered: f64,
    pub left: f64,
    pub cables: f64,
    pub gamma: Span,
}

const TECHNIQUES: [Technique; 2] = [
    Technique {
        bedside_aspects: &[1.22, 1.22, 1.15, 1.0, 1.0, 0.83],
        aspects: &[0.83, 0.83, 0.9, 1.0, 1.0, 1.1, 1.22],
        fit: [0.38, 0.46],
        turn: [0.025, 0.08],
        turned: [-0.05, 0.05],
        blur: [0.1, 0.45],
        bedside_scatter: [0.2, 0.45],
        scatter: [0.1, 0.3],
        photons: [0.5, 2.5],
        equalised: 0.6,
        collimated: 0.4,
        lettered: 0.75,
        left: 0.6,
        cables: 0.25,
        gamma: [0.85, 1.15],
    },
    Technique {
        bedside_aspects: &[1.0, 0.9, 0.9, 0.83],
        aspects: &[0.8, 0.8, 0.86, 0.95],
        fit: [0.42, 0.5],
        turn: [0.05, 0.13],
        turned: [-0.08, 0.08],
        blur: [0.4, 0.8],
        bedside_scatter: [0.35, 0.6],
        scatter: [0.25, 0.45],
        photons: [0.15, 0.6],
        equalised: 0.25,
        collimated: 0.7,
        lettered: 0.9,
        left: 0.2,
        cables: 0.5,
        gamma: [1.1, 1.4],
    },
];
