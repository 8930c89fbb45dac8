//! What a run shows of itself: its page, its pictures and its event files, after a run, after one that was cut off, and where
//! files are damaged or hold markup. And the page of a plan.
#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::browser::{Chromium, INSTALL};
use common::command::{command, empty, g2d, listing};
use common::ledger;
use serde_json::Value;

const TRAIN: &str =
    "pretrain --data shards --preset micro --batch 4 --set validate_every=4 --set checkpoint_every=5 --out run";

/// Phantoms in `shards`, and a run of twelve steps with validations after 0, 4, 8 and 12, in `run`.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = empty("made");
        g2d(&folder, "phantom --count 60 --seed 3 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --out shards").done();
        let said = g2d(&folder, &format!("{TRAIN} --steps 12 --log-interference")).done();
        assert!(said.contains("report: run/report.html"), "{said}");
        folder
    })
}

/// A copy of shards and run in a folder of a test's own, the run under a name.
fn copied(test: &str, name: &str) -> PathBuf {
    let to = empty(test);
    for path in listing(made()).iter().filter(|path| path.is_file()) {
        let inside = path.strip_prefix(made()).unwrap();
        let inside = inside.strip_prefix("run").map_or(inside.to_owned(), |file| Path::new(name).join(file));
        fs::create_dir_all(to.join(&inside).parent().unwrap()).unwrap();
        fs::copy(path, to.join(inside)).unwrap();
    }
    to
}

fn page(run: &Path) -> String {
    fs::read_to_string(run.join("report.html")).unwrap()
}

/// Steps of the columns of the first film.
fn columns(page: &str) -> Vec<u64> {
    let head = page.split("class=\"maps\"><thead>").nth(1).map_or("", |rest| rest.split("</thead>").next().unwrap());
    head.split("<th>").filter_map(|cell| cell.split('<').next()?.parse().ok()).collect()
}

#[test]
fn a_run_has_a_page_of_all_that_it_wrote_down() {
    let page = page(&made().join("run"));
    for chart in [
        "Loss",
        "Contrastive loss",
        "Decoder\u{2019}s loss",
        "Retrieval, held-out films",
        "Retrieval within the batch",
        "Masks, held-out films",
        "Pseudo mask",
        "Learning rate",
        "Throughput",
        "Gradient",
        "Interference of the losses",
    ] {
        assert!(page.contains(&format!("<h3>{chart}</h3>")), "{chart} is missing");
    }
    assert_eq!(page.matches("<svg ").count(), 11);
    assert_eq!(columns(&page), [0, 4, 8, 12]);
    assert_eq!(page.matches("<article class=\"film\">").count(), 4);
    // Of each film its true mask, and at each validation attention, pseudo mask and predicted mask.
    assert_eq!(page.matches("<img ").count(), 4 * (1 + 3 * 4));
    for words in ["data_digest", "after step 12", "preset micro", "validate_every", "image_size"] {
        assert!(page.contains(words), "{words} is missing");
    }
    assert!(page.len() < 5 << 20 && !page.contains("NaN"), "{} bytes", page.len());
}

/// What would be fetched or run.
fn foreign(page: &str) -> Vec<&str> {
    let words = [
        "<script",
        "javascript:",
        "<link rel=\"stylesheet",
        "@import",
        "src=\"http",
        "href=\"http",
        "url(http",
        "<iframe",
    ];
    words.into_iter().filter(|word| page.contains(word)).collect()
}

#[test]
fn the_page_needs_nothing_and_runs_nothing() {
    let page = page(&made().join("run"));
    assert_eq!(foreign(&page), [""; 0]);
    assert!(page.contains("content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\""));
    assert_eq!(foreign("<script>"), ["<script"]);
}

