//! The work of a plan, launch by launch: in one line, part by part, and the heaviest.

use std::fmt::Write;

use super::Rates;
use super::kinds::{FAMILIES, Place, family, place};
use crate::program::plan::{Launch, Plan};
use crate::report::markup::{escape, number};

/// Launches in the table of the heaviest.
const HEAVIEST: usize = 24;

/// A launch as it is shown.
pub struct Work<'a> {
    /// Its position in the plan.
    pub at: usize,
    /// The launch.
    pub launch: &'a Launch,
    /// Where it stands.
    pub place: Place,
    /// Its family, by colour.
    pub family: usize,
    /// Seconds at the ceilings of arithmetic and of memory.
    times: [f64; 2],
}

impl Work<'_> {
    /// All launches of a plan.
    pub fn all<'a>(plan: &'a Plan, rates: &Rates) -> Vec<Work<'a>> {
        let work = |(at, launch): (usize, &'a Launch)| Work {
            at,
            launch,
            place: place(&launch.scope),
            family: family(launch.op.name()),
            times: [launch.cost.flops as f64 / rates.flops, launch.cost.bytes as f64 / rates.bandwidth],
        };
        plan.launches.iter().enumerate().map(work).collect()
    }

    /// Seconds that it takes at least.
    pub fn floor(&self) -> f64 {
        self.times[0].max(self.times[1])
    }

    /// What sets them.
    fn bound(&self) -> &'static str {
        if self.times[0] > self.times[1] { "arithmetic" } else { "memory" }
    }

    /// `#3 scope op/kernel`, as markup.
    pub fn name(&self) -> String {
        let Launch { op, kernel, scope, .. } = self.launch;
        format!("#{} {}", self.at, escape(format!("{scope} {}/{kernel}", op.name()).trim_start()))
    }

    fn numbers(&self) -> String {
        let (cost, floor) = (self.launch.cost, time(self.floor()));
        format!("{}, {}, at least {floor} by {}", flop(cost.flops), bytes(cost.bytes as f64), self.bound())
    }
}

/// Seconds, in the unit that suits them.
pub fn time(seconds: f64) -> String {
    match seconds {
        under if under < 1e-3 => format!("{} \u{b5}s", number(1e6 * seconds)),
        under if under < 1.0 => format!("{} ms", number(1e3 * seconds)),
        _ => format!("{} s", number(seconds)),
    }
}

/// Bytes, in the unit that suits them.
pub fn bytes(bytes: f64) -> String {
    let (unit, name) = unit(bytes);
    format!("{} {name}", number(bytes / unit))
}

/// The unit that suits so many bytes.
pub fn unit(bytes: f64) -> (f64, &'static str) {
    match bytes.log2() {
        power if power >= 30.0 => (f64::from(1 << 30), "GiB"),
        power if power >= 20.0 => (f64::from(1 << 20), "MiB"),
        _ => (f64::from(1 << 10), "KiB"),
    }
}

/// Floating-point operations, in the unit that suits them.
pub fn flop(flops: u64) -> String {
    match flops as f64 {
        many if many >= 1e12 => format!("{} TFLOP", number(many / 1e12)),
        few => format!("{} GFLOP", number(few / 1e9)),
    }
}

/// Seconds that launches take at least, one after another.
pub fn floor<'a>(works: impl IntoIterator<Item = &'a Work<'a>>) -> f64 {
    works.into_iter().map(Work::floor).sum()
}

/// Stretches of launches that stand in the same place, in the order of the plan.
fn runs<'w, 'a, K: PartialEq>(works: &'w [Work<'a>], key: impl Fn(&Place) -> K) -> Vec<&'w [Work<'a>]> {
    works.chunk_by(|a, b| key(&a.place) == key(&b.place)).collect()
}

/// `part, backward`.
fn said(name: &str, backward: bool) -> String {
    format!("{}{}", escape(name), if backward { ", backward" } else { "" })
}

