//! Signals go to the guest, and when nobody can pass them on any more nothing goes on.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Place, Running, descendants, guest, until};
use crate::limits::groups;

/// Prints `spinning` and never comes back.
const SPIN: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\09\00\00\00spinning\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (loop $forever (br $forever))))"#;

#[test]
fn signals_that_end_a_guest_end_it_whatever_it_does() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    for (name, code) in [("TERM", 143), ("INT", 130), ("QUIT", 131)] {
        let running = place.start(&[&probe, "spin"], "spinning");
        running.signal(name);
        assert_eq!(running.end(), (Some(code), String::new()), "{name}");
    }
}

#[test]
fn other_signals_do_nothing() {
    let place = Place::new();
    let running = place.start(&[&guest("probe-p1.wasm"), "spin"], "spinning");
    for name in ["HUP", "USR1", "USR2", "WINCH"] {
        running.signal(name);
    }
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
}

fn is_gone(pid: &u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

#[test]
fn nothing_is_left_of_a_command_that_is_killed() {
    let place = Place::new();
    // Small enough that no better code of it is made in the background, which goes on for its time.
    place.file("spin.wat", SPIN);
    let mut running = place.start(&["--memory", "64m", "spin.wat"], "spinning");
    let all = descendants(running.pid());
    let list = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let lists: String = all.iter().map(list).collect();
    let name = lists.split(['/', '\n']).find(|word| word.starts_with("wasm-image-"));
    let name = name.expect("a control group").to_owned();
    assert!(groups().iter().any(|group| group.contains(&name)));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    until("the end of all processes", || all.iter().all(is_gone));
    until("the end of the groups", || !groups().iter().any(|group| group.contains(&name)));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/run/wasm-image"), "{mounts}");
    assert_eq!(fs::read_dir("/run/wasm-image").unwrap().count(), 0);
}

#[test]
fn a_terminals_interrupt_reaches_the_guest_once() {
    let place = Place::new();
    // With a process group of its own in a session with a terminal, as a shell makes it.
    let line = format!(
        "{} run {} spin; echo ended $?",
        env!("CARGO_BIN_EXE_wasm-image"),
        guest("probe-p1.wasm")
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(place.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running::start(command, "spinning");
    let mut stdin = running.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"\x03").unwrap();
    let (_, rest) = running.end();
    drop(stdin);
    assert!(rest.contains("ended 130") || rest.trim_end().ends_with("^C"), "{rest:?}");
    assert!(Path::new("/run/wasm-image").exists());
}
