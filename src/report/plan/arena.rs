//! The arena over the launches: how much of it is alive, and what lies where.

use std::cmp::Reverse;
use std::fmt::Write;

use super::work::{Work, bytes, strip, unit};
use crate::program::lifetimes::{Resident, residents};
use crate::program::memory::live;
use crate::program::pass::layout::aligned;
use crate::program::plan::{Plan, Slab};
use crate::report::chart::ticks;
use crate::report::markup::{escape, number};

/// Values that are drawn.
const DRAWN: usize = 500;
/// Values in the table of what is alive at the peak.
const LISTED: usize = 12;
/// Height of a picture, in units of its own; one launch is one unit wide.
const HEIGHT: f64 = 1000.0;

/// A plan with what lies in its arena.
struct Arena<'a> {
    plan: &'a Plan,
    works: &'a [Work<'a>],
    residents: Vec<Resident>,
    /// Bytes alive at each launch.
    live: Vec<usize>,
    /// The first launch at which the most are alive.
    peak: usize,
    /// Bytes of the arena: the end of the upright axis.
    size: f64,
    /// Marks of that axis, in units.
    ticks: Vec<f64>,
    /// Bytes, and what they are called.
    unit: (f64, &'static str),
}

/// What is known of a plan's memory, as markup; nothing of one that needs no arena.
pub fn memory(plan: &Plan, works: &[Work<'_>]) -> String {
    let residents = residents(plan);
    let mut live = live(&residents.iter().map(|resident| resident.interval.clone()).collect::<Vec<_>>());
    live.resize(plan.launches.len(), 0); // what can be read after the step is alive behind the last launch, too
    let Some((peak, &most)) = live.iter().enumerate().max_by_key(|&(at, bytes)| (bytes, Reverse(at))) else {
        return String::new();
    };
    let size = plan.slabs[&Slab::Arena].max(most) as f64;
    let unit = unit(size);
    let ticks = ticks(0.0, size / unit.0, 0.0).into_iter().filter(|tick| tick * unit.0 <= size).collect();
    let arena = Arena { plan, works, residents, live, peak, size, ticks, unit };
    let (at_peak, all) = (works[peak].name(), number(100.0 * most as f64 / size));
    format!(
        "<h2>Memory</h2>\n<p>The arena holds what lives within a step. The most of it, {} of {} ({all}\u{a0}%), is alive at {at_peak}, \
         the dashed line. A launch is as wide as any other here.</p>\n<div class=\"card arena\">\n\
         <h3>Alive, {2}</h3>\n{3}<h3>The {4} largest of {5} values: when, and at which address, {2}</h3>\n{6}\
         <div class=\"panel\"><span></span>{7}</div></div>\n{8}",
        bytes(most as f64),
        bytes(size),
        unit.1,
        arena.area(),
        DRAWN.min(arena.residents.len()),
        arena.residents.len(),
        arena.places(),
        strip(works, |_| 1.0),
        arena.at_peak()
    )
}

impl Arena<'_> {
    fn y(&self, bytes: usize) -> f64 {
        HEIGHT * (1.0 - bytes as f64 / self.size)
    }

    /// A picture beside its axis.
    fn panel(&self, class: &str, label: &str, content: &str) -> String {
        let launches = self.plan.launches.len();
        let part = |tick: f64| 100.0 * tick * self.unit.0 / self.size;
        let mark = |tick: &f64| format!("<span style=\"bottom:{:.1}%\">{}</span>", part(*tick), number(*tick));
        let line = |tick: &f64| format!("M0 {:.0}H{launches}", HEIGHT - HEIGHT / 100.0 * part(*tick));
        format!(
            "<div class=\"panel {class}\"><div class=\"marks\">{}</div><svg viewBox=\"0 0 {launches} {HEIGHT}\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\"><path class=\"grid\" d=\"{}\"/>{content}\
             <path class=\"peak\" d=\"M{} 0V{HEIGHT}\"/></svg></div>\n",
            self.ticks.iter().map(mark).collect::<String>(),
            self.ticks.iter().map(line).collect::<String>(),
            self.peak as f64 + 0.5
        )
    }

    /// Bytes alive over the launches.
    fn area(&self) -> String {
        let (mut path, mut told) = (format!("M0 {HEIGHT}"), String::new());
        for (work, &alive) in self.works.iter().zip(&self.live) {
            let _ = write!(path, "V{:.1}H{}", self.y(alive), work.at + 1);
            let _ = write!(
                told,
                "<rect x=\"{}\" width=\"1\" height=\"{HEIGHT}\"><title>{}: {} alive</title></rect>",
                work.at,
                work.name(),
                bytes(alive as f64)
            );
        }
        let content = format!("<path class=\"area c1\" d=\"{path}V{HEIGHT}Z\"/><g class=\"told\">{told}</g>");
        self.panel("live", "bytes alive over the launches", &content)
    }

    /// The largest values as rectangles, from the launch that makes them to the last that reads them.
    fn places(&self) -> String {
        let mut largest: Vec<&Resident> = self.residents.iter().collect();
        largest.sort_by_key(|resident| (Reverse(resident.interval.bytes), resident.interval.first));
        let mut content = String::new();
        for resident in largest.into_iter().take(DRAWN) {
            let (first, end) = (resident.interval.first, (resident.interval.last + 1).min(self.works.len()));
            let (top, size) = (self.y(resident.offset + aligned(resident.interval.bytes)), resident.interval.bytes);
            let _ = write!(
                content,
                "<rect class=\"value c{}\" x=\"{first}\" y=\"{top:.2}\" width=\"{}\" height=\"{:.2}\"><title>{}: {} at a+{:x}, \
                 launches {first} to {}; first in {}</title></rect>",
                self.works[first].family,
                end - first,
                self.y(resident.offset) - top,
                self.value(resident),
                bytes(size as f64),
                resident.offset,
                end - 1,
                self.works[first].name(),
            );
        }
        self.panel("places", "values over the launches by address", &content)
    }

    fn value(&self, resident: &Resident) -> String {
        let buffer = &self.plan.buffers[resident.buffer];
        let kind = if resident.workspace { "workspace " } else { "" };
        escape(&format!("{kind}{}{}", buffer.dtype.name(), buffer.spec.shape))
    }

    /// The largest values that are alive when the most are.
    fn at_peak(&self) -> String {
        let alive = |resident: &&Resident| (resident.interval.first..=resident.interval.last).contains(&self.peak);
        let mut alive: Vec<&Resident> = self.residents.iter().filter(alive).collect();
        alive.sort_by_key(|resident| (Reverse(resident.interval.bytes), resident.interval.first));
        let mut html = format!(
            "<h3 class=\"above\">The largest of {} values that are alive at launch {}</h3>\n<div class=\"card scroll\"><table \
             class=\"rows launches\"><thead><tr><th>value</th><th>size</th><th>address</th><th>launches</th><th>first in</th></tr>\
             </thead><tbody>\n",
            alive.len(),
            self.peak
        );
        for resident in alive.into_iter().take(LISTED) {
            let (first, last) = (resident.interval.first, resident.interval.last.min(self.works.len() - 1));
            let _ = writeln!(
                html,
                "<tr><td><i class=\"block c{}\"></i>{}</td><td>{}</td><td>a+{:x}</td><td>{first} to {last}</td><td>{}</td></tr>",
                self.works[first].family,
                self.value(resident),
                bytes(resident.interval.bytes as f64),
                resident.offset,
                self.works[first].name()
            );
        }
        html + "</tbody></table></div>\n"
    }
}
