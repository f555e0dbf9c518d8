//! One task from Create to Shutdown, and every call at the wrong moment.

use containerd_shim_protos::api::{CheckpointTaskRequest, Status};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use integration::bundle::Bundle;
use integration::mock::{Event, Mock, Refusal, Shim};
use nix::sys::signal::Signal;
use ttrpc::Code;

use crate::{EXIT_7, SPIN};

fn created(mock: &Mock, wat: &str) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    (bundle, shim)
}

fn status(shim: &Shim, id: &str) -> Status {
    shim.state(id).expect("a state").status.enum_value().expect("a known status")
}

#[test]
fn create_connect_and_state_give_the_pid_of_a_live_init_before_start() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let shim = mock.start(&bundle, &integration::mock::Dialect::Silent).expect("the shim starts");
    let pid = shim.create(&bundle).expect("the task can be created");
    assert!(pid > 1 && std::path::Path::new(&format!("/proc/{pid}/ns/net")).exists());
    let connected = shim.connect(&bundle.id).expect("the task is there");
    assert_eq!(connected.task_pid, pid);
    assert!(connected.shim_pid != pid && connected.shim_pid > 1);
    let state = shim.state(&bundle.id).expect("a state");
    assert_eq!((state.pid, state.status.enum_value()), (pid, Ok(Status::CREATED)));
    assert_eq!(state.bundle, bundle.path.to_str().expect("a path of ours"));
    assert_eq!(shim.pids(&bundle.id).expect("a list"), [pid]);
    assert_eq!(mock.await_events(&bundle.id, 1), [Event::Create(bundle.id.clone(), pid)]);
    assert_eq!(shim.start(&bundle.id).expect("the task can be started"), pid);
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    assert_eq!(status(&shim, &bundle.id), Status::STOPPED);
    assert_eq!(shim.state(&bundle.id).expect("a state").exit_status, 7);
    shim.finish(&mock, &bundle);
}

#[test]
fn a_running_task_is_running_and_is_killed_by_sigterm_in_a_tight_loop() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(status(&shim, &bundle.id), Status::RUNNING);
    shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143);
    assert_eq!(shim.finish(&mock, &bundle).exit_status, 143);
}

#[test]
fn a_task_that_was_never_started_can_be_killed_waited_for_and_deleted() {
    for (signal, code) in [(Signal::SIGKILL, 137), (Signal::SIGTERM, 143)] {
        let mock = Mock::new();
        let (bundle, shim) = created(&mock, SPIN);
        let pid = shim.state(&bundle.id).expect("a state").pid;
        shim.kill(&bundle.id, signal).expect("a created task can be killed");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), code);
        shim.finish(&mock, &bundle);
        let id = &bundle.id;
        let expected = [
            Event::Create(id.clone(), pid),
            Event::Exit(id.clone(), pid, code),
            Event::Delete(id.clone(), pid, code),
        ];
        assert_eq!(mock.await_events(id, 3), expected);
    }
}

#[test]
fn a_task_that_was_never_started_can_be_deleted_as_it_is() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    shim.finish(&mock, &bundle);
}

#[test]
fn kill_of_all_ends_the_task() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    shim.start(&bundle.id).expect("the task can be started");
    shim.kill_all(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
}

#[test]
fn exit_never_comes_before_start() {
    let mock = Mock::new();
    for _ in 0..10 {
        let (bundle, shim) = created(&mock, EXIT_7);
        let id = &bundle.id;
        let pid = shim.start(id).expect("the task can be started");
        let events = mock.await_events(id, 3);
        assert_eq!(events[1..3], [Event::Start(id.clone(), pid), Event::Exit(id.clone(), pid, 7)]);
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn wait_is_answered_to_everybody_who_asked() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    shim.start(&bundle.id).expect("the task can be started");
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| shim.wait(&bundle.id))).collect();
        shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic").expect("an answer"), 137);
        }
    });
    shim.finish(&mock, &bundle);
}

#[test]
fn every_call_at_the_wrong_moment_has_its_own_error() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    let id = &bundle.id;
    let code = |answer: Result<(), Refusal>| answer.expect_err("it is refused").code;
    assert_eq!(code(shim.create(&bundle).map(drop)), Some(Code::ALREADY_EXISTS));
    shim.start(id).expect("the task can be started");
    assert_eq!(code(shim.start(id).map(drop)), Some(Code::FAILED_PRECONDITION));
    assert_eq!(code(shim.delete(id).map(drop)), Some(Code::FAILED_PRECONDITION));
    shim.kill(id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(id).expect("it ends");
    assert_eq!(code(shim.kill(id, Signal::SIGKILL)), Some(Code::NOT_FOUND));
    assert_eq!(code(shim.start(id).map(drop)), Some(Code::FAILED_PRECONDITION));
    shim.finish(&mock, &bundle);
}

#[test]
fn a_task_that_is_not_there_is_named_in_the_error() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    for refusal in [
        shim.state("stranger").map(drop).expect_err("there is no such task"),
        shim.start("stranger").map(drop).expect_err("there is no such task"),
        shim.kill("stranger", Signal::SIGTERM).expect_err("there is no such task"),
        shim.wait("stranger").map(drop).expect_err("there is no such task"),
        shim.delete("stranger").map(drop).expect_err("there is no such task"),
    ] {
        assert_eq!(refusal.code, Some(Code::NOT_FOUND), "{refusal:?}");
        refusal.names(&["stranger"]);
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn a_checkpoint_is_refused_with_the_reason() {
    let mock = Mock::new();
    let (bundle, shim) = created(&mock, SPIN);
    shim.start(&bundle.id).expect("the task can be started");
    let request = CheckpointTaskRequest { id: bundle.id.clone(), ..Default::default() };
    let refusal = shim.call::<Empty>("Checkpoint", &request).expect_err("it is refused");
    assert_eq!(refusal.code, Some(Code::UNIMPLEMENTED), "{refusal:?}");
    refusal.names(&["checkpoint is not supported", "runtime's memory"]);
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
}
