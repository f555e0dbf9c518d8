//! docker exec.

use integration::command::DEADLINE;
use integration::images::{PROBE, PROBE_P2, WEB};
use integration::wait;

use crate::docker;

#[test]
fn another_module_and_the_same_one_are_executed() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let container = docker.start(&[], image, &["sleep", "1000"]);
        container.says("sleeping");
        let done = docker.cli(&["exec", &container.name, image.entry, "args", "two words"]).ok();
        assert_eq!(done.lines(), [image.entry, "args", "two words"]);
        assert!(container.runs());
    }
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let done = docker.cli(&["exec", &container.name, "tool.wasm"]).ok();
    assert_eq!(done.text(), "hello from wat");
    let done = docker.cli(&["exec", &container.name, "tool.wasm#greet"]).ok();
    assert_eq!(done.stderr, "hello from wat\n");
}

#[test]
fn the_exit_code_is_the_programs() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let run = |args: &[&str]| docker.cli(&[&["exec", &container.name, PROBE.entry], args].concat());
    run(&["exit", "7"]).exits(7);
    run(&["trap"]).exits(134).complains_of(&["unreachable", "trap_a"]);
    assert!(container.runs());
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    for command in [&["sh"][..], &["/bin/ls"], &["/bin/sh", "-c", "true || false"]] {
        let done = docker.cli(&[&["exec", &container.name], command].concat()).exits(127);
        let said = format!("{}{}", done.text(), done.stderr);
        assert!(said.contains(PROBE.entry) && said.contains("@help"), "{said}");
    }
    let done = docker.cli(&["exec", &container.name, "/etc"]).exits(126);
    let said = format!("{}{}", done.text(), done.stderr);
    assert!(said.contains("not a regular file"), "{said}");
}

#[test]
fn environment_folder_and_user_are_its_own() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-e", "OURS=yes"], &PROBE, &["sleep", "1000"]);
    let name = container.name.as_str();
    let done = docker.cli(&["exec", "-e", "MINE=too", name, PROBE.entry, "env"]).ok();
    for expected in ["OURS=yes", "MINE=too", "FROM_IMAGE=yes"] {
        assert!(done.lines().iter().any(|line| line == expected), "no {expected}\n{done}");
    }
    let done = docker.cli(&["exec", "-w", "/srv", name, "local.wasm"]).ok();
    assert_eq!(done.text(), "hello from wat");
    docker.cli(&["exec", name, PROBE.entry, "write", "/private", "x"]).ok();
    docker.0.sh(&format!("chmod 600 /proc/{}/root/private", container.pid()));
    docker.cli(&["exec", name, PROBE.entry, "cat", "/private"]).ok();
    docker.cli(&["exec", "-u", "1234", name, PROBE.entry, "cat", "/private"]).exits(1);
}

#[test]
fn it_reads_what_is_piped_to_it_to_the_end() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let input: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    let words = ["docker", "exec", "-i", &container.name, PROBE.entry, "echo-stdin"];
    let done = docker.0.exec_with(&words, &input).ok();
    assert!(done.stdout == input, "{} bytes came back of {}", done.stdout.len(), input.len());
}

#[test]
fn it_is_detached_and_seen_and_ends_with_its_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    docker.cli(&["exec", "-d", &container.name, PROBE.entry, "sleep", "2000"]).ok();
    let both = || container.cli(&["top"]).ok().lines().len() == 3;
    wait::until("two processes", both);
    container.cli(&["stop"]).ok();
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "143");
}

#[test]
fn the_network_is_the_containers() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE_P2, &["listen", "7000"]);
    container.says("listening on 7000");
    let words = ["exec", &container.name, PROBE_P2.entry, "connect", "127.0.0.1", "7000", "you"];
    assert_eq!(docker.cli(&words).ok().text(), "hello you");
    let stat = docker.cli(&["exec", &container.name, "@stat"]).ok().text();
    assert!(stat.contains("tcp  0.0.0.0:7000  listening"), "{stat}");
}

#[test]
fn a_container_can_be_looked_into() {
    let (docker, _turn) = docker();
    let folder = docker.0.folder("looked-into");
    docker.0.sh(&format!("echo on the host >{folder}/note"));
    let volume = format!("{folder}:/data:ro");
    let container = docker.start(&["-v", &volume], &PROBE, &["sleep", "1000"]);
    let run = |args: &[&str]| {
        docker.cli(&[&["exec", container.name.as_str()], args].concat()).ok().text()
    };
    assert!(run(&["@ls", "/"]).contains("probe-p1.wasm"));
    assert_eq!(run(&["@cat", "/data/note"]), "on the host");
    let stat = run(&["@stat"]);
    assert!(stat.contains("/data  read-only") && stat.contains(PROBE.entry), "{stat}");
    assert!(run(&["@help"]).contains("@cat PATH"));
}

#[test]
fn one_that_is_killed_by_its_client_s_end_goes_on_as_dockers_do() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let words = ["docker", "exec", &container.name, PROBE.entry, "spin"];
    let client = docker.0.spawn(&words);
    client.says("spinning");
    drop(client);
    assert_eq!(container.cli(&["top"]).ok().lines().len(), 3);
    let session = docker.0.spawn(&words);
    session.says("spinning");
    container.cli(&["kill"]).ok();
    session.finish(DEADLINE).exits(137);
}

#[test]
fn stack_tells_where_rust_guests_wait_and_what_a_server_does() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let container = docker.start(&[], image, &["sleep", "1000"]);
        container.says("sleeping");
        let said = docker.cli(&["exec", &container.name, "@stack"]).ok().text();
        assert!(said.starts_with("in a host call:"), "{said}");
        assert!(said.contains("functions::sleep"), "{said}");
        assert!(said.contains("probe::main"), "{said}");
    }
    let container = docker.start(&[], &WEB, &[]);
    let stack = || docker.cli(&["exec", &container.name, "@stack"]).ok().text();
    assert!(stack().starts_with("no call of a guest is going on"), "{}", stack());
    let url = format!("http://{}:8080/spin", container.address());
    let client = docker.0.spawn(&["curl", "-s", "--max-time", "60", &url]);
    container.says("asked for /spin");
    assert!(stack().starts_with("in wasm:"), "{}", stack());
    assert!(stack().contains("wasi:http/incoming-handler"), "{}", stack());
    container.cli(&["kill"]).ok();
    client.finish(DEADLINE).fails();
}
