//! Containers a second: create, start, exit and delete, in one shim, four at a time.

use std::sync::{Barrier, Mutex};
use std::time::Instant;

use crate::life::{Container, connect};
use crate::sample::Figure;
use crate::world::{Peer, Program, Runs, World, quiet};

pub const RATE: &str = "one group, four at a time";

const AT_A_TIME: usize = 4;

pub fn measure(peers: &[Peer], runs: usize) -> Figure {
    let mut figure = Figure::new("throughput", "containers/s");
    let world = World::new();
    let mut rates = vec![Vec::new(); peers.len()];
    // Each measurement is of many containers.
    for _ in 0..runs.div_ceil(8) {
        for (peer, rates) in peers.iter().zip(&mut rates) {
            let each = match peer.runs {
                Runs::Linux(_) => 5,
                _ => 100,
            };
            rates.push(rate(&world, peer, each));
        }
    }
    for (peer, rates) in peers.iter().zip(rates) {
        figure.add(RATE, &peer.name, rates);
    }
    figure
}

fn rate(world: &World, peer: &Peer, each: usize) -> f64 {
    let group = world.group(peer, &integration::names::unique("many"));
    let member =
        |program| Container::new(&world.mock, peer, world.bundle(peer, program, Some(&group)));
    let mut holder = member(Program::Sleeper);
    let mut shim = connect(&world.mock, peer, &holder.bundle);
    holder.stay(&mut shim);
    member(Program::P1).member(&mut shim); // compiled
    quiet();
    let queues: Vec<Vec<Container>> =
        (0..AT_A_TIME).map(|_| (0..each).map(|_| member(Program::P1)).collect()).collect();
    let ready = Barrier::new(AT_A_TIME + 1);
    let shims: Vec<_> =
        (0..AT_A_TIME).map(|_| Mutex::new(connect(&world.mock, peer, &holder.bundle))).collect();
    let seconds = std::thread::scope(|scope| {
        let workers: Vec<_> = queues
            .into_iter()
            .zip(&shims)
            .map(|(queue, shim)| {
                let ready = &ready;
                scope.spawn(move || {
                    let mut shim = shim.lock().expect("one worker each");
                    ready.wait();
                    queue.into_iter().map(|one| one.lives(&mut shim)).collect::<Vec<_>>()
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        let done: Vec<_> =
            workers.into_iter().map(|worker| worker.join().expect("all went well")).collect();
        let seconds = begin.elapsed().as_secs_f64();
        done.into_iter().flatten().for_each(|one| one.bury(None));
        seconds
    });
    holder.end(&mut shim);
    holder.bury(Some(shim));
    (AT_A_TIME * each) as f64 / seconds
}
