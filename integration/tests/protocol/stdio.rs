//! The three streams, between fifos that behave and fifos that do not.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use containerd_shim_protos::api::{CloseIORequest, CreateTaskRequest};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use integration::bundle::Bundle;
use integration::images::{HELLO, numbers};
use integration::mock::{Mock, Outlet, Shim, inlet};
use integration::wait;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::{CAT, EXIT_7, FLOOD, SPIN};

struct Streams {
    stdin: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

fn bundle(mock: &Mock, wat: &str) -> (Bundle, Streams) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let [stdin, stdout, stderr] =
        ["stdin", "stdout", "stderr"].map(|stream| mock.fifo(&bundle, stream));
    (bundle, Streams { stdin, stdout, stderr })
}

fn request(streams: &Streams) -> CreateTaskRequest {
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    CreateTaskRequest {
        stdin: text(&streams.stdin),
        stdout: text(&streams.stdout),
        stderr: text(&streams.stderr),
        ..Default::default()
    }
}

fn start(mock: &Mock, bundle: &Bundle, request: CreateTaskRequest) -> Shim {
    let shim =
        mock.create_with(bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    shim
}

#[test]
fn output_arrives_on_the_fifos_and_ends_with_the_task() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, HELLO);
    let (stdout, stderr) = (Outlet::of(&streams.stdout), Outlet::of(&streams.stderr));
    let shim =
        start(&mock, &bundle, CreateTaskRequest { stdin: String::new(), ..request(&streams) });
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all(), "hello from wat\n");
    assert_eq!(stderr.all(), "");
}

#[test]
fn input_comes_from_the_fifo_and_ends_when_its_writer_and_close_io_say_so() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, CAT);
    let (stdout, _stderr) = (Outlet::of(&streams.stdout), Outlet::of(&streams.stderr));
    let shim = start(&mock, &bundle, request(&streams));
    let mut stdin = inlet(&streams.stdin);
    stdin.write_all(b"a line\n").expect("the guest reads");
    stdout.says("a line\n");
    drop(stdin);
    let close = CloseIORequest { id: bundle.id.clone(), stdin: true, ..Default::default() };
    shim.call::<Empty>("CloseIO", &close).expect("the task runs");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all(), "a line\n");
}

#[test]
fn without_an_input_fifo_the_guest_reads_the_end_at_once() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, CAT);
    let stdout = Outlet::of(&streams.stdout);
    let request =
        CreateTaskRequest { stdin: String::new(), stderr: String::new(), ..request(&streams) };
    let shim = start(&mock, &bundle, request);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all(), "");
}

#[test]
fn fifos_that_nobody_opens_hold_up_neither_create_nor_the_guest() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, HELLO);
    let shim = start(&mock, &bundle, request(&streams));
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_full_fifo_without_a_reader_does_not_keep_a_task_from_being_killed() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, FLOOD);
    let shim = start(&mock, &bundle, request(&streams));
    shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_reader_that_comes_late_gets_everything() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, FLOOD);
    let shim = start(&mock, &bundle, request(&streams));
    let stdout = Outlet::of(&streams.stdout);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 9);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.all().len(), 16 << 20);
}

/// Whether nothing more fits into a fifo, of which both ends are open.
fn full(fifo: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(fifo).expect("the fifo is there");
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

/// The most memory that a process has ever had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn a_reader_that_pauses_holds_the_writer_up_and_loses_nothing() {
    const BLOCKS: u64 = 512;
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, CAT);
    let shim =
        start(&mock, &bundle, CreateTaskRequest { stderr: String::new(), ..request(&streams) });
    let pids = [
        shim.connect(&bundle.id).expect("it runs").shim_pid,
        shim.pids(&bundle.id).expect("it runs")[0],
    ];
    let before = pids.map(peak);
    let mut stdin = OpenOptions::new().write(true).open(&streams.stdin).expect("the guest reads");
    let mut stdout = OpenOptions::new().read(true).open(&streams.stdout).expect("the guest writes");
    let writer = thread::spawn(move || {
        for block in 0..BLOCKS {
            stdin.write_all(&numbers(block)).expect("the guest reads");
        }
    });
    let mut came = vec![0; numbers(0).len()];
    for block in 0..BLOCKS {
        if block % 128 == 64 {
            // As far as it can be: the guest is held up, and whoever writes to it.
            wait::until("two full fifos", || full(&streams.stdin) && full(&streams.stdout));
            assert!(!writer.is_finished());
            for (pid, before) in pids.iter().zip(before) {
                assert!(peak(*pid) < before + 4096, "{pid}: {} KiB after {before}", peak(*pid));
            }
        }
        stdout.read_exact(&mut came).expect("the guest writes");
        assert!(came == numbers(block), "block {block} is another");
    }
    writer.join().expect("all was taken");
    let close = CloseIORequest { id: bundle.id.clone(), stdin: true, ..Default::default() };
    shim.call::<Empty>("CloseIO", &close).expect("the task runs");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(stdout.read(&mut came).expect("the guest wrote"), 0, "more than was written");
}

#[test]
fn a_reader_that_leaves_does_not_end_the_guest() {
    let mock = Mock::new();
    let (bundle, streams) = bundle(&mock, SPIN);
    let first =
        OpenOptions::new().read(true).write(true).open(&streams.stdout).expect("the fifo is there");
    let shim = start(&mock, &bundle, request(&streams));
    drop(first);
    let second = Outlet::of(&streams.stdout);
    assert_eq!(shim.pids(&bundle.id).expect("it runs").len(), 1);
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
    second.all();
}

#[test]
fn a_task_without_any_stream_runs() {
    let mock = Mock::new();
    let (bundle, _) = bundle(&mock, EXIT_7);
    let shim = start(&mock, &bundle, CreateTaskRequest::new());
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}

/// Fills 256 KiB of standard error, then traps.
const FLOODED_TRAP: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\08\00\00\00\00\00\01\00")
  (func (export "_start")
    (local $n i32)
    (loop $more
      (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 4)))
      (i32.store (i32.const 4) (i32.const 0x10000))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $n) (i32.const 4))))
    unreachable))"#;

#[test]
fn the_words_about_a_trap_come_behind_all_that_the_guest_wrote() {
    for _ in 0..5 {
        let mock = Mock::new();
        let (bundle, streams) = bundle(&mock, FLOODED_TRAP);
        let stderr = Outlet::of(&streams.stderr);
        let shim =
            start(&mock, &bundle, CreateTaskRequest { stdin: String::new(), ..request(&streams) });
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 134);
        shim.finish(&mock, &bundle);
        let said = stderr.all();
        assert!(said.len() > 256 * 1024 && said.contains("unreachable"), "{}", said.len());
    }
}
