//! Reports in a radiologist's style: each finding with size, side and zone in fixed words, then what is not there.

use super::finding::{Device, Finding, Kind, Side, Size, Zone};
use crate::base::random::Rng;

/// Fewest and most words of a report.
const WORDS: [usize; 2] = [10, 40];

/// What may be said of the rest of the film; a line is used only where none of its kinds is present, and each kind
/// is denied at most once.
const REST: &[(&[Kind], &str)] = &[
    (&[Kind::Effusion, Kind::Pneumothorax], "No pleural effusion or pneumothorax."),
    (&[Kind::Effusion, Kind::Pneumothorax], "There is no pneumothorax or pleural effusion."),
    (&[Kind::Consolidation, Kind::Effusion], "No focal consolidation or pleural effusion."),
    (&[Kind::Consolidation, Kind::Effusion, Kind::Pneumothorax], "No consolidation, pleural effusion or pneumothorax."),
    (&[Kind::Effusion], "No pleural effusion."),
    (&[Kind::Effusion], "There is no pleural effusion."),
    (&[Kind::Effusion], "The costophrenic angles are sharp."),
    (&[Kind::Pneumothorax], "No pneumothorax."),
    (&[Kind::Pneumothorax], "There is no evidence of pneumothorax."),
    (&[Kind::Consolidation], "No focal consolidation."),
    (&[Kind::Consolidation, Kind::Opacity], "No consolidation or opacity."),
    (&[Kind::Nodule], "No pulmonary nodule is identified."),
    (&[Kind::Opacity, Kind::Consolidation, Kind::Nodule, Kind::Effusion, Kind::Pneumothorax], "The lungs are clear."),
    (&[Kind::Opacity, Kind::Consolidation, Kind::Nodule, Kind::Effusion, Kind::Pneumothorax], "Clear lungs."),
    (&[Kind::Cardiomegaly], "Heart size is normal."),
    (&[Kind::Cardiomegaly], "The heart is normal in size."),
    (&[Kind::Cardiomegaly], "Normal cardiac silhouette."),
    (&[Kind::Cardiomegaly], "The heart is not enlarged."),
    (&[Kind::Cardiomegaly], "No cardiomegaly."),
    (&[], "The mediastinal contours are unremarkable."),
    (&[], "The mediastinum is not widened."),
    (&[], "The trachea is midline."),
    (&[], "No acute bony abnormality."),
    (&[], "The bones are intact."),
    (&[], "No rib fracture is seen."),
    (&[], "The hila are normal."),
];

/// Writes a report on exactly these findings; an empty slice is a normal film.
pub(super) fn write(findings: &[Finding], view: &str, rng: &mut Rng) -> String {
    let mut sentences: Vec<String> = findings.iter().map(|finding| found(finding, rng)).collect();
    if findings.is_empty() {
        const NORMAL: [&str; 5] = [
            "Normal chest radiograph.",
            "No acute cardiopulmonary abnormality.",
            "Normal study.",
            "No acute cardiopulmonary disease.",
            "The chest is normal.",
        ];
        sentences.push((*rng.pick(&NORMAL)).into());
    }
    rng.shuffle(&mut sentences);
    let mut rest: Vec<_> =
        REST.iter().filter(|(kinds, _)| !findings.iter().any(|it| kinds.contains(&it.kind))).collect();
    rng.shuffle(&mut rest);
    let wanted = (sentences.len() + 1 + rng.below(2)).min(5);
    let (mut denied, mut plain) = (Vec::<Kind>::new(), 0);
    for (kinds, text) in rest {
        let words = count_words(&sentences);
        if sentences.len() >= wanted && words >= WORDS[0] {
            break;
        }
        // At most two lines on the parts that are never abnormal here.
        let again = kinds.iter().any(|kind| denied.contains(kind)) || (kinds.is_empty() && plain == 2);
        if !again && words + count_words(&[*text]) <= WORDS[1] {
            denied.extend(*kinds);
            plain += usize::from(kinds.is_empty());
            sentences.push((*text).into());
        }
    }
    if rng.chance(0.3) && sentences.len() < 5 && count_words(&sentences) + 5 <= WORDS[1] {
        let opening = [format!("{view} chest radiograph."), format!("{view} view of the chest.")];
        sentences.insert(0, rng.pick(&opening).clone());
    }
    sentences.join(" ")
}

fn count_words<S: AsRef<str>>(sentences: &[S]) -> usize {
    sentences.iter().map(|sentence| sentence.as_ref().split_whitespace().count()).sum()
}

