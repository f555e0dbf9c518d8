//! Tasks and processes with a terminal.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use integration::bundle::Bundle;
use integration::mock::{Mock, Outlet, Shim, inlet};
use integration::{paths, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{CAT, FLOOD, SPIN};

struct Terminal {
    stdin: PathBuf,
    stdout: PathBuf,
}

impl Terminal {
    fn of_task(&self) -> CreateTaskRequest {
        CreateTaskRequest {
            terminal: true,
            stdin: text(&self.stdin),
            stdout: text(&self.stdout),
            ..Default::default()
        }
    }

    fn of_exec(&self) -> ExecProcessRequest {
        ExecProcessRequest {
            terminal: true,
            stdin: text(&self.stdin),
            stdout: text(&self.stdout),
            ..Default::default()
        }
    }
}

fn terminal(mock: &Mock, bundle: &Bundle) -> Terminal {
    let [stdin, stdout] = ["stdin", "stdout"].map(|stream| mock.fifo(bundle, stream));
    Terminal { stdin, stdout }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A task with a terminal that is shown.
fn start(mock: &Mock, bundle: &Bundle) -> (Shim, Terminal, Outlet) {
    let terminal = terminal(mock, bundle);
    let stdout = Outlet::of(&terminal.stdout);
    let shim = mock
        .create_with(bundle, terminal.of_task())
        .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (shim, terminal, stdout)
}

fn wat(mock: &Mock, wat: &str) -> Bundle {
    mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat)
}

fn guest(mock: &Mock, file: &str, args: &[&str]) -> Bundle {
    let module = std::fs::read(paths::guest(file)).expect("the guests are built");
    mock.bundle(&[&["/app.wasm"], args].concat()).with("app.wasm", module)
}

#[test]
fn all_three_streams_are_terminals_to_the_guest() {
    for file in ["probe-p1.wasm", "probe-p2.wasm"] {
        let mock = Mock::new();
        let bundle = guest(&mock, file, &["terminals"]);
        let (shim, _, stdout) = start(&mock, &bundle);
        assert!(shim.state(&bundle.id).expect("a state").terminal);
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
        // Before Delete, for which daemons wait until they have read all.
        assert_eq!(stdout.all(), "[true, true, true]\r\n", "{file}");
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn both_outputs_come_out_of_standard_output() {
    let mock = Mock::new();
    let bundle = guest(&mock, "probe-p1.wasm", &["both"]);
    let (shim, _, stdout) = start(&mock, &bundle);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all(), "to stderr\r\nto stdout\r\n");
}

#[test]
fn what_is_typed_is_echoed_and_read_and_ends_with_control_d() {
    let mock = Mock::new();
    let bundle = wat(&mock, CAT);
    let (shim, terminal, stdout) = start(&mock, &bundle);
    let mut stdin = inlet(&terminal.stdin);
    stdin.write_all(b"a line\n").expect("the terminal is read");
    stdout.says("a line\r\na line\r\n");
    stdin.write_all(b"\x04").expect("the terminal is read");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
}

#[test]
fn the_end_of_input_is_the_end_for_the_guest() {
    for typed in ["", "line\n", "half a line"] {
        let mock = Mock::new();
        let bundle = guest(&mock, "probe-p1.wasm", &["count"]);
        let (shim, terminal, stdout) = start(&mock, &bundle);
        let mut stdin = inlet(&terminal.stdin);
        stdin.write_all(typed.as_bytes()).expect("the terminal is read");
        drop(stdin);
        shim.process(&bundle.id, "").close_stdin().expect("the task runs");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
        shim.finish(&mock, &bundle);
        let said = stdout.all();
        assert!(said.ends_with(&format!("{}\r\n", typed.len())), "{said:?}");
    }
}

#[test]
fn keys_for_signals_end_the_guest_in_a_tight_loop() {
    for (key, code) in [(b"\x03", 130), (b"\x1c", 131)] {
        let mock = Mock::new();
        let bundle = wat(&mock, SPIN);
        let (shim, terminal, stdout) = start(&mock, &bundle);
        stdout.says("spinning\r\n");
        inlet(&terminal.stdin).write_all(key).expect("the terminal is read");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), code);
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn a_key_that_is_typed_before_the_start_waits_for_the_guest() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN);
    let terminal = terminal(&mock, &bundle);
    let stdout = Outlet::of(&terminal.stdout);
    let shim = mock
        .create_with(&bundle, terminal.of_task())
        .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    inlet(&terminal.stdin).write_all(b"\x03").expect("the fifo has room");
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 130);
    shim.finish(&mock, &bundle);
    stdout.all();
}

#[test]
fn a_key_that_is_typed_before_an_exec_is_started_waits_for_its_guest() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let terminal = terminal(&mock, &bundle);
    let stdout = Outlet::of(&terminal.stdout);
    let one = shim.process(&bundle.id, "one");
    let spec = json!({
        "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/app.wasm"], "terminal": true
    });
    one.exec_with(&spec, terminal.of_exec()).expect("it can be executed");
    // Nobody else has the fifo open until Start.
    let mut fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&terminal.stdin)
        .expect("the mock made the fifo");
    fifo.write_all(b"\x03").expect("the fifo has room");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 130);
    drop(fifo);
    one.delete().expect("a stopped process can be deleted");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
    stdout.all();
}

