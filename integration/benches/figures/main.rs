//! What a container costs with this shim, beside others: `scripts/bench`, or
//! `cargo bench --package integration --bench figures -- [--runs N] [--only FIGURE,...] [--publish] [SHIM...]`
//! (as root; the release binaries must be built).
//!
//! The machine's side starts a test host and runs itself again inside, where runc, crun and real
//! daemons are; what that prints becomes tables, JSON, pictures and `docs/benchmarks.md`.

#![allow(dead_code, reason = "more figures stand on it soon")]

mod launch;
mod life;
mod outside;
mod sample;
mod throughput;
mod world;

use std::path::PathBuf;

use sample::Figure;
use world::Peer;

const FIGURES: [&str; 2] = ["launch", "throughput"];

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
                "--only" => args.only = value()?.split(',').map(str::to_owned).collect(),
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
        let figure = std::thread::scope(|scope| {
            scope.spawn(|| figure(name, &peers, args.runs)).join().expect("it was measured")
        });
        println!("{}", figure.json());
    }
}

fn figure(name: &str, peers: &[Peer], runs: usize) -> Figure {
    match name {
        "launch" => launch::measure(peers, runs),
        "throughput" => throughput::measure(peers, runs),
        _ => unreachable!("the command line was checked"),
    }
}
