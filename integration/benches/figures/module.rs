//! A big module: its first start on a node, and later ones.

use std::fs;
use std::time::Duration;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::options;

use crate::life::Container;
use crate::sample::{Figure, milliseconds};
use crate::world::{Peer, Program, Runs, World, quiet};

pub const CACHED: &str = "cached, to Start's answer";
pub const TIERED: &str = "first start, tiered, to Start's answer";
pub const OPTIMIZED: &str = "first start, optimized, to Start's answer";
const CACHED_BYTE: &str = "cached, to its first byte (-V)";

const CACHE: &str = "/var/lib/containerd-shim-wasmtime/code";

/// The first start takes seconds, so it is done this often only.
const COLD_RUNS: usize = 3;

pub fn measure(peers: &[Peer], runs: usize) -> Figure {
    let mut figure = Figure::new("module", "ms");
    let world = World::new();
    if !world.has_big_module() {
        figure.note("No big module here: `scripts/bench` fetches it.");
        return figure;
    }
    let own: Vec<&Peer> = peers.iter().filter(|peer| peer.runs == Runs::Wasm).collect();
    for peer in own {
        let mut cold = [(TIERED, "tiered", Vec::new()), (OPTIMIZED, "optimized", Vec::new())];
        for _ in 0..COLD_RUNS.min(runs) {
            for (_, compiler, times) in &mut cold {
                quiet();
                let _ = fs::remove_dir_all(CACHE);
                match start(&world, peer, compiler) {
                    Ok((running, _)) => times.push(milliseconds(running)),
                    Err(refusal) => figure.note(&format!("{}, {compiler}: {refusal}", peer.name)),
                }
            }
        }
        for (what, _, times) in cold {
            if !times.is_empty() {
                figure.add(what, &peer.name, times);
            }
        }
        // Whatever the first start ran, later ones run optimized code.
        quiet();
        let warm: Vec<_> =
            (0..=runs).filter_map(|_| start(&world, peer, "").ok()).skip(1).collect();
        if !warm.is_empty() {
            let times = |of: fn(&(Duration, Duration)) -> Duration| {
                warm.iter().map(|times| milliseconds(of(times))).collect()
            };
            figure.add(CACHED, &peer.name, times(|times| times.0));
            figure.add(CACHED_BYTE, &peer.name, times(|times| times.1));
        }
    }
    figure
}

/// From exec of `start` to Start's answer, and to the first byte.
fn start(world: &World, peer: &Peer, compiler: &str) -> Result<(Duration, Duration), String> {
    let bundle = world.bundle(peer, Program::Big, None);
    let mut request = world.layered(&bundle);
    if !compiler.is_empty() {
        request = CreateTaskRequest {
            options: Some(options::body(&format!("Compiler = {compiler:?}"))).into(),
            ..request
        };
    }
    let container = Container::with(&world.mock, peer, bundle, request);
    container.slowly(&world.mock, peer).map_err(|refusal| refusal.message)
}
