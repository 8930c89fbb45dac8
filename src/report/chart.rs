//! A chart of series over steps, as inline SVG whose colours and fonts the page's style sheet sets.

use std::fmt::Write;

use super::markup::{escape, number};

/// Size of a chart, in units of its own; the page scales it.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 220.0;
/// Room for labels.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 24.0;
/// Most points of a trend: every one is the mean of as many neighbours as that takes.
const POINTS: usize = 160;
/// Most places that tell their values when they are pointed at.
const PLACES: usize = 60;

/// A number at a step, and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step.
    pub step: f64,
    /// The number.
    pub value: f64,
    /// From here
    pub low: f64,
    /// to here: the extremes of what was averaged, or an interval.
    pub high: f64,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line, and a band around it.
    Trend,
    /// Dots with whiskers, joined by a thin line.
    Marks,
    /// A dashed line.
    Level,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Which of the page's colours it has, from 1; 0: gray.
    pub colour: usize,
    /// How it is drawn.
    pub style: Style,
    /// In the order of steps.
    pub points: Vec<Point>,
}

/// Numbers of many steps as at most [`POINTS`] means, with the extremes of each.
pub fn trend(numbers: &[(u64, f64)]) -> Vec<Point> {
    let mean = |part: &[(u64, f64)]| {
        let count = part.len() as f64;
        let fold = |pick: fn(f64, f64) -> f64| part.iter().map(|&(_, value)| value).reduce(pick).unwrap_or(f64::NAN);
        Point {
            step: part.iter().map(|&(step, _)| step as f64).sum::<f64>() / count,
            value: part.iter().map(|&(_, value)| value).sum::<f64>() / count,
            low: fold(f64::min),
            high: fold(f64::max),
        }
    };
    numbers.chunks(numbers.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

/// Numbers as they are.
pub fn exact(numbers: &[(u64, f64)]) -> Vec<Point> {
    numbers.iter().map(|&(step, value)| Point { step: step as f64, value, low: value, high: value }).collect()
}

/// Round numbers about a quarter of the way apart, from below the lowest to above the highest.
pub fn ticks(low: f64, high: f64, least: f64) -> Vec<f64> {
    let rough = ((high - low) / 4.0).max(least).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let apart = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|round| round * power);
    let apart = apart.filter(|apart| *apart >= rough * 0.999 && *apart >= least).fold(f64::INFINITY, f64::min);
    let (first, last) = ((low / apart + 1e-9).floor(), (high / apart - 1e-9).ceil());
    (0..=(last - first).clamp(0.0, 12.0) as usize).map(|at| (first + at as f64) * apart).collect()
}

/// Powers of ten, from below the lowest to above the highest.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let last = last.max(first + 1);
    let every = ((last - first) / 5).max(1);
    (first..=last + (every - (last - first) % every) % every).step_by(every as usize).map(|at| 10f64.powi(at)).collect()
}

/// Where numbers lie in a chart.
pub struct Axes {
    /// Marks on the upright axis; the first and the last are its ends.
    pub ticks: Vec<f64>,
    /// The last step.
    pub last: f64,
    /// Upright, powers of ten are equally far apart.
    pub logarithmic: bool,
}

/// Where a number lies between two others, from 0 to 1; of numbers that are too far apart to tell, at the middle.
pub fn part(number: f64, low: f64, high: f64) -> f64 {
    let part = (number / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.5 }
}

