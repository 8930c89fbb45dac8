//! What a phantom shows: the kinds of findings, where they are and how large, and the lots that choose them.

use crate::base::random::Rng;

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Hazy, ill-defined whitening through which vessels still show.
    Opacity,
    /// Dense airspace filling with air bronchograms.
    Consolidation,
    /// A round, well-defined lesion.
    Nodule,
    /// Fluid in the pleural space.
    Effusion,
    /// Air in the pleural space.
    Pneumothorax,
    /// An enlarged heart.
    Cardiomegaly,
    /// A tube, a line or a generator.
    Device(Device),
}

/// A device on the film.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// In the windpipe.
    EndotrachealTube,
    /// Through the gullet into the stomach.
    NasogastricTube,
    /// From a neck or shoulder vein into the superior vena cava.
    CentralLine,
    /// Through the chest wall into the pleural space.
    ChestTube,
    /// A generator under the clavicle with leads into the heart.
    Pacemaker,
}

/// The patient's side; the patient's right is on the left of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The patient's right.
    Right,
    /// The patient's left.
    Left,
    /// Both lungs.
    Both,
    /// Midline: the heart, the windpipe.
    Middle,
}

/// A third of the lung's height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Above the hilum.
    Upper,
    /// At the hilum.
    Mid,
    /// Below the hilum.
    Lower,
}

/// How large a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// Just visible.
    Small,
    /// In between.
    Moderate,
    /// Dominates its side.
    Large,
}

/// One finding of a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Which side.
    pub side: Side,
    /// Which third of the lung; none for the heart and for devices that cross zones.
    pub zone: Option<Zone>,
    /// How large; none for devices.
    pub size: Option<Size>,
}

impl Kind {
    /// The label in `pairs.csv` and `boxes.csv`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Opacity => "Opacity",
            Self::Consolidation => "Consolidation",
            Self::Nodule => "Nodule",
            Self::Effusion => "Effusion",
            Self::Pneumothorax => "Pneumothorax",
            Self::Cardiomegaly => "Cardiomegaly",
            Self::Device(_) => "Device",
        }
    }
}

impl Side {
    /// The lungs concerned: 0 right, 1 left.
    pub(super) fn lungs(self) -> &'static [usize] {
        match self {
            Self::Right => &[0],
            Self::Left => &[1],
            Self::Both => &[0, 1],
            Self::Middle => &[],
        }
    }
}

/// The findings of one film: none in about one of six, two in about one of ten.
pub(super) fn draw(rng: &mut Rng) -> Vec<Finding> {
    if rng.chance(0.17) {
        return Vec::new();
    }
    let first = one(rng);
    if rng.chance(0.88) {
        return vec![first];
    }
    // Two findings differ in kind and share no lung, so that each shows.
    let second = (0..64).map(|_| one(rng)).find(|second| {
        second.kind.label() != first.kind.label()
            && !second.side.lungs().iter().any(|lung| first.side.lungs().contains(lung))
    });
    [first].into_iter().chain(second).collect()
}

fn one(rng: &mut Rng) -> Finding {
    const DEVICES: [Device; 5] =
        [Device::EndotrachealTube, Device::NasogastricTube, Device::CentralLine, Device::ChestTube, Device::Pacemaker];
    let kind = match rng.below(100) {
        0..20 => Kind::Opacity,
        20..38 => Kind::Consolidation,
        38..52 => Kind::Nodule,
        52..68 => Kind::Effusion,
        68..79 => Kind::Pneumothorax,
        79..91 => Kind::Cardiomegaly,
        _ => Kind::Device(*rng.pick(&DEVICES)),
    };
    let one_side = *rng.pick(&[Side::Right, Side::Left]);
    let side = match kind {
        Kind::Cardiomegaly | Kind::Device(Device::EndotrachealTube | Device::NasogastricTube) => Side::Middle,
        Kind::Opacity | Kind::Effusion if rng.chance(0.15) => Side::Both,
        _ => one_side,
    };
    let zone = match kind {
        Kind::Opacity | Kind::Consolidation | Kind::Nodule => Some(*rng.pick(&[Zone::Upper, Zone::Mid, Zone::Lower])),
        Kind::Pneumothorax if rng.chance(0.25) => Some(Zone::Lower),
        Kind::Pneumothorax => Some(Zone::Upper),
        Kind::Effusion => Some(Zone::Lower),
        Kind::Cardiomegaly | Kind::Device(_) => None,
    };
    let size = (!matches!(kind, Kind::Device(_))).then(|| *rng.pick(&[Size::Small, Size::Moderate, Size::Large]));
    Finding { kind, side, zone, size }
}
