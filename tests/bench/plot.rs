//! A small line chart as SVG, readable on light and dark pages.

use std::fmt::Write;

/// Lines over a few places that stand side by side.
pub struct Plot {
    /// What the figures are.
    pub title: String,
    /// What the places are.
    pub across: String,
    /// Names of the places.
    pub at: Vec<String>,
    /// The lines. Pairs of them, one whole and one dashed, share a colour.
    pub series: Vec<Series>,
}

/// One line.
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Whether it is drawn dashed.
    pub dashed: bool,
    /// A figure for each place.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;
/// Told apart on white and on black, and by those who see red and green alike.
const COLOURS: [&str; 4] = ["#3b82c4", "#d9822b", "#2a9d8f", "#b565a7"];

impl Plot {
    /// Draws it.
    pub fn svg(&self) -> String {
        let highest = self.series.iter().flat_map(|series| &series.values).copied().fold(1.0, f64::max);
        let step = step(highest);
        let top = (highest / step).ceil() * step;
        let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * (at as f64 + 0.5) / self.at.len().max(1) as f64;
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n\
             <style>\n  .page {{ fill: #ffffff }} text {{ fill: #24292f }} .grid {{ stroke: #d0d7de }}\n  \
             @media (prefers-color-scheme: dark) {{\n    .page {{ fill: #161b22 }} text {{ fill: #e6edf3 }} .grid {{ stroke: \
             #3d444d }}\n  }}\n</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n\
             <text x=\"{LEFT}\" y=\"26\" font-size=\"15\">{}</text>\n",
            self.title
        );
        let (right, middle) = (WIDTH - RIGHT, LEFT + (WIDTH - LEFT - RIGHT) / 2.0);
        for line in 0..=(top / step).round() as u32 {
            let value = f64::from(line) * step;
            let height = y(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{height:.0}\" y2=\"{height:.0}\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{value}</text>",
                LEFT - 8.0,
                height + 4.0
            );
        }
        for (at, name) in self.at.iter().enumerate() {
            let (across, below) = (x(at), HEIGHT - BOTTOM + 18.0);
            let _ = writeln!(svg, "<text x=\"{across:.0}\" y=\"{below:.0}\" text-anchor=\"middle\">{name}</text>");
        }
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            self.across
        );
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at / 2 % COLOURS.len()];
            let dashes = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
            let points: Vec<String> =
                series.values.iter().enumerate().map(|(at, value)| format!("{:.0},{:.0}", x(at), y(*value))).collect();
            let legend = TOP + 20.0 * at as f64 + 6.0;
            let (from, to) = (right + 16.0, right + 46.0);
            let _ = writeln!(
                svg,
                "<g fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}><polyline points=\"{}\"/>\
                 <line x1=\"{from}\" x2=\"{to}\" y1=\"{legend:.0}\" y2=\"{legend:.0}\"/></g>\
                 <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
                points.join(" "),
                to + 8.0,
                legend + 4.0,
                series.name
            );
        }
        svg + "</svg>\n"
    }
}

/// A round distance between two lines of the grid, of which there are to be four to eight.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    [5.0, 2.0, 1.0].map(|times| times * power).into_iter().find(|step| highest / step >= 4.0).unwrap_or(power)
}
