//! Standard input, output and error through docker.

use integration::command::DEADLINE;
use integration::images::{NUMBERS, PROBE, PROBE_P2, numbers};

use crate::docker;

#[test]
fn piped_input_arrives_and_ends() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        assert_eq!(docker.run_with(&["-i"], image, &["count"], b"hello\n").ok().text(), "6");
        assert_eq!(
            docker.run_with(&["-i"], image, &["echo-stdin"], b"one\ntwo\n").ok().lines(),
            ["one", "two"]
        );
        assert_eq!(docker.run_with(&["-i"], image, &["count"], b"").ok().text(), "0");
    }
}

#[test]
fn much_input_arrives_whole() {
    let (docker, _turn) = docker();
    let input: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    let done = docker.run_with(&["-i"], &PROBE, &["echo-stdin"], &input).ok();
    assert!(done.stdout == input, "{} bytes came back of {}", done.stdout.len(), input.len());
}

#[test]
fn gigabytes_of_input_arrive_whole_and_fill_no_memory() {
    let (docker, _turn) = docker();
    let container = docker.create(&["-i"], &NUMBERS, &[]);
    let mut session = docker.0.spawn(&["docker", "start", "-a", "-i", &container.name]);
    let blocks = (2 << 30) / numbers(0).len() as u64;
    for block in 0..blocks {
        session.write(&numbers(block));
    }
    // Of the guest's process and of the shim, in KiB.
    let peaks = container.look("shim=$(ps -o ppid= -p $pid | tr -d ' '); sed -n 's/^VmHWM:\\s*\\([0-9]*\\) kB$/\\1/p' /proc/$pid/status /proc/$shim/status");
    let peaks: Vec<u32> = peaks.lines().map(|peak| peak.parse().expect("a number")).collect();
    assert!(peaks.len() == 2 && peaks.iter().all(|peak| (1..65_536).contains(peak)), "{peaks:?}");
    let done = session.finish(DEADLINE).ok();
    assert_eq!(done.stdout, (blocks * 8192).to_le_bytes());
}

#[test]
fn input_is_answered_line_by_line() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let mut session = docker.spawn(&["-i"], image, &["echo-stdin"]);
        session.write(b"first\n");
        session.says("first\n");
        session.write(b"second\n");
        session.says("second\n");
        assert_eq!(session.finish(DEADLINE).ok().lines(), ["first", "second"]);
    }
}

#[test]
fn without_i_the_guest_reads_the_end_at_once() {
    let (docker, _turn) = docker();
    assert_eq!(docker.run_with(&[], &PROBE, &["count"], b"unread").ok().text(), "0");
}

#[test]
fn output_and_error_are_told_apart() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let done = docker.run(&[], image, &["both"]).ok();
        assert_eq!((done.text().as_str(), done.stderr.as_str()), ("to stdout", "to stderr\n"));
        let container = docker.start(&[], image, &["both"]);
        assert_eq!(container.wait(), 0);
        let logs = container.logs();
        assert_eq!((logs.text().as_str(), logs.stderr.as_str()), ("to stdout", "to stderr\n"));
    }
}

#[test]
fn much_output_arrives_whole() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        assert_eq!(docker.run(&[], image, &["flood", "8000000"]).ok().stdout.len(), 8_000_000);
    }
}

#[test]
fn output_is_in_the_log_while_the_guest_runs() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    container.says("sleeping");
    assert!(container.runs());
}

#[test]
fn logs_follow_a_container_to_its_end() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let follower = docker.0.spawn(&["docker", "logs", "-f", &container.name]);
    follower.says("sleeping");
    container.cli(&["stop"]).ok();
    assert_eq!(follower.finish(DEADLINE).ok().text(), "sleeping");
}

#[test]
fn attach_sees_what_comes_and_the_exit_code() {
    let (docker, _turn) = docker();
    let container = docker.create(&["-i"], &PROBE, &["echo-stdin"]);
    let done =
        docker.0.exec_with(&["docker", "start", "-a", "-i", &container.name], b"over here\n").ok();
    assert_eq!(done.text(), "over here");
}
