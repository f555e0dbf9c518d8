//! How fast a guest computes, against Wasmtime's own command line of the same version: C programs
//! that take their own time, so that nothing of a start is in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::life::Container;
use crate::sample::Figure;
use crate::world::{Peer, Program, Runs, US, World};

const CLI: &str = "command line";

/// By name; the machine's side puts `NAME.wasm` where guests are.
pub const GUESTS: [(&str, Program); 2] = [("sha256", Program::Sha256), ("nbody", Program::Nbody)];

pub fn measure(peers: &[Peer], runs: usize) -> Figure {
    let mut figure = Figure::new("compute", "ms");
    let cli = Path::new("/share/bin/wasmtime");
    if !cli.exists() {
        figure.note(
            "No wasmtime command line: put it to target/bench/wasmtime/bin, or its path in WASMTIME \
             (cargo install wasmtime-cli --version VERSION --root target/bench/wasmtime).",
        );
    }
    let world = World::new();
    let own: Vec<&Peer> = peers.iter().filter(|peer| peer.runs == Runs::Wasm).collect();
    for (name, program) in GUESTS {
        let code = cli.exists().then(|| compiled(cli, name));
        let mut times = vec![Vec::new(); own.len()];
        let mut theirs = Vec::new();
        for run in 0..=runs {
            for (peer, times) in own.iter().zip(&mut times) {
                let bundle = world.bundle(peer, program, None);
                let said = Container::new(&world.mock, peer, bundle).says(&world.mock, peer);
                if run > 0 {
                    times.push(number(&said));
                }
            }
            if let Some(code) = &code {
                let done = Command::new(cli)
                    .args(["run", "--allow-precompiled"])
                    .arg(code)
                    .output()
                    .expect("wasmtime runs");
                if run > 0 {
                    theirs.push(number(&String::from_utf8_lossy(&done.stdout)));
                }
            }
        }
        for (peer, times) in own.iter().zip(times) {
            figure.add(name, &peer.name, times);
        }
        if code.is_some() {
            figure.add(name, CLI, theirs);
        }
    }
    figure
}

fn compiled(cli: &Path, name: &str) -> PathBuf {
    let code = PathBuf::from(format!("/run/{name}.cwasm"));
    let wasm = format!("/run/files/{name}.wasm");
    let done = Command::new(cli).args(["compile", &wasm, "-o"]).arg(&code).output();
    let done = done.expect("wasmtime runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    code
}

fn number(said: &str) -> f64 {
    said.trim().parse().unwrap_or_else(|_| panic!("not a time: {said:?}"))
}

/// The worst of the ratios to the command line.
pub fn worst(figure: &Figure) -> Option<f64> {
    let ratio = |what| Some(figure.get(what, US)?.median / figure.get(what, CLI)?.median);
    figure.whats().into_iter().filter_map(ratio).reduce(f64::max)
}