impl Axes {
    /// Of series that have numbers, up to step `last`.
    pub fn of(series: &[Series], last: u64, logarithmic: bool) -> Self {
        let points = || series.iter().flat_map(|series| series.points.iter().map(move |point| (series.style, point)));
        // The band of a trend may reach beyond the chart: one wild step shall not flatten all others.
        let ends = points().flat_map(|(style, point)| match style {
            Style::Trend => [point.value; 2],
            Style::Marks | Style::Level => [point.low, point.high],
        });
        let logarithmic = logarithmic && points().all(|(_, point)| point.low > 0.0);
        let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), end| (low.min(end), high.max(end)));
        let ticks = if logarithmic { decades(low, high) } else { ticks(low.min(0.0), high.max(1e-12), 0.0) };
        Self { ticks, last: last.max(1) as f64, logarithmic }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + step / self.last * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.log10() } else { value };
        let (low, high) = (scale(self.ticks[0]), scale(self.ticks[self.ticks.len() - 1]));
        HEIGHT - BOTTOM - part(scale(value), low, high) * (HEIGHT - TOP - BOTTOM)
    }

    fn place(&self, step: f64, value: f64) -> String {
        format!("{:.1} {:.1}", self.x(step), self.y(value))
    }

    fn grid(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for &tick in &self.ticks {
            let (y, label) = (self.y(tick), number(tick));
            let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
            let _ = write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 6.0, y + 4.0);
        }
        for tick in ticks(0.0, self.last, 1.0).into_iter().filter(|tick| *tick <= self.last) {
            let (x, label) = (self.x(tick), number(tick));
            let _ = write!(svg, r#"<path class="grid" d="M{x:.1} {bottom}v4"/>"#);
            let anchor = if x > right - 12.0 { "end" } else { "middle" };
            let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}">{label}</text>"#, bottom + 16.0);
        }
        let _ = write!(svg, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
    }

    fn series(&self, svg: &mut String, series: &Series) {
        let Series { colour, style, points, .. } = series;
        let join = |points: Vec<String>| points.join("L");
        // A level holds until the end.
        let end = points.last().filter(|_| *style == Style::Level).map(|point| self.place(self.last, point.value));
        let line = join(points.iter().map(|point| self.place(point.step, point.value)).chain(end).collect());
        let spread = points.iter().any(|point| point.low < point.high);
        if *style == Style::Trend && spread {
            let upper = points.iter().map(|point| self.place(point.step, point.high));
            let lower = points.iter().rev().map(|point| self.place(point.step, point.low));
            let _ = write!(svg, r#"<path class="band c{colour}" d="M{}Z"/>"#, join(upper.chain(lower).collect()));
        }
        let class = ["trend", "marks", "level"][*style as usize];
        let _ = write!(svg, r#"<path class="{class} c{colour}" d="M{line}"/>"#);
        // A line of one point is invisible.
        if *style == Style::Marks || points.len() == 1 {
            for point in points {
                let (x, y) = (self.x(point.step), self.y(point.value));
                let (high, low) = (self.y(point.high), self.y(point.low));
                let _ = write!(svg, r#"<path class="whisker c{colour}" d="M{x:.1} {high:.1}V{low:.1}"/>"#);
                let _ = write!(svg, r#"<circle class="c{colour}" cx="{x:.1}" cy="{y:.1}" r="2.6"/>"#);
            }
        }
    }

    /// Strips of the chart that tell their values when they are pointed at.
    fn places(&self, svg: &mut String, series: &[Series]) {
        let told: Vec<&Series> = series.iter().filter(|series| series.style != Style::Level).collect();
        let mut steps: Vec<f64> = told.iter().flat_map(|series| series.points.iter().map(|point| point.step)).collect();
        steps.sort_by(f64::total_cmp);
        steps.dedup();
        let steps: Vec<f64> = steps.iter().copied().step_by(steps.len().div_ceil(PLACES).max(1)).collect();
        for (at, &step) in steps.iter().enumerate() {
            let middle = |other: Option<&f64>, end| other.map_or(end, |other| self.x((step + other) / 2.0));
            let left = middle(at.checked_sub(1).and_then(|before| steps.get(before)), LEFT);
            let right = middle(steps.get(at + 1), WIDTH - RIGHT);
            let reach = (right - left).max(2.0) / (WIDTH - LEFT - RIGHT) * self.last;
            let nearest = |series: &&Series| {
                let away = |point: &&Point| (point.step - step).abs();
                let point = series.points.iter().min_by(|a, b| away(a).total_cmp(&away(b)))?;
                (away(&point) <= reach).then(|| format!("{} {}", escape(&series.name), number(point.value)))
            };
            let values: Vec<String> = told.iter().filter_map(nearest).collect();
            let (x, height) = (self.x(step), HEIGHT - TOP - BOTTOM);
            let _ = write!(
                svg,
                r#"<g class="place"><rect x="{left:.1}" y="{TOP}" width="{:.1}" height="{height}"/>"#,
                right - left
            );
            let _ = write!(
                svg,
                r#"<path d="M{x:.1} {TOP}v{height}"/><text x="{LEFT}" y="11">step {:.0}: {}</text></g>"#,
                step,
                values.join(", ")
            );
        }
    }
}

/// A chart up to step `last`; nothing if there is no number to draw.
pub fn svg(title: &str, series: &[Series], last: u64, logarithmic: bool) -> Option<String> {
    let drawn: Vec<Series> = series.iter().filter(|series| !series.points.is_empty()).cloned().collect();
    drawn.iter().any(|series| series.style != Style::Level).then(|| {
        let axes = Axes::of(&drawn, last, logarithmic);
        let title = escape(title);
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}, by step">"#);
        axes.grid(&mut svg);
        drawn.iter().for_each(|series| axes.series(&mut svg, series));
        axes.places(&mut svg, &drawn);
        svg + "</svg>"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64]) -> Vec<(u64, f64)> {
        values.iter().enumerate().map(|(at, &value)| (at as u64 + 1, value)).collect()
    }

    fn series(points: Vec<Point>) -> Series {
        Series { name: "a<b".into(), colour: 1, style: Style::Trend, points }
    }

    #[test]
    fn ticks_are_round_and_hold_all() {
        assert_eq!(ticks(0.0, 6.9, 0.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.0, 1.0, 0.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(0.0, 3.0, 1.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(-0.3, 0.8, 0.0), [-0.5, 0.0, 0.5, 1.0]);
        assert_eq!(decades(0.3, 40.0), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(decades(1.0, 1.0), [1.0, 10.0]);
        for span in [1e-9, 3e-5, 7.7, 1234.5, 1e12] {
            let ticks = ticks(0.0, span, 0.0);
            assert!(ticks[0] <= 0.0 && ticks[ticks.len() - 1] >= span * 0.999 && ticks.len() <= 7, "{span}: {ticks:?}");
        }
    }

    #[test]
    fn a_trend_is_the_mean_of_its_steps() {
        assert_eq!(trend(&line(&[1.0, 5.0])), exact(&line(&[1.0, 5.0])));
        let long = trend(&line(&(0..1000).map(f64::from).collect::<Vec<_>>()));
        assert!(long.len() <= POINTS);
        assert_eq!(long[0], Point { step: 4.0, value: 3.0, low: 0.0, high: 6.0 });
        assert!(trend(&[]).is_empty());
    }

    #[test]
    fn a_chart_has_its_series_and_no_foreign_markup() {
        let svg = svg("Loss & more", &[series(trend(&line(&[3.0, 2.0, 1.0])))], 3, false).unwrap();
        assert!(svg.contains(r#"class="trend c1""#) && svg.contains("a&lt;b 2") && !svg.contains("a<b"), "{svg}");
        assert!(svg.contains("Loss &amp; more") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn numbers_that_are_all_the_same_or_one_or_none_can_be_drawn() {
        for values in [vec![0.0], vec![0.0; 5], vec![2.0; 5], vec![-1.0], vec![1e-30], vec![1e300, -1e300]] {
            for logarithmic in [false, true] {
                let svg = svg("t", &[series(exact(&line(&values)))], 5, logarithmic).unwrap();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
            }
        }
        assert_eq!(svg("t", &[series(Vec::new())], 5, false), None);
    }
}
