//! `docker pause` and what can be done with a container that stands still.

use std::time::Duration;

use integration::docker::Container;
use integration::images::{PROBE, PROBE_P2};

use crate::docker;

/// What the kernel's freezer says of the container.
fn freezer(container: &Container) -> String {
    container.look(
        "group=$(sed -n 's/^[0-9]*:freezer://p' /proc/$pid/cgroup); cat /sys/fs/cgroup/freezer$group/freezer.state",
    )
}

fn status(container: &Container) -> String {
    container.inspect("{{.State.Status}}")
}

#[test]
fn a_paused_container_stands_still_until_it_is_unpaused() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let container = docker.start(&[], image, &["spin"]);
        container.says("spinning");
        container.cli(&["pause"]).ok();
        assert_eq!(
            (status(&container).as_str(), freezer(&container).as_str()),
            ("paused", "FROZEN")
        );
        container.cli(&["pause"]).fails().complains_of(&["already paused"]);
        container.cli(&["unpause"]).ok();
        assert_eq!(
            (status(&container).as_str(), freezer(&container).as_str()),
            ("running", "THAWED")
        );
        container.cli(&["stop"]).ok();
        assert_eq!(container.wait(), 143);
    }
}

#[test]
fn stop_ends_a_paused_container_at_once() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["spin"]);
    container.says("spinning");
    container.cli(&["pause"]).ok();
    let done = container.cli(&["stop"]).ok();
    assert!(done.took < Duration::from_secs(9), "only by force: {done}");
    assert_eq!(container.wait(), 143);
}

#[test]
fn kill_ends_a_paused_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    container.says("sleeping");
    container.cli(&["pause"]).ok();
    container.cli(&["kill"]).ok();
    assert_eq!(container.wait(), 137);
}

#[test]
fn rm_by_force_ends_and_removes_a_paused_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["spin"]);
    container.says("spinning");
    container.cli(&["pause"]).ok();
    container.remove();
}

#[test]
fn a_paused_container_can_be_looked_at() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["hold", "1"]);
    container.says("allocated 1");
    container.cli(&["pause"]).ok();
    assert_eq!(container.cli(&["top"]).ok().lines().len(), 2);
    let usage = container.cli(&["stats", "--no-stream", "--format", "{{.MemUsage}}"]).ok().text();
    assert!(usage.contains("MiB"), "{usage}");
}
