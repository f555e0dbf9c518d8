//! How a guest ended, as docker tells it.

use integration::images::{PROBE, PROBE_P2};

use crate::docker;

#[test]
fn proc_exit_is_the_exit_code() {
    let (docker, _turn) = docker();
    for code in [0, 1, 7, 125] {
        docker.run(&[], &PROBE, &["exit", &code.to_string()]).exits(code);
    }
}

#[test]
fn inspect_and_wait_tell_the_exit_code_of_a_detached_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["exit", "42"]);
    assert_eq!(container.wait(), 42);
    assert_eq!(container.inspect("{{.State.ExitCode}} {{.State.Status}}"), "42 exited");
}

#[test]
fn an_error_from_the_run_of_a_component_is_exit_code_1() {
    let (docker, _turn) = docker();
    docker.run(&[], &PROBE_P2, &["exit", "0"]).exits(0);
    docker.run(&[], &PROBE_P2, &["exit", "7"]).exits(1);
}

#[test]
fn a_trap_is_134_with_the_trap_and_its_backtrace_on_stderr() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let done = docker.run(&[], image, &["trap"]).exits(134);
        let done = done.complains_of(&["unreachable", "trap_a", "trap_b", "trap_c"]);
        assert_eq!(done.text(), "");
    }
}

#[test]
fn a_trap_is_in_the_logs_of_a_detached_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["trap"]);
    assert_eq!(container.wait(), 134);
    container.logs().complains_of(&["unreachable", "trap_c"]);
}

#[test]
fn a_panic_is_134_with_its_message() {
    let (docker, _turn) = docker();
    docker
        .run(&[], &PROBE, &["panic"])
        .exits(134)
        .complains_of(&["a panic was asked for", "unreachable"]);
}

#[test]
fn a_container_that_fails_is_restarted_as_often_as_it_may_be() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--restart", "on-failure:2"], &PROBE, &["exit", "3"]);
    integration::wait::until("two restarts and no more", || {
        container.inspect("{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}") == "2 exited 3"
    });
}
