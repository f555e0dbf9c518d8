//! What goes wrong around a container: its shim is killed, containerd is killed.

use integration::docker::{Container, Docker};
use integration::images::{PROBE, TICK};
use integration::{PLATFORM, RUNTIME, leaks, wait};

use crate::{ctr, docker, host};

/// The shim of a container.
fn shim(container: &Container) -> String {
    container.look("ps -o ppid= -p $pid | tr -d ' '")
}

/// Kills containerd and takes its socket, by which it would seem to be there.
fn kill_containerd() {
    host().sh("pkill -KILL -x containerd; rm -f /run/containerd/containerd.sock*");
}

/// How often the guest has ticked.
fn ticks(container: &Container) -> usize {
    container.logs().lines().len()
}

#[test]
fn a_container_whose_shim_is_killed_ends_with_137_and_starts_again() {
    let (docker, _turn) = docker();
    for pause in [false, true] {
        let container = docker.start(&[], &PROBE, &["spin"]);
        container.says("spinning");
        let (pid, shim) = (container.pid(), shim(&container));
        if pause {
            container.cli(&["pause"]).ok();
        }
        docker.0.sh(&format!("kill -KILL {shim}"));
        assert_eq!(container.wait(), 137);
        wait::until("the end of the guest", || !docker.0.test(&format!("test -e /proc/{pid}")));
        let left = leaks::traces(docker.0, &container.id);
        let left: Vec<&String> = left.iter().filter(|line| !line.starts_with("file: ")).collect();
        assert!(left.is_empty(), "{left:#?}");
        container.cli(&["start"]).ok();
        assert!(container.runs());
        container.cli(&["stop"]).ok();
        assert_eq!(container.wait(), 143);
    }
}

#[test]
fn containers_run_on_and_log_while_containerd_restarts() {
    let host = host();
    let _alone = host.alone();
    let container = Docker(host).start(&[], &TICK, &[]);
    container.says("tick");
    let pid = container.pid();
    kill_containerd();
    let before = ticks(&container);
    wait::until("ticks without containerd", || ticks(&container) > before + 2);
    host.up();
    let before = ticks(&container);
    wait::until("ticks after it has come back", || ticks(&container) > before + 2);
    assert!(container.runs());
    assert_eq!(container.pid(), pid);
    container.cli(&["stop"]).ok();
    assert_eq!(container.wait(), 143);
}

#[test]
fn what_ends_while_containerd_is_away_is_cleared_away_when_it_is_back() {
    let host = host();
    let _alone = host.alone();
    let (ctr, id) = (integration::ctr::Ctr(host), "ends-unseen");
    let image = ctr.import(&PROBE);
    let run = [
        "run",
        "-d",
        "--null-io",
        "--runtime",
        RUNTIME,
        "--platform",
        PLATFORM,
        image.as_str(),
        id,
    ];
    ctr.cli(&[&run[..], &[PROBE.entry, "sleep", "1000"]].concat()).ok();
    let pid = ctr.pid(id).expect("it runs");
    kill_containerd();
    host.sh(&format!("kill -TERM {pid}"));
    wait::until("the end of the guest", || {
        !host.test(&format!("grep -qv '^State:.*Z' /proc/{pid}/status"))
    });
    host.up();
    // containerd asks its shims for their processes, and has those without any delete their task.
    assert_eq!(ctr.pid(id), None);
    ctr.cli(&["container", "rm", id]).ok();
    leaks::none_of(host, id);
}

#[test]
fn ctr_says_why_there_are_no_checkpoints() {
    let (ctr, _turn) = ctr();
    let running = ctr.spawn(&[], &PROBE, &["sleep", "1000"]);
    running.command.says("sleeping");
    let done = ctr.cli(&["task", "checkpoint", &running.id]).fails();
    done.complains_of(&["checkpoint is not supported"]);
    ctr.cli(&["task", "kill", "-s", "SIGKILL", &running.id]).ok();
    running.command.finish(std::time::Duration::from_secs(20)).exits(137);
    leaks::none_of(ctr.0, &running.id);
}