#[test]
fn what_names_and_reports_hold_never_becomes_markup() {
    let name = "<img src=x onerror=alert(1)>\"'&amp;";
    let folder = copied("markup", name);
    let run = folder.join(name);
    let attack = "</style></title><script>alert(1)</script>";
    let edit = |file: &str, pointer: &[&str]| {
        let path = run.join(file);
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        pointer.iter().for_each(|pointer| *value.pointer_mut(pointer).unwrap() = attack.into());
        fs::write(path, value.to_string()).unwrap();
    };
    edit("manifest.json", &["/preset", "/recipe", "/device", "/data"]);
    edit("config.json", &["/model/decoder_objective"]);
    edit("gallery/films.json", &["/0/id", "/0/report"]);
    let ended = command(&folder, &["report", name]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let page = page(&run);
    assert!(!page.contains("<script") && !page.contains("<img src=x") && page.matches("</style>").count() == 1);
    // Four in the manifest, three of them in the head as well, a setting, a film's name and report.
    assert_eq!(page.matches("&lt;/style&gt;&lt;/title&gt;&lt;script&gt;alert(1)").count(), 10, "each is shown as text");
    assert_eq!(page.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;amp;").count(), 2);
}

#[test]
fn damaged_files_are_told_and_left_out() {
    let folder = copied("damaged", "run");
    let run = folder.join("run");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), format!("{metrics}\u{0}\u{1}\n{{\"step\":13,\"loss.to")).unwrap();
    let picture = run.join("gallery/step-00000004.png");
    fs::write(&picture, &fs::read(&picture).unwrap()[..60]).unwrap();
    fs::write(run.join("manifest.json"), "{").unwrap();
    let said = g2d(&folder, "report run").done();
    let page = page(&run);
    assert_eq!(columns(&page), [0, 8, 12]);
    for words in ["2 lines cannot be read", "gallery/step-00000004.png is damaged", "manifest.json: "] {
        assert!(said.contains(words) && page.contains(words), "{words}: {said}");
    }
    fs::write(run.join("gallery/films.png"), "no picture").unwrap();
    g2d(&folder, "report run").done();
    assert!(self::page(&run).contains("gallery/films.png is damaged"));
}

/// Page and event file agree about a last line that is not whole, also where what is there can be read.
#[test]
fn a_last_line_without_an_end_is_in_neither_page_nor_events() {
    let folder = copied("unended", "run");
    let run = folder.join("run");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), format!("{metrics}{{\"step\":13,\"loss.total\":1}}")).unwrap();
    let said = g2d(&folder, "report run").done();
    assert!(said.contains("12 steps") && said.contains("1 line cannot be read"), "{said}");
    let ended = scalars(&run);
    fs::write(run.join("metrics.jsonl"), metrics).unwrap();
    assert_eq!(ended, written(&run));
}

#[test]
fn a_run_without_films_or_steps_has_a_page_and_what_is_no_run_has_none() {
    let folder = copied("older", "run");
    let run = folder.join("run");
    fs::remove_dir_all(run.join("gallery")).unwrap();
    fs::remove_dir_all(run.join("tensorboard")).unwrap();
    // As runs from before wrote them.
    let older = "{\"step\":1,\"loss.total\":3.5,\"lr\":0.1}\n{\"step\":1,\"validation\":{\"top1\":{\"mean\":0.5,\"low\":0.1,\"high\":0.9}}}\n";
    fs::write(run.join("metrics.jsonl"), older).unwrap();
    assert!(g2d(&folder, "report run").done().contains("1 step, 1 validation, 0 films"));
    let page = page(&run);
    assert!(page.contains("<h3>Loss</h3>") && page.contains("There are none") && page.contains("[0.1, 0.9]"));
    assert_eq!(scalars(&run).len(), 5);
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    g2d(&folder, "report run").done();
    assert!(self::page(&run).contains("No step has been taken yet."));
    let before = listing(&folder);
    g2d(&folder, "report shards").refused(&["shards is no run"]);
    g2d(&folder, "report nowhere").refused(&["nowhere does not exist"]);
    assert_eq!(listing(&folder), before);
}

#[test]
fn a_run_that_was_cut_off_and_resumed_has_each_step_once() {
    let folder = copied("resumed", "run");
    let run = folder.join("run");
    assert_eq!(scalars(&run), written(&run));
    // As if it had been killed after step 12 and before that was saved.
    fs::remove_dir_all(run.join("checkpoints/step-00000012")).unwrap();
    g2d(&folder, "pretrain --resume --out run --steps 14").done();
    assert_eq!(scalars(&run), written(&run));
    assert_eq!(columns(&page(&run)), [0, 4, 8, 12, 14]);
    let straight = empty("straight");
    let line = format!("{TRAIN} --steps 14 --log-interference")
        .replace("shards", &made().join("shards").display().to_string());
    g2d(&straight, &line).done();
    let same = |name: &str| {
        fs::read(run.join("gallery").join(name)).unwrap() == fs::read(straight.join("run/gallery").join(name)).unwrap()
    };
    // The step at which it stopped first decides nothing: the horizon of its schedule was the same.
    assert!(
        ["films.png", "films.json", "step-00000000.png", "step-00000012.png", "step-00000014.png"]
            .into_iter()
            .all(same)
    );
}

