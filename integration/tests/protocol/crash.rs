//! After the shim was lost, `delete` does all that it can no longer do.

use integration::images::HELLO;
use integration::mock::Mock;
use integration::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::SPIN;

fn gone(pid: u32) {
    wait::until("the end of a process", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
    });
}

fn lose_the_shim(started: bool) {
    let mock = Mock::new();
    let data = json!({ "destination": "/data", "source": "/run/containerd", "type": "bind", "options": ["rbind"] });
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN).push("/mounts", data);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let connected = shim.connect(&bundle.id).expect("the task is there");
    if started {
        shim.start(&bundle.id).expect("the task can be started");
    }
    kill(Pid::from_raw(connected.shim_pid.cast_signed()), Signal::SIGKILL).expect("the shim runs");
    gone(connected.shim_pid);
    let deleted = mock.delete(&bundle);
    assert_eq!(deleted.exit_status, 137);
    assert!(deleted.exited_at.seconds > 1_500_000_000, "no time of exit: {deleted:?}");
    gone(connected.task_pid);
    mock.nothing_left(&bundle);
}

#[test]
fn delete_cleans_up_after_a_lost_shim_of_a_running_task() {
    lose_the_shim(true);
}

#[test]
fn delete_cleans_up_after_a_lost_shim_of_a_created_task() {
    lose_the_shim(false);
}

#[test]
fn delete_of_a_bundle_that_never_had_a_task_succeeds() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    bundle.write();
    mock.delete(&bundle);
    mock.nothing_left(&bundle);
}

#[test]
fn delete_can_be_repeated() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.connect(&bundle.id).expect("the task is there").shim_pid;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("the shim runs");
    gone(pid);
    mock.delete(&bundle);
    mock.delete(&bundle);
    mock.nothing_left(&bundle);
}
