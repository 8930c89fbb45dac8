//! A MIMIC-CXR report cut into sections as the published sectioner does (MIT-LCP/mimic-cxr, txt/section_parser.py and
//! create_section_files.py): same headings, aliases, misspellings, and rules for single studies.

/// Headings by the section they stand for, without capitals. What is not here is looked at by [`normal`].
const ALIASES: &[(&str, &[&str])] = &[
    (
        "impression",
        &[
            "conclusion",
            "findings and impression",
            "findings/impression",
            "findings/ impression",
            "ndication", // as published
            "impresson",
            "imprression",
            "imoression",
            "impressoin",
            "imprssion",
            "impresion",
            "imperssion",
            "mpression",
            "impession",
        ],
    ),
    (
        "findings",
        &[
            "chest, two views",
            "finding",
            "findins",
            "findindgs",
            "findgings",
            "findngs",
            "findnings",
            "finidngs",
            "reference findings",
        ],
    ),
    (
        "comparison",
        &[
            "comparisons",
            "reference exam",
            "comparison exam",
            "comparison film",
            "comparision",
            "comparsion",
            "comparrison",
            "comparisions",
        ],
    ),
    ("indication", &["reason for examination", "reason for exam", "clinical indication", "idication"]),
    ("examination", &["exam", "type of examination"]),
    ("history", &["clinical history", "clinical information", "patient history", "pfi"]),
    ("recommendations", &["recommendation(s)", "recommendation"]),
    ("wet read", &["wetread"]),
];

/// Names that stand for themselves before any part of them is looked at.
const NAMES: &[&str] = &[
    "preamble",
    "impression",
    "comparison",
    "indication",
    "findings",
    "examination",
    "technique",
    "history",
    "notification",
    "addendum",
    "date",
    "comment",
    "wet read",
    "recommendations",
];

/// A heading that holds one of these is that section; the first that fits.
const HELD: &[&str] = &["impression", "findings", "history", "comparison", "addendum"];

/// A heading that holds one of these describes the films: findings.
const VIEWS: &[&str] = &[
    "chest",
    "portable",
    "pa and lateral",
    "lateral and pa",
    "ap and lateral",
    "lateral and ap",
    "frontal and",
    "two views",
    "frontal view",
    "pa view",
    "ap view",
    "one view",
    "lateral view",
    "bone window",
    "frontal upright",
    "frontal semi-upright",
    "ribs",
    "pa and lat",
];

/// Studies whose conclusion stands in a section of another name.
const MISNAMED: &[(&str, &[u32])] = &[
    ("recommendations", &[50913680, 59768032, 59067458, 59087630, 58157373, 56482935, 58375018]),
    ("examination", &[59363654, 53356173, 50743547, 59215320, 55157853]),
    ("technique", &[59279892, 53202765, 50808053]),
    ("indication", &[57936451, 50058765, 51966317, 55124749, 54365831, 54654948]),
    ("note", &[56451190]),
    ("history", &[51491012]),
];

/// Studies whose conclusion is a range of characters.
const RANGES: &[(u32, usize, usize)] = &[
    (50525523, 201, 349),
    (57564132, 233, 554),
    (59982525, 313, 717),
    (53488209, 149, 475),
    (54875119, 234, 988),
    (50196495, 59, 399),
    (56579911, 59, 218),
    (52648681, 292, 631),
    (59889364, 172, 453),
    (53514462, 73, 377),
    (59505494, 59, 450),
    (53182247, 59, 412),
    (51410602, 47, 320),
    (56412866, 522, 822),
    (54986978, 59, 306),
    (59003148, 262, 505),
    (57150433, 61, 394),
    (56760320, 219, 457),
    (59562049, 158, 348),
    (52674888, 145, 296),
    (55258338, 192, 568),
    (59330497, 140, 655),
    (52119491, 179, 454),
];

/// Studies of which the published rules say that nothing in the report describes the film.
const NOTHING: &[u32] = &[58235663, 50798377, 54168089, 53071062, 56724958, 54231141, 53607029, 52035334];

