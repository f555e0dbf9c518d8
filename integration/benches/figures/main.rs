//! What a container costs with this shim, beside others: `scripts/bench`, or
//! `cargo bench --package integration --bench figures -- [--runs N] [--only FIGURE,...] [--publish] [SHIM...]`
//! (as root; the release binaries must be built).
//!
//! The machine's side starts a test host and runs itself again inside, where runc, crun and real
//! daemons are; what that prints becomes tables, JSON, pictures and `docs/benchmarks.md`.

mod compute;
mod ctr;
mod goals;
mod launch;
mod life;
mod memory;
mod module;
mod outside;
mod plot;
mod registry;
mod sample;
mod stages;
mod table;
mod throughput;
mod world;

use std::path::PathBuf;

use sample::Figure;
use world::Peer;

const FIGURES: [&str; 8] =
    ["launch", "throughput", "memory", "stages", "ctr", "module", "compute", REGISTRY];

/// The one that wants no test host.
const REGISTRY: &str = "registry";

/// The command line.
pub struct Args {
    runs: usize,
    only: Vec<String>,
    publish: bool,
    inside: bool,
    /// Other shims.
    shims: Vec<PathBuf>,
}

impl Args {
    fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            runs: 40,
            only: FIGURES.map(str::to_owned).to_vec(),
            publish: false,
            inside: false,
            shims: Vec::new(),
        };
        let mut words = words.skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--runs" => {
                    args.runs = value()?
                        .parse()
                        .ok()
                        .filter(|runs| *runs > 0)
                        .ok_or("--runs: how many?")?;
                }
                "--only" => {
                    let names = value()?;
                    let names = names.split(',').filter(|name| !name.is_empty());
                    args.only = names.map(str::to_owned).collect();
                }
                "--publish" => args.publish = true,
                "--inside" => args.inside = true,
                "--bench" => {} // cargo's
                flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
                shim => args.shims.push(shim.into()),
            }
        }
        match args.only.iter().find(|name| !FIGURES.contains(&name.as_str())) {
            Some(name) => Err(format!("no figure {name}; there are: {}", FIGURES.join(", "))),
            None => Ok(args),
        }
    }
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let Some((registry::MEASURED, words)) =
        words.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return registry::measured(words);
    }
    let args = Args::read(std::env::args()).unwrap_or_else(|usage| {
        eprintln!("{usage}");
        std::process::exit(2);
    });
    if args.inside { inside(&args) } else { outside::run(&args) }
}

/// Measures, and prints each figure as a line of JSON.
fn inside(args: &Args) {
    let mut peers = vec![Peer::own()];
    peers.extend(args.shims.iter().map(|shim| Peer::other(shim)));
    peers.extend(Peer::linux());
    for name in &args.only {
        // A thread each: a mock takes the thread's mount namespace with it.
        let figures = std::thread::scope(|scope| {
            scope.spawn(|| figures(name, &peers, args.runs)).join().expect("it was measured")
        });
        figures.iter().for_each(|figure| println!("{}", figure.json()));
    }
}

fn figures(name: &str, peers: &[Peer], runs: usize) -> Vec<Figure> {
    let with_floor = || peers.iter().cloned().chain(Peer::floor()).collect::<Vec<_>>();
    match name {
        "launch" => vec![launch::measure(peers, runs)],
        "throughput" => vec![throughput::measure(peers, runs)],
        "memory" => memory::measure(peers),
        "stages" => stages::measure(peers, runs),
        "module" => vec![module::measure(peers, runs.div_ceil(2))],
        "compute" => vec![compute::measure(peers, runs.div_ceil(4))],
        "ctr" => vec![ctr::measure(&with_floor(), runs.div_ceil(2))],
        _ => unreachable!("the command line was checked"),
    }
}
