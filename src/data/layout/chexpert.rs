//! CheXpert: `train.csv`, `valid.csv`, frontal films.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::{Layout, Oddity, Sieve, file_name, published};
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
/// The labels of CheXpert 5x200, in the order in which MGCA draws them,
const FIVE: [&str; 5] = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"];
/// so many films each.
const EACH: usize = 200;
/// Films that MGCA draws for validation, of all views.
const HELD_OUT: usize = 5_000;

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

/// Which films are packed, and in which split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// All frontal films. `valid.csv` is the test split, as in the literature; validation is drawn from the patients of
    /// `train.csv` by the seed.
    #[default]
    Patients,
    /// Those of MGCA's script (mgca/preprocess/chexpert.py), in its splits. It draws films, and takes its validation films out of
    /// training by the wrong numbers: patients, and even films, are on both sides. Here such films are validation alone.
    Mgca,
    /// CheXpert 5x200 as that script draws it from `train.csv`: 200 films with exactly one of five labels each, for testing.
    FiveTimes200,
    /// CheXpert 5x200, or any other selection of `train.csv`, from a list: a table with the column `Path`; for testing.
    Listed(PathBuf),
}

/// Reads the tables; `root` is the set's folder, `CheXpert-v1.0` or `CheXpert-v1.0-small`. `seed` is of [`Choice::Patients`].
///
/// # Errors
/// If a table is not there, cannot be read or breaks a rule, or is too small for what MGCA draws; if more than half of the films
/// lack what they need (with `strict`: if one does).
pub fn open(
    root: &Path,
    uncertain: Uncertain,
    choice: &Choice,
    seed: u64,
    strict: bool,
) -> Result<Layout<Pair>, Error> {
    let train = super::find(root, &["train.csv"])?;
    let mut films = listed(&train, uncertain)?;
    let (mut warnings, few) = (Vec::new(), |what| Error::Table { path: train.clone(), line: 1, what });
    match choice {
        Choice::Patients => films.iter_mut().for_each(|film| {
            let drawn = split::unit(seed, &film.patient_id) < VALIDATION;
            film.split = Some(if drawn { Split::Val } else { Split::Train });
        }),
        Choice::Mgca => warnings.extend(mgca(&mut films).map_err(few)?),
        Choice::FiveTimes200 => {
            for at in five_times_200(&films).map_err(few)? {
                films[at].split = Some(Split::Test);
            }
        }
        Choice::Listed(list) => warnings.extend(select(&mut films, list)?),
    }
    let mut table = train.clone();
    if matches!(choice, Choice::Patients | Choice::Mgca) {
        let test = listed(&super::find(root, &["valid.csv"])?, uncertain)?;
        films.extend(test.into_iter().map(|film| Pair { split: Some(Split::Test), ..film }));
        // Lines are of either table; a film's name begins with which.
        table.set_file_name("train.csv and valid.csv");
    }
    let mut sieve = Sieve::new(&table, films, "", strict);
    sieve.require("with a path of patient, study and view", "", |film| match film.patient_id.as_str() {
        "" => Err(format!("Path is {:?}", film.image)),
        _ => Ok(()),
    })?;
    sieve.first_of_each()?;
    if *choice != Choice::Patients {
        let (name, reported) = match choice {
            Choice::Listed(list) => {
                (format!("in {}", file_name(list)), "1,000 of 966 patients in CheXpert 5x200 (CXR-CLIP)")
            }
            Choice::FiveTimes200 => ("in CheXpert 5x200 by MGCA's script".to_owned(), "1,000"),
            _ => ("in a split of MGCA's script".to_owned(), ""),
        };
        sieve.choose(&name, reported, |film| film.split.is_some())?;
    }
    let reported = match choice {
        Choice::Patients | Choice::Mgca => "191,229 (186,027 / 5,000 / 202) in the G2D paper",
        _ => "",
    };
    sieve.choose(&format!("frontal, uncertain labels by {}", uncertain.name()), reported, frontal)?;
    let layout = sieve.rows(root, warnings);
    Ok(if *choice == Choice::Mgca { layout.split_by_film() } else { layout })
}