/// One sentence on one finding.
fn found(finding: &Finding, rng: &mut Rng) -> String {
    let both = finding.side == Side::Both;
    let phrase = match finding.kind {
        Kind::Device(device) => device_phrase(device, finding.side, rng),
        Kind::Cardiomegaly => heart_phrase(finding.size, rng),
        kind => located_phrase(kind, finding, rng),
    };
    let detail = if rng.chance(0.3) { detail(finding.kind) } else { "" };
    let phrase = format!("{phrase}{detail}");
    let article = match phrase.as_bytes()[0] {
        _ if both || finding.kind == Kind::Cardiomegaly => "",
        b'a' | b'e' | b'i' | b'o' | b'u' => "an ",
        _ => "a ",
    };
    let (is, seen) = if both { ("are", "are seen") } else { ("is", "is seen") };
    let forms = [
        format!("{phrase}."),
        format!("There {is} {article}{phrase}."),
        format!("{article}{phrase} {seen}."),
        format!("{article}{phrase} {is} present."),
    ];
    let sentence = rng.pick(&forms).clone();
    sentence[..1].to_uppercase() + &sentence[1..]
}

fn located_phrase(kind: Kind, finding: &Finding, rng: &mut Rng) -> String {
    let nouns: &[[&str; 2]] = match kind {
        Kind::Opacity => &[
            ["hazy opacity", "hazy opacities"],
            ["ill-defined opacity", "ill-defined opacities"],
            ["patchy opacity", "patchy opacities"],
            ["ground-glass opacity", "ground-glass opacities"],
        ],
        Kind::Consolidation => &[
            ["consolidation", "consolidations"],
            ["dense consolidation", "dense consolidations"],
            ["airspace consolidation", "airspace consolidations"],
            ["focal consolidation", "focal consolidations"],
        ],
        Kind::Nodule => {
            &[["nodule", "nodules"], ["rounded nodule", "rounded nodules"], ["pulmonary nodule", "pulmonary nodules"]]
        }
        Kind::Effusion => &[["pleural effusion", "pleural effusions"]],
        _ => &[["pneumothorax", "pneumothoraces"]],
    };
    let [noun, plural] = rng.pick(nouns);
    let (size, zone) = (size_word(finding.size), zone_word(finding.zone));
    let phrases = match finding.side {
        Side::Both => vec![
            format!("{size} bilateral {plural} in the {zone} zones"),
            format!("{size} bilateral {zone} zone {plural}"),
            format!("{size} {plural} in both {zone} zones, bilateral"),
        ],
        side => {
            let side = side_word(side);
            vec![
                format!("{size} {noun} in the {side} {zone} zone"),
                format!("{size} {noun} in the {zone} zone of the {side} lung"),
                format!("{size} {side} {zone} zone {noun}"),
                format!("{size} {side} {noun} in the {zone} zone"),
            ]
        }
    };
    rng.pick(&phrases).clone()
}

fn heart_phrase(size: Option<Size>, rng: &mut Rng) -> String {
    let grade = match size {
        Some(Size::Small) => "mild",
        Some(Size::Large) => "severe",
        _ => "moderate",
    };
    let phrases = [
        format!("{grade} cardiomegaly"),
        format!("{grade} cardiomegaly with enlarged cardiac silhouette"),
        format!("{grade} cardiomegaly with enlarged heart"),
    ];
    rng.pick(&phrases).clone()
}

fn device_phrase(device: Device, side: Side, rng: &mut Rng) -> String {
    let side = side_word(side);
    let phrases = match device {
        Device::EndotrachealTube => {
            vec!["endotracheal tube with tip above the carina".into(), "endotracheal tube within the trachea".into()]
        }
        Device::NasogastricTube => {
            vec!["nasogastric tube with tip in the stomach".into(), "nasogastric tube below the diaphragm".into()]
        }
        Device::CentralLine => vec![
            format!("{side} central venous catheter with tip in the superior vena cava"),
            format!("{side} central venous catheter"),
        ],
        Device::ChestTube => {
            vec![format!("{side} chest tube"), format!("{side} chest tube with tip towards the apex")]
        }
        Device::Pacemaker => {
            vec![format!("{side} pacemaker with leads over the heart"), format!("{side} chest wall pacemaker")]
        }
    };
    rng.pick(&phrases).clone()
}

/// A detail that goes with a kind; no word of another kind, side, zone or size is in it.
fn detail(kind: Kind) -> &'static str {
    match kind {
        Kind::Opacity => " with preserved vessels",
        Kind::Consolidation => " with air bronchograms",
        Kind::Nodule => " with smooth margins",
        Kind::Effusion => " with blunting of the costophrenic angle",
        Kind::Pneumothorax => " with a visible pleural line",
        Kind::Cardiomegaly | Kind::Device(_) => "",
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Right => "right",
        Side::Left => "left",
        Side::Both => "bilateral",
        Side::Middle => "midline",
    }
}

fn zone_word(zone: Option<Zone>) -> &'static str {
    match zone {
        Some(Zone::Upper) => "upper",
        Some(Zone::Lower) => "lower",
        _ => "mid",
    }
}

fn size_word(size: Option<Size>) -> &'static str {
    match size {
        Some(Size::Small) => "small",
        Some(Size::Large) => "large",
        _ => "moderate",
    }
}