#[test]
fn training_goes_on_where_no_page_can_be_written() {
    let folder = copied("unwritable", "run");
    let run = folder.join("run");
    fs::remove_file(run.join("report.html")).unwrap();
    fs::create_dir(run.join("report.html")).unwrap();
    let ended = g2d(&folder, "pretrain --resume --out run --steps 18");
    assert_eq!(ended.errors.matches("page or event file cannot be written").count(), 1, "{ended:?}");
    assert!(!ended.out.contains("report: ") && ended.out.contains("18 steps"), "{ended:?}");
    assert_eq!(ended.code, Some(0));
    g2d(&folder, "report run").refused(&["report.html"]);
    // Pictures and numbers of the validations meanwhile are there, and on the page once it can be written.
    assert_eq!(scalars(&run), written(&run));
    fs::remove_dir(run.join("report.html")).unwrap();
    g2d(&folder, "report run").done();
    assert_eq!(columns(&page(&run)), [0, 4, 8, 12, 16, 18]);
}

/// What cannot be written does not keep the rest from being written.
#[test]
fn pictures_events_and_page_fail_one_by_one() {
    let folder = copied("apart", "run");
    let run = folder.join("run");
    let blocked = |name: &str| {
        let _ = fs::remove_dir_all(run.join(name)).or_else(|_| fs::remove_file(run.join(name)));
        fs::write(run.join(name), "").unwrap();
    };
    blocked("tensorboard");
    let ended = g2d(&folder, "pretrain --resume --out run --steps 14");
    assert_eq!(ended.errors.matches("page or event file cannot be written").count(), 1, "{ended:?}");
    assert!(ended.out.contains("report: run/report.html") && ended.code == Some(0), "{ended:?}");
    assert_eq!(columns(&page(&run)), [0, 4, 8, 12, 14]);
    fs::remove_file(run.join("tensorboard")).unwrap();
    blocked("gallery");
    let ended = g2d(&folder, "pretrain --resume --out run --steps 16");
    assert!(ended.errors.contains("gallery") && ended.code == Some(0), "{ended:?}");
    assert_eq!(scalars(&run), written(&run));
    assert!(page(&run).contains("after step 16"));
}

/// Numbers of `metrics.jsonl` by tag and step.
fn written(run: &Path) -> BTreeMap<(String, u64), u32> {
    fn add(tag: &str, value: &Value, step: u64, found: &mut BTreeMap<(String, u64), u32>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| add(&format!("{tag}/{name}"), value, step, found))
            }
            Value::Number(number) => {
                let tag = tag.strip_suffix("/value").unwrap_or(tag).replace('.', "/");
                let bits = (number.as_f64().unwrap() as f32).to_bits();
                assert_eq!(found.insert((tag, step), bits), None);
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let step = line["step"].as_u64().unwrap();
        line.as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "step")
            .for_each(|(name, value)| add(name, value, step, &mut found));
    }
    found
}

/// Scalars of a run's one event file by tag and step.
fn scalars(run: &Path) -> BTreeMap<(String, u64), u32> {
    let files: Vec<PathBuf> = listing(&run.join("tensorboard")).into_iter().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let content = fs::read(&files[0]).unwrap();
    let (mut rest, mut found) = (&content[..], BTreeMap::new());
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let bytes = u64::from_le_bytes(*length) as usize;
        assert_eq!(after[..4], masked(length));
        let event = &after[4..4 + bytes];
        assert_eq!(after[4 + bytes..8 + bytes], masked(event));
        rest = &after[8 + bytes..];
        let step = fields(event).into_iter().find_map(|(field, number, _)| (field == 2).then_some(number)).unwrap_or(0);
        for (_, _, summary) in fields(event).into_iter().filter(|(field, ..)| *field == 5) {
            for (_, _, value) in fields(summary) {
                let value = fields(value);
                let tag = String::from_utf8(value[0].2.to_vec()).unwrap();
                if value[1].0 == 2 {
                    assert_eq!(found.insert((tag, step), value[1].1 as u32), None);
                }
            }
        }
    }
    assert!(rest.is_empty());
    found
}

