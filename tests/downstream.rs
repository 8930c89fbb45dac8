//! The downstream tasks through the command, on a run of two steps: every figure is one, what cannot be done is said, and the
//! same command gives the same figures.
#![cfg(feature = "cli")]

#[path = "common/command.rs"]
#[allow(dead_code)]
mod command;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use command::{Ended, g2d};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

/// A folder with `shards` (phantoms of the other style, all splits) and `run`, trained for two steps; made once.
fn world() -> &'static Path {
    static WORLD: OnceLock<PathBuf> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("downstream");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        g2d(&folder, "phantom --style evaluation --count 150 --seed 5 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --out shards").done();
        g2d(
            &folder,
            "pretrain --data shards --preset micro --set max_positions=96 --steps 2 --batch 8 --device cpu --out run",
        )
        .done();
        folder
    })
}

fn eval(line: &str) -> Ended {
    g2d(world(), &format!("eval {line} --device cpu"))
}

fn report(line: &str) -> Value {
    serde_json::from_str(&eval(&format!("{line} --json")).done()).unwrap()
}

fn figures(report: &Value) -> &Vec<Value> {
    report["figures"].as_array().unwrap()
}

#[test]
fn all_tasks_give_figures_with_intervals() {
    let report = report("all --weights run --data shards --out all");
    let tasks: BTreeSet<&str> = figures(&report).iter().map(|figure| figure["task"].as_str().unwrap()).collect();
    let wanted = ["detect", "finetune", "ground", "masks", "probe", "retrieve", "segment", "zero-shot"];
    assert_eq!(tasks, wanted.into(), "{}", report["notes"]);
    for figure in figures(&report) {
        let [value, low, high] = ["value", "low", "high"].map(|end| figure["estimate"][end].as_f64().unwrap());
        assert!(low <= value && value <= high && figure["estimate"]["n"].as_u64() > Some(0), "{figure}");
    }
    // Both conventions, both ways to find a threshold, both protocols stand beside each other.
    let text = fs::read_to_string(world().join("all.md")).unwrap();
    for word in [
        "threshold from val",
        "threshold from test, as published",
        "films with a finding | Dice",
        "empty truth = 1 | IoU",
        "mean of batches, as published | Dice",
        "encoder-decoder, encoder frozen, batch statistics, 1 % of training",
        "all labels as one | mAP |",
        "P@5",
    ] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    // What a person sees first has both conventions, and no single class.
    let shown = eval("segment --weights run --data shards --fractions 0.1 --transfer encoder --out shown").done();
    assert!(shown.contains("empty truth = 1") && shown.contains("films with a finding"), "{shown}");
    let stored: Value = serde_json::from_str(&fs::read_to_string(world().join("all.json")).unwrap()).unwrap();
    assert_eq!(figures(&stored), figures(&report));
}

#[test]
fn the_same_command_gives_the_same_figures() {
    let one = report("probe --weights run --data shards --out one");
    let two = report("probe --weights run --data shards --threads 1 --out two");
    assert_eq!(figures(&one), figures(&two));
    let random = report("probe --weights random:3:run --data shards --out random");
    assert_ne!(figures(&one), figures(&random));
    // What was never trained is drawn by its seed, for every task.
    let drawn = |seed: u64| {
        let line = format!("finetune --weights random:{seed}:run --data shards --fractions 0.1 --out drawn{seed}");
        report(&line)["figures"].clone()
    };
    assert_ne!(drawn(1), drawn(2));
    let compared = g2d(world(), "eval --compare one.json two.json").done();
    assert!(compared.contains("+0.000") && !compared.contains("warning"), "{compared}");
}

#[test]
fn other_films_are_not_compared_silently() {
    let folder = world();
    g2d(folder, "phantom --count 40 --seed 6 --out others").done();
    g2d(folder, "pack --pairs others/pairs.csv --boxes others/boxes.csv --size 64 --out other-shards").done();
    eval("zero-shot --weights run --data shards --out here").done();
    eval("zero-shot --weights run --data other-shards --out there").done();
    let compared = g2d(folder, "eval --compare here.json there.json").done();
    assert!(compared.contains("warning: the splits differ"), "{compared}");
    eval("retrieve --weights run --data shards --out another").done();
    g2d(folder, "eval --compare here.json another.json").refused(&["zero-shot", "retrieve", "no figure in common"]);
}

