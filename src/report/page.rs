//! The page of a run: one file that needs nothing else and runs nothing, readable on a phone, in print, light and dark.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::charts::figures;
use super::gallery::{self, Kept};
use super::markup::{self, clipped, data_url, document, escape, notes, number};
use super::metrics::Table;
use super::picture::{KINDS, Kind, edge};
use super::{PAGE, Shown};
use crate::checkpoint::write_beside;
use crate::error::Error;
use crate::train::run::{CONFIG, MANIFEST, METRICS};

/// Rows of the table of validations at most.
const ROWS: usize = 24;
/// Letters of a report, and of a setting, that are shown at most.
const LETTERS: usize = 300;

/// Writes the page of the run in a folder, beside and renamed.
///
/// # Errors
/// If its metrics cannot be read or the page cannot be written. Anything else that cannot be read is told on the page.
pub fn write(folder: &Path) -> Result<Shown, Error> {
    let table = Table::read(folder)?;
    let (kept, mut notes) = gallery::load(folder, &table.validations);
    match table.unreadable {
        0 => {}
        1 => notes.push(format!("{METRICS}: 1 line cannot be read and is left out")),
        lines => notes.push(format!("{METRICS}: {lines} lines cannot be read and are left out")),
    }
    let [config, manifest] = [CONFIG, MANIFEST].map(|name| {
        let text = fs::read(folder.join(name)).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())).unwrap_or_else(
            |why| {
                notes.push(format!("{name}: {why}"));
                Value::Null
            },
        )
    });
    let name = std::path::absolute(folder).ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| folder.display().to_string());
    let page = Page { name, table: &table, kept: kept.as_ref(), notes: &notes, config, manifest }.html();
    let path = folder.join(PAGE);
    write_beside(&path, page.as_bytes()).map_err(Error::io(&path))?;
    let films = kept.map_or(0, |kept| kept.films.len());
    Ok(Shown { steps: table.steps, validations: table.validations.len(), films, notes })
}

struct Page<'a> {
    name: String,
    table: &'a Table,
    kept: Option<&'a Kept>,
    notes: &'a [String],
    config: Value,
    manifest: Value,
}

