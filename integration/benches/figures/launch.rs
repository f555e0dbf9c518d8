//! The shim's own share of a container's life: from exec of `start`, or from Create in a shim that
//! runs, to the first byte that the guest writes; and the binary's other roles as whole processes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::life::{Container, connect, verb};
use crate::sample::{Figure, milliseconds};
use crate::world::{Peer, Program, Runs, World, quiet};

pub const OWN_P1: &str = "preview 1, from exec of start";
pub const OWN_P2: &str = "0.2, from exec of start";
pub const GROUP_P1: &str = "preview 1, from Create in a group";
pub const GROUP_P2: &str = "0.2, from Create in a group";
pub const START: &str = "start, whole process";
pub const DELETE: &str = "delete, whole process";
pub const INFO: &str = "-info, whole process";
pub const TRUE: &str = "/bin/true, for comparison";

pub fn measure(peers: &[Peer], runs: usize) -> Figure {
    let mut figure = Figure::new("launch", "ms");
    let world = World::new();
    let programs = [(Program::P1, OWN_P1, GROUP_P1), (Program::P2, OWN_P2, GROUP_P2)];
    for (program, own, grouped) in programs {
        let able: Vec<&Peer> = peers.iter().filter(|peer| can(peer, program)).collect();
        alone(&world, &able, program, own, runs, &mut figure);
        in_group(&world, &able, program, grouped, runs, &mut figure);
    }
    processes(&world, peers, runs, &mut figure);
    figure
}

/// A Linux container is neither: it is measured once.
fn can(peer: &Peer, program: Program) -> bool {
    program == Program::P1 || !matches!(peer.runs, Runs::Linux(_))
}

fn alone(
    world: &World,
    peers: &[&Peer],
    program: Program,
    what: &str,
    runs: usize,
    figure: &mut Figure,
) {
    let once = |peer: &Peer| {
        let bundle = world.bundle(peer, program, None);
        Container::new(&world.mock, peer, bundle).alone(&world.mock, peer)
    };
    for peer in peers {
        once(peer); // compiled, and in every cache
    }
    quiet(); // and to the code of later starts
    let mut times = vec![Vec::new(); peers.len()];
    for _ in 0..runs {
        for (peer, times) in peers.iter().zip(&mut times) {
            times.push(once(peer));
        }
    }
    for (peer, times) in peers.iter().zip(times) {
        let first = times.iter().map(|moments| milliseconds(moments.first)).collect();
        figure.add(what, &peer.name, first);
        if program == Program::P1 {
            let started = times.iter().map(|moments| milliseconds(moments.started)).collect();
            figure.add(START, &peer.name, started);
        }
    }
}

fn in_group(
    world: &World,
    peers: &[&Peer],
    program: Program,
    what: &str,
    runs: usize,
    figure: &mut Figure,
) {
    let mut groups: Vec<_> = peers
        .iter()
        .map(|peer| {
            let group = world.group(peer, what);
            let bundle = world.bundle(peer, Program::Sleeper, Some(&group));
            let mut holder = Container::new(&world.mock, peer, bundle);
            let mut shim = connect(&world.mock, peer, &holder.bundle);
            holder.stay(&mut shim);
            (peer, group, holder, shim, Vec::new())
        })
        .collect();
    for run in 0..=runs {
        for (peer, group, _, shim, times) in &mut groups {
            let bundle = world.bundle(peer, program, Some(group));
            let moments = Container::new(&world.mock, peer, bundle).member(shim);
            if run > 0 {
                times.push(milliseconds(moments.first));
            }
        }
    }
    for (peer, _, mut holder, mut shim, times) in groups {
        figure.add(what, &peer.name, times);
        holder.end(&mut shim);
        holder.bury(Some(shim));
    }
}

/// What each exec of the binary costs, beside one that does nothing.
fn processes(world: &World, peers: &[Peer], runs: usize, figure: &mut Figure) {
    let bundles: Vec<_> = peers.iter().map(|peer| world.bundle(peer, Program::P1, None)).collect();
    let time = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().expect("it can be run");
        let time = milliseconds(begin.elapsed());
        assert!(status.success(), "{command:?}: {status}");
        time
    };
    let mut nothing = Vec::new();
    let mut times = vec![(Vec::new(), Vec::new()); peers.len()];
    for _ in 0..runs {
        nothing.push(time(Command::new(Path::new("/bin/true"))));
        for ((peer, bundle), (info, delete)) in peers.iter().zip(&bundles).zip(&mut times) {
            info.push(time(verb(&world.mock, peer, bundle, &["-info"])));
            let path = bundle.path.to_str().expect("a path of ours");
            delete.push(time(verb(&world.mock, peer, bundle, &["-bundle", path, "delete"])));
        }
    }
    figure.add(TRUE, "true", nothing);
    for (peer, (info, delete)) in peers.iter().zip(times) {
        figure.add(INFO, &peer.name, info);
        figure.add(DELETE, &peer.name, delete);
    }
}
