//! How a container is ended, and what does not end it.

use std::time::Duration;

use integration::docker::Container;
use integration::images::{PROBE, PROBE_P2};

use crate::docker;

const BUSY: &[&str] = &["spin"];
const IDLE: &[&str] = &["sleep", "1000"];

/// `docker stop` within the second that is promised.
#[track_caller]
fn stops_at_once(container: &Container) {
    let done = container.cli(&["stop"]).ok();
    assert!(done.took < Duration::from_secs(1), "{done}");
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "143");
}

#[test]
fn stop_ends_a_sleeping_guest_in_less_than_a_second() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let container = docker.start(&[], image, IDLE);
        container.says("sleeping");
        stops_at_once(&container);
    }
}

#[test]
fn stop_ends_a_guest_in_a_tight_loop_in_less_than_a_second() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let container = docker.start(&[], image, BUSY);
        container.says("spinning");
        stops_at_once(&container);
    }
}

#[test]
fn stop_ends_a_guest_that_waits_for_a_connection() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE_P2, &["listen", "7000"]);
    container.says("listening");
    stops_at_once(&container);
}

#[test]
fn stop_ends_a_guest_that_waits_for_input() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-i"], &PROBE, &["count"]);
    stops_at_once(&container);
}

#[test]
fn term_int_quit_and_kill_end_a_guest_with_their_numbers() {
    let (docker, _turn) = docker();
    for (signal, code) in [("TERM", 143), ("INT", 130), ("QUIT", 131), ("KILL", 137)] {
        for guest in [BUSY, IDLE] {
            let container = docker.start(&[], &PROBE, guest);
            container.says("ing");
            container.cli(&["kill", "-s", signal]).ok();
            assert_eq!(container.wait(), code, "{signal}");
        }
    }
}

#[test]
fn hup_usr1_usr2_and_winch_do_nothing() {
    let (docker, _turn) = docker();
    for guest in [BUSY, IDLE] {
        let container = docker.start(&[], &PROBE, guest);
        container.says("ing");
        let pid = container.pid();
        for signal in ["HUP", "USR1", "USR2", "WINCH"] {
            container.cli(&["kill", "-s", signal]).ok();
        }
        container.cli(&["kill", "-s", "TERM"]).ok();
        assert_eq!(container.wait(), 143, "ended by another signal than the last");
        assert!(pid > 1);
    }
}

#[test]
fn the_stop_signal_of_the_container_is_used() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--stop-signal", "INT"], &PROBE, IDLE);
    container.says("sleeping");
    container.cli(&["stop"]).ok();
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "130");
}

#[test]
fn rm_by_force_ends_and_removes_a_running_container() {
    let (docker, _turn) = docker();
    for guest in [BUSY, IDLE] {
        let container = docker.start(&[], &PROBE, guest);
        container.says("ing");
        container.remove();
    }
}

#[test]
fn a_signal_sent_to_the_process_itself_ends_it_too() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, IDLE);
    container.says("sleeping");
    let pid = container.pid();
    docker.0.sh(&format!("kill -TERM {pid}"));
    assert_eq!(container.wait(), 143);
}