/// A row of a table by the names of its columns.
type Row<'a> = BTreeMap<&'a str, &'a str>;

/// A table beside the drawn films, `to`, with what `cells` makes of the cells of each row of `from` that it names.
fn rewritten(from: &str, to: &str, cells: impl Fn(usize, &Row) -> Vec<(&'static str, String)>) {
    let drawn = world().join("drawn");
    let mut reader = csv::Reader::from_path(drawn.join(from)).unwrap();
    let columns = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_path(drawn.join(to)).unwrap();
    writer.write_record(&columns).unwrap();
    for (at, record) in reader.records().map(Result::unwrap).enumerate() {
        let mut row: BTreeMap<&str, &str> = columns.iter().zip(&record).collect();
        let changed = cells(at, &row);
        row.extend(changed.iter().map(|(column, cell)| (*column, cell.as_str())));
        writer.write_record(columns.iter().map(|column| row[column])).unwrap();
    }
    writer.flush().unwrap();
}

/// The drawn films with other `cells`, packed with further `arguments`.
fn packed_with(name: &str, arguments: &str, cells: impl Fn(usize, &Row) -> Vec<(&'static str, String)>) {
    rewritten("pairs.csv", &format!("{name}.csv"), cells);
    g2d(world(), &format!("pack --pairs drawn/{name}.csv {arguments} --size 64 --out {name}")).done();
}

/// The drawn films with one value in a column, packed.
fn packed(name: &str, column: &'static str, value: &str, boxes: bool) {
    let boxes = if boxes { "--boxes drawn/boxes.csv" } else { "" };
    packed_with(name, boxes, |_, _| vec![(column, value.into())]);
}

#[test]
fn what_the_data_lack_is_said() {
    packed("unlabelled", "findings", "", false);
    eval("zero-shot --weights run --data unlabelled").refused(&["zero-shot", "unlabelled", "no film", "findings"]);
    eval("ground --weights run --data unlabelled").refused(&["ground", "box"]);
    eval("detect --weights run --data unlabelled").refused(&["detect", "boxes"]);
    packed("normal", "findings", "No Finding", true);
    eval("probe --weights run --data normal").refused(&["probe", "no film"]);
    packed("all-ill", "findings", "Effusion", true);
    eval("probe --weights run --data all-ill").refused(&["probe", "every class"]);
    packed("silent", "text", "", true);
    eval("retrieve --weights run --data silent").refused(&["silent", "0 test films with a report"]);
    packed("unmasked", "mask", "", true);
    eval("segment --weights run --data unmasked").refused(&["segment", "mask", "0 in its split train"]);
    packed("training", "split", "train", true);
    eval("zero-shot --weights run --data training").refused(&["zero-shot", "test split"]);
}

#[test]
fn thresholds_of_validation_films_are_found_on_them() {
    // All is the same but what is true of the validation films.
    let relabelled = |_: usize, row: &Row| match row["split"] {
        "val" => vec![("findings", "Opacity;Device".into())],
        _ => Vec::new(),
    };
    let ids: BTreeSet<String> = {
        let mut reader = csv::Reader::from_path(world().join("drawn/pairs.csv")).unwrap();
        let rows = reader.deserialize::<BTreeMap<String, String>>().map(Result::unwrap);
        rows.filter(|row| row["split"] == "val").map(|row| row["id"].clone()).collect()
    };
    rewritten("boxes.csv", "wide.csv", |_, row| match ids.contains(row["id"]) {
        true => [("x", "0"), ("y", "0"), ("w", "400"), ("h", "400")].map(|(at, cell)| (at, cell.into())).into(),
        false => Vec::new(),
    });
    packed_with("other-val", "--boxes drawn/wide.csv --tokenizer shards/tokenizer.json", relabelled);
    for task in ["zero-shot", "ground"] {
        let of = |data: &str| {
            let report = report(&format!("{task} --weights run --data {data} --out {data}-{task}"));
            let from_val = |figure: &Value| figure["setting"].as_str().unwrap().ends_with("threshold from val");
            figures(&report).iter().cloned().partition::<Vec<Value>, _>(from_val)
        };
        let ((tuned, others), (otherwise, same)) = (of("shards"), of("other-val"));
        assert_eq!(others, same, "{task}");
        let differs = |a: &Value, b: &Value| {
            ["setting", "class", "metric"].iter().all(|key| a[*key] == b[*key]) && a["estimate"] != b["estimate"]
        };
        let changed = otherwise.iter().filter(|one| tuned.iter().any(|other| differs(one, other)));
        assert!(changed.count() > 0, "{task}: {otherwise:?}");
    }
}

#[test]
fn what_no_validation_film_tells_is_said() {
    packed_with("no-val", "--boxes drawn/boxes.csv --tokenizer shards/tokenizer.json", |_, row| {
        if row["split"] == "val" { vec![("split", "train".into())] } else { Vec::new() }
    });
    let notes = |task: &str, data: &str| {
        let line = format!("{task} --weights run --data {data} --fractions 0.05 --transfer encoder");
        report(&format!("{line} --out {data}-{task}-few"))["notes"].as_array().unwrap().clone()
    };
    for (task, what) in [
        ("zero-shot", "no honest threshold"),
        ("ground", "no honest threshold"),
        ("probe", "the last weights are kept"),
        ("segment", "the last weights are kept"),
        ("finetune", "the last weights are kept"),
        ("detect", "the last weights are kept"),
    ] {
        let told = |data: &str| {
            let told = |note: &Value| note.as_str().is_some_and(|note| note.starts_with(task) && note.contains(what));
            notes(task, data).iter().filter(|note| told(note)).count()
        };
        assert_eq!((told("no-val"), told("shards")), (1, 0), "{task}");
    }
}

#[test]
fn levels_learn_from_the_fractions_that_are_asked_for() {
    let settings = |more: &str, name: &str| {
        let report = report(&format!("probe --weights run --data shards {more} --out {name}"));
        figures(&report).iter().map(|figure| figure["setting"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let told = |level: usize, part: &str| format!("f{level}, {part} % of training, 3 seeds");
    let asked: BTreeSet<String> = (1..=5).flat_map(|level| ["2", "5"].map(|part| told(level, part))).collect();
    assert_eq!(settings("--fractions 0.02,0.05", "levels"), asked);
    let unasked: BTreeSet<String> =
        (1..=4).map(|level| told(level, "100")).chain(["1", "10", "100"].map(|part| told(5, part))).collect();
    assert_eq!(settings("", "every-level"), unasked);
}

#[test]
fn classes_that_no_drawn_film_has_are_named() {
    packed_with("rare", "--tokenizer shards/tokenizer.json", |at, _| {
        vec![("findings", ["Mass", "Nodule", "Nodule;Edema"][at % 3].into())]
    });
    let notes = |line: &str| report(line)["notes"].to_string();
    let few = notes("finetune --weights run --data rare --fractions 0.01 --out rare-few");
    assert!(few.contains("finetune, 1 % of training: no film has"), "{few}");
    let many = notes("probe --weights run --data rare --fractions 0.01,1 --out rare-many");
    assert!(many.contains("probe, 1 % of training: in at least one of 3 draws no film has"), "{many}");
    assert!(!many.contains("100 %"), "{many}");
    assert!(many.contains("classes that few test films have, or lack: "), "{many}");
}

/// The run's weights, whole.
fn weights() -> Vec<u8> {
    fs::read(world().join("run/checkpoints/step-00000002/weights.safetensors")).unwrap()
}

/// Weights in a run of their own, with the settings of the run.
fn stored(name: &str, tensors: Vec<(String, TensorView)>) {
    let run = world().join(name);
    fs::create_dir_all(&run).unwrap();
    for file in ["config.json", "manifest.json", "tokenizer.json"] {
        fs::copy(world().join("run").join(file), run.join(file)).unwrap();
    }
    safetensors::serialize_to_file(tensors, None, &run.join("weights.safetensors")).unwrap();
}

/// Weights of the run without the tensors whose names begin so, in a run of their own.
fn without(name: &str, starts: &[&str]) {
    let bytes = weights();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let kept = file.tensors().into_iter().filter(|(tensor, _)| !starts.iter().any(|start| tensor.starts_with(start)));
    stored(name, kept.collect());
}

#[test]
fn what_the_weights_lack_is_said() {
    without("no-text", &["lm_model.", "proj_t."]);
    let weights = "--weights no-text/weights.safetensors --data shards";
    eval(&format!("zero-shot {weights}")).refused(&["zero-shot needs the text tower", "no-text"]);
    without("encoder-only", &["lm_model.", "proj_t.", "img_model.decoder.", "img_model.segmentation_head."]);
    let report = report("segment --weights encoder-only/weights.safetensors --data shards --out encoder-only/out");
    let notes = report["notes"].to_string();
    assert!(notes.contains("encoder-decoder"), "{notes}");
    let settings: BTreeSet<&str> = figures(&report).iter().map(|figure| figure["setting"].as_str().unwrap()).collect();
    assert!(settings.iter().all(|setting| !setting.starts_with("encoder-decoder")), "{settings:?}");
}

#[test]
fn segmentation_is_learned_as_asked() {
    let line = "segment --weights run --data shards --fractions 0.2 --transfer encoder";
    let told = |more: &str, name: &str| {
        let report = report(&format!("{line} {more} --out {name}"));
        let settings: BTreeSet<&str> =
            figures(&report).iter().map(|figure| figure["setting"].as_str().unwrap()).collect();
        assert_eq!(settings.len(), 1, "{settings:?}");
        (settings.into_iter().next().unwrap().to_owned(), figures(&report).clone())
    };
    let (plain, figures) = told("", "plain");
    assert_eq!(plain, "encoder, encoder frozen, batch statistics, 20 % of training");
    let (running, others) = told("--batch-norm running", "running");
    assert!(running.contains("running statistics") && others != figures);
    let (unfrozen, others) = told("--unfrozen", "unfrozen");
    assert!(unfrozen.contains("everything learns") && others != figures);
    let (_, others) = told("--loss medklip", "medklip");
    assert!(others != figures);
}

#[test]
fn a_decoder_is_taken_over_where_that_is_asked_for() {
    // The run's weights, but each number of the decoder with the other sign.
    let mut bytes = weights();
    let (head, found) = SafeTensors::read_metadata(&bytes).unwrap();
    let decoder: Vec<(usize, usize)> = (found.tensors().into_iter())
        .filter(|(name, _)| name.starts_with("img_model.decoder.") && name.ends_with(".weight"))
        .map(|(_, of)| of.data_offsets)
        .collect();
    assert!(!decoder.is_empty());
    for (first, behind) in decoder {
        bytes[8 + head..][first..behind].iter_mut().skip(3).step_by(4).for_each(|byte| *byte ^= 0x80);
    }
    stored("turned", SafeTensors::deserialize(&bytes).unwrap().tensors());
    let found = |weights: &str, transfer: &str| {
        let line = format!("segment --weights {weights} --data shards --fractions 0.1 --transfer {transfer}");
        report(&format!("{line} --out turned-{transfer}"))["figures"].clone()
    };
    let turned = "turned/weights.safetensors";
    let encoder = found("run", "encoder");
    assert_eq!(encoder, found(turned, "encoder"));
    let both = found("run", "encoder-decoder");
    assert_ne!(both, found(turned, "encoder-decoder"));
    assert_ne!(both, encoder);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    eval("zero-shot --weights nothing").refused(&["nothing"]);
    let part = eval("probe --weights run --data shards --fractions 0,1");
    assert!(part.code == Some(2) && part.errors.contains("no part of the training films"), "{part:?}");
    eval("zero-shot --weights random:x:run").refused(&["random:x", "SEED"]);
    eval("zero-shot --weights run --data nowhere").refused(&["nowhere"]);
    g2d(world(), "eval --compare run/config.json run/config.json").refused(&["config.json", "no report"]);
    g2d(world(), "eval zero-shot --weights runs/99").refused(&["runs/99", "no such run"]);
    let unknown = "title = \"t\"\ntasks = [\"probe\"]\n[grid]\nquantil = [0.5]\n";
    fs::write(world().join("unknown.toml"), unknown).unwrap();
    g2d(world(), "sweep unknown.toml --out never").refused(&["unknown.toml", "grid.quantil"]);
    assert!(!world().join("never").exists());
    fs::write(world().join("prompts.toml"), "[Unicorn]\npositive = [\"a\"]\nnegative = [\"b\"]\n").unwrap();
    eval("zero-shot --weights run --data shards --prompts prompts.toml").refused(&["Unicorn", "no such class"]);
    fs::write(world().join("prompts.toml"), "[Effusion]\npositive = []\nnegative = [\"b\"]\n").unwrap();
    eval("zero-shot --weights run --data shards --prompts prompts.toml").refused(&["Effusion", "positive"]);
    let long = vec!["\"effusion\""; 200].join(" ").replace('"', "");
    fs::write(world().join("prompts.toml"), format!("[Effusion]\npositive = [\"{long}\"]\nnegative = [\"b\"]\n"))
        .unwrap();
    eval("zero-shot --weights run --data shards --prompts prompts.toml").refused(&["tokens", "shorten"]);
}

#[test]
fn a_film_is_explained_in_a_picture_and_in_numbers() {
    let folder = world();
    let film = fs::read_dir(folder.join("drawn/images")).unwrap().next().unwrap().unwrap().path();
    let line = format!("explain --weights run --image {} --text effusion --out film.png --json", film.display());
    let numbers: Value = serde_json::from_str(&g2d(folder, &line).done()).unwrap();
    let part = |name: &str| numbers[name].as_f64().unwrap();
    for name in ["attention_entropy", "body_area", "binary_area", "mask_area", "predicted_area", "predicted_dice"] {
        assert!((0.0..=1.0).contains(&part(name)), "{name}: {numbers}");
    }
    assert!(part("similarity").abs() <= 1.0 && part("head_agreement").abs() <= 1.0, "{numbers}");
    let picture = image::open(folder.join("film.png")).unwrap();
    // Film, heads, mean, upsampled, body, binary, smoothed, predicted, text.
    let stages = 9 - 1 + numbers["heads"].as_u64().unwrap() as u32;
    // 64 pixels, magnified three times.
    assert_eq!((picture.width(), picture.height()), (stages * 196 + 4, 192 + 22));
    g2d(folder, "explain --weights run --image run/config.json").refused(&["config.json", "PNG, JPEG or DICOM"]);
    g2d(folder, "explain --weights run --image nothing.png").refused(&["nothing.png"]);
    let film = film.display();
    g2d(folder, &format!("explain --weights run --image {film} --out {film}")).refused(&["not the film itself"]);
    g2d(folder, &format!("explain --weights run --image {film} --out film.csv")).refused(&["ends in .png"]);
    // A folder to write to is made, as `eval` makes it.
    let line = format!("explain --weights run --image {film} --out not/there/film.png");
    g2d(folder, &line).done();
    assert!(folder.join("not/there/film.png").is_file());
}

#[test]
fn a_sweep_is_summed_up_and_goes_on_where_it_was() {
    let folder = world();
    let file = "title = \"Objectives\"\nabout = \"Table 5.\"\nseeds = [0, 1]\ntasks = [\"pretrain\", \"zero-shot\"]\nrandom = true\n\
                pretrain = [\"--data\", \"shards\", \"--preset\", \"micro\", \"--set\", \"max_positions=96\", \"--steps\", \"1\", \
                \"--batch\", \"4\", \"--device\", \"cpu\"]\neval = [\"--data\", \"shards\", \"--device\", \"cpu\"]\n\
                [grid]\ndecoder_objective = [\"pseudo-segmentation\", \"none\"]\n";
    fs::write(folder.join("sweep.toml"), file).unwrap();
    let table = g2d(folder, "sweep sweep.toml --out swept").done();
    for word in [
        "Objectives",
        "Table 5.",
        "decoder_objective=none",
        "random",
        "zero-shot: prompts",
        "pretrain: steps 1 to 1 | contrastive loss",
        "Class by class",
        "| 23 |",
        "Means over 2 seeds",
    ] {
        assert!(table.contains(word), "{word:?} is not in {table}");
    }
    assert!(fs::read_to_string(folder.join("swept/sweep/plot.svg")).unwrap().contains("</svg>"));
    // What is there is used, also by another sweep; what other arguments make has another name.
    let made = || {
        let mut files: Vec<(PathBuf, std::time::SystemTime)> = Vec::new();
        for run in fs::read_dir(folder.join("swept")).unwrap().map(|run| run.unwrap().path()) {
            let own = fs::read_dir(run.join("sweep")).into_iter().flatten().map(|file| file.unwrap().path());
            let marks = [run.join("finished.json")].into_iter().chain(own).filter(|file| file.exists());
            files.extend(marks.map(|file| (file.clone(), fs::metadata(file).unwrap().modified().unwrap())));
        }
        files.sort();
        files
    };
    let before = made();
    let again = g2d(folder, "sweep sweep.toml --out swept").done();
    assert_eq!((&table, &before), (&again, &made()));
    fs::write(folder.join("other.toml"), file.replace("\"Objectives\"", "\"Again\"")).unwrap();
    let other: Value = serde_json::from_str(&g2d(folder, "sweep other.toml --out swept --json").done()).unwrap();
    assert_eq!((other["title"].as_str(), &before), (Some("Again"), &made()));
    fs::write(folder.join("sweep.toml"), file.replace("\"--steps\", \"1\"", "\"--steps\", \"2\"")).unwrap();
    g2d(folder, "sweep sweep.toml --out swept").done();
    assert!(made().len() == 2 * before.len() && before.iter().all(|file| made().contains(file)));
    fs::write(folder.join("sweep.toml"), "title = \"x\"\ntasks = [\"alchemy\"]\n").unwrap();
    g2d(folder, "sweep sweep.toml").refused(&["alchemy", "zero-shot"]);
}

#[test]
fn what_another_protocol_found_is_found_again() {
    let folder = world();
    let file = "title = \"t\"\ntasks = [\"zero-shot\"]\npretrain = [\"--data\", \"shards\", \"--preset\", \"micro\", \"--set\", \
                \"max_positions=96\", \"--steps\", \"1\", \"--batch\", \"4\", \"--device\", \"cpu\"]\n\
                eval = [\"--data\", \"shards\", \"--device\", \"cpu\"]\n";
    fs::write(folder.join("again.toml"), file).unwrap();
    let table = g2d(folder, "sweep again.toml --out again").done();
    let mut runs = fs::read_dir(folder.join("again")).unwrap().map(|run| run.unwrap().path());
    let run = runs.find(|run| run.join("finished.json").exists()).expect("a run");
    let path = fs::read_dir(run.join("sweep")).unwrap().map(|file| file.unwrap().path());
    let path = path.into_iter().find(|file| file.extension().is_some_and(|end| end == "json")).expect("a report");
    let text = fs::read_to_string(&path).unwrap();
    // As a report of today with a figure that would be noticed, then as one from before there were numbers.
    let stored: Value = serde_json::from_str(&text).unwrap();
    let mut other = stored.clone();
    other["figures"][0]["estimate"]["value"] = 0.125.into();
    fs::write(&path, other.to_string()).unwrap();
    let kept = g2d(folder, "sweep again.toml --out again").done();
    assert!(kept != table && kept.contains("0.125"), "{kept}");
    other.as_object_mut().unwrap().remove("protocol");
    fs::write(folder.join("older.json"), other.to_string()).unwrap();
    fs::write(&path, other.to_string()).unwrap();
    let trained = fs::metadata(run.join("finished.json")).unwrap().modified().unwrap();
    assert_eq!(g2d(folder, "sweep again.toml --out again").done(), table);
    assert_eq!(trained, fs::metadata(run.join("finished.json")).unwrap().modified().unwrap());
    fs::write(folder.join("newer.json"), text).unwrap();
    let compared = g2d(folder, "eval --compare older.json newer.json").done();
    assert!(compared.contains("warning: the reports were made by different protocols"), "{compared}");
}

#[test]
fn pseudo_masks_are_laid_on_true_ones_recipe_by_recipe() {
    let report = report("masks --weights run --data shards --out masks");
    let found = figures(&report);
    let value = |setting: &str, class: &str, metric: &str| {
        let own =
            |figure: &&Value| figure["setting"] == setting && figure["class"] == class && figure["metric"] == metric;
        let figure = found.iter().find(own).unwrap_or_else(|| panic!("no {metric} of {setting}, {class}"));
        figure["estimate"]["value"].as_f64().unwrap()
    };
    // The recipe of the run is one of those that are tried, and a higher quantile leaves a smaller mask.
    for metric in ["Dice", "lift", "recall", "area", "pieces", "stability under noise, Dice"] {
        assert_eq!(value("as trained", "all", metric), value("threshold", "quantile 0.85", metric), "{metric}");
    }
    let areas: Vec<f64> = ["0.5", "0.75", "0.95"]
        .iter()
        .map(|quantile| value("threshold", &format!("quantile {quantile}"), "area"))
        .collect();
    assert!(areas.is_sorted_by(|larger, smaller| larger > smaller), "{areas:?}");
    let text = eval("masks --weights run --data shards --out masks").done();
    assert!(text.contains("head 2 alone") && text.contains("2 within the body"), "{text}");
}

#[test]
fn classes_that_exclude_each_other_are_told_apart_by_accuracy() {
    packed_with("exclusive", "--tokenizer shards/tokenizer.json", |at, _| {
        vec![("findings", ["normal", "pneumonia", "COVID-19"][at % 3].into())]
    });
    let report = report("probe --weights run --data exclusive --fractions 1 --out exclusive-probe");
    let top1 = |figure: &&Value| figure["metric"] == "top-1" && figure["setting"].as_str().unwrap().starts_with("f5");
    let found = figures(&report).iter().find(top1).expect("an accuracy");
    assert!(found["estimate"]["value"].as_f64().unwrap() > 0.1, "{found}");
    // Findings of phantoms do not exclude each other.
    let many = self::report("probe --weights run --data shards --fractions 0.1 --out many");
    assert!(!figures(&many).iter().any(|figure| figure["metric"] == "top-1"));
}

#[test]
fn what_publications_print_is_printed_alone_if_asked() {
    let both = report("zero-shot --weights run --data shards --out both");
    let published = report("zero-shot --weights run --data shards --protocol published --out published");
    let settings = |report: &Value| {
        figures(report).iter().map(|figure| figure["setting"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(settings(&both).contains("threshold from val") && !settings(&published).contains("threshold from val"));
    assert!(settings(&published).contains("threshold from test, as published"));
    assert!(figures(&published).iter().any(|figure| figure["metric"] == "AUC"));
    // What is stored has both.
    let stored: Value = serde_json::from_str(&fs::read_to_string(world().join("published.json")).unwrap()).unwrap();
    assert_eq!(figures(&stored), figures(&both));
}

#[test]
fn the_ten_studies_are_listed() {
    let listed = g2d(world(), "study").done();
    assert_eq!(listed.lines().count(), 11, "{listed}");
    assert!(listed.ends_with("g2d study NUMBER trains and evaluates what answers one of them\n"), "{listed}");
    assert!(listed.contains(" 6  Why the 85 % quantile?"), "{listed}");
    g2d(world(), "study 11").refused(&["11", "1..=10"]);
}

#[test]
fn films_that_changed_after_packing_are_not_evaluated() {
    let folder = world();
    g2d(folder, "phantom --count 30 --seed 8 --out changing").done();
    g2d(folder, "pack --pairs changing/pairs.csv --size 64 --out changed").done();
    let shard = fs::read_dir(folder.join("changed")).unwrap().map(|file| file.unwrap().path());
    let shard = shard.into_iter().find(|file| file.extension().is_some_and(|end| end == "g2d")).unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    eval("retrieve --weights run --data changed").refused(&["not what was packed"]);
}
