//! Line charts: figures over a number of tunnels, or over time.

use std::fmt::Write;

use super::svg::{self, LEFT, MUTED, Svg, TEXT};
use super::table::number;

/// One chart beside others in a picture.
pub struct Panel {
    /// Title with unit.
    pub title: String,
    /// Title of the x axis.
    pub x_title: &'static str,
    /// True for a logarithmic x or y axis. Its values must be above zero.
    pub log: (bool, bool),
    /// The lines of the chart.
    pub lines: Vec<Line>,
}

/// A line, with its name at its end.
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// True for Longhaul, which stands out.
    pub is_ours: bool,
}

const WIDTH: f64 = 376.0;
const HEIGHT: f64 = 250.0;
/// The drawing within a panel, less room for figures and names.
const X: f64 = 48.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 24.0;

/// Draws panels side by side.
pub fn draw(title: &str, panels: &[Panel]) -> String {
    let mut picture = Svg::new(LEFT * 2.0 + WIDTH * panels.len() as f64, HEIGHT + 20.0, title);
    for (at, panel) in panels.iter().enumerate() {
        draw_panel(&mut picture, panel, LEFT + WIDTH * at as f64);
    }
    picture.end()
}

fn draw_panel(picture: &mut Svg, panel: &Panel, left: f64) {
    picture.text(left, 50.0, TEXT, "600", "start", &svg::escape(&panel.title));
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let x = Axis::over(points().map(|(x, _)| *x), panel.log.0, left + X, left + WIDTH - RIGHT);
    let y = Axis::over(points().map(|(_, y)| *y), panel.log.1, HEIGHT - BOTTOM, TOP);
    for value in y.ticks() {
        let at = y.place(value);
        let _ = write!(
            picture,
            r#"<line class="axis" x1="{:.1}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#,
            left + X,
            left + WIDTH - RIGHT
        );
        picture.text(left + X - 6.0, at + 4.0, MUTED, "400", "end", &plain(value));
    }
    for value in x.ticks() {
        picture.text(x.place(value), HEIGHT - BOTTOM + 16.0, MUTED, "400", "middle", &plain(value));
    }
    picture.text((left + X + left + WIDTH - RIGHT) / 2.0, HEIGHT + 8.0, MUTED, "400", "middle", panel.x_title);
    let mut names = Vec::new();
    for Line { name, points, is_ours } in &panel.lines {
        let path: Vec<String> =
            points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.place(*px), y.place(*py))).collect();
        let class = if *is_ours { "our-line" } else { "their-line" };
        let _ = write!(picture, r#"<polyline class="line {class}" points="{}"/>"#, path.join(" "));
        if let Some((_, last)) = points.last() {
            names.push((y.place(*last) + 4.0, *name, *is_ours));
        }
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::MIN;
    for (at, name, is_ours) in names {
        // Lines that end close together have their names one below the other.
        let at = at.max(free);
        free = at + 13.0;
        let (class, weight) = if is_ours { (TEXT, "600") } else { (MUTED, "400") };
        picture.text(left + WIDTH - RIGHT + 5.0, at, class, weight, "start", &svg::escape(name));
    }
}

/// A value without needless digits.
fn plain(value: f64) -> String {
    if value.fract() == 0.0 && value >= 100.0 {
        return number(value);
    }
    format!("{value}")
}

/// Values of one direction, and their places in the picture.
struct Axis {
    log: bool,
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// A linear axis begins at zero.
    fn over(values: impl Iterator<Item = f64> + Clone, log: bool, from: f64, to: f64) -> Self {
        let most = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        let least = if log { values.fold(f64::MAX, f64::min).max(most / 1e6) } else { 0.0 };
        Self { log, least, most, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.least) / self.least).ln() / (self.most / self.least).max(1.000_001).ln()
        } else {
            value / self.most
        };
        self.from + share * (self.to - self.from)
    }

    /// Round values: powers of ten, or three to six steps.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (low, high) = (self.least.log10().ceil() as i32, self.most.log10().floor() as i32);
            return (low..=high).map(|power| 10_f64.powi(power)).collect();
        }
        let power = 10_f64.powf((self.most / 3.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| self.most / step <= 6.0);
        let step = step.unwrap_or(self.most);
        (0..=6).map(|at| f64::from(at) * step).filter(|value| *value <= self.most * 1.001).map(round).collect()
    }
}

/// Rounds errors of binary fractions away.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_begins_at_zero_and_has_round_steps() {
        let axis = Axis::over([3.0, 8.7].into_iter(), false, 0.0, 100.0);
        assert_eq!(axis.ticks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!((axis.place(0.0), axis.place(8.7)), (0.0, 100.0));
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten_evenly_apart() {
        let axis = Axis::over([10.0, 100.0, 1_000.0].into_iter(), true, 0.0, 100.0);
        assert_eq!(axis.ticks(), [10.0, 100.0, 1_000.0]);
        assert!((axis.place(100.0) - 50.0).abs() < 1e-9);
    }
}
