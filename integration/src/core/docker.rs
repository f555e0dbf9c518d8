//! What `docker run` promises with any dockerd.

#![allow(missing_docs, reason = "the name of each function is the promise that it proves")]

use std::time::Duration;

use crate::bed::Cgroup;
use crate::docker::Docker;
use crate::images::{PROBE, PROBE_P2};
use crate::wait;

/// Makes a test of each of these functions; `$given` returns a [`Docker`] and a guard.
#[macro_export]
macro_rules! docker_core {
    ($given:path) => {
        $crate::docker_core! { $given;
            a_module_and_a_component_run,
            the_exit_code_is_the_guests,
            a_trap_is_in_the_logs_with_a_backtrace,
            piped_input_arrives_and_ends,
            volumes_are_honoured,
            a_published_port_reaches_the_guest,
            there_is_a_host_network_and_no_network,
            stop_ends_a_guest_in_less_than_a_second,
            a_container_that_fails_is_restarted_as_often_as_it_may_be,
            what_cannot_run_is_refused_by_name,
            stats_and_top_show_the_container,
        }
    };
    ($given:path; $($case:ident),+ $(,)?) => {
        $(#[test]
        fn $case() {
            let (docker, _turn) = $given();
            $crate::core::docker::$case(docker);
        })+
    };
}

pub fn a_module_and_a_component_run(docker: Docker) {
    for image in [&PROBE, &PROBE_P2] {
        assert_eq!(docker.run(&[], image, &[]).ok().text(), "hello from wasm");
    }
}

pub fn the_exit_code_is_the_guests(docker: Docker) {
    docker.run(&[], &PROBE, &["exit", "7"]).exits(7);
    let container = docker.start(&[], &PROBE, &["exit", "42"]);
    assert_eq!(container.wait(), 42);
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "42");
}

pub fn a_trap_is_in_the_logs_with_a_backtrace(docker: Docker) {
    let container = docker.start(&[], &PROBE, &["trap"]);
    assert_eq!(container.wait(), 134);
    container.logs().complains_of(&["unreachable", "trap_a", "trap_b", "trap_c"]);
}

pub fn piped_input_arrives_and_ends(docker: Docker) {
    assert_eq!(
        docker.run_with(&["-i"], &PROBE, &["echo-stdin"], b"one\ntwo\n").ok().lines(),
        ["one", "two"]
    );
    assert_eq!(docker.run_with(&["-i"], &PROBE_P2, &["count"], b"hello\n").ok().text(), "6");
}

pub fn volumes_are_honoured(docker: Docker) {
    let folder = docker.0.folder("volume");
    let (rw, ro) = (format!("{folder}:/data"), format!("{folder}:/data:ro"));
    docker.run(&["-v", &rw], &PROBE, &["write", "/data/file", "from the guest"]).ok();
    assert_eq!(docker.0.sh(&format!("cat {folder}/file")), "from the guest");
    assert_eq!(
        docker.run(&["-v", &ro], &PROBE_P2, &["cat", "/data/file"]).ok().text(),
        "from the guest"
    );
    docker.run(&["-v", &ro], &PROBE_P2, &["write", "/data/file", "again"]).exits(1);
}

pub fn a_published_port_reaches_the_guest(docker: Docker) {
    let container = docker.start(&["-p", "18090:8080"], &PROBE_P2, &["serve-http", "8080"]);
    container.says("listening on 8080");
    let answer = wait::some("an answer from the guest", || {
        let done = docker.0.exec(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:18090/"]);
        (done.code == 0).then(|| done.text())
    });
    assert_eq!(answer, "hello from wasm");
}

pub fn there_is_a_host_network_and_no_network(docker: Docker) {
    let container = docker.start(&["--network", "host"], &PROBE_P2, &["serve-http", "7101"]);
    container.says("listening on 7101");
    docker.0.exec(&["curl", "-sS", "--max-time", "5", "http://127.0.0.1:7101/"]).ok();
    docker
        .run(&["--network", "none"], &PROBE_P2, &["connect", "127.0.0.1", "7101", "anybody"])
        .exits(1);
}

pub fn stop_ends_a_guest_in_less_than_a_second(docker: Docker) {
    for (guest, word) in [(&["spin"][..], "spinning"), (&["sleep", "1000"], "sleeping")] {
        let container = docker.start(&[], &PROBE, guest);
        container.says(word);
        let done = container.cli(&["stop"]).ok();
        assert!(done.took < Duration::from_secs(1), "{done}");
        assert_eq!(container.inspect("{{.State.ExitCode}}"), "143");
    }
}

pub fn a_container_that_fails_is_restarted_as_often_as_it_may_be(docker: Docker) {
    let container = docker.start(&["--restart", "on-failure:2"], &PROBE, &["exit", "3"]);
    wait::until("two restarts and no more", || {
        container.inspect("{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}") == "2 exited 3"
    });
}

pub fn what_cannot_run_is_refused_by_name(docker: Docker) {
    let done = docker.run(&["--entrypoint", "/bad/import.wasm"], &PROBE, &[]);
    assert!((125..=127).contains(&done.code), "{done}");
    done.complains_of(&["/bad/import.wasm", "moon", "shine"]);
}

pub fn stats_and_top_show_the_container(docker: Docker) {
    let container = docker.start(&[], &PROBE, &["hold", "8"]);
    container.says("allocated 8");
    let stats = container.cli(&["stats", "--no-stream", "--format", "{{.MemUsage}}"]).ok().text();
    // The unified hierarchy of a bed has no memory controller: there is nothing to show then.
    let expected = if docker.0.cgroup() == Cgroup::V1 { "iB / " } else { " / " };
    assert!(stats.contains(expected), "{stats}");
    assert_eq!(container.cli(&["top"]).ok().lines().len(), 2);
}
