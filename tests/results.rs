//! The tables in README.md: speeds are made from benches/results/*.json, kernels from what this program carries.
//! `G2D_BLESS=1 cargo test --release --test results` writes them.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::ledger;
use g2d::bench::counters::Step;
use g2d::bench::counters::baseline;
use g2d::kernels::shaders::{Form, SHADERS};
use g2d::kernels::{MODULES, Origin};
use serde::Deserialize;

const BEGIN: &str = "<!-- made from benches/results by tests/results.rs -->\n";
const COUNTS: &str = "<!-- made from the counters of benches/results by tests/results.rs -->\n";
const KERNELS: &str = "<!-- made from ptx/ by tests/results.rs -->\n";
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
    pairs: usize,
    steps: usize,
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
    fastest_s: f64,
    slowest_s: f64,
    /// Lower and upper quartile of each process's steps.
    #[serde(default)]
    quartiles_s: Vec<[f64; 2]>,
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

fn parsed(file: &str, line: &str) -> Line {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("benches/results/{file}: {error}"))
}

/// Fewest steps that a process may time, fewest pairs of processes, and how far these may lie apart (benches/NOTES.md).
const STEPS: usize = 10;
const PAIRS: usize = 5;
const SPREAD: f64 = 0.3;

/// Why a line is no measurement.
fn unfit(line: &Line) -> Vec<String> {
    let mut why = Vec::new();
    let Line { steps, pairs, .. } = *line;
    if steps < STEPS || pairs < PAIRS {
        why.push(format!("{pairs} pairs of {steps} steps; {PAIRS} of {STEPS} are the least"));
    }
    for (program, figures) in [("g2d", &line.g2d), ("PyTorch", &line.torch)] {
        let spread = (figures.slowest_s - figures.fastest_s) / figures.step_s;
        let ok = spread <= SPREAD;
        if !ok {
            why.push(format!(
                "{program}'s processes spread by {:.0} %, {:.0} % are allowed",
                1e2 * spread,
                1e2 * SPREAD
            ));
        }
        if figures.quartiles_s.len() != pairs {
            why.push(format!("{program} lacks its quartiles"));
        }
    }
    why
}