#[test]
fn keys_that_stop_and_a_change_of_size_do_nothing_to_a_guest() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN);
    let (shim, terminal, stdout) = start(&mock, &bundle);
    stdout.says("spinning\r\n");
    let mut stdin = inlet(&terminal.stdin);
    stdin.write_all(b"\x1a").expect("the terminal is read");
    stdout.says("^Z");
    shim.process(&bundle.id, "").resize(100, 30).expect("the task runs");
    stdin.write_all(b"\x03").expect("the terminal is read");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 130);
    shim.finish(&mock, &bundle);
}

/// The size of the terminal of a process, as the host sees it.
fn size(pid: u32) -> String {
    let mut command = std::process::Command::new("stty");
    let terminal = std::fs::File::open(format!("/proc/{pid}/fd/0")).expect("a live process");
    let done = command.arg("size").stdin(terminal).output().expect("stty runs");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn the_size_is_that_of_the_specification_and_then_of_resize() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN).set("/process/consoleSize", json!({ "height": 25, "width": 80 }));
    let (shim, _, stdout) = start(&mock, &bundle);
    let pid = shim.state(&bundle.id).expect("a state").pid;
    assert_eq!(size(pid), "25 80");
    let task = shim.process(&bundle.id, "");
    task.resize(132, 43).expect("the task runs");
    assert_eq!(size(pid), "43 132");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    task.resize(80, 25).expect_err("it has ended").names(&["stopped"]);
    shim.finish(&mock, &bundle);
    stdout.all();
}

#[test]
fn a_terminal_that_there_is_not_is_resized_without_a_word() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.process(&bundle.id, "").resize(80, 25).expect("as runc answers");
    shim.finish(&mock, &bundle);
}

#[test]
fn much_output_is_held_up_by_a_late_reader_and_arrives_whole() {
    let mock = Mock::new();
    let bundle = wat(&mock, FLOOD);
    let terminal = terminal(&mock, &bundle);
    let request =
        CreateTaskRequest { terminal: true, stdout: text(&terminal.stdout), ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let memory = || {
        let shim_pid = shim.connect(&bundle.id).expect("the task is there").shim_pid;
        let status = std::fs::read_to_string(format!("/proc/{shim_pid}/status"));
        let status = status.expect("the shim runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
    };
    let before = memory().expect("a number");
    shim.start(&bundle.id).expect("the task can be started");
    let stdout = Outlet::of(&terminal.stdout);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 9);
    let after = memory().expect("a number");
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all().len(), 16 << 20);
    assert!(after < before + 2048, "from {before} to {after} KiB");
}

#[test]
fn a_reader_that_never_comes_holds_up_neither_the_end_nor_delete() {
    let mock = Mock::new();
    let bundle = wat(&mock, FLOOD);
    let terminal = terminal(&mock, &bundle);
    let request =
        CreateTaskRequest { terminal: true, stdout: text(&terminal.stdout), ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143);
    shim.finish(&mock, &bundle);
}

#[test]
fn much_that_is_typed_arrives_whole() {
    let mock = Mock::new();
    let bundle = guest(&mock, "probe-p1.wasm", &["count"]);
    let (shim, terminal, stdout) = start(&mock, &bundle);
    let mut stdin = inlet(&terminal.stdin);
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let much = line.repeat(2048);
    let mut left = &much[..];
    while !left.is_empty() {
        match stdin.write(&left[..left.len().min(64 * 1024)]) {
            Ok(length) => left = &left[length..],
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(e) => panic!("the terminal is not read: {e}"),
        }
    }
    drop(stdin);
    shim.process(&bundle.id, "").close_stdin().expect("the task runs");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    let said = stdout.all();
    assert!(said.ends_with("\r\n2097152\r\n"), "{} bytes", said.len());
}

#[test]
fn an_executed_process_has_a_terminal_of_its_own() {
    let mock = Mock::new();
    let bundle = wat(&mock, SPIN);
    let module = std::fs::read(paths::guest("probe-p1.wasm")).expect("the guests are built");
    let bundle = bundle.with("probe.wasm", module);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let terminal = terminal(&mock, &bundle);
    let stdout = Outlet::of(&terminal.stdout);
    let one = shim.process(&bundle.id, "one");
    let spec = json!({
        "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/probe.wasm", "spin"],
        "terminal": true, "consoleSize": { "height": 10, "width": 20 }
    });
    one.exec_with(&spec, terminal.of_exec()).expect("it can be executed");
    let pid = one.start().expect("it can be started");
    assert!(one.state().expect("a state").terminal);
    stdout.says("spinning\r\n");
    assert_eq!(size(pid), "10 20");
    one.resize(30, 40).expect("it runs");
    wait::until("the new size", || size(pid) == "40 30");
    inlet(&terminal.stdin).write_all(b"\x03").expect("the terminal is read");
    assert_eq!(one.wait().expect("it ends"), 130);
    stdout.all();
    one.delete().expect("a stopped process can be deleted");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
}
