//! A task that stands still, and every call while it does.

use containerd_shim_protos::api::Status;
use integration::bundle::Bundle;
use integration::mock::{Event, Mock, Refusal, Shim, group_file, processes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ttrpc::Code;

use crate::{EXIT_7, SPIN};

fn running(mock: &Mock, wat: &str) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (bundle, shim)
}

fn paused(mock: &Mock) -> (Bundle, Shim) {
    let (bundle, shim) = running(mock, SPIN);
    shim.pause(&bundle.id).expect("a running task can be paused");
    (bundle, shim)
}

fn status(shim: &Shim, id: &str) -> Status {
    shim.state(id).expect("a state").status.enum_value().expect("a known status")
}

/// What the kernel says of the task's processes.
fn freezer(bundle: &Bundle) -> String {
    group_file(&bundle.id, "freezer.state")
}

#[track_caller]
fn refused(answer: Result<(), Refusal>, words: &str) {
    let refusal = answer.expect_err("it is refused");
    assert_eq!(refusal.code, Some(Code::FAILED_PRECONDITION), "{refusal:?}");
    refusal.names(&[words]);
}

fn end(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a live task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(mock, bundle);
}

#[test]
fn a_paused_task_stands_still_until_it_is_resumed() {
    let mock = Mock::new();
    let (bundle, shim) = paused(&mock);
    let id = &bundle.id;
    assert_eq!((status(&shim, id), freezer(&bundle).as_str()), (Status::PAUSED, "FROZEN"));
    shim.resume(id).expect("a paused task can be resumed");
    assert_eq!((status(&shim, id), freezer(&bundle).as_str()), (Status::RUNNING, "THAWED"));
    shim.kill(id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 143);
    let events = mock.await_events(id, 5);
    assert_eq!(events[2..4], [Event::Paused(id.clone()), Event::Resumed(id.clone())]);
    shim.finish(&mock, &bundle);
}

#[test]
fn calls_that_a_paused_task_does_not_take_say_so() {
    let mock = Mock::new();
    let (bundle, shim) = paused(&mock);
    let id = &bundle.id;
    refused(shim.pause(id), "cannot pause a paused container");
    refused(shim.start(id).map(drop), "cannot start a paused container");
    refused(shim.delete(id).map(drop), "cannot delete a paused container");
    // These it takes.
    assert_eq!(shim.pids(id).expect("its processes").len(), 1);
    shim.stats(id).expect("its stats");
    assert_eq!(status(&shim, id), Status::PAUSED);
    end(&mock, &bundle, shim);
}

#[test]
fn only_a_running_task_can_be_paused_and_only_a_paused_one_resumed() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let id = &bundle.id;
    refused(shim.pause(id), "cannot pause a created container");
    refused(shim.resume(id), "cannot resume a created container");
    shim.start(id).expect("the task can be started");
    refused(shim.resume(id), "cannot resume a running container");
    shim.kill(id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(id).expect("it ends");
    refused(shim.pause(id), "cannot pause a stopped container");
    refused(shim.resume(id), "cannot resume a stopped container");
    shim.finish(&mock, &bundle);
}

#[test]
fn sigkill_ends_a_paused_task_at_once() {
    let mock = Mock::new();
    let (bundle, shim) = paused(&mock);
    end(&mock, &bundle, shim);
    let (bundle, shim) = paused(&mock);
    shim.kill_all(&bundle.id, Signal::SIGKILL).expect("a paused task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
}

#[test]
fn other_signals_wait_until_the_task_goes_on() {
    let mock = Mock::new();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (bundle, shim) = paused(&mock);
        shim.kill(&bundle.id, signal).expect("a paused task can be signalled");
        assert_eq!(status(&shim, &bundle.id), Status::PAUSED);
        shim.resume(&bundle.id).expect("a paused task can be resumed");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), code);
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn a_killed_task_is_not_paused_any_more() {
    let mock = Mock::new();
    for _ in 0..10 {
        let (bundle, shim) = running(&mock, SPIN);
        shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
        refused(shim.pause(&bundle.id), "cannot pause a ");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn a_task_that_ends_while_it_is_paused_has_its_exit_told() {
    let mock = Mock::new();
    for _ in 0..20 {
        let (bundle, shim) = running(&mock, EXIT_7);
        let id = &bundle.id;
        match shim.pause(id) {
            Ok(()) => shim.resume(id).expect("a paused task can be resumed"),
            answer => refused(answer, "cannot pause a stopped container"),
        }
        assert_eq!(shim.wait(id).expect("it ends"), 7);
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn a_kill_from_outside_meets_a_paused_task_when_it_goes_on() {
    let mock = Mock::new();
    let (bundle, shim) = paused(&mock);
    let pid = shim.state(&bundle.id).expect("a state").pid;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("it is there");
    shim.resume(&bundle.id).expect("a paused task can be resumed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
}

#[test]
fn delete_cleans_up_after_a_lost_shim_of_a_paused_task() {
    let mock = Mock::new();
    let (bundle, shim) = paused(&mock);
    let pid = shim.connect(&bundle.id).expect("the task is there").shim_pid;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("the shim runs");
    integration::wait::until("the end of the shim", || {
        processes(&mock.namespace).iter().all(|(other, _)| *other != pid)
    });
    assert_eq!(mock.delete(&bundle).exit_status, 137);
    mock.nothing_left(&bundle);
}
