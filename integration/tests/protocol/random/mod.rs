//! Calls at random, legal and not, one after the other and many at once, against the containers of
//! one shim: each is answered as the model of the state machine says, to the word.
//!
//! `CALLS` says how many, `SEED` which (`SEED=$RANDOM` finds others); the seed is printed.

mod driver;
mod history;
mod model;
mod order;

use std::env;

use integration::bundle::Bundle;
use integration::mock::{Dialect, Mock, Shim};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{CAT, EXIT_7, SPIN};
use driver::{Driver, Random, Slot};
use history::Tally;
use model::{Guest, Phase};

/// Waits for longer than any test lasts.
const SLEEP: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; a subscription to the monotonic clock
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 100000000000000))
    (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))))"#;

const THREADS: usize = 4;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// A container of the group, with every program in its rootfs.
fn member(mock: &Mock, guest: Guest) -> Bundle {
    let group = format!("{}-group", mock.namespace);
    let bundle = mock
        .bundle(&[guest.path()])
        .with_wat(Guest::Exits.path(), EXIT_7)
        .with_wat(Guest::Reads.path(), CAT)
        .with_wat(Guest::Spins.path(), SPIN)
        .with_wat(Guest::Sleeps.path(), SLEEP)
        .set("/annotations", json!({ "io.containerd.runc.v2.group": group }))
        // Those that spin give way to whoever has something to do.
        .set("/linux/resources/cpu", json!({ "shares": 2 }));
    bundle.write();
    bundle
}

/// One life in full: what it opens for good, and the spare process after it, are counted.
fn whole_life(shim: &Shim, bundle: &Bundle) {
    shim.create(bundle).expect("the task can be created");
    shim.start(&bundle.id).expect("the task can be started");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.delete(&bundle.id).expect("a stopped task can be deleted");
}

#[test]
fn calls_at_random_are_answered_as_the_state_machine_says() {
    let calls = usize::try_from(number("CALLS").unwrap_or(10_000)).expect("a number of calls");
    let seed = number("SEED").unwrap_or(7);
    println!("SEED={seed} CALLS={calls}");

    let mock = Mock::new();
    let anchor = member(&mock, Guest::Sleeps);
    let shim = mock.start(&anchor, &Dialect::Silent).expect("the shim starts");
    shim.create(&anchor).expect("the task can be created");
    let pid = shim.connect(&anchor.id).expect("the task is there").shim_pid;
    let extra = member(&mock, Guest::Sleeps);
    let guests =
        [Guest::Exits, Guest::Reads, Guest::Reads, Guest::Sleeps, Guest::Sleeps, Guest::Spins];
    let mut slots: Vec<Slot> =
        guests.iter().map(|&guest| Slot::new(&mock, member(&mock, guest), guest, true)).collect();
    slots.push(Slot::new(&mock, member(&mock, Guest::Sleeps), Guest::Sleeps, false));

    let driver = Driver::new(&slots);
    let mut random = Random::new(seed);
    // What is opened, allocated or cached for good is so after a few lives.
    driver.alone(&shim, &mut random, calls / 10);
    driver.clear(&shim);
    whole_life(&shim, &extra);
    let before = mock.holdings(Some(pid));
    driver.alone(&shim, &mut random, calls / 4);
    let shims: Vec<Shim> =
        (0..THREADS).map(|_| Shim::at(shim.address.clone(), shim.version)).collect();
    driver.together(&shims, seed, calls);
    drop(shims);
    if let Some(words) = driver.failure() {
        panic!("SEED={seed} CALLS={calls}: {words}");
    }
    driver.clear(&shim);
    whole_life(&shim, &extra);

    let histories: Vec<_> = slots.iter().map(Slot::history).collect();
    let tallies: Vec<&Tally> = histories.iter().map(|history| &history.tally).collect();
    report(&tallies);
    for (slot, tally) in slots.iter().zip(&tallies) {
        order::check(&mock, &slot.bundle.id, tally);
    }
    let after = mock.holds_no_more_than(&before, Some(pid));
    println!("before:\n{before}after:\n{after}");
    drop(histories);
    shim.finish(&mock, &anchor);
}

fn report(tallies: &[&Tally]) {
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(|tally| count(tally)).sum::<usize>();
    let union = |all: Vec<String>| {
        let mut all = all;
        all.sort();
        all.dedup();
        all
    };
    let states = union(tallies.iter().flat_map(|t| &t.states).map(|s| format!("{s:?}")).collect());
    let transitions =
        union(tallies.iter().flat_map(|t| &t.transitions).map(|t| format!("{t:?}")).collect());
    println!(
        "{} calls, {} of them refused; {} states, {} transitions; {} lives, {} processes executed",
        sum(|tally| tally.calls),
        sum(|tally| tally.refused),
        states.len(),
        transitions.len(),
        sum(|tally| tally.lives),
        sum(|tally| tally.executed),
    );
    for phase in [Phase::Created, Phase::Running, Phase::Paused, Phase::Killed] {
        let reached = tallies.iter().flat_map(|t| &t.states).any(|(own, ..)| *own == phase);
        assert!(reached, "no container was ever known to be {phase:?}");
    }
}
