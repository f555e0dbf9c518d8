//! What was measured, and how it is kept.

use serde_json::{Value, json};
use std::time::Duration;

/// Of one thing, done often.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Whose it is.
    pub who: String,
    pub median: f64,
    pub p10: f64,
    pub p90: f64,
    /// How often.
    pub count: usize,
}

impl Row {
    pub fn of(what: &str, who: &str, mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "{what} of {who} was never measured");
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |tenths: usize| values[(count * tenths / 10).min(count - 1)];
        let (median, p10, p90) = (at(5), at(1), at(9));
        Self { what: what.to_owned(), who: who.to_owned(), median, p10, p90, count }
    }

    fn read(json: &Value) -> Option<Self> {
        let text = |key: &str| Some(json[key].as_str()?.to_owned());
        let number = |key: &str| json[key].as_f64();
        Some(Self {
            what: text("what")?,
            who: text("who")?,
            median: number("median")?,
            p10: number("p10")?,
            p90: number("p90")?,
            count: number("count")? as usize,
        })
    }

    fn json(&self) -> Value {
        let Self { what, who, median, p10, p90, count } = self;
        json!({ "what": what, "who": who, "median": median, "p10": p10, "p90": p90, "count": count })
    }
}

/// Measurements of one unit, made in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub rows: Vec<Row>,
    /// Where the run says what it could not measure.
    pub notes: Vec<String>,
    /// The commit that was measured.
    pub commit: String,
}

impl Figure {
    pub fn new(name: &str, unit: &str) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self { name, unit, rows: Vec::new(), notes: Vec::new(), commit: String::new() }
    }

    /// Adds a row, and says it.
    pub fn add(&mut self, what: &str, who: &str, values: Vec<f64>) {
        let row = Row::of(what, who, values);
        eprintln!(
            "{:<44} {:<10} {:>9.2} {:<10} {:>9.2} to {:.2}",
            row.what, row.who, row.median, self.unit, row.p10, row.p90
        );
        self.rows.push(row);
    }

    /// Notes what could not be measured, and says it.
    pub fn note(&mut self, words: &str) {
        eprintln!("{}: {words}", self.name);
        self.notes.push(words.to_owned());
    }

    pub fn get(&self, what: &str, who: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what && row.who == who)
    }

    /// The name by which `--only` knows it.
    pub fn of(&self) -> &str {
        match self.name.as_str() {
            "processes" | "kilobytes" => "memory",
            "parts" => "stages",
            "registry-memory" => "registry",
            name => name,
        }
    }

    /// What was measured, in the order of measuring.
    pub fn whats(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.what.as_str()))
    }

    /// Who was measured.
    pub fn whos(&self) -> Vec<&str> {
        distinct(self.rows.iter().map(|row| row.who.as_str()))
    }

    pub fn read(json: &Value) -> Option<Self> {
        let text = |key: &str| Some(json[key].as_str()?.to_owned());
        Some(Self {
            name: text("name")?,
            unit: text("unit")?,
            rows: json["rows"].as_array()?.iter().map(Row::read).collect::<Option<_>>()?,
            notes: json["notes"]
                .as_array()?
                .iter()
                .map(|note| Some(note.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            commit: text("commit")?,
        })
    }

    pub fn json(&self) -> Value {
        let Self { name, unit, notes, commit, rows } = self;
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        json!({ "name": name, "unit": unit, "notes": notes, "commit": commit, "rows": rows })
    }
}

fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