fn row(file: &str, line: &str) -> String {
    let line = parsed(file, line);
    let gib = |figures: &Figures| figures.peak_memory / f64::from(1 << 30);
    let ms = |figures: &Figures| {
        format!("{:.0} ms ({:.0} to {:.0})", 1e3 * figures.step_s, 1e3 * figures.fastest_s, 1e3 * figures.slowest_s)
    };
    format!(
        "| `{}`, recipe `{}`, {} pairs, {} tokens | {} | {} | {:.2} | {:.2} and {:.2} GiB | {}, {}, {} \
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

/// The table of some files, and what is left out of it.
fn table(files: &[(String, String)]) -> String {
    let lines = || files.iter().flat_map(|(file, text)| text.lines().map(move |line| (file, line)));
    let why = |file: &str, line: &str| unfit(&parsed(file, line)).join("; ");
    let rows: String =
        lines().filter(|(file, line)| why(file, line).is_empty()).map(|(file, line)| row(file, line)).collect();
    let refused: String = lines()
        .filter(|(file, line)| !why(file, line).is_empty())
        .map(|(file, line)| format!("- `{}` of `{file}`: {}\n", parsed(file, line).name, why(file, line)))
        .collect();
    let heading =
        "\n| training step | g2d | PyTorch | times as fast | peak memory | measured |\n|---|---|---|---|---|---|\n";
    let table = if rows.is_empty() { "\nNone recorded.\n".to_owned() } else { format!("{heading}{rows}") };
    if refused.is_empty() {
        return format!("{table}\n");
    }
    format!("{table}\nNot quoted, for the rules ask for more; `benches/peers/compare` measures again:\n\n{refused}\n")
}

/// The table of files of counts.
fn counts(files: &[(String, String)]) -> String {
    let mut table = String::from(
        "\n| step, counted | bytes that must move | of these through device memory | through L1 | conflicts | kernels that spill | \
         samples/s **predicted**, not measured | floor of this plan | counted |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (file, text) in files {
        let (head, _) = baseline::read(text).unwrap_or_else(|why| panic!("benches/results/{file}: {why}"));
        let totals = &head.totals;
        let over = |bytes: u64| bytes as f64 / totals.floor_bytes as f64;
        let rates = |of: fn(&Step) -> f64| {
            let rate = |step: &Step| format!("{} {:.0}", step.chip.to_uppercase(), of(step));
            totals.predicted.iter().map(rate).collect::<Vec<_>>().join(", ")
        };
        let revision = head.revision.as_deref().map_or("unknown", |revision| revision.get(..7).unwrap_or(revision));
        let changed = head.revision.as_ref().is_some_and(|revision| revision.ends_with("-dirty"));
        table += &format!(
            "| `{}`, recipe `{}`, {} pairs, {} tokens, {}, {} | {:.1} GB | {:.2} | {:.2} | {} | {} | {} | {} | {revision}{} of \
             [{file}](benches/results/{file}) |\n",
            head.preset,
            head.recipe,
            head.batch,
            head.text_len,
            head.precision,
            head.target,
            totals.floor_bytes as f64 / 1e9,
            over(totals.device_bytes),
            over(totals.sector_bytes),
            totals.conflicts,
            totals.spilling,
            rates(|step| step.samples_per_s),
            rates(|step| step.floor_samples_per_s),
            if changed { " with changes" } else { "" },
        );
    }
    table + "\n"
}

/// A run of `g2d verify` on a GPU, as benches/gpu.sh records it.
struct Verified {
    /// Path of the report in the repository.
    file: String,
    chip: String,
    date: String,
    /// Kernels that were launched.
    entries: BTreeSet<String>,
    /// Kernels of ops that failed, as `op.pass/kernel`.
    failed: Vec<String>,
}

impl Verified {
    /// From what the two files of a folder hold; `None` where it was no GPU.
    fn new(file: &str, machine: &str, report: &str) -> Option<Self> {
        let said = |label: &str| machine.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        let (date, gpu) = (said("date:")?, said("GPU:")?);
        let report: serde_json::Value = serde_json::from_str(report).unwrap_or_else(|error| panic!("{file}: {error}"));
        let device = report["device"].as_str()?;
        if !device.starts_with("cuda") || device.starts_with("cuda-emulated") {
            return None;
        }
        let entries = report["report"]["entries"].as_object().into_iter().flatten();
        let kernels = report["report"]["kernels"].as_object().into_iter().flatten();
        Some(Self {
            file: file.to_owned(),
            chip: gpu.split(',').next().unwrap_or(gpu).to_owned(),
            date: date.to_owned(),
            entries: entries.map(|(symbol, _)| symbol.clone()).collect(),
            failed: kernels.filter(|(_, line)| !line["failure"].is_null()).map(|(name, _)| name.clone()).collect(),
        })
    }

    /// What the table says of the kernels of an op: which of them ran, and whether what the op makes of them is right.
    fn executed(&self, op: &str, symbols: &[&str]) -> Option<String> {
        let ran = symbols.iter().filter(|&&symbol| self.entries.contains(symbol)).count();
        // Kernels of two ops are named for what they do.
        let of = |name: &&String| {
            let own = name.split(['.', '/']).next() == Some(op);
            let [im2col, halo, stem] =
                ["/im2col", "/halo", "/stem"].map(|kernel| name.starts_with("conv2d.") && name.contains(kernel));
            match op {
                "matmul" => own || name.ends_with("/mma"),
                "matmul.sm90a" => name.ends_with("/wgmma"),
                "conv2d.sm90a" => im2col,
                "conv2d_halo" => halo,
                "conv2d_stem" => stem,
                _ => own && !im2col && !halo && !stem,
            }
        };
        let failed: Vec<&str> = self.failed.iter().filter(of).map(String::as_str).collect();
        let how = match (ran == symbols.len(), failed.is_empty()) {
            _ if ran == 0 => return None,
            (true, true) => "yes".to_owned(),
            (false, true) => format!("{ran} of {}", symbols.len()),
            (_, false) => format!("fails ({})", failed.join(", ")),
        };
        Some(format!(
            "{how}, {}, {}, [{}]({})",
            self.chip,
            self.date,
            self.file.rsplit('/').nth(1).unwrap_or(""),
            self.file
        ))
    }
}

/// What is recorded in the folders of benches/results, the latest first.
fn verified() -> Vec<Verified> {
    let folders = fs::read_dir(root("benches/results")).into_iter().flatten().flatten().map(|folder| folder.path());
    let one = |folder: PathBuf| {
        let [machine, report] = ["machine.txt", "verify.json"].map(|file| fs::read_to_string(folder.join(file)));
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Verified::new(&format!("benches/results/{name}/verify.json"), &machine.ok()?, &report.ok()?)
    };
    let mut all: Vec<Verified> = folders.filter_map(one).collect();
    all.sort_by(|a, b| (&b.date, &b.file).cmp(&(&a.date, &a.file)));
    all
}

/// What the kernels are written in, where the suite runs them, and where they have run.
fn kernels(verified: &[Verified]) -> String {
    let mut table = String::from(
        "\n| kernels of | written as | source | entries | checked without a GPU on | executed on hardware |\n\
         |---|---|---|---|---|---|\n",
    );
    // A file by hand has its architecture in its name, a compiled one in its folder.
    let stem = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ptx");
        if path.starts_with("sm_90a/") { format!("{name}.sm90a") } else { name.to_owned() }
    };
    let mut modules: Vec<_> = MODULES.iter().collect();
    modules.sort_by_key(|module| (stem(module.path), module.path));
    for module in modules {
        let stem = stem(module.path);
        let (written, source) = match module.origin {
            Origin::Hand => ("PTX by hand", format!("ptx/{}", module.path)),
            _ => ("CUDA C++ with inline PTX", format!("kernels/{stem}.cu")),
        };
        let symbols: Vec<&str> = module.entries.iter().map(|entry| entry.symbol).collect();
        let executed = verified.iter().find_map(|run| run.executed(&stem, &symbols)).unwrap_or("no".into());
        let entries = module.entries.len();
        table += &format!("| {stem} | {written} | [{source}]({source}) | {entries} | emulated CUDA | {executed} |\n");
    }
    for shader in SHADERS {
        let (name, entries) = (shader.name, shader.entries().count());
        let source = format!("kernels/{}.wgsl", shader.file);
        // No driver without a GPU has cooperative matrices of f32.
        let checked = if shader.form == Form::Cooperative { "naga alone: not run" } else { "lavapipe" };
        table += &format!("| {name} | WGSL | [{source}]({source}) | {entries} | {checked} | no |\n");
    }
    table + "\n"
}

/// A text with what stands behind a marker replaced.
fn with_table(text: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}{table}{END}{after}"))
}

