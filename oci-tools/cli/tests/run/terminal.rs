//! `--tty`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Place, Running, descendants, guest, until};

/// `wasm-image run ARGS` as a person starts it, in a terminal.
fn command(place: &Place, args: &str) -> Command {
    let line = format!("{} run {args}", env!("CARGO_BIN_EXE_wasm-image"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(place.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn without_the_flag_a_pipe_is_none_and_with_it_all_streams_are_one() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    assert_eq!(place.says(&[&probe, "terminals"]), "[false, false, false]\n");
    assert_eq!(place.says(&["-t", &probe, "terminals"]), "[true, true, true]\r\n");
    let said = place.says(&["-t", &guest("probe-p2.wasm"), "env"]);
    assert!(said.contains("TERM=xterm\r\n"), "{said}");
}

#[test]
fn keys_reach_the_guest_and_an_interrupt_is_its_own() {
    let place = Place::new();
    let mut running = Running::start(
        command(&place, &format!("-it {} spin", guest("probe-p1.wasm"))),
        "spinning",
    );
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"\x03").unwrap();
    let (code, rest) = running.end();
    assert_eq!((code, rest.trim()), (Some(130), "^C"));
}

#[test]
fn a_line_is_read_and_the_end_of_it_is_the_end() {
    let place = Place::new();
    let line = format!("-it {} echo-stdin", guest("probe-p1.wasm"));
    let mut child = command(&place, &line).spawn().unwrap();
    // Its process is called so only once the terminal passes every key on.
    until("the guest's process", || {
        let is_guest = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("/probe-p1.wasm\0")
        };
        descendants(child.id()).iter().any(is_guest)
    });
    child.stdin.take().unwrap().write_all(b"typed\r\x04").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // Once as it is typed, once as the guest says it.
    assert_eq!(said.matches("typed").count(), 2, "{said:?}");
    assert_eq!(output.status.code(), Some(0));
}