fn frontal(film: &Pair) -> bool {
    !film.view.eq_ignore_ascii_case("Lateral")
}

/// The one label of a film, if it has one and no other is there or uncertain; what is said of `No Finding` does not count.
fn only(film: &Pair) -> Option<&str> {
    let uncertain = film.columns.get("uncertain").is_some_and(|labels| labels != "No Finding");
    let mut labels = film.findings.split(';').filter(|label| *label != "No Finding");
    labels.next().filter(|_| labels.next().is_none() && !uncertain)
}

/// Positions of the films of CheXpert 5x200 among those of `train.csv`, label by label.
fn five_times_200(films: &[Pair]) -> Result<Vec<usize>, String> {
    let mut chosen = Vec::new();
    for label in FIVE {
        let own: Vec<usize> =
            (0..films.len()).filter(|&at| frontal(&films[at]) && only(&films[at]) == Some(label)).collect();
        if own.len() < EACH {
            let count = own.len();
            return Err(format!(
                "{count} frontal films have {label} and no other label, {EACH} are needed; give the whole set"
            ));
        }
        chosen.extend(published::drawn(own.len(), EACH).into_iter().map(|at| own[at]));
    }
    Ok(chosen)
}

/// Gives films of `train.csv` their split by MGCA's script, those that it leaves out none.
fn mgca(films: &mut [Pair]) -> Result<Option<String>, String> {
    let apart: HashSet<usize> = five_times_200(films)?.into_iter().collect();
    let rest: Vec<usize> = (0..films.len()).filter(|at| !apart.contains(at)).collect();
    if rest.len() < HELD_OUT {
        return Err(format!(
            "{} films are left, of which {HELD_OUT} should be validation; give the whole set",
            rest.len()
        ));
    }
    let drawn: BTreeSet<usize> = published::drawn(rest.len(), HELD_OUT).into_iter().collect();
    // Validation are the films at these places among the rest; out of training are taken those with these numbers among all.
    let validation: HashSet<usize> = drawn.iter().map(|&at| rest[at]).collect();
    let mut both = Oddity::default();
    for at in rest {
        let trained = !drawn.contains(&at);
        films[at].split = match validation.contains(&at) {
            true => Some(Split::Val),
            false => trained.then_some(Split::Train),
        };
        if trained && validation.contains(&at) {
            both.note(|| films[at].id.clone());
        }
    }
    let what = format!(
        "of the {HELD_OUT} validation films of MGCA's script it also trains on; here they are validation alone"
    );
    Ok(both.warning(&what))
}

/// Puts the films of a list into the test split; a warning of those that `train.csv` lacks.
fn select(films: &mut [Pair], list: &Path) -> Result<Option<String>, Error> {
    let mut table = Table::open(list, &["Path"])?;
    let mut wanted = BTreeSet::new();
    while let Some(row) = table.next()? {
        let (_, values) = row.map_err(|bad| bad.error(list))?;
        wanted.insert(inside(values["Path"].trim()).to_owned());
    }
    for film in films.iter_mut().filter(|film| wanted.remove(&film.image)) {
        film.split = Some(Split::Test);
    }
    let mut strangers = Oddity::default();
    wanted.into_iter().for_each(|path| strangers.note(|| path));
    Ok(strangers.warning(&format!("films of {} are not in train.csv", file_name(list))))
}

/// A film's path in the set. The first part is the name of the set's folder, which may have been renamed; some lists have
/// the whole path of somebody's folder.
fn inside(path: &str) -> &str {
    match ["/train/", "/valid/"].iter().find_map(|part| path.rfind(part)) {
        Some(at) => &path[at + 1..],
        None => path.split_once('/').map_or(path, |(_, inside)| inside),
    }
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
            // Of a film on which nothing is present, nothing uncertain and this not denied, it is known.
            let normal = present.is_empty() && unsure.is_empty() && !absent.contains(&"No Finding");
            let findings = if normal { "No Finding".to_owned() } else { present.join(";") };
            let inside = inside(values["Path"].trim());
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
