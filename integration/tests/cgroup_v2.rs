//! docker 28 and containerd 2.1 on a host with the unified cgroup hierarchy.

use std::sync::RwLockReadGuard;

use integration::bed::{Bed, Cgroup, Suite, bed};
use integration::ctr::Ctr;
use integration::docker::Docker;
use integration::images::PROBE;

fn host() -> &'static Bed {
    bed(Suite::Forky, Cgroup::V2)
}

fn docker() -> (Docker, RwLockReadGuard<'static, ()>) {
    (Docker(host()), host().shared())
}

fn ctr() -> (Ctr, RwLockReadGuard<'static, ()>) {
    (Ctr(host()), host().shared())
}

mod with_docker {
    integration::docker_core!(crate::docker);
}

mod with_ctr {
    integration::ctr_core!(crate::ctr);
}

#[test]
fn a_container_has_a_cgroup_of_its_own_with_its_one_process_in_it() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let group = container.look("sed -n 's/^0:://p' /proc/$pid/cgroup");
    assert!(group.contains(&container.id), "{group}");
    assert_eq!(
        docker.0.sh(&format!("cat /sys/fs/cgroup{group}/cgroup.procs")),
        container.pid().to_string()
    );
}

/// Whether the kernel says that all of the container stands still.
fn frozen(container: &integration::docker::Container) -> String {
    container.look("group=$(sed -n 's/^0:://p' /proc/$pid/cgroup); sed -n 's/^frozen //p' /sys/fs/cgroup$group/cgroup.events")
}

#[test]
fn a_paused_container_stands_still_until_it_is_unpaused() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["spin"]);
    container.says("spinning");
    container.cli(&["pause"]).ok();
    assert_eq!(
        (container.inspect("{{.State.Status}}").as_str(), frozen(&container).as_str()),
        ("paused", "1")
    );
    container.cli(&["unpause"]).ok();
    assert_eq!(
        (container.inspect("{{.State.Status}}").as_str(), frozen(&container).as_str()),
        ("running", "0")
    );
    container.cli(&["stop"]).ok();
    assert_eq!(container.wait(), 143);
}

#[test]
fn a_paused_container_is_ended_by_stop_kill_and_rm() {
    let (docker, _turn) = docker();
    for (verb, code) in [("stop", 143), ("kill", 137)] {
        let container = docker.start(&[], &PROBE, &["spin"]);
        container.says("spinning");
        container.cli(&["pause"]).ok();
        container.cli(&[verb]).ok();
        assert_eq!(container.wait(), code, "{verb}");
    }
    let container = docker.start(&[], &PROBE, &["spin"]);
    container.cli(&["pause"]).ok();
    container.remove();
}

#[test]
fn ctr_pauses_resumes_and_kills_a_paused_task() {
    let (ctr, _turn) = ctr();
    let running = ctr.spawn(&[], &PROBE, &["spin"]);
    running.command.says("spinning");
    let id = running.id.as_str();
    let listed = || {
        ctr.cli(&["task", "ls"])
            .ok()
            .lines()
            .into_iter()
            .find(|line| line.contains(id))
            .unwrap_or_default()
    };
    ctr.cli(&["task", "pause", id]).ok();
    assert!(listed().contains("PAUSED"), "{}", listed());
    ctr.cli(&["task", "resume", id]).ok();
    assert!(listed().contains("RUNNING"), "{}", listed());
    ctr.cli(&["task", "pause", id]).ok();
    ctr.cli(&["task", "kill", "-s", "SIGKILL", id]).ok();
    running.command.finish(std::time::Duration::from_secs(20)).exits(137);
    integration::leaks::none_of(ctr.0, &running.id);
}
