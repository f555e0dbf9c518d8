//! The life of a container through docker's verbs.

use std::time::Duration;

use integration::images::PROBE;
use integration::wait;

use crate::docker;

#[test]
fn a_created_container_can_be_started_and_started_again() {
    let (docker, _turn) = docker();
    let container = docker.create(&[], &PROBE, &["exit", "6"]);
    assert_eq!(container.inspect("{{.State.Status}}"), "created");
    for _ in 0..2 {
        container.cli(&["start"]).ok();
        assert_eq!(container.wait(), 6);
    }
}

#[test]
fn a_container_that_was_created_and_never_started_can_be_removed() {
    let (docker, _turn) = docker();
    let container = docker.create(&[], &PROBE, &["sleep", "1000"]);
    container.cli(&["rm"]).ok();
    assert!(
        !docker.cli(&["ps", "-a", "--format", "{{.Names}}"]).ok().lines().contains(&container.name)
    );
}

#[test]
fn restart_gives_a_new_process() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let before = container.pid();
    let done = container.cli(&["restart"]).ok();
    assert!(done.took < Duration::from_secs(5), "{done}");
    assert!(container.runs());
    assert_ne!(container.pid(), before);
}

#[test]
fn wait_answers_when_the_container_ends() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-i"], &PROBE, &["sleep", "1000"]);
    let waiting = docker.0.spawn(&["docker", "wait", &container.name]);
    container.says("sleeping");
    assert_eq!(waiting.so_far(), "");
    container.cli(&["kill"]).ok();
    assert_eq!(waiting.finish(Duration::from_secs(20)).ok().text(), "137");
}

#[test]
fn top_shows_the_one_process_by_the_hosts_pid() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let top = docker.cli(&["top", &container.name, "-o", "pid"]).ok();
    assert_eq!(top.lines()[1..], [container.pid().to_string()]);
}

#[test]
fn ps_shows_what_runs() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let names = || docker.cli(&["ps", "--format", "{{.Names}}"]).ok().lines();
    assert!(names().contains(&container.name));
    container.cli(&["stop"]).ok();
    assert!(!names().contains(&container.name));
}

#[test]
fn events_come_in_order() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["exit", "9"]);
    assert_eq!(container.wait(), 9);
    let filter = format!("container={}", container.name);
    let actions = wait::some("the event of the end", || {
        let events = docker.cli(&[
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--filter",
            &filter,
            "--format",
            "{{.Action}}",
        ]);
        let actions = events.ok().lines();
        actions.iter().any(|action| action == "die").then_some(actions)
    });
    let actions: Vec<&str> = actions
        .iter()
        .map(String::as_str)
        .filter(|action| ["create", "start", "die"].contains(action))
        .collect();
    assert_eq!(actions, ["create", "start", "die"]);
}