#[test]
fn the_readme_shows_what_was_measured_and_what_ships() {
    let path = root("README.md");
    let readme = fs::read_to_string(&path).expect("README.md can be read");
    let (counted, files): (Vec<_>, Vec<_>) = results().into_iter().partition(|(file, _)| file.starts_with("counters-"));
    let made = with_table(&readme, BEGIN, &table(&files)).expect("README.md has both markers of the table of speeds");
    let made = with_table(&made, COUNTS, &counts(&counted)).expect("README.md has both markers of the table of counts");
    let made =
        with_table(&made, KERNELS, &kernels(&verified())).expect("README.md has both markers of the table of kernels");
    if std::env::var_os("G2D_BLESS").is_some() {
        fs::write(&path, &made).expect("README.md can be written");
    } else {
        assert!(
            made == readme,
            "README.md's tables are not what benches/results and ptx/ say; G2D_BLESS=1 writes them"
        );
    }
    ledger::ran("results", format!("README.md agrees with {} files of benches/results and with ptx/", files.len()));
}

const LINE: &str = r#"{"name": "full", "device": "cpu", "precision": "fp32", "recipe": "official", "batch": 2, "text_len": 256,
    "threads": 2, "pairs": 5, "steps": 10,
    "g2d": {"step_s": 2.0, "fastest_s": 1.9, "slowest_s": 2.0, "quartiles_s": [[1,2],[1,2],[1,2],[1,2],[1,2]], "peak_memory": 1073741824},
    "torch": {"step_s": 3.0, "fastest_s": 2.9, "slowest_s": 3.1, "quartiles_s": [[1,2],[1,2],[1,2],[1,2],[1,2]], "peak_memory": 3221225472.0},
    "torch_version": "2.11.0", "revision": "0123456789", "clean": true, "machine": {"processor": "P"}}"#;

#[test]
fn what_was_measured_against_the_rules_is_refused() {
    let found = |line: &str| unfit(&parsed("a.json", line));
    assert_eq!(found(LINE), [""; 0]);
    for (from, to, why) in [
        ("\"steps\": 10", "\"steps\": 9", "9 steps"),
        ("\"pairs\": 5", "\"pairs\": 4", "4 pairs"),
        ("\"slowest_s\": 2.0", "\"slowest_s\": 2.6", "g2d's processes spread by 35 %"),
        ("\"fastest_s\": 2.9", "\"fastest_s\": 2.1", "PyTorch's processes spread"),
        ("\"step_s\": 2.0", "\"step_s\": 0", "g2d's processes spread"),
        (
            "[[1,2],[1,2],[1,2],[1,2],[1,2]], \"peak_memory\": 3",
            "[], \"peak_memory\": 3",
            "PyTorch lacks its quartiles",
        ),
    ] {
        assert!(LINE.contains(from));
        let found = found(&LINE.replace(from, to)).join("; ");
        assert!(found.contains(why), "{to}: {found}");
    }
}