impl Page<'_> {
    fn html(&self) -> String {
        let mut html = format!(
            "<header><p class=\"kicker\">g2d pre-training</p><h1>{}</h1><p class=\"lede\">{}</p></header>\n{}{}",
            escape(&self.name),
            self.lede(),
            self.facts(),
            notes(self.notes),
        );
        let charts = figures(self.table);
        match charts.is_empty() {
            true => html.push_str("<h2>Curves</h2>\n<p>No step has been taken yet.</p>\n"),
            false => {
                let _ = write!(
                    html,
                    "<h2>Curves</h2>\n<p>By step. Lines are means, bands the extremes of the steps in them, \
                    whiskers 95\u{a0}% intervals. Point at a chart to read its values.</p>\n<div class=\"charts\">\n{charts}</div>\n"
                );
            }
        }
        html += &(self.gallery() + &self.validations() + &self.settings());
        let _ = writeln!(
            html,
            "<footer><p>Made from <code>{METRICS}</code> and what lies beside it by g2d {}; made anew by <code>g2d report</code>. \
             This page holds films and reports of the held-out set: treat it as you treat those.</p></footer>",
            env!("CARGO_PKG_VERSION")
        );
        document(&self.name, &self.films_as_backgrounds(), &html)
    }

    fn lede(&self) -> String {
        let text = |key: &str| self.manifest[key].as_str().map(escape);
        let mut said = vec![format!("after step {}", self.table.last)];
        if let Some(horizon) = self.manifest["schedule.steps"].as_u64() {
            said[0] += &format!(" of {horizon}");
        }
        said.extend(text("preset").map(|preset| format!("preset {preset}")));
        said.extend(text("recipe").map(|recipe| format!("recipe {recipe}")));
        said.extend(text("device").map(|device| format!("on {device}")));
        let moves = self.manifest["moves"].as_array().into_iter().flatten();
        said.extend(moves.filter_map(|to| {
            Some(format!("after step {} on {}", to["after"].as_u64()?, escape(to["device"].as_str()?)))
        }));
        said.join(" \u{b7} ")
    }

    /// What a run is asked first.
    fn facts(&self) -> String {
        let table = self.table;
        let mut facts: Vec<[String; 3]> = Vec::new();
        let mut fact = |name: &str, value: Option<f64>, note: String| {
            facts.extend(value.map(|value| [name.into(), number(value), note]));
        };
        let estimate = |key: &str| table.latest(&format!("validation.{key}.value"));
        let interval = |key: &str| {
            let [low, high] = ["low", "high"].map(|end| table.latest(&format!("validation.{key}.{end}")).map(number));
            format!("[{}, {}]", low.unwrap_or_default(), high.unwrap_or_default())
        };
        let constant = |key: &str| {
            let answer = table.latest(&format!("validation.{key}"));
            answer.map_or_else(String::new, |answer| format!(", best constant answer {}", number(answer)))
        };
        let central =
            estimate("central_dice").map_or_else(String::new, |dice| format!(", central square {}", number(dice)));
        let parts =
            table.latest("loss.segmentation").map_or_else(String::new, |loss| format!(", decoder {}", number(loss)));
        let loss = table
            .latest("loss.contrastive")
            .map_or_else(String::new, |loss| format!("contrastive {}{parts}", number(loss)));
        fact("Loss", table.latest("loss.total"), loss);
        fact("Top-1, held-out", estimate("top1"), interval("top1") + &constant("constant1"));
        fact("Top-5, held-out", estimate("top5"), interval("top5") + &constant("constant5"));
        fact("Dice, held-out", estimate("dice"), interval("dice") + &central);
        let mut speeds: Vec<f64> = table.of("samples_per_s").iter().map(|&(_, speed)| speed).collect();
        speeds.sort_by(f64::total_cmp);
        fact("Pairs per second", speeds.get(speeds.len() / 2).copied(), "median of the steps".into());
        markup::facts(&facts)
    }

    /// The films, each once, as classes that tiles have.
    fn films_as_backgrounds(&self) -> String {
        let films = self.kept.iter().flat_map(|kept| kept.pixels.iter().map(|film| (kept.tile, &film[0]))).enumerate();
        let class = |(at, (tile, film)): (usize, (usize, &Vec<u8>))| {
            let png = super::picture::png(film, [tile; 2], image::ExtendedColorType::L8).unwrap_or_default();
            format!(".f{at} {{ background-image: url({}); }}\n", data_url(&png))
        };
        films.map(class).collect()
    }

    fn gallery(&self) -> String {
        let Some(kept) = self.kept else {
            let why = match self.table.validations.is_empty() {
                true => "There are none: nothing has been validated yet.",
                false => "There are none: this run is from before there were pictures of them, or they were removed.",
            };
            return format!("<h2>Films</h2>\n<p>{why}</p>\n");
        };
        let mut html = String::from(
            "<h2>Films</h2>\n<p class=\"key\">Held-out films, the same ones at each validation, by steps taken. \
             <i class=\"attention\"></i>attention, each map from its lowest to its highest cell; \
             <i class=\"pseudo\"></i>pseudo mask made of it; <i class=\"predicted\"></i>mask that the decoder predicts; \
             <i class=\"truth\"></i>edge of the true mask, where there is one. Point at a tile to see the film alone.</p>\n",
        );
        for at in 0..kept.films.len() {
            film(&mut html, kept, at);
        }
        html
    }

    fn validations(&self) -> String {
        const COLUMNS: [(&str, &str); 9] = [
            ("loss", "loss.total"),
            ("contrastive", "loss.contrastive"),
            ("decoder", "loss.segmentation"),
            ("top-1", "top1"),
            ("top-5", "top5"),
            ("Dice", "dice"),
            ("pseudo mask\u{2019}s Dice", "pseudo_dice"),
            ("films", "films"),
            ("reports", "reports"),
        ];
        let table = self.table;
        let series = |key: &str| [format!("validation.{key}.value"), format!("validation.{key}")];
        let known = |key: &str| series(key).iter().any(|name| !table.of(name).is_empty());
        let columns: Vec<_> = COLUMNS.into_iter().filter(|(_, key)| known(key)).collect();
        if columns.is_empty() {
            return String::new();
        }
        let heads: String = columns.iter().map(|(name, _)| format!("<th>{name}</th>")).collect();
        let mut html = format!(
            "<h2>Validations</h2>\n<div class=\"card scroll\"><table class=\"rows validations\"><thead><tr><th>step</th>{heads}</tr>\
             </thead><tbody>\n"
        );
        let every = table.validations.len().div_ceil(ROWS).max(1);
        let last = table.validations.len() - 1;
        let rows = table.validations.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        for (_, &step) in rows {
            let cell = |(_, key): &(&str, &str)| {
                let value = series(key).iter().find_map(|name| table.at(name, step)).map_or("\u{2013}".into(), number);
                let end = |end: &str| table.at(&format!("validation.{key}.{end}"), step).map(number);
                let interval = end("low").zip(end("high"));
                let interval =
                    interval.map_or_else(String::new, |(low, high)| format!(" <small>[{low}, {high}]</small>"));
                format!("<td>{value}{interval}</td>")
            };
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\">{step}</th>{}</tr>",
                columns.iter().map(cell).collect::<String>()
            );
        }
        html + "</tbody></table></div>\n"
    }

    fn settings(&self) -> String {
        let mut html = String::from("<h2>Settings</h2>\n<div class=\"settings\">\n");
        html += &rows(MANIFEST, &self.manifest);
        for part in ["train", "model"] {
            html += &rows(&format!("{CONFIG}: {part}"), &self.config[part]);
        }
        html + "</div>\n"
    }
}

