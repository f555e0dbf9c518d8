//! The process that containers' processes are forked from, and the one that is forked ahead.

use std::fs;
use std::os::unix::fs::FileExt;

use integration::bundle::Bundle;
use integration::mock::{Dialect, Mock, Shim, processes};
use integration::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::{EXIT_7, SPIN};

const GROUP: &str = "io.containerd.runc.v2.group";

fn member(mock: &Mock, wat: &str) -> Bundle {
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", wat)
        .set("/annotations", json!({ GROUP: format!("{}-group", mock.namespace) }));
    bundle.write();
    bundle
}

fn run(shim: &Shim, bundle: &Bundle) -> u32 {
    let pid = shim.create(bundle).expect("the task can be created");
    shim.start(&bundle.id).expect("the task can be started");
    pid
}

fn end(shim: &Shim, bundle: &Bundle) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
}

/// The shim's own processes, but for itself and the containers'.
fn spares(mock: &Mock, shim: &Shim, bundles: &[&Bundle]) -> Vec<u32> {
    let mut known: Vec<u32> =
        bundles.iter().flat_map(|bundle| shim.pids(&bundle.id).expect("it runs")).collect();
    known.push(shim.connect(&bundles[0].id).expect("the shim answers").shim_pid);
    let all = processes(&mock.namespace).into_iter().map(|(pid, _)| pid);
    all.filter(|pid| !known.contains(pid)).collect()
}

#[test]
fn a_container_with_its_own_shim_is_two_processes() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    run(&shim, &bundle);
    wait::until("the zygote has been let go", || spares(&mock, &shim, &[&bundle]).is_empty());
    end(&shim, &bundle);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_container_of_a_group_is_one_process() {
    let mock = Mock::new();
    let bundles = [(); 5].map(|()| member(&mock, SPIN));
    let shim = mock.start(&bundles[0], &Dialect::Silent).expect("the shim starts");
    for bundle in &bundles {
        run(&shim, bundle);
        assert_eq!(shim.pids(&bundle.id).expect("it runs").len(), 1);
    }
    let all = bundles.each_ref();
    wait::until("a zygote and a spare are left beside them", || {
        spares(&mock, &shim, &all).len() == 2
    });
    for bundle in &bundles {
        end(&shim, bundle);
        shim.delete(&bundle.id).expect("a stopped task can be deleted");
    }
    let _ = shim.shutdown(&bundles[0].id);
    mock.nothing_left(&bundles[0]);
}

#[test]
fn containers_are_made_although_zygote_and_spare_were_killed() {
    let mock = Mock::new();
    let bundles = [(); 3].map(|()| member(&mock, SPIN));
    let shim = mock.start(&bundles[0], &Dialect::Silent).expect("the shim starts");
    run(&shim, &bundles[0]);
    let mut running = vec![&bundles[0]];
    for bundle in &bundles[1..] {
        wait::until("there are a zygote and a spare", || spares(&mock, &shim, &running).len() == 2);
        let victims = spares(&mock, &shim, &running);
        for pid in &victims {
            // Either may end with the other.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        // Others may be there by then, if one was about to be forked.
        wait::until("both are gone", || {
            spares(&mock, &shim, &running).iter().all(|pid| !victims.contains(pid))
        });
        run(&shim, bundle);
        running.push(bundle);
    }
    for bundle in &bundles {
        end(&shim, bundle);
        shim.delete(&bundle.id).expect("a stopped task can be deleted");
    }
    let _ = shim.shutdown(&bundles[0].id);
    mock.nothing_left(&bundles[0]);
}

#[test]
fn a_container_holds_nothing_of_its_neighbours() {
    let secret = "a-secret-of-the-neighbour-7f3a";
    let mock = Mock::new();
    let first = member(&mock, SPIN).set("/process/env", json!([format!("KEY={secret}")]));
    first.write();
    let second = member(&mock, SPIN);
    let shim = mock.start(&first, &Dialect::Silent).expect("the shim starts");
    let holder = run(&shim, &first);
    let pid = run(&shim, &second);
    assert!(memory_has(holder, secret), "the search finds what is there");
    assert!(!memory_has(pid, secret), "the neighbour's environment is in its memory");
    for bundle in [&first, &second] {
        end(&shim, bundle);
        shim.delete(&bundle.id).expect("a stopped task can be deleted");
    }
    let _ = shim.shutdown(&first.id);
    mock.nothing_left(&first);
}

/// Whether a word lies anywhere in the memory of a process.
fn memory_has(pid: u32, word: &str) -> bool {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("root may look");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))).any(
        |line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let (from, to) = range.expect("a range");
            let hex = |text| u64::from_str_radix(text, 16).expect("an address");
            let (from, to) = (hex(from), hex(to));
            // The guest's memory is large and empty.
            let mut bytes = vec![0; (to - from).min(64 << 20) as usize];
            let read = memory.read_at(&mut bytes, from).unwrap_or(0);
            bytes[..read].windows(word.len()).any(|window| window == word.as_bytes())
        },
    )
}

#[test]
fn a_container_in_the_shims_pid_namespace_ends_with_its_own_code() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7).set(
        "/linux/namespaces",
        json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]),
    );
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    run(&shim, &bundle);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}
