//! docker's restart policies.

use integration::docker::{Container, Docker};
use integration::images::PROBE;
use integration::wait;

use crate::{docker, host};

/// How often docker has started it again, and what it is at.
fn state(container: &Container) -> String {
    container.inspect("{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}")
}

#[test]
fn on_failure_starts_again_what_failed_as_often_as_it_may() {
    let (docker, _turn) = docker();
    let failing = docker.start(&["--restart", "on-failure:3"], &PROBE, &["exit", "3"]);
    let trapping = docker.start(&["--restart", "on-failure:1"], &PROBE, &["trap"]);
    let well = docker.start(&["--restart", "on-failure:3"], &PROBE, &["exit", "0"]);
    wait::until("the last restart", || state(&failing) == "3 exited 3");
    wait::until("the last restart", || state(&trapping) == "1 exited 134");
    assert_eq!(well.wait(), 0);
    assert_eq!(state(&well), "0 exited 0");
}

#[test]
fn always_starts_again_whatever_ended_until_it_is_stopped() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--restart", "always"], &PROBE, &["exit", "0"]);
    wait::until("a second restart", || {
        container.inspect("{{.RestartCount}}").parse::<u32>().is_ok_and(|count| count >= 2)
    });
    container.cli(&["stop"]).ok();
    assert_eq!(container.inspect("{{.State.Status}}"), "exited");
}

#[test]
fn unless_stopped_and_always_outlive_a_restart_of_docker_as_they_say() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    let start = |policy| {
        let container = docker.start(&["--restart", policy], &PROBE, &["sleep", "1000"]);
        container.says("sleeping");
        container
    };
    let (unless, always, no) = (start("unless-stopped"), start("always"), start("no"));
    let (unless_stopped, always_stopped) = (start("unless-stopped"), start("always"));
    for container in [&unless_stopped, &always_stopped] {
        container.cli(&["stop"]).ok();
    }
    let pid = unless.pid();
    host.sh("pkill -TERM -x dockerd; while pgrep -x dockerd >/dev/null; do sleep 0.05; done");
    host.up();
    for container in [&unless, &always, &always_stopped] {
        wait::until(&format!("{} to run again", container.name), || container.runs());
    }
    assert_ne!(unless.pid(), pid);
    assert_eq!(state(&no), "0 exited 143");
    assert_eq!(state(&unless_stopped), "0 exited 143");
}
