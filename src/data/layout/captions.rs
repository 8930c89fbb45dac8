//! What a film's text is made of, by the name of those who did so.

use super::sections::Sections;

/// How a report becomes the text that is trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Captions {
    /// Impression, then findings, else the last paragraph, as written; white space folded.
    #[default]
    Default,
    /// MGCA's (mgca/datasets/pretrain_dataset.py): words in small letters, sentences of one word and numbering dropped,
    /// no full stops; at least three words.
    Mgca,
    /// The released G2D code's (PRETRAIN/utils/dataset.py): impression and findings with nothing between them, the words
    /// FINDINGS and COMPARISON taken out, sentences of digits dropped.
    Official,
}

impl Captions {
    /// `default`, `mgca` or `official`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Mgca => "mgca",
            Self::Official => "official",
        }
    }

    /// Whether the last paragraph and the studies singled out ([`super::sections::singled_out`]) are used; the tables that
    /// MGCA and G2D start from have neither.
    pub fn whole_reports(self) -> bool {
        self == Self::Default
    }

    /// The text; empty if nothing is left.
    pub fn text(self, sections: &Sections) -> String {
        let Sections { impression, findings, last_paragraph } = sections;
        match self {
            Self::Default if impression.is_empty() && findings.is_empty() => folded(last_paragraph),
            Self::Default => folded(&format!("{impression} {findings}")),
            Self::Mgca => mgca(&format!("{impression} {findings}")),
            Self::Official => official(impression, findings),
        }
    }
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fewest words that MGCA keeps.
const WORDS: usize = 3;

fn mgca(text: &str) -> String {
    let text = text.replace('\n', " ").replace("\u{fffd}\u{fffd}", " ").to_lowercase();
    let pieces: Vec<&str> = text.split('.').collect();
    let mut words: Vec<String> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        // Digits before a full stop number what follows.
        let numbered = at + 1 < pieces.len();
        let piece = if numbered { piece.trim_end_matches(|letter: char| letter.is_ascii_digit()) } else { piece };
        let found = piece.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let sentence: Vec<&str> = found.filter(|word| !word.is_empty()).collect();
        if sentence.len() > 1 {
            let ascii = sentence.iter().map(|word| word.chars().filter(char::is_ascii).collect::<String>());
            words.extend(ascii.filter(|word| !word.is_empty()));
        }
    }
    if words.len() < WORDS { String::new() } else { words.join(" ") }
}

fn official(impression: &str, findings: &str) -> String {
    // A blank stands for a missing section in the table that the code reads.
    let or_blank = |text: &str| if text.is_empty() { " ".to_owned() } else { text.to_owned() };
    let mut text = or_blank(impression) + &or_blank(findings);
    // The misspelling is the code's: the word IMPRESSION stays.
    for gone in
        ["IMPRESSSION:", "IMPRESSSION", "FINDINGS:", "FINDINGS", "COMPARISON:  ___", "COMPARISON:", "COMPARISON"]
    {
        text = text.replace(gone, "");
    }
    if !text.contains('.') {
        return text.trim().to_owned();
    }
    let digits = |piece: &&str| !piece.is_empty() && piece.chars().all(char::is_numeric);
    let pieces: Vec<&str> = text.split('.').map(str::trim).filter(|piece| !digits(piece)).collect();
    pieces.join(". ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Sections {
        Sections {
            impression: "1. No pneumonia.\n 2. Normal.\n FINDINGS: small".into(),
            findings: "The heart\n is 2.5 cm   larger. 3. Caf\u{e9} sign".into(),
            last_paragraph: "Last\n  words.".into(),
        }
    }

    #[test]
    fn captions_are_what_their_authors_make() {
        let report = report();
        assert_eq!(
            Captions::Default.text(&report),
            "1. No pneumonia. 2. Normal. FINDINGS: small The heart is 2.5 cm larger. 3. Caf\u{e9} sign"
        );
        assert_eq!(
            Captions::Mgca.text(&report),
            "no pneumonia findings small the heart is 5 cm larger caf sign",
            "one word (normal) is no sentence; the digits before a full stop go"
        );
        assert_eq!(
            Captions::Official.text(&report),
            "No pneumonia. Normal. smallThe heart\n is 2. 5 cm   larger. Caf\u{e9} sign"
        );
    }

    #[test]
    fn the_last_paragraph_is_used_only_alone_and_by_default() {
        let alone = Sections { last_paragraph: "Last\n  words.".into(), ..Sections::default() };
        let texts = [Captions::Default, Captions::Mgca, Captions::Official].map(|captions| captions.text(&alone));
        assert_eq!(texts, ["Last words.", "", ""]);
        let short = Sections { impression: "No change".into(), ..Sections::default() };
        assert_eq!(Captions::Mgca.text(&short), "", "two words");
        assert_eq!(Captions::Official.text(&short), "No change");
    }
}
