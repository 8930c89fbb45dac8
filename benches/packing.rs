//! What packing takes beside decoding and resizing: large films, most of them under several names, packed and, for
//! comparison, only decoded and resized by as many threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use g2d::base::Rng;
use g2d::base::threads::pool;
use g2d::data::phantom::{self, Style};
use g2d::data::prepare::{Resize, prepare};
use g2d::data::{PackOptions, PairsTable, decode, pack};
use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer, Luma};
use rayon::prelude::*;

/// Names of films, unless `G2D_PACK_FILMS` gives another count; where benchmarks are only tried (`--test`), a few once.
const FILMS: usize = 24;
const TRIED: usize = 3;
/// Different films: a third each in JPEG, PNG of 8 bits, PNG of 16 bits.
const DIFFERENT: usize = 12;
/// Width and height.
const SHAPE: (u32, u32) = (2500, 3000);
const SIZE: usize = 256;
/// Rounds of both, in turn; the median of the ratios counts.
const ROUNDS: usize = 3;

/// Prints the ratio.
pub fn measure() {
    let tried = std::env::args().any(|word| word == "--test");
    let given = std::env::var("G2D_PACK_FILMS").ok().and_then(|count| count.parse().ok());
    let count = given.unwrap_or(if tried { TRIED } else { FILMS });
    let folder = std::env::temp_dir().join(format!("g2d-bench-packing-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let names = films(&folder, count);
    let threads = pool(0).expect("threads start");
    let cores = threads.current_num_threads();
    let mut ratios = Vec::new();
    for _ in 0..if tried { 1 } else { ROUNDS } {
        let least = spent(|| {
            threads.install(|| names.par_iter().for_each(|name| only_decoded(&folder.join(name))));
        });
        let packed = spent(|| packed(&folder, count));
        ratios.push((least.0 / packed.0, least.1 / packed.1));
        println!(
            "packing {count} films of {}x{}, {cores} threads: {:.2} s of CPU, {:.2} s, {:.1} films/s; decoded and resized with nothing \
             else: {:.2} s of CPU, {:.2} s",
            SHAPE.0,
            SHAPE.1,
            packed.0,
            packed.1,
            count as f64 / packed.1,
            least.0,
            least.1
        );
    }
    let median = |pick: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = ratios.iter().map(pick).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "packing, ratio {:.3} of CPU, {:.3} of the clock (1: packing is decoding and resizing)",
        median(|it| it.0),
        median(|it| it.1)
    );
    let _ = fs::remove_dir_all(&folder);
}

/// Seconds of CPU, of all threads, and on the clock. Where the system does not tell CPU time, the clock's stand for both.
fn spent(work: impl FnOnce()) -> (f64, f64) {
    // Fields 14 and 15 of /proc/self/stat, counted behind the name, in hundredths of a second.
    let cpu = || {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
    };
    let (before, begun) = (cpu(), Instant::now());
    work();
    let clock = begun.elapsed().as_secs_f64();
    (before.zip(cpu()).map_or(clock, |(before, after)| after - before), clock)
}

fn only_decoded(path: &Path) {
    let film = decode::film(path).expect("the film is read");
    prepare(film, SIZE, Resize::Fit).expect("the film is resized");
}

fn packed(folder: &Path, count: usize) {
    let options = PackOptions { size: SIZE, ..PackOptions::new(folder.join("shards")) };
    let table = PairsTable::open(&folder.join("pairs.csv"), None).expect("the table is read");
    let funnel = pack(&table, &options, &|_| {}, &AtomicBool::new(false)).expect("the films are packed");
    assert_eq!(funnel.kept, count);
    fs::remove_dir_all(&options.out).expect("the shards are removed");
}

/// Writes films and their table; names beyond the different films are links.
fn films(folder: &Path, count: usize) -> Vec<PathBuf> {
    fs::create_dir_all(folder).expect("the temporary folder can be written");
    let drawn: Vec<(String, String)> =
        (0..DIFFERENT.min(count)).into_par_iter().map(|film| draw(folder, film)).collect();
    let mut table = "id,image,text,patient_id\n".to_owned();
    let mut names = Vec::new();
    for film in 0..count {
        let (original, text) = &drawn[film % drawn.len()];
        let name = format!("{film:05}-{original}");
        fs::hard_link(folder.join(original), folder.join(&name)).expect("the film is linked");
        table += &format!("{film},{name},\"{text}\",{film}\n");
        names.push(name.into());
    }
    fs::write(folder.join("pairs.csv"), table).expect("the table is written");
    names
}

/// A phantom at the size of a film, with a film's grain; its file's name and report.
fn draw(folder: &Path, film: usize) -> (String, String) {
    let phantom = phantom::draw(Style::Training, 1, film as u64);
    let small =
        GrayImage::from_raw(phantom.width as u32, phantom.height as u32, phantom.pixels).expect("it has its pixels");
    let large = resize(&small, SHAPE.0, SHAPE.1, FilterType::Triangle);
    let mut rng = Rng::new(1, 0x9a1e, film as u64);
    // Of 4,096 levels, as detectors have; a deviation of a few.
    let mut grained = |gray: u8| (i32::from(gray) * 16 + (rng.next_u32() & 63) as i32 - 32).clamp(0, 4095);
    let sixteen: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(SHAPE.0, SHAPE.1, |x, y| Luma([grained(large.get_pixel(x, y).0[0]) as u16]));
    let eight = || GrayImage::from_fn(SHAPE.0, SHAPE.1, |x, y| Luma([(sixteen.get_pixel(x, y).0[0] >> 4) as u8]));
    let name = format!("film{film}.{}", ["jpg", "png", "png"][film % 3]);
    let path = folder.join(&name);
    let written = if film % 3 == 2 { sixteen.save(&path) } else { eight().save(&path) };
    written.expect("the film is written");
    (name, phantom.text.replace('"', ""))
}
