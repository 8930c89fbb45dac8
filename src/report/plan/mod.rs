//! The page of a plan: what a step is made of, what each launch takes at least, and what lies in memory when.

mod arena;
mod kinds;
mod work;

use std::fmt::Write;

use self::work::{Work, bytes, floor, flop, legend, parts, strip, tables, time};
use super::markup::{document, escape, facts, notes, number};
use crate::program::Precision;
use crate::program::plan::{Plan, Slab};

const STYLE: &str = include_str!("plan.css");

/// Rates that are taken for the highest, by which the least time of a launch is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Whose they are, as it follows "at".
    pub name: String,
    /// FLOP/s.
    pub flops: f64,
    /// Bytes read and written a second.
    pub bandwidth: f64,
}

/// What is said of a plan that is not in it.
#[derive(Clone, Debug)]
pub struct About {
    /// What it is called.
    pub title: String,
    /// Whose step it is.
    pub lede: String,
    /// The command that made the page.
    pub command: String,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A plan as a page of which all lies in one text.
pub fn page(plan: &Plan, about: &About, rates: &Rates) -> String {
    let works = Work::all(plan, rates);
    let all = floor(&works);
    let mut body = format!(
        "<header><p class=\"kicker\">g2d plan</p><h1>{}</h1><p class=\"lede\">{}</p></header>\n{}{}",
        escape(&about.title),
        escape(&about.lede),
        overview(plan, rates, all),
        notes(&about.notes)
    );
    let _ = write!(
        body,
        "<h2>Launches</h2>\n<p>All of a step, one after another. A launch is as wide as the time that it takes at least: that of its \
         arithmetic, or of reading every input and writing every output once, whichever is longer, at {} and {}. \
         Nothing here was measured. Point at anything to see what it is; the tables further down \
         say the same.</p>\n{}<div class=\"card\">{}</div>\n",
        flop_rate(rates.flops),
        byte_rate(rates.bandwidth),
        legend(&works, all),
        strip(&works, |work| work.floor())
    );
    body += "<h2>Parts of the model</h2>\n<p>The same launches, part by part: forward on the left, backward on the right. All rows \
             have one scale.</p>\n";
    body += &(parts(&works) + &tables(plan, &works) + &arena::memory(plan, &works) + &exact(plan));
    let (command, version) = (escape(&about.command), env!("CARGO_PKG_VERSION"));
    let _ = writeln!(body, "<footer><p>Made by g2d {version}: <code>{command}</code></p></footer>");
    document(&about.title, STYLE, &body)
}

fn flop_rate(flops: f64) -> String {
    format!("{} TFLOP/s", number(flops / 1e12))
}

fn byte_rate(bandwidth: f64) -> String {
    format!("{} GB/s", number(bandwidth / 1e9))
}

/// What is asked first.
fn overview(plan: &Plan, rates: &Rates, all: f64) -> String {
    let cost = plan.cost();
    let memory: usize = plan.slabs.values().sum();
    let precision = match plan.precision {
        Precision::Exact => "f32",
        Precision::Mixed => "activations bf16, everything else f32",
        Precision::F64 => "f64",
    };
    let device = plan.backend.name();
    facts(&[
        ["Launches".into(), plan.launches.len().to_string(), format!("{device}, {precision}")],
        ["Work".into(), flop(cost.flops), "by the ops\u{2019} definitions".into()],
        ["Read or written".into(), bytes(cost.bytes as f64), "every input and every output once".into()],
        ["At least".into(), time(all), format!("at {}", escape(&rates.name))],
        ["Memory".into(), bytes(memory as f64), format!("of it {} arena", bytes(plan.slabs[&Slab::Arena] as f64))],
    ])
}

/// What `g2d plan --json` prints, to the last digit.
fn exact(plan: &Plan) -> String {
    let cost = plan.cost();
    let mut html =
        String::from("<h2>To the last digit</h2>\n<div class=\"card\"><table class=\"rows exact\"><tbody>\n");
    let mut row = |name: &str, value: u64| {
        let _ = writeln!(html, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    };
    row("launches", plan.launches.len() as u64);
    row("FLOP", cost.flops);
    row("bytes read or written", cost.bytes);
    row("live bound of the arena, bytes", plan.live_bound as u64);
    for (slab, &bytes) in &plan.slabs {
        row(&format!("{slab:?}, bytes"), bytes as u64);
    }
    html + "</tbody></table></div>\n"
}