/// The families that a plan has, each with its part of `all`, the time that the plan takes at least.
pub fn legend(works: &[Work<'_>], all: f64) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (colour, (name, _)) in FAMILIES.iter().enumerate() {
        let of: Vec<&Work<'_>> = works.iter().filter(|work| work.family == colour).collect();
        if !of.is_empty() {
            let part = number(100.0 * floor(of.iter().copied()) / all);
            let _ = write!(html, "<li><i class=\"block c{colour}\"></i>{name} <b>{part} %</b></li>");
        }
    }
    html + "</ul>\n"
}

/// Every launch one behind the other, as wide as `width` says; a picture without its frame, and where each region ends.
pub fn strip(works: &[Work<'_>], width: impl Fn(&Work<'_>) -> f64) -> String {
    let all: f64 = works.iter().map(&width).sum();
    let mut paths = vec![String::new(); FAMILIES.len()];
    let (mut x, mut told) = (0.0, String::new());
    for run in runs(works, |place| (place.part.clone(), place.backward)) {
        let start = x;
        for work in run {
            let wide = 1000.0 * width(work) / all;
            let _ = write!(paths[work.family], "M{x:.2} 0h{wide:.2}v10h-{wide:.2}z");
            x += wide;
        }
        let Place { part, backward, .. } = &run[0].place;
        let (last, floor, wide) = (run[run.len() - 1].at, time(floor(run)), x - start);
        let _ = write!(
            told,
            "<rect x=\"{start:.2}\" width=\"{wide:.2}\" height=\"10\"><title>{}: launches {} to {last}, at least {floor}</title></rect>",
            said(part, *backward),
            run[0].at
        );
    }
    let mut html = String::from(
        "<div class=\"strip\"><svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"all launches in order\">",
    );
    for (colour, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(html, "<path class=\"c{colour}\" d=\"{path}\"/>");
    }
    let _ = write!(html, "<g class=\"told\">{told}</g></svg><div class=\"regions\">");
    for run in runs(works, |place| (place.region.clone(), place.backward)) {
        let (share, name) =
            (run.iter().map(&width).sum::<f64>() / all, said(&run[0].place.region, run[0].place.backward));
        // Half a letter says nothing: on a phone, or anywhere.
        let class = match share {
            thin if thin < 0.03 => "thin",
            short if short < 0.14 => "short",
            _ => "",
        };
        let _ = write!(
            html,
            "<span class=\"{class}\" style=\"flex-grow:{:.3}\" title=\"{name}\">{name}</span>",
            1000.0 * share
        );
    }
    html + "</div></div>\n"
}

/// A part of the model with its launches, forward and backward.
type Lane<'w, 'a> = (&'w str, [Vec<&'w Work<'a>>; 2]);

/// Part by part, in the order in which they first appear.
fn lanes<'w, 'a>(works: &'w [Work<'a>]) -> Vec<Lane<'w, 'a>> {
    let mut lanes: Vec<Lane<'w, 'a>> = Vec::new();
    for work in works {
        let at = lanes.iter().position(|(part, _)| *part == work.place.part).unwrap_or_else(|| {
            lanes.push((&work.place.part, [Vec::new(), Vec::new()]));
            lanes.len() - 1
        });
        lanes[at].1[usize::from(work.place.backward)].push(work);
    }
    lanes
}

