//! docker's -t and -it: the client has a terminal of its own, as `script` makes one.

use integration::command::{DEADLINE, Running};
use integration::docker::Docker;
use integration::images::{Image, PROBE, PROBE_P2};
use integration::wait;

use crate::docker;

/// A docker command with a terminal that the test types into.
#[track_caller]
fn typed(docker: &Docker, words: &[&str]) -> Running {
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    docker.0.spawn(&["script", "-qec", &format!("docker {line}"), "/dev/null"])
}

fn run<'a>(image: &'a Image, reference: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    assert!(reference.contains(image.name));
    let fixed = ["run", "--rm", "-it", "--pull", "never", "--runtime", integration::RUNTIME];
    [&fixed[..], &["--platform", integration::PLATFORM, reference], args].concat()
}

#[test]
fn without_input_the_streams_are_a_terminal_and_one() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let done = docker.run(&["-t"], image, &["terminals"]).ok();
        assert_eq!(done.stdout, b"[true, true, true]\r\n");
        let done = docker.run(&["-t"], image, &["both"]).ok();
        assert_eq!(done.lines(), ["to stderr", "to stdout"]);
        assert_eq!(docker.run(&["-t"], image, &["exit", "1"]).code, 1);
    }
}

#[test]
fn much_output_arrives_whole() {
    let (docker, _turn) = docker();
    let done = docker.run(&["-t"], &PROBE, &["flood", "4096000"]).ok();
    // A carriage return for each of the lines.
    assert_eq!(done.stdout.len(), 4_096_000 + 1000);
    let container = docker.start(&["-t"], &PROBE, &["flood", "4096000"]);
    assert_eq!(container.wait(), 0);
    assert_eq!(container.logs().stdout.len(), 4_096_000 + 1000);
}

#[test]
fn what_is_typed_is_answered_and_control_d_is_its_end() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let reference = docker.load(image);
        let mut session = typed(&docker, &run(image, &reference, &["echo-stdin"]));
        session.write(b"first\n");
        session.says("first\r\nfirst\r\n");
        session.write(b"\x04");
        session.finish(DEADLINE).ok();
    }
}

#[test]
fn control_c_ends_the_guest() {
    let (docker, _turn) = docker();
    let reference = docker.load(&PROBE);
    for (key, code) in [(b"\x03", 130), (b"\x1c", 131)] {
        let mut session = typed(&docker, &run(&PROBE, &reference, &["spin"]));
        session.says("spinning");
        session.write(key);
        session.finish(DEADLINE).exits(code);
    }
}

#[test]
fn a_session_is_detached_and_attached_again() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-it"], &PROBE, &["echo-stdin"]);
    let mut first = typed(&docker, &["attach", &container.name]);
    first.write(b"one\n");
    first.says("one\r\none\r\n");
    first.write(b"\x10\x11");
    first.finish(DEADLINE);
    assert!(container.runs());
    let mut second = typed(&docker, &["attach", &container.name]);
    second.write(b"two\n");
    second.says("two\r\ntwo\r\n");
    second.write(b"\x04");
    second.finish(DEADLINE).ok();
    assert_eq!(container.wait(), 0);
}

#[test]
fn a_client_that_is_killed_leaves_the_container_running() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-it"], &PROBE, &["echo-stdin"]);
    let mut client = typed(&docker, &["attach", &container.name]);
    client.write(b"one\n");
    client.says("one\r\none\r\n");
    drop(client);
    assert!(container.runs());
    container.cli(&["stop"]).ok();
}

#[test]
fn the_size_follows_the_clients() {
    let (docker, _turn) = docker();
    let container = docker.create(&["-it"], &PROBE, &["sleep", "1000"]);
    let line = format!("stty rows 31 columns 97; docker start -ai {}", container.name);
    let client = docker.0.spawn(&["script", "-qec", &line, "/dev/null"]);
    client.says("sleeping");
    wait::until("the client's size", || container.look("stty size </proc/$pid/fd/0") == "31 97");
    container.cli(&["stop"]).ok();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let name = container.name.as_str();
    let done = docker.cli(&["exec", "-t", name, PROBE.entry, "terminals"]).ok();
    assert_eq!(done.text(), "[true, true, true]");
    let mut session = typed(&docker, &["exec", "-it", name, PROBE.entry, "echo-stdin"]);
    session.write(b"first\n");
    session.says("first\r\nfirst\r\n");
    session.write(b"\x03");
    session.finish(DEADLINE).exits(130);
    assert!(container.runs());
}
