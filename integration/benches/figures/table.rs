//! Figures as tables, and the pages that hold them.

use std::fmt::Write;

use crate::plot::number;
use crate::sample::{Figure, Row};
use crate::world::US;
use crate::{ctr, goals, registry};

/// The peer that ratios are to.
const PEER: &str = "runc";

/// A figure as a table in Markdown: what by who.
pub fn markdown(figure: &Figure) -> String {
    let whos = figure.whos();
    let compared = compared(&whos);
    let mut text = format!("| {} |", figure.unit);
    whos.iter().for_each(|who| write!(text, " {who} |").expect("memory"));
    for (own, peer) in &compared {
        write!(text, " {own} to {peer} |").expect("memory");
    }
    text += "\n|---|";
    text += &"---|".repeat(whos.len() + compared.len());
    for what in figure.whats() {
        write!(text, "\n| {what} |").expect("memory");
        for who in &whos {
            let cell = figure.get(what, who).map_or(String::new(), cell);
            write!(text, " {cell} |").expect("memory");
        }
        for (own, peer) in &compared {
            let ratio = ratio_to(figure, what, own, peer);
            write!(text, " {} |", ratio.map_or(String::new(), number)).expect("memory");
        }
    }
    text + "\n"
}

fn cell(row: &Row) -> String {
    match row.count {
        1 => number(row.median),
        _ => format!("{} ({}–{})", number(row.median), number(row.p10), number(row.p90)),
    }
}

/// Who of `whos` is compared with whom.
fn compared<'a>(whos: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let own = |name| whos.iter().find(|who| **who == name);
    match (own(registry::OWN), own(US), own(PEER)) {
        (Some(own), ..) => whos.iter().filter(|who| *who != own).map(|who| (*own, *who)).collect(),
        (_, Some(own), Some(peer)) => vec![(own, peer)],
        _ => Vec::new(),
    }
}

/// Of `who` to runc.
pub fn ratio(figure: &Figure, what: &str, who: &str) -> Option<f64> {
    ratio_to(figure, what, who, PEER)
}

fn ratio_to(figure: &Figure, what: &str, who: &str, peer: &str) -> Option<f64> {
    Some(figure.get(what, who)?.median / figure.get(what, peer)?.median)
}

/// The same when the cost of daemon and client is taken off both.
pub fn ratio_above_floor(figure: &Figure, what: &str, who: &str) -> Option<f64> {
    let floor = figure.get(what, "floor")?.median;
    Some((figure.get(what, who)?.median - floor) / (figure.get(what, PEER)?.median - floor))
}

/// Puts every figure, and the goals, between their markers in a page.
pub fn fill(page: &str, figures: &[Figure]) -> String {
    let mut page = between(page, "goals", &goals::markdown(figures));
    for figure in figures {
        let Figure { name, commit, notes, .. } = figure;
        let mut text = markdown(figure);
        if name == "ctr" {
            text += &above_floor(figure);
        }
        for note in notes {
            text += &format!("\n{note}\n");
        }
        text += &format!(
            "\n`scripts/bench --only {}` at {commit}\n\n![{name}](benchmarks/{name}.svg)\n",
            figure.of()
        );
        page = between(&page, name, &text);
    }
    page
}

fn above_floor(figure: &Figure) -> String {
    let ratio = ratio_above_floor(figure, ctr::CTR, US);
    ratio.map_or(String::new(), |ratio| {
        format!("\n(wasmtime − floor) / (runc − floor) of `{}`: {}\n", ctr::CTR, number(ratio))
    })
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
fn between(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    match (page.find(&begin), page.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            [&page[..from + begin.len()], text, &page[to..]].concat()
        }
        _ => page.to_owned(),
    }
}
