//! A figure as a picture: bars in groups, one group for each thing measured, one bar for each shim.

use crate::sample::{Figure, Row};

const WIDTH: f64 = 820.0;
const LABELS: f64 = 290.0;
const VALUES: f64 = 90.0;
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const TOP: f64 = 62.0;

/// The same one in every picture.
const COLOURS: [(&str, &str); 7] = [
    ("wasmtime", "#3b3f9c"),
    ("wasm-image", "#3b3f9c"),
    ("runc", "#d9772b"),
    ("crun", "#e8b44f"),
    ("floor", "#9a9a9a"),
    ("true", "#c4c4c4"),
    ("command line", "#7aa6a1"),
];

/// Of other shims.
const OTHERS: [&str; 3] = ["#7d3c5e", "#4f8a4b", "#a05252"];

/// The picture, as SVG.
pub fn svg(figure: &Figure, title: &str) -> String {
    let whos = figure.whos();
    let most = figure.rows.iter().map(|row| row.p90.max(row.median)).fold(0.0, f64::max);
    let scale = Scale::new(most);
    let mut body = Vec::new();
    let mut y = TOP;
    for what in figure.whats() {
        let rows: Vec<_> = whos.iter().filter_map(|who| figure.get(what, who)).collect();
        let middle = y + rows.len() as f64 * BAR / 2.0 + 4.0;
        body.push(text(LABELS - 10.0, middle, "end", "", what));
        for row in rows {
            let colour = colour(&whos, &row.who);
            body.push(bar(row, y, &scale, colour));
            y += BAR;
        }
        y += GAP;
    }
    let mut parts = vec![text(10.0, 22.0, "start", "font-size='15' font-weight='600'", title)];
    parts.extend(legend(&whos));
    parts.extend(scale.grid(y, &figure.unit));
    parts.extend(body);
    let height = y + 34.0;
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}' \
         font-family='sans-serif' font-size='12' fill='#222'>\n\
         <rect width='{WIDTH}' height='{height}' fill='#fff'/>\n{}\n</svg>\n",
        parts.join("\n")
    )
}

/// From zero to a little more than the most.
struct Scale {
    most: f64,
    step: f64,
}

impl Scale {
    fn new(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|n| *n >= rough);
        Self { most, step: step.unwrap_or(rough) }
    }

    fn x(&self, value: f64) -> f64 {
        LABELS + value / self.most * (WIDTH - LABELS - VALUES)
    }

    fn grid(&self, bottom: f64, unit: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let mut value = 0.0;
        while value <= self.most {
            let x = self.x(value);
            parts.push(format!(
                "<line x1='{x:.1}' y1='{:.1}' x2='{x:.1}' y2='{:.1}' stroke='#ddd'/>",
                TOP - 6.0,
                bottom - 4.0
            ));
            parts.push(text(x, bottom + 12.0, "middle", "fill='#666'", &number(value)));
            value += self.step;
        }
        parts.push(text(WIDTH - 10.0, bottom + 12.0, "end", "fill='#666'", unit));
        parts
    }
}

/// To the median, with a line from the tenth to the ninetieth percentile.
fn bar(row: &Row, y: f64, scale: &Scale, colour: &str) -> String {
    let (zero, end) = (scale.x(0.0), scale.x(row.median));
    let (low, high, middle) = (scale.x(row.p10), scale.x(row.p90), y + BAR / 2.0 - 1.0);
    let width = (end - zero).max(1.0);
    let mut part = format!(
        "<rect x='{zero:.1}' y='{y:.1}' width='{width:.1}' height='{:.1}' fill='{colour}'/>",
        BAR - 2.0
    );
    if row.count > 1 {
        part += &format!(
            "<line x1='{low:.1}' y1='{middle:.1}' x2='{high:.1}' y2='{middle:.1}' stroke='#222' stroke-width='1.2'/>"
        );
    }
    part + &text(high.max(end) + 6.0, middle + 4.0, "start", "", &number(row.median))
}

fn legend(whos: &[&str]) -> Vec<String> {
    let mut x = 10.0;
    let mut parts = Vec::new();
    for who in whos {
        let colour = colour(whos, who);
        parts.push(format!("<rect x='{x:.1}' y='34' width='11' height='11' fill='{colour}'/>"));
        parts.push(text(x + 16.0, 44.0, "start", "", who));
        x += 34.0 + 7.0 * who.len() as f64;
    }
    parts
}

fn colour(whos: &[&str], who: &str) -> &'static str {
    let known = |who: &str| COLOURS.iter().find(|(name, _)| *name == who);
    if let Some((_, colour)) = known(who) {
        return colour;
    }
    let mut others = whos.iter().filter(|other| known(other).is_none());
    OTHERS[others.position(|other| *other == who).unwrap_or(0) % OTHERS.len()]
}

fn text(x: f64, y: f64, anchor: &str, style: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' {style}>{words}</text>")
}

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 10.0 => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
        v if v < 100.0 => format!("{value:.1}").trim_end_matches(".0").into(),
        _ => format!("{value:.0}"),
    }
}
