//! The table of speeds in README.md is made from benches/results/*.json. `G2D_BLESS=1 cargo test --release --test
//! results` writes it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::ledger;
use serde::Deserialize;

const BEGIN: &str = "<!-- made from benches/results by tests/results.rs -->\n";
const END: &str = "<!-- end -->\n";

/// One line of a file in benches/results, as benches/peers/compare writes it: a work done by both programs.
#[derive(Deserialize)]
struct Line {
    name: String,
    device: String,
    precision: String,
    recipe: String,
    batch: usize,
    text_len: usize,
    threads: usize,
    g2d: Figures,
    torch: Figures,
    torch_version: String,
    revision: String,
    clean: bool,
    machine: Machine,
}

/// What one program needs.
#[derive(Deserialize)]
struct Figures {
    step_s: f64,
    peak_memory: f64,
}

#[derive(Deserialize)]
struct Machine {
    processor: String,
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Name and text of every file of results.
fn results() -> Vec<(String, String)> {
    let files = fs::read_dir(root("benches/results")).into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).expect("a listed file can be read"))).collect()
}

fn row(file: &str, line: &str) -> String {
    let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("benches/results/{file}: {error}"));
    let gib = |figures: &Figures| figures.peak_memory / f64::from(1 << 30);
    let ms = |figures: &Figures| 1e3 * figures.step_s;
    format!(
        "| `{}`, recipe `{}`, {} pairs, {} tokens | {:.0} ms | {:.0} ms | {:.2} | {:.2} and {:.2} GiB | {}, {}, {} \
         threads; PyTorch {}; {} of [{file}](benches/results/{file}) |\n",
        line.name,
        line.recipe,
        line.batch,
        line.text_len,
        ms(&line.g2d),
        ms(&line.torch),
        line.torch.step_s / line.g2d.step_s,
        gib(&line.g2d),
        gib(&line.torch),
        line.precision,
        if line.device == "cpu" { line.machine.processor } else { line.device },
        line.threads,
        line.torch_version,
        line.revision.get(..7).unwrap_or(&line.revision).to_owned() + if line.clean { "" } else { " with changes" },
    )
}

/// The table of some files.
fn table(files: &[(String, String)]) -> String {
    let rows: String = files.iter().flat_map(|(file, text)| text.lines().map(move |line| row(file, line))).collect();
    if rows.is_empty() {
        return "\nNone recorded.\n\n".to_owned();
    }
    format!(
        "\n| training step | g2d | PyTorch | times as fast | peak memory | measured |\n|---|---|---|---|---|---|\n{rows}\n"
    )
}

/// A text with what stands between the markers replaced.
fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[test]
fn the_readme_shows_what_was_measured() {
    let path = root("README.md");
    let readme = fs::read_to_string(&path).expect("README.md can be read");
    let files = results();
    let made = with_table(&readme, &table(&files)).expect("README.md has both markers of the table");
    if std::env::var_os("G2D_BLESS").is_some() {
        fs::write(&path, &made).expect("README.md can be written");
    } else {
        assert!(made == readme, "README.md's table of speeds is not what benches/results says; G2D_BLESS=1 writes it");
    }
    ledger::ran("results", format!("README.md agrees with {} files of benches/results", files.len()));
}

#[test]
fn a_table_is_made_and_found() {
    let line = r#"{"name": "full", "device": "cpu", "precision": "fp32", "recipe": "official", "batch": 2, "text_len": 256,
        "threads": 2, "g2d": {"step_s": 2.0, "peak_memory": 1073741824}, "torch": {"step_s": 3.0, "peak_memory": 3221225472.0},
        "torch_version": "2.11.0", "revision": "0123456789", "clean": true, "machine": {"processor": "P"}}"#;
    let files = |line: String| [("a.json".to_owned(), line + "\n")];
    let clean = table(&files(line.replace('\n', " ")));
    let row = "| `full`, recipe `official`, 2 pairs, 256 tokens | 2000 ms | 3000 ms | 1.50 | 1.00 and 3.00 GiB | fp32, \
               P, 2 threads; PyTorch 2.11.0; 0123456 of [a.json](benches/results/a.json) |";
    assert_eq!(clean.lines().nth(3), Some(row));
    assert!(table(&files(line.replace('\n', " ").replace("true", "false"))).contains("0123456 with changes of"));
    assert!(table(&[]).contains("None recorded"));
    let text = format!("a\n{BEGIN}old\n{END}b\n");
    assert_eq!(with_table(&text, "new\n"), Some(format!("a\n{BEGIN}new\n{END}b\n")));
    assert_eq!(with_table("no markers", "new\n"), None);
}
