//! Several tasks in one shim.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::bundle::Bundle;
use integration::mock::{Dialect, Mock, Outlet, Shim};
use integration::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{EXIT_7, SPIN};

/// Prints 16 random bytes.
const RANDOM: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\10\00\00\00")
  (func (export "_start")
    (drop (call $random (i32.const 64) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

fn member(mock: &Mock, key: &str, group: &str, wat: &str) -> Bundle {
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", wat)
        .set("/annotations", json!({ key: group }));
    bundle.write();
    bundle
}

fn share_a_shim(key: &str) {
    let mock = Mock::new();
    let group = format!("{}-group", mock.namespace);
    let [first, second] = [(); 2].map(|()| member(&mock, key, &group, SPIN));
    let shims = [&first, &second]
        .map(|bundle| mock.start(bundle, &Dialect::Silent).expect("the shim starts"));
    assert_eq!(shims[0].address, shims[1].address);
    let [shim, other] = shims;
    for bundle in [&first, &second] {
        shim.create(bundle).expect("the task can be created");
        shim.start(&bundle.id).expect("the task can be started");
    }
    let pid = |shim: &Shim, bundle: &Bundle| {
        shim.connect(&bundle.id).expect("the task is there").shim_pid
    };
    assert_eq!(pid(&shim, &first), pid(&other, &second));
    shim.kill(&first.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&first.id).expect("it ends");
    shim.delete(&first.id).expect("a stopped task can be deleted");
    // Shutdown with another task in the shim is a no-op.
    let _ = shim.shutdown(&first.id);
    mock.delete(&first);
    assert_eq!(other.pids(&second.id).expect("the second still runs").len(), 1);
    drop(shim);
    other.kill(&second.id, Signal::SIGKILL).expect("a running task can be killed");
    other.wait(&second.id).expect("it ends");
    other.finish(&mock, &second);
    mock.nothing_left(&first);
}

#[test]
fn the_containers_of_a_pod_share_a_shim() {
    share_a_shim("io.kubernetes.cri.sandbox-id");
}

#[test]
fn the_containers_of_a_group_share_a_shim() {
    share_a_shim("io.containerd.runc.v2.group");
}

#[test]
fn a_shim_holds_no_descriptor_of_a_task_that_is_deleted() {
    let mock = Mock::new();
    let key = "io.containerd.runc.v2.group";
    let group = format!("{}-group", mock.namespace);
    let anchor = member(&mock, key, &group, SPIN);
    let shim = mock.start(&anchor, &Dialect::Silent).expect("the shim starts");
    shim.create(&anchor).expect("the task can be created");
    let pid = shim.connect(&anchor.id).expect("the task is there").shim_pid;
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).expect("the shim runs").count();
    let cycle = || {
        let bundle = member(&mock, key, &group, EXIT_7);
        let start = mock.start(&bundle, &Dialect::Silent).expect("the shim is there");
        drop(start);
        let request = CreateTaskRequest {
            stdout: mock.fifo(&bundle, "stdout").to_string_lossy().into_owned(),
            ..Default::default()
        };
        shim.create_with(&bundle, request).expect("the task can be created");
        shim.start(&bundle.id).expect("the task can be started");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
        shim.delete(&bundle.id).expect("a stopped task can be deleted");
        mock.delete(&bundle);
    };
    // The first may open what is then kept for good.
    cycle();
    let before = descriptors();
    for _ in 0..10 {
        cycle();
    }
    wait::until("as many descriptors as before", || descriptors() <= before);
    shim.finish(&mock, &anchor);
}

/// Runs a member of `group`, in a shim that is there or a new one, and returns what it printed.
fn random_bytes(mock: &Mock, group: &str) -> Vec<u8> {
    let bundle = member(mock, "io.containerd.runc.v2.group", group, RANDOM);
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    let stdout = mock.fifo(&bundle, "stdout");
    let outlet = Outlet::of(&stdout);
    let request =
        CreateTaskRequest { stdout: stdout.to_string_lossy().into_owned(), ..Default::default() };
    shim.create_with(&bundle, request).expect("the task can be created");
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    wait::until("16 bytes", || outlet.so_far().len() >= 16);
    shim.delete(&bundle.id).expect("a stopped task can be deleted");
    mock.delete(&bundle);
    outlet.so_far()
}

#[test]
fn every_container_of_a_group_has_random_bytes_of_its_own() {
    let mock = Mock::new();
    let group = format!("{}-group", mock.namespace);
    // It keeps the one shim there, whose forks the others are.
    let anchor = member(&mock, "io.containerd.runc.v2.group", &group, SPIN);
    let shim = mock.start(&anchor, &Dialect::Silent).expect("the shim starts");
    shim.create(&anchor).expect("the task can be created");
    let mut printed: Vec<Vec<u8>> = (0..2).map(|_| random_bytes(&mock, &group)).collect();
    thread::scope(|scope| {
        let running: Vec<_> = (0..5).map(|_| scope.spawn(|| random_bytes(&mock, &group))).collect();
        printed.extend(running.into_iter().map(|thread| thread.join().expect("it printed")));
    });
    assert!(printed.iter().all(|bytes| bytes.len() == 16), "{printed:?}");
    let different: BTreeSet<&Vec<u8>> = printed.iter().collect();
    assert_eq!(different.len(), 7, "{printed:?}");
    shim.finish(&mock, &anchor);
}