/// Fields of a protocol buffer: number, and the value as a number or as bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(message: &mut &[u8]) -> u64 {
        let end = message.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let value = message[..=end].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        *message = &message[end + 1..];
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let (number, size) = match key & 7 {
            0 => (varint(&mut message), 0),
            1 => (0, 8),
            2 => (0, varint(&mut message) as usize),
            _ => (u64::from(u32::from_le_bytes(message[..4].try_into().unwrap())), 4),
        };
        let (bytes, after) = message.split_at(size);
        found.push((key >> 3, number, bytes));
        message = after;
    }
    found
}

/// TensorFlow's masked CRC-32C, bit by bit.
fn masked(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc = !bytes.iter().fold(!0, |crc: u32, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)));
    (crc.rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes()
}

#[test]
#[should_panic = "assertion"]
fn an_event_file_with_one_bit_changed_is_noticed() {
    let folder = copied("bit", "run");
    let path = listing(&folder.join("run/tensorboard")).into_iter().next().unwrap();
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(&path, content).unwrap();
    scalars(&folder.join("run"));
}

/// What became of a page, told from within.
const MEASURE: &str = "({
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    images: document.images.length,
    broken: [...document.images].filter(image => !image.naturalWidth).length,
    charts: [...document.querySelectorAll('figure svg')].filter(chart =>
        chart.getBoundingClientRect().height > 100 && chart.querySelector('.trend, .marks')).length,
    letters: Math.min(...[...document.querySelectorAll('svg')].map(chart =>
        parseFloat(getComputedStyle(chart).fontSize) * chart.getBoundingClientRect().width / chart.viewBox.baseVal.width)),
})";

/// Opens a text as a page.
fn opened(browser: &mut Chromium, folder: &Path, page: &str) {
    let file = folder.join("report.html");
    fs::write(&file, page).unwrap();
    browser.open(&format!("file://{}", file.display()));
}

/// Addresses other than the page's own that it asked for.
fn asked(browser: &Chromium) -> Vec<String> {
    let own = ["file:", "data:", "about:"];
    browser.requests().into_iter().filter(|address| own.iter().all(|kind| !address.starts_with(kind))).collect()
}

#[test]
fn a_browser_shows_the_page_on_a_desk_on_a_phone_and_on_paper() {
    let Some(mut browser) = Chromium::start("report") else {
        return ledger::skipped("browser", "the page of a run was not tried: there is no Chromium", INSTALL);
    };
    let (folder, page) = (empty("browser"), page(&made().join("run")));
    opened(&mut browser, &folder, &page);
    let mut brightness = Vec::new();
    for (name, width, height) in SHEETS {
        turn_to(&mut browser, name, width, height);
        let told = browser.value(MEASURE);
        let counts = ["sideways", "charts", "images", "broken"].map(|what| told[what].as_i64());
        assert_eq!(counts, [Some(0), Some(11), Some(52), Some(0)], "{name}: {told}");
        assert!(told["letters"].as_f64().unwrap() >= 9.0, "{name}: letters of charts are too small: {told}");
        let picture = browser.picture();
        fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        let picture = image::load_from_memory(&picture).unwrap().to_luma8();
        assert!(picture.width() == width && picture.height() > height, "{name}: {:?}", picture.dimensions());
        let sum: u64 = picture.pixels().map(|pixel| u64::from(pixel.0[0])).sum();
        brightness.push(sum / u64::from(picture.width() * picture.height()));
    }
    assert!([0, 2, 4].iter().all(|&at| brightness[at] > 190), "mean brightness: {brightness:?}");
    assert!([1, 3].iter().all(|&at| brightness[at] < 90), "mean brightness: {brightness:?}");
    assert_eq!((browser.complaints(), asked(&browser)), (Vec::new(), Vec::new()));
    must_be_noticed(&mut browser, &folder, &page);
    ledger::ran("browser", format!("the page of a run on four screens and on paper: {}", folder.display()));
}

/// Numbers of the table of exact ones, in its order.
fn exact(page: &str) -> Vec<u64> {
    let table = page.split("class=\"rows exact\"").nth(1).unwrap().split("</table>").next().unwrap();
    table.split("<td>").skip(1).map(|cell| cell.split('<').next().unwrap().parse().unwrap()).collect()
}

