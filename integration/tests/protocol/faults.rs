//! What goes wrong around a task: nothing is lost, nothing is left, and it works again afterwards.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{CreateTaskRequest, Status};
use integration::bundle::Bundle;
use integration::mock::{Dialect, Event, Mock, Outlet, Shim};
use integration::wait;
use nix::sys::signal::Signal;

use crate::{EXIT_7, SPIN};

fn created(mock: &Mock, wat: &str) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    (bundle, shim)
}

#[test]
fn events_wait_in_order_while_containerd_is_away() {
    let mut mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    let id = &bundle.id;
    let pid = shim.start(id).expect("the task can be started");
    mock.await_events(id, 2);
    mock.go_away();
    shim.pause(id).expect("a running task can be paused");
    shim.resume(id).expect("a paused task can be resumed");
    shim.kill(id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 143);
    assert_eq!(mock.events(id).len(), 2);
    mock.come_back();
    let expected =
        [Event::Paused(id.clone()), Event::Resumed(id.clone()), Event::Exit(id.clone(), pid, 143)];
    assert_eq!(mock.await_events(id, 5)[2..], expected);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_task_waits_for_a_containerd_that_went_between_create_and_start() {
    let mut mock = Mock::new();
    let (bundle, shim) = created(&mock, EXIT_7);
    let id = &bundle.id;
    let address = shim.address.clone();
    drop(shim);
    mock.go_away();
    mock.come_back();
    let shim = Shim::at(address, 2);
    let state = shim.state(id).expect("the task is there");
    assert_eq!(state.status.enum_value(), Ok(Status::CREATED));
    assert_eq!(shim.start(id).expect("the task can be started"), state.pid);
    assert_eq!(shim.wait(id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_guest_ends_while_nobody_asks_and_its_exit_is_there_later() {
    let mut mock = Mock::new();
    let (bundle, shim) = created(&mock, EXIT_7);
    let id = &bundle.id;
    mock.go_away();
    let pid = shim.start(id).expect("the task can be started");
    wait::until("the end of the guest", || {
        shim.state(id).expect("a state").status.enum_value() == Ok(Status::STOPPED)
    });
    mock.come_back();
    assert_eq!(shim.wait(id).expect("an answer"), 7);
    assert_eq!(mock.await_events(id, 3)[2], Event::Exit(id.clone(), pid, 7));
    assert_eq!(shim.finish(&mock, &bundle).exit_status, 7);
}

/// Makes `/run`, which is the test's own, so full that nothing more fits.
struct Full;

impl Full {
    const FILLER: &'static str = "/run/filler";

    fn new() -> Self {
        let filled = fs::write(Self::FILLER, vec![0; 129 << 20]).expect_err("it does not fit");
        assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
        Self
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        fs::remove_file(Self::FILLER).expect("a file of ours");
    }
}

#[test]
fn with_run_full_no_shim_is_started_and_the_file_is_named() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let full = Full::new();
    let refusal = mock.start(&bundle, &Dialect::Silent).map(drop).expect_err("/run is full");
    refusal.names(&["No space left on device", "/run/"]);
    mock.nothing_left(&bundle);
    drop(full);
    let shim = mock.create(&bundle).expect("there is room again");
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}

#[test]
fn with_run_full_no_task_is_created_and_there_is_one_once_it_is_not() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    let full = Full::new();
    let refusal = shim.create(&bundle).expect_err("/run is full");
    refusal.names(&["No space left on device", "shim.json"]);
    drop(full);
    shim.create(&bundle).expect("there is room again");
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_shim_whose_bundle_is_taken_away_before_any_container_came_ends() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    let pid = shim.connect(&bundle.id).expect("the shim answers").shim_pid;
    assert!(pid > 1);
    // As containerd does when it cannot write to the bundle where the shim serves.
    fs::remove_dir_all(&bundle.path).expect("the bundle is the test's own");
    mock.nothing_left(&bundle);
}

#[test]
fn a_guest_whose_fifos_vanish_runs_on_and_can_be_ended() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let paths = ["stdin", "stdout", "stderr"].map(|stream| mock.fifo(&bundle, stream));
    let [stdin, stdout, stderr] = paths.each_ref().map(|path| path.display().to_string());
    let outlet = Outlet::of(&paths[1]);
    let request = CreateTaskRequest { stdin, stdout, stderr, ..Default::default() };
    let shim = mock.create_with(&bundle, request).expect("the task can be created");
    for path in &paths {
        fs::remove_file(path).expect("a file of ours");
    }
    shim.start(&bundle.id).expect("the task can be started");
    outlet.says("spinning");
    shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_fifo_that_is_not_there_is_named() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    let stdout = "/run/containerd/fifo/vanished".to_owned();
    let request = CreateTaskRequest { stdout, ..Default::default() };
    let refusal = mock.create_with(&bundle, request).map(drop).expect_err("there is no fifo");
    refusal.names(&["stdout", "/run/containerd/fifo/vanished"]);
    mock.nothing_left(&bundle);
}

/// Lets a process have as many descriptors as it has, or many.
fn descriptors(pid: u32, none_left: bool) {
    let open = |number: &u32| fs::read_link(format!("/proc/{pid}/fd/{number}")).is_err();
    let limit = if none_left { (0..).find(open).expect("not all are open") } else { 1024 };
    let words = [format!("--pid={pid}"), format!("--nofile={limit}:")];
    let set = Command::new("prlimit").args(words).status();
    assert!(set.expect("prlimit is there").success());
}

/// Hundredths of a second that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit(')').next().expect("a name in parentheses").split_whitespace();
    fields.skip(11).take(2).map(|number| number.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_shim_without_descriptors_waits_for_one_and_takes_calls_again() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    let id = &bundle.id;
    let pid = shim.connect(id).expect("the task is there").shim_pid;
    descriptors(pid, true);
    // Its connection is made and not taken; there is an old one for calls.
    let late = Shim::at(shim.address.clone(), 2);
    let (before, since) = (ticks(pid), Instant::now());
    wait::until("a second", || since.elapsed() > Duration::from_secs(1));
    let used = ticks(pid) - before;
    assert!(used < 50, "it used {used} hundredths of a second while there was nothing to do");
    shim.start(id).expect("a call by an old connection is answered");
    descriptors(pid, false);
    let state = late.state(id).expect("the late call is answered");
    assert_eq!(state.status.enum_value(), Ok(Status::RUNNING));
    shim.kill(id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 137);
    drop(late);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_create_without_descriptors_is_refused_and_leaves_nothing() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    let pid = shim.connect(&bundle.id).expect("the shim answers").shim_pid;
    descriptors(pid, true);
    let refusal = shim.create(&bundle).expect_err("there are no descriptors");
    refusal.names(&["Too many open files"]);
    descriptors(pid, false);
    shim.create(&bundle).expect("there are descriptors again");
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(&mock, &bundle);
}