/// A report's sections, each the last of its name, without blanks around; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// IMPRESSION.
    pub impression: String,
    /// FINDINGS.
    pub findings: String,
    /// What follows the first paragraph of the last section, where there is neither of the two.
    pub last_paragraph: String,
}

impl Sections {
    /// Sections of a report; line ends may be of any kind.
    pub fn of(report: &str) -> Self {
        let found = split(report);
        let last = |name: &str| {
            let section = found.iter().rfind(|(section, _)| section == name);
            section.map_or_else(String::new, |(_, text)| text.trim().to_owned())
        };
        Self { impression: last("impression"), findings: last("findings"), last_paragraph: last("last_paragraph") }
    }
}

/// The text that describes the film, for the studies (by number) that the published rules single out; empty if nothing
/// does. The published table of sections lacks these studies.
pub fn singled_out(study: u32, report: &str) -> Option<String> {
    if NOTHING.contains(&study) {
        return Some(String::new());
    }
    if let Some(&(_, from, to)) = RANGES.iter().find(|(of, ..)| *of == study) {
        return Some(unix(report).chars().skip(from).take(to - from).collect::<String>().trim().to_owned());
    }
    let (name, _) = MISNAMED.iter().find(|(_, studies)| studies.contains(&study))?;
    let found = split(report);
    Some(
        found.iter().rfind(|(section, _)| section == name).map_or_else(String::new, |(_, text)| text.trim().to_owned()),
    )
}

/// How many studies are singled out.
pub fn singled_out_count() -> usize {
    NOTHING.len() + RANGES.len() + MISNAMED.iter().map(|(_, studies)| studies.len()).sum::<usize>()
}

fn unix(report: &str) -> String {
    report.replace("\r\n", "\n").replace('\r', "\n")
}

/// Names and texts of all sections in order.
fn split(report: &str) -> Vec<(String, String)> {
    let text = unix(report);
    let mut sections = Vec::new();
    let mut next = heading(&text, 0);
    if let Some(first) = &next {
        sections.push(("preamble".to_owned(), text[..first.name.start].to_owned()));
    } else {
        sections.push((normal("full report"), text.clone()));
    }
    while let Some(this) = next {
        // The next heading is looked for behind the end of the line that this one stands in.
        let behind = this.text + text[this.text..].find('\n').unwrap_or(0);
        next = heading(&text, behind);
        let end = next.as_ref().map_or(text.len(), |next| next.start);
        sections.push((normal(&text[this.name]), text[this.text..end].to_owned()));
    }
    sections.retain(|(name, text)| !(["impression", "findings"].contains(&name.as_str()) && text.trim().is_empty()));
    if !sections.iter().any(|(name, _)| name == "impression" || name == "findings")
        && let Some((_, last)) = sections.last_mut()
        && let Some((first, rest)) = last.clone().split_once("\n \n")
    {
        *last = first.to_owned();
        sections.push(("last_paragraph".to_owned(), rest.to_owned()));
    }
    sections
}

/// Where a heading was found.
struct Heading {
    /// The end of the line before it.
    start: usize,
    /// Its words, without the colon.
    name: std::ops::Range<usize>,
    /// What comes behind the colon and one blank.
    text: usize,
}

/// The first heading at or behind `from`: a new line that begins with a blank, then capitals, blanks and `()/,-` up to a
/// colon, then a blank or a line's end.
fn heading(text: &str, from: usize) -> Option<Heading> {
    let named = |letter: char| letter.is_ascii_uppercase() || " ()/,-".contains(letter);
    text[from..].match_indices("\n ").find_map(|(at, _)| {
        let start = from + at;
        let name = start + 2..start + 2 + text[start + 2..].find(|letter| !named(letter))?;
        let rest = text[name.end..].strip_prefix(':')?;
        let blank = rest.chars().next().filter(|letter| letter.is_whitespace())?;
        (!name.is_empty()).then(|| Heading { start, text: name.end + 1 + blank.len_utf8(), name })
    })
}