/// A film with what was made of it, a row of tiles for each map.
fn film(html: &mut String, kept: &Kept, at: usize) {
    let layer = |kind: Kind, plane: &[u8], alt: String| {
        let png = kind.layer(plane, kept.tile).unwrap_or_default();
        format!("<span class=\"tile f{at}\"><img alt=\"{alt}\" src=\"{}\"></span>", data_url(&png))
    };
    let film = &kept.films[at];
    let truth =
        layer(Kind::Truth, &edge(&kept.pixels[at][1], kept.tile), "the film, and the edge of its true mask".into());
    let (id, report) = (escape(&clipped(&film.id, LETTERS)), escape(&clipped(&film.report, LETTERS)));
    let _ = writeln!(
        html,
        "<article class=\"film\"><div class=\"about\">{truth}<div><h3>{id}</h3><p>{report}</p></div></div>"
    );
    html.push_str("<div class=\"scroll\"><table class=\"maps\"><thead><tr><th>step</th>");
    for moment in &kept.moments {
        let _ = write!(html, "<th>{}</th>", moment.step);
    }
    html.push_str("</tr></thead><tbody>\n");
    for (row, (kind, name)) in KINDS.into_iter().zip(["attention", "pseudo mask", "predicted mask"]).enumerate() {
        if kept.moments.iter().all(|moment| moment.maps[at].len() <= row) {
            continue;
        }
        let class = name.split(' ').next().unwrap_or(name);
        let _ = write!(html, "<tr><th scope=\"row\"><i class=\"{class}\"></i>{name}</th>");
        for moment in &kept.moments {
            let tile =
                moment.maps[at].get(row).map(|plane| layer(kind, plane, format!("{name} after step {}", moment.step)));
            let _ = write!(html, "<td>{}</td>", tile.unwrap_or_default());
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div></article>\n");
}

/// A value's fields as a table; those of its own values by the names of both.
fn rows(title: &str, value: &Value) -> String {
    let mut found = Vec::new();
    flatten("", value, &mut found);
    let row = |(name, value): &(String, String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(&clipped(value, LETTERS)))
    };
    match found.is_empty() {
        true => String::new(),
        false => format!(
            "<div class=\"card\"><h3>{}</h3><table class=\"rows\"><tbody>\n{}</tbody></table></div>\n",
            escape(title),
            found.iter().map(row).collect::<String>()
        ),
    }
}

fn flatten(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            let join = |field: &String| if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
            fields.iter().for_each(|(field, value)| flatten(&join(field), value, found));
        }
        Value::Null => {}
        Value::String(text) => found.push((name.into(), text.clone())),
        other => found.push((name.into(), other.to_string())),
    }
}