/// A row for each part of the model: its launches forward and backward, all on one scale of time.
pub fn parts(works: &[Work<'_>]) -> String {
    let lanes = lanes(works);
    let sum = |launches: &[&Work<'_>]| floor(launches.iter().copied());
    let longest = [0, 1].map(|pass| lanes.iter().map(|(_, passes)| sum(&passes[pass])).fold(0.0, f64::max));
    let all = longest[0] + longest[1];
    let columns = longest.map(|longest| (1000.0 * longest / all).max(1.0));
    let mut html = format!(
        "<div class=\"lanes card\" style=\"--forward:{:.1}fr;--backward:{:.1}fr\">\n<div class=\"lane head\"><span>part</span>\
         <span>forward</span><span>backward</span><span>at least</span></div>\n",
        columns[0], columns[1]
    );
    for (part, passes) in &lanes {
        let of = || passes.iter().flatten().copied();
        let (flops, moved) =
            of().fold((0, 0), |sum, work| (sum.0 + work.launch.cost.flops, sum.1 + work.launch.cost.bytes));
        let _ = write!(html, "<div class=\"lane\"><h3>{}</h3>", escape(part));
        for (launches, width) in passes.iter().zip(columns) {
            bar(&mut html, launches, width, 1000.0 / all);
        }
        let (time, work, moved) = (time(floor(of())), flop(flops), bytes(moved as f64));
        let _ = writeln!(html, "<p><b>{time}</b> {work}, {moved}</p></div>");
    }
    html + "</div>\n"
}

/// Launches one behind the other, each telling what it is; `scale` from seconds to the units of `width`.
fn bar(html: &mut String, launches: &[&Work<'_>], width: f64, scale: f64) {
    let _ = write!(html, "<svg viewBox=\"0 0 {width:.1} 10\" preserveAspectRatio=\"none\">");
    let mut x = 0.0;
    for work in launches {
        let wide = work.floor() * scale;
        let (colour, name, numbers) = (work.family, work.name(), work.numbers());
        let _ = write!(
            html,
            "<rect class=\"c{colour}\" x=\"{x:.2}\" width=\"{wide:.2}\" height=\"10\"><title>{name}: {numbers}</title></rect>"
        );
        x += wide;
    }
    html.push_str("</svg>");
}

/// The launches that take the longest at least, and all of them, folded up.
pub fn tables(plan: &Plan, works: &[Work<'_>]) -> String {
    let all = floor(works);
    let mut heaviest: Vec<&Work<'_>> = works.iter().collect();
    heaviest.sort_by(|a, b| b.floor().total_cmp(&a.floor()));
    heaviest.truncate(HEAVIEST);
    let part = number(100.0 * floor(heaviest.iter().copied()) / all);
    let mut html = format!(
        "<h2>Heaviest launches</h2>\n<p>These {} take {part}\u{a0}% of the time that all {} take at least.</p>\n",
        heaviest.len(),
        works.len()
    );
    table(&mut html, plan, heaviest, all);
    let _ = writeln!(html, "<details><summary>All {} launches, in order</summary>", works.len());
    table(&mut html, plan, works, all);
    html + "</details>\n"
}

fn table<'w>(html: &mut String, plan: &Plan, works: impl IntoIterator<Item = &'w Work<'w>>, all: f64) {
    html.push_str(
        "<div class=\"card scroll\"><table class=\"rows launches\"><thead><tr><th>#</th><th>where</th><th>op / kernel</th>\
         <th>makes</th><th>GFLOP</th><th>read or written</th><th>at least</th><th>of all</th></tr></thead><tbody>\n",
    );
    for work in works {
        let Launch { op, kernel, scope, outputs, cost, .. } = work.launch;
        let first = outputs.first().map(|&first| &plan.buffers[first]);
        let more = if outputs.len() > 1 { format!(" +{}", outputs.len() - 1) } else { String::new() };
        let makes = first.map_or_else(String::new, |first| format!("{}{}{more}", first.dtype.name(), first.spec.shape));
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td><i class=\"block c{}\"></i>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{} %</td></tr>",
            work.at,
            escape(scope),
            work.family,
            escape(&format!("{}/{kernel}", op.name())),
            escape(&makes),
            number(cost.flops as f64 / 1e9),
            bytes(cost.bytes as f64),
            time(work.floor()),
            number(100.0 * work.floor() / all)
        );
    }
    html.push_str("</tbody></table></div>\n");
}