/// What bars of the parts of the model, and rows of all launches, say of their launches: `#3 scope op/kernel`, in order.
fn launches(page: &str) -> [Vec<String>; 2] {
    let page = page.replace("&#39;", "'");
    let lanes = page.split("<div class=\"lanes").nth(1).unwrap().split("<h2>").next().unwrap();
    let titles = lanes.split("<title>").skip(1).map(|title| title.split(": ").next().unwrap().to_owned());
    let mut titles: Vec<String> = titles.collect();
    titles.sort_by_key(|title| title[1..].split(' ').next().unwrap().parse::<usize>().unwrap());
    let all = page.split("<details>").nth(1).unwrap().split("</details>").next().unwrap();
    let row = |row: &str| {
        let text = |cell: &str| cell.split("</td>").next().unwrap().rsplit("</i>").next().unwrap().to_owned();
        let cells: Vec<String> = row.split("<td>").skip(1).map(text).collect();
        format!("#{} {}", cells[0], format!("{} {}", cells[1], cells[2]).trim_start())
    };
    [titles, all.split("<tr>").skip(2).map(row).collect()]
}

#[test]
fn the_page_of_a_plan_has_every_launch_and_the_numbers_of_its_json() {
    let folder = empty("plan");
    for arguments in [
        "--preset tiny",
        "--preset full --recipe official --batch 64 --precision mixed --device cuda-emulated:sm_90a",
        "--preset micro --precision f64",
        "--preset micro --recipe paper --precision mixed --device cuda-emulated --text-cache --freeze embeddings",
        "--preset small --device wgpu --ceilings 150,20.5",
    ] {
        let plain = arguments.split(" --ceilings").next().unwrap();
        let text = g2d(&folder, &format!("plan {plain}")).done();
        let json: Value = serde_json::from_str(&g2d(&folder, &format!("plan {plain} --json")).done()).unwrap();
        let said = g2d(&folder, &format!("plan {arguments} --html plan.html")).done();
        assert_eq!(said, format!("plan.html: {} launches\n", json["launches"]));
        let page = fs::read_to_string(folder.join("plan.html")).unwrap();
        let mut wanted = ["launches", "flops", "bytes", "live_bound"].map(|name| json[name].as_u64()).to_vec();
        for slab in "Weights Gradients FirstMoments SecondMoments Frozen Statistics Inputs Arena".split(' ') {
            wanted.push(json["slabs"][slab].as_u64());
        }
        assert_eq!(exact(&page).into_iter().map(Some).collect::<Vec<_>>(), wanted, "{arguments}");
        let printed = text.lines().skip(1).filter(|line| line.contains(" -> "));
        let printed: Vec<String> = printed
            .map(|line| format!("#{}", line.split(" -> ").next().unwrap().trim().trim_end_matches(" in place")))
            .map(|line| line.replacen("  ", " ", 1)) // of what has no scope
            .collect();
        assert_eq!(printed.len() as u64, json["launches"].as_u64().unwrap());
        for found in launches(&page) {
            let other = printed.iter().zip(&found).find(|(printed, found)| printed != found);
            assert!(found.len() == printed.len() && other.is_none(), "{arguments}: {} {other:?}", found.len());
        }
        assert!(page.len() < 1 << 20 && !page.contains("NaN") && !page.contains("inf "), "{} bytes", page.len());
        assert_eq!(foreign(&page), [""; 0]);
    }
}

#[test]
fn a_page_that_cannot_be_written_is_one_sentence_and_leaves_nothing() {
    let folder = empty("plan-refused");
    fs::create_dir(folder.join("taken.html")).unwrap();
    let before = listing(&folder);
    for (line, words) in [
        ("--html nowhere/plan.html", &["nowhere/plan.html"][..]),
        ("--html taken.html", &["taken.html"]),
        ("--html plan.html --json", &["--json", "--html"]),
        ("--html plan.html --ceilings h300", &["h300", "a100, h100, h200", "150,20"]),
        ("--html plan.html --ceilings 0,20", &["0,20"]),
        ("--html plan.html --ceilings 10,NaN", &["10,NaN"]),
        ("--ceilings h100", &["--html"]),
        ("--html plan.html --batch 0", &["batch of 0"]),
    ] {
        g2d(&folder, &format!("plan --preset micro {line}")).refused(words);
        assert_eq!(listing(&folder), before, "{line}");
    }
    let name = "<script>&.html";
    let ended = command(&folder, &["plan", "--preset", "micro", "--html", name]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let page = fs::read_to_string(folder.join(name)).unwrap();
    assert!(!page.contains("<script") && page.contains("--html &lt;script&gt;&amp;.html"));
}

/// What became of the page of a plan, told from within.
const MEASURE_PLAN: &str = "({
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    bars: document.querySelectorAll('.lane rect[class]').length,
    pictures: [...document.querySelectorAll('.strip svg, .panel > svg')].filter(picture =>
        picture.getBoundingClientRect().height >= 14 && picture.getBoundingClientRect().width > 250).length,
    values: document.querySelectorAll('.value').length,
    letters: Math.min(...[...document.querySelectorAll('main *')].filter(element =>
        [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && element.namespaceURI.endsWith('xhtml'))
        .map(element => parseFloat(getComputedStyle(element).fontSize)).filter(size => size > 0)),
    widest: [...document.querySelectorAll('.lane rect[class]')].map(bar => bar.getBoundingClientRect())
        .reduce((widest, bar) => Math.max(widest, bar.width), 0),
})";

