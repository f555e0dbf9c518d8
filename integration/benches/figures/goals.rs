//! What the figures must reach.

use crate::compute;
use crate::launch::{DELETE, GROUP_P1, GROUP_P2, INFO, OWN_P1, OWN_P2, START};
use crate::plot::number;
use crate::sample::Figure;
use crate::table::{ratio, ratio_above_floor};
use crate::world::US;
use crate::{ctr, memory, module, throughput};

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

/// Words, figure, bound, what was measured.
type Goal = (&'static str, &'static str, Bound, fn(&Figure) -> Option<f64>);

fn median(figure: &Figure, what: &str) -> Option<f64> {
    figure.get(what, US).map(|row| row.median)
}

const GOALS: [Goal; 17] = [
    ("preview 1, exec of `start` to the first byte, ms", "launch", AtMost(8.0), |f| {
        median(f, OWN_P1)
    }),
    ("the same in a group whose shim runs, ms", "launch", AtMost(3.0), |f| median(f, GROUP_P1)),
    ("0.2, exec of `start` to the first byte, ms", "launch", AtMost(10.0), |f| median(f, OWN_P2)),
    ("the same in a group whose shim runs, ms", "launch", AtMost(4.0), |f| median(f, GROUP_P2)),
    ("`start` as a whole process, ms", "launch", AtMost(3.0), |f| median(f, START)),
    ("`delete` as a whole process, ms", "launch", AtMost(3.0), |f| median(f, DELETE)),
    ("`-info` as a whole process, ms", "launch", AtMost(3.0), |f| median(f, INFO)),
    ("`ctr run --rm` to runc + busybox", "ctr", AtMost(0.55), |f| ratio(f, ctr::CTR, US)),
    ("the same, each minus the floor", "ctr", AtMost(0.15), |f| ratio_above_floor(f, ctr::CTR, US)),
    ("containers a second, one group, 4 at a time", "throughput", AtLeast(400.0), |f| {
        median(f, throughput::RATE)
    }),
    ("PSS of one of 50, each its own shim, MB", "memory", AtMost(1.5), |f| {
        median(f, &memory::row(50, false))
    }),
    ("PSS of one of 1000 in a group, MB", "memory", AtMost(0.35), |f| {
        median(f, &memory::row(1000, true))
    }),
    ("processes of one of 50, each its own shim", "processes", AtMost(2.0), |f| {
        median(f, &memory::row(50, false))
    }),
    ("processes of one of 1000 in a group", "processes", AtMost(1.01), |f| {
        median(f, &memory::row(1000, true))
    }),
    ("26 MB module, cached, to the first instruction, ms", "module", AtMost(60.0), |f| {
        median(f, module::CACHED)
    }),
    ("26 MB module, first start, to that of optimised code alone", "module", AtMost(0.25), |f| {
        Some(median(f, module::TIERED)? / median(f, module::OPTIMIZED)?)
    }),
    ("compute, to the wasmtime command line", "compute", AtMost(1.02), compute::worst),
];

/// A table of what was wanted and what was measured.
pub fn markdown(figures: &[Figure]) -> String {
    let mut text = String::from("| | goal | measured | |\n|---|---|---|---|\n");
    for (words, name, bound, measured) in GOALS {
        let value = figures.iter().find(|figure| figure.name == name).and_then(measured);
        let (goal, reached) = match bound {
            AtMost(most) => (format!("≤ {}", number(most)), value.map(|value| value <= most)),
            AtLeast(least) => (format!("≥ {}", number(least)), value.map(|value| value >= least)),
        };
        let value = value.map_or("not measured".into(), number);
        let reached = match reached {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        text += &format!("| {words} | {goal} | {value} | {reached} |\n");
    }
    text
}
