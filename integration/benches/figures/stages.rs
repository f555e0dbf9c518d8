//! Where the milliseconds of a container go: the steps that containerd can see, and what each part
//! of the specification adds to them, by leaving it out.

use std::time::Duration;

use integration::bundle::Bundle;
use serde_json::json;

use crate::life::{Container, Moments, connect};
use crate::sample::{Figure, milliseconds};
use crate::world::{Peer, Program, Runs, World};

/// A step: its words, when it begins and when it is done.
type Step = (&'static str, fn(&Moments) -> Duration, fn(&Moments) -> Duration);

const STEPS: [Step; 5] = [
    ("start: exec, fork, listen", |_| Duration::ZERO, |m| m.started),
    ("Create: the container, up to the gate", |m| m.started, |m| m.created),
    ("Start: from the gate to the first byte", |m| m.created, |m| m.first),
    ("the end, collected and told", |m| m.first, |m| m.ended),
    ("Delete", |m| m.ended, |m| m.deleted),
];

/// What is left out, and how.
type Part = (&'static str, fn(Bundle) -> Bundle);

const PARTS: [Part; 5] = [
    ("the network namespace", |bundle| bundle.without_namespace("network")),
    ("pid, ipc and uts namespaces", |bundle| {
        ["pid", "ipc", "uts"]
            .into_iter()
            .fold(bundle.set("/hostname", json!("")), Bundle::without_namespace)
    }),
    ("/dev", |bundle| without_mounts(bundle, &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"])),
    ("the other mounts", |bundle| without_mounts(bundle, &["/proc", "/sys", "/run"])),
    ("nothing: the noise of this method", |bundle| bundle),
];

pub fn measure(peers: &[Peer], runs: usize) -> Vec<Figure> {
    let world = World::new();
    let mut stages = Figure::new("stages", "ms");
    let mut lives = vec![Vec::new(); peers.len()];
    for run in 0..=runs {
        for (peer, lives) in peers.iter().zip(&mut lives) {
            let bundle = world.bundle(peer, Program::P1, None);
            let moments = Container::new(&world.mock, peer, bundle).alone(&world.mock, peer);
            if run > 0 {
                lives.push(moments);
            }
        }
    }
    for (words, begin, end) in STEPS {
        for (peer, lives) in peers.iter().zip(&lives) {
            let times = lives.iter().map(|m| milliseconds(end(m).saturating_sub(begin(m))));
            stages.add(words, &peer.name, times.collect());
        }
    }
    let mut parts = Figure::new("parts", "ms");
    for peer in peers.iter().filter(|peer| peer.runs == Runs::Wasm) {
        left_out(&world, peer, runs, &mut parts);
    }
    vec![stages, parts]
}

/// In a group, from Create to the first byte: the whole minus the rest is the part.
fn left_out(world: &World, peer: &Peer, runs: usize, figure: &mut Figure) {
    let group = world.group(peer, "parts");
    let member = |program, without: fn(Bundle) -> Bundle| {
        let bundle = without(world.unwritten(peer, program, Some(&group)));
        bundle.write();
        Container::new(&world.mock, peer, bundle)
    };
    let mut holder = member(Program::Sleeper, |bundle| bundle);
    let mut shim = connect(&world.mock, peer, &holder.bundle);
    holder.stay(&mut shim);
    let mut costs = vec![Vec::new(); PARTS.len()];
    let mut component = Vec::new();
    for run in 0..=runs {
        let mut first = |one: Container| milliseconds(one.member(&mut shim).first);
        let whole = first(member(Program::P1, |bundle| bundle));
        let rests: Vec<f64> =
            PARTS.iter().map(|(_, without)| first(member(Program::P1, *without))).collect();
        let other = first(member(Program::P2, |bundle| bundle));
        if run > 0 {
            component.push(other - whole);
            costs.iter_mut().zip(rests).for_each(|(costs, rest)| costs.push(whole - rest));
        }
    }
    for ((words, _), costs) in PARTS.iter().zip(costs) {
        figure.add(words, &peer.name, costs);
    }
    figure.add("a 0.2 component instead of a module", &peer.name, component);
    holder.end(&mut shim);
    holder.bury(Some(shim));
}

fn without_mounts(mut bundle: Bundle, targets: &[&str]) -> Bundle {
    let mounts = bundle.spec["mounts"].as_array_mut().expect("the spec has mounts");
    mounts.retain(|mount| !targets.iter().any(|target| mount["destination"] == *target));
    bundle
}