#[test]
fn a_browser_shows_the_page_of_a_plan_on_a_desk_on_a_phone_and_on_paper() {
    let Some(mut browser) = Chromium::start("plan") else {
        return ledger::skipped("browser", "the page of a plan was not tried: there is no Chromium", INSTALL);
    };
    let folder = empty("plan-browser");
    let line =
        "plan --preset full --recipe official --batch 256 --precision mixed --device cuda-emulated:sm_90a --html";
    g2d(&folder, &format!("{line} plan.html")).done();
    let bars = launches(&fs::read_to_string(folder.join("plan.html")).unwrap())[0].len();
    browser.open(&format!("file://{}", folder.join("plan.html").display()));
    for (name, width, height) in SHEETS {
        turn_to(&mut browser, name, width, height);
        let told = browser.value(MEASURE_PLAN);
        let counts = ["sideways", "bars", "pictures", "values"].map(|what| told[what].as_u64());
        assert_eq!(counts, [Some(0), Some(bars as u64), Some(4), Some(500)], "{name}: {told}");
        assert!(told["letters"].as_f64().unwrap() >= 11.0 && told["widest"].as_f64().unwrap() > 8.0, "{name}: {told}");
        let picture = browser.picture();
        fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        let picture = image::load_from_memory(&picture).unwrap();
        assert!(picture.width() == width && picture.height() > height, "{name}");
    }
    assert_eq!((browser.complaints(), asked(&browser)), (Vec::new(), Vec::new()));
    ledger::ran("browser", format!("the page of a plan on four screens and on paper: {}", folder.display()));
}

/// What a page is shown on: name, width and height in pixels.
const SHEETS: [(&str, u32, u32); 5] = [
    ("desk-light", 1280, 900),
    ("desk-dark", 1280, 900),
    ("phone-light", 390, 844),
    ("phone-dark", 390, 844),
    ("paper", 794, 1123),
];

/// Shows the page on one of them.
fn turn_to(browser: &mut Chromium, name: &str, width: u32, height: u32) {
    match name.split_once('-') {
        Some((device, scheme)) => browser.on_screen(width, height, device == "phone", scheme),
        None => browser.on_paper(),
    }
}

/// A page that is too wide, asks for something and fails in a script; the policy stops what it asks for and its script.
fn must_be_noticed(browser: &mut Chromium, folder: &Path, page: &str) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = format!("http://{}/a.png", server.local_addr().unwrap());
    let fault = format!("<div style='width:900px'>wide</div><img src='{address}'><script>nobody()</script></body>");
    let complained = |browser: &mut Chromium, what: &str| {
        let said = browser.complaints();
        assert!(said.iter().any(|said| said.to_string().contains(what)), "{what} is not in {said:?}");
    };
    browser.on_screen(390, 844, true, "light");
    opened(browser, folder, &page.replace("</body>", &fault));
    let told = browser.value(MEASURE);
    assert!(told["sideways"].as_i64().unwrap() >= 400 && told["broken"] == 1, "{told}");
    complained(browser, "Content Security Policy");
    assert!(server.accept().is_err(), "a request left the page");
    // Without the policy both would have happened.
    let (start, end) = (page.find("<meta http-equiv").unwrap(), page.find("<meta name=\"viewport").unwrap());
    let open = format!("{}{}", &page[..start], &page[end..]).replace("</body>", &fault);
    // It is answered, for a page that waits is never shown.
    server.set_nonblocking(false).unwrap();
    let answered = std::thread::spawn(move || {
        let (mut request, _) = server.accept().unwrap();
        let mut first = [0; 4];
        request.read_exact(&mut first).unwrap();
        request.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        first
    });
    opened(browser, folder, &open);
    complained(browser, "nobody is not defined");
    assert_eq!(asked(browser), [address]);
    assert_eq!(&answered.join().unwrap(), b"GET ");
}