#[test]
fn what_ran_on_a_gpu_is_told_with_chip_and_date() {
    let machine = "revision: 0123\ndate: 2026-12-01\nGPU: NVIDIA H100, 570.1, 9.0, 81559 MiB\n";
    let report = r#"{"device": "cuda:0", "passed": false, "report": {"entries": {"gelu_fwd": null, "gelu_bwd": null, "embed_fwd": null, "rows_fwd": null},
        "kernels": {"gelu.fwd/eights": {"failure": null}, "rows.fwd/eights": {"failure": "error 1 > 0"}}}}"#;
    let run = Verified::new("benches/results/gpu/verify.json", machine, report).expect("a GPU's");
    let at = "NVIDIA H100, 2026-12-01, [gpu](benches/results/gpu/verify.json)";
    assert_eq!(run.executed("gelu", &["gelu_fwd", "gelu_bwd"]), Some(format!("yes, {at}")));
    assert_eq!(run.executed("embed", &["embed_fwd", "embed_bwd"]), Some(format!("1 of 2, {at}")));
    assert_eq!(run.executed("rows", &["rows_fwd"]), Some(format!("fails (rows.fwd/eights), {at}")));
    assert_eq!(run.executed("adamw", &["adamw_update"]), None);
    assert!(Verified::new("a", machine, &report.replace("cuda:0", "cuda-emulated")).is_none());
    assert!(Verified::new("a", "date: 2026-12-01\n", report).is_none(), "no GPU is named");
}

#[test]
fn counts_are_shown_as_predictions() {
    let predicted = r#"{"chip": "h200", "seconds": 0.5, "samples_per_s": 512.4, "floor_seconds": 0.25, "floor_samples_per_s": 1024}"#;
    let head = format!(
        r#"{{"preset": "full", "recipe": "official", "batch": 256, "text_len": 256, "precision": "mixed", "chip": "h200",
        "target": "sm_90a", "plan": "d", "version": "0", "revision": "0123456789-dirty", "command": "c", "totals": {{"launches": 9, "different": 3, "kernels": 10,
        "floor_bytes": 2000000000, "sector_bytes": 6000000000, "device_bytes": 3000000000, "floor_flops": 1, "tensor_flops": 1,
        "flops": 1, "conflicts": 4, "spilling": 0, "predicted": [{predicted}]}}}}"#
    );
    let table = counts(&[("counters-a.json".to_owned(), head.replace('\n', " ") + "\n")]);
    let row = "| `full`, recipe `official`, 256 pairs, 256 tokens, mixed, sm_90a | 2.0 GB | 1.50 | 3.00 | 4 | 0 | H200 512 | H200 1024 | \
               0123456 with changes of [counters-a.json](benches/results/counters-a.json) |";
    assert_eq!(table.lines().nth(3), Some(row), "{table}");
    assert!(table.contains("**predicted**, not measured"));
}

#[test]
fn a_table_is_made_and_found() {
    let line = LINE;
    let files = |line: String| [("a.json".to_owned(), line + "\n")];
    let clean = table(&files(line.replace('\n', " ")));
    let row = "| `full`, recipe `official`, 2 pairs, 256 tokens | 2000 ms (1900 to 2000) | 3000 ms (2900 to 3100) | 1.50 | \
               1.00 and 3.00 GiB | fp32, P, 2 threads; PyTorch 2.11.0; 0123456 of [a.json](benches/results/a.json) |";
    assert_eq!(clean.lines().nth(3), Some(row));
    assert!(table(&files(line.replace('\n', " ").replace("true", "false"))).contains("0123456 with changes of"));
    assert!(table(&[]).contains("None recorded"));
    // What was not measured by the rules is named without its figures.
    let refused = table(&files(line.replace('\n', " ").replace("\"steps\": 10", "\"steps\": 3")));
    assert!(
        refused.contains("None recorded") && refused.contains("`full` of `a.json`: 5 pairs of 3 steps"),
        "{refused}"
    );
    assert!(!refused.contains("2000 ms"), "{refused}");
    let text = format!("a\n{BEGIN}old\n{END}b\n");
    assert_eq!(with_table(&text, BEGIN, "new\n"), Some(format!("a\n{BEGIN}new\n{END}b\n")));
    assert_eq!(with_table("no markers", BEGIN, "new\n"), None);
}