/// The section that a heading stands for.
fn normal(heading: &str) -> String {
    let heading = heading.trim().to_ascii_lowercase();
    let holds = |part: &&&str| heading.contains(**part);
    if NAMES.contains(&heading.as_str()) {
        return heading;
    }
    if let Some((name, _)) = ALIASES.iter().find(|(_, aliases)| aliases.contains(&heading.as_str())) {
        return (*name).to_owned();
    }
    if let Some(name) = HELD.iter().find(holds) {
        return (*name).to_owned();
    }
    if VIEWS.iter().any(|part| heading.contains(part)) { "findings".to_owned() } else { heading }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(report: &str) -> [String; 3] {
        let Sections { impression, findings, last_paragraph } = Sections::of(report);
        [impression, findings, last_paragraph]
    }

    #[test]
    fn the_last_section_of_a_name_counts_and_empty_ones_do_not() {
        let report = "                FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n FINDINGS: \n \n Old.\n \n \
                      FINDINGS:\n \n The lungs are clear.\n No effusion.\n \n IMPRESSION: \n \n 1. Normal.\n 2. Old rib.\n";
        assert_eq!(sections(report), ["1. Normal.\n 2. Old rib.", "The lungs are clear.\n No effusion.", ""]);
        assert_eq!(sections(&report.replace('\n', "\r\n")), sections(report));
        let emptied = report.replace("The lungs are clear.\n No effusion.", "");
        assert_eq!(sections(&emptied)[1], "Old.");
    }

    #[test]
    fn headings_are_folded_by_alias_part_and_view() {
        for (heading, section) in [
            ("CONCLUSION", "impression"),
            ("IMPRESSON", "impression"),
            ("FINDINGS AND IMPRESSION", "impression"),
            ("NDICATION", "impression"),
            ("FINDNGS", "findings"),
            ("CHEST, TWO VIEWS", "findings"),
            ("AP VIEW OF THE ABDOMEN", "findings"),
            ("PORTABLE SUPINE", "findings"),
            ("PRELIMINARY IMPRESSION", "impression"),
            ("COMPARISION", "comparison"),
            ("REASON FOR EXAM", "indication"),
            ("RECOMMENDATION(S)", "recommendations"),
            ("EXAMINATION", "examination"),
            ("TECHNIQUE", "technique"),
            ("NOTE", "note"),
        ] {
            assert_eq!(normal(heading), section, "{heading}");
        }
    }

    #[test]
    fn without_findings_and_impression_what_follows_the_first_paragraph_counts() {
        let report = " FINAL REPORT\n INDICATION:  Cough.\n \n The heart is normal.\n \n No effusion.\n";
        assert_eq!(sections(report), ["", "", "The heart is normal.\n \n No effusion."]);
        assert_eq!(sections("Heart normal.\n \n Lungs clear."), ["", "", "Lungs clear."]);
        assert_eq!(sections("Heart normal."), ["", "", ""]);
        assert_eq!(sections(""), ["", "", ""]);
        // No blank behind the line end, or a small letter: no heading.
        assert_eq!(sections("\nIMPRESSION: a\n Impression: b"), ["", "", ""]);
    }

    #[test]
    fn single_studies_have_their_own_rules() {
        assert_eq!(singled_out_count(), 54);
        let report: String = ('a'..='z').cycle().take(400).collect();
        assert_eq!(singled_out(50525523, &report).unwrap().len(), 148);
        assert_eq!(singled_out(58235663, &report).unwrap(), "");
        let misnamed = "x\n INDICATION:  Clear lungs.\n \n RECOMMENDATION: None.\n";
        assert_eq!(singled_out(51966317, misnamed).unwrap(), "Clear lungs.");
        assert_eq!(singled_out(50913680, misnamed).unwrap(), "None.");
        assert_eq!(singled_out(50000000, misnamed), None);
    }
}
