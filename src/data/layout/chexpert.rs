//! CheXpert: `train.csv`, `valid.csv`, frontal films.

use std::path::Path;

use super::{Layout, Sieve};
use crate::data::error::Error;
use crate::data::pairs::Pair;
use crate::data::record::Split;
use crate::data::split;
use crate::data::table::Table;

const LABELS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];
/// Of these MGCA takes an uncertain label for a present one, of all others for an absent one.
const PRESENT_IF_UNCERTAIN: [&str; 3] = ["Atelectasis", "Edema", "Pleural Effusion"];
/// Share of the training patients that becomes validation: 5,000 of 191,027 films in the G2D paper.
const VALIDATION: f64 = 5_000.0 / 191_027.0;

/// What is made of a label that the reports leave uncertain (-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncertain {
    /// As MGCA: present for atelectasis, edema and pleural effusion, absent for all others.
    #[default]
    Mgca,
    /// Present (U-Ones of the CheXpert paper).
    Ones,
    /// Absent (U-Zeros).
    Zeros,
}

impl Uncertain {
    fn name(self) -> &'static str {
        match self {
            Self::Mgca => "mgca",
            Self::Ones => "ones",
            Self::Zeros => "zeros",
        }
    }

    fn present(self, label: &str) -> bool {
        self == Self::Ones || self == Self::Mgca && PRESENT_IF_UNCERTAIN.contains(&label)
    }
}

/// Reads both tables; `root` is the set's folder, `CheXpert-v1.0` or `CheXpert-v1.0-small`. `valid.csv` is the test split,
/// as in the literature; validation is drawn from the patients of `train.csv` by `seed`, since MGCA's films are drawn in a
/// way that puts patients and even films on both sides.
///
/// # Errors
/// If a table is not there, cannot be read or breaks a rule; if more than half of the films lack what they need (with
/// `strict`: if one does).
pub fn open(root: &Path, uncertain: Uncertain, seed: u64, strict: bool) -> Result<Layout<Pair>, Error> {
    let train = super::find(root, &["train.csv"])?;
    let mut films = listed(&train, uncertain)?;
    for film in &mut films {
        let drawn = split::unit(seed, &film.patient_id) < VALIDATION;
        film.split = Some(if drawn { Split::Val } else { Split::Train });
    }
    let test = listed(&super::find(root, &["valid.csv"])?, uncertain)?;
    films.extend(test.into_iter().map(|film| Pair { split: Some(Split::Test), ..film }));
    // Lines are of either table; a film's name begins with which.
    let both = train.with_file_name("train.csv and valid.csv");
    let mut sieve = Sieve::new(&both, films, "", strict);
    sieve.require("with a path of patient, study and view", "", |film| match film.patient_id.as_str() {
        "" => Err(format!("Path is {:?}", film.image)),
        _ => Ok(()),
    })?;
    sieve.first_of_each()?;
    let reported = "191,229 (186,027 / 5,000 / 202) in the G2D paper";
    sieve.choose(&format!("frontal, uncertain labels by {}", uncertain.name()), reported, |film| {
        !film.view.eq_ignore_ascii_case("Lateral")
    })?;
    Ok(sieve.rows(root, Vec::new()))
}

fn listed(path: &Path, uncertain: Uncertain) -> Result<Vec<Pair>, Error> {
    let mut table = Table::open(path, &[&["Path", "Frontal/Lateral", "AP/PA", "Sex", "Age"], &LABELS[..]].concat())?;
    let mut films = Vec::new();
    while let Some(row) = table.next()? {
        let read = row.map_err(|bad| (bad.line, bad.what)).and_then(|(line, values)| {
            let (mut present, mut absent, mut unsure) = (Vec::new(), Vec::new(), Vec::new());
            for label in LABELS {
                match values[label].trim() {
                    "" => {}
                    "1.0" | "1" => present.push(label),
                    "0.0" | "0" => absent.push(label),
                    "-1.0" | "-1" => {
                        unsure.push(label);
                        present.extend(uncertain.present(label).then_some(label));
                    }
                    other => return Err((line, format!("{label} is {other:?}, none of 1.0, 0.0, -1.0, empty"))),
                }
            }
            // Of a film without any label present it is known that none is.
            let findings = if present.is_empty() { "No Finding".to_owned() } else { present.join(";") };
            let image = values["Path"].trim();
            // The first part is the name of the set's folder, which may have been renamed.
            let inside = image.split_once('/').map_or(image, |(_, inside)| inside);
            let parts: Vec<&str> = inside.split('/').collect();
            let patient = if let [_, patient, _, _] = parts[..] { patient } else { "" };
            let projection = values["AP/PA"].trim();
            let frontal = values["Frontal/Lateral"].trim();
            let view = if projection.is_empty() { frontal } else { projection };
            let further = [
                ("absent", absent.join(";")),
                ("uncertain", unsure.join(";")),
                ("sex", values["Sex"].trim().to_owned()),
                ("age", values["Age"].trim().to_owned()),
            ];
            Ok(Pair {
                line,
                id: inside.rsplit_once('.').map_or(inside, |(stem, _)| stem).to_owned(),
                image: inside.to_owned(),
                patient_id: patient.to_owned(),
                view: view.to_owned(),
                findings,
                columns: super::columns(further),
                ..Pair::default()
            })
        });
        films.push(read.map_err(|(line, what)| Error::Table { path: path.to_owned(), line, what })?);
    }
    Ok(films)
}
