//! Reports in a radiologist's style: each finding with size, side and zone in fixed words, then what is not there.

use super::finding::{Device, Finding, Kind, Side, Size, Zone};
use super::wording::Words;
use crate::base::random::Rng;

/// Fewest and most words of a report.
const WORDS: [usize; 2] = [10, 40];

/// Writes a report on exactly these findings; an empty slice is a normal film.
pub(super) fn write(words: &Words, findings: &[Finding], view: &str, rng: &mut Rng) -> String {
    let mut sentences: Vec<String> = findings.iter().map(|finding| found(words, finding, rng)).collect();
    if findings.is_empty() {
        sentences.push((*rng.pick(words.normal)).into());
    }
    rng.shuffle(&mut sentences);
    let first = sentences.len();
    let mut rest: Vec<_> =
        words.rest.iter().filter(|(kinds, _)| !findings.iter().any(|it| kinds.contains(&it.kind))).collect();
    rng.shuffle(&mut rest);
    let wanted = (first + 1 + rng.below(2)).min(5);
    let (mut denied, mut plain) = (Vec::<Kind>::new(), 0);
    for (kinds, text) in rest {
        let count = count_words(&sentences);
        if sentences.len() >= wanted && count >= WORDS[0] {
            break;
        }
        // At most two lines on the parts that are never abnormal here.
        let again = kinds.iter().any(|kind| denied.contains(kind)) || (kinds.is_empty() && plain == 2);
        if !again && count + count_words(&[*text]) <= WORDS[1] {
            denied.extend(*kinds);
            plain += usize::from(kinds.is_empty());
            sentences.push((*text).into());
        }
    }
    if words.findings_last {
        sentences.rotate_left(first);
    }
    if rng.chance(0.3) && sentences.len() < 5 && count_words(&sentences) + 5 <= WORDS[1] {
        sentences.insert(0, rng.pick(words.openings).replace("{view}", view));
    }
    sentences.join(" ")
}

fn count_words<S: AsRef<str>>(sentences: &[S]) -> usize {
    sentences.iter().map(|sentence| sentence.as_ref().split_whitespace().count()).sum()
}

/// One sentence on one finding.
fn found(words: &Words, finding: &Finding, rng: &mut Rng) -> String {
    let both = finding.side == Side::Both;
    let phrase = phrase(words, finding, rng);
    let detail = if rng.chance(0.3) { detail(words, finding.kind) } else { "" };
    let phrase = format!("{phrase}{detail}");
    let article = match phrase.as_bytes()[0] {
        _ if both || finding.kind == Kind::Cardiomegaly => "",
        b'a' | b'e' | b'i' | b'o' | b'u' => "an ",
        _ => "a ",
    };
    let is = if both { "are" } else { "is" };
    let sentence = rng.pick(words.sentences).replace("{is}", is).replace("{a}", article).replace("{phrase}", &phrase);
    sentence[..1].to_uppercase() + &sentence[1..]
}

/// What it is, how large and where.
fn phrase(words: &Words, finding: &Finding, rng: &mut Rng) -> String {
    let nouns = match finding.kind {
        Kind::Opacity => words.opacity,
        Kind::Consolidation => words.consolidation,
        Kind::Nodule => words.nodule,
        Kind::Effusion => words.effusion,
        Kind::Pneumothorax => words.pneumothorax,
        Kind::Cardiomegaly | Kind::Device(_) => &[],
    };
    let phrases = match (finding.kind, finding.side) {
        (Kind::Cardiomegaly, _) => words.heart,
        (Kind::Device(Device::EndotrachealTube), _) => words.endotracheal_tube,
        (Kind::Device(Device::NasogastricTube), _) => words.nasogastric_tube,
        (Kind::Device(Device::CentralLine), _) => words.central_line,
        (Kind::Device(Device::ChestTube), _) => words.chest_tube,
        (Kind::Device(Device::Pacemaker), _) => words.pacemaker,
        (_, Side::Both) => words.both_sides,
        _ => words.one_side,
    };
    let [noun, plural] = if nouns.is_empty() { [""; 2] } else { *rng.pick(nouns) };
    let size = finding.size.unwrap_or(Size::Moderate);
    let phrase = rng.pick(phrases).replace("{noun}", noun).replace("{nouns}", plural);
    let phrase = phrase.replace("{zone}", words.zones[finding.zone.unwrap_or(Zone::Mid) as usize]);
    let phrase = phrase.replace("{grade}", words.grades[size as usize]);
    let phrase = phrase.replace("{size}", ["small", "moderate", "large"][size as usize]);
    phrase.replace("{side}", if finding.side == Side::Right { "right" } else { "left" })
}

fn detail(words: &Words, kind: Kind) -> &'static str {
    match kind {
        Kind::Opacity => words.details[0],
        Kind::Consolidation => words.details[1],
        Kind::Nodule => words.details[2],
        Kind::Effusion => words.details[3],
        Kind::Pneumothorax => words.details[4],
        Kind::Cardiomegaly | Kind::Device(_) => "",
    }
}
