//! Out of memory: the kernel's kill, and the guest's own ceiling.

use std::fs;

use containerd_shim_protos::api::{CreateTaskRequest, Status};
use integration::bundle::Bundle;
use integration::mock::{Event, Mock, Shim};
use integration::{options, paths, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::SPIN;

/// Takes 16 MiB of memory after the other and writes to each page. Ends with 5 when it gets no more.
const HUNGRY: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32) (local $end i32)
    (loop $more
      (local.set $at (i32.mul (memory.grow (i32.const 256)) (i32.const 65536)))
      (if (i32.eq (local.get $at) (i32.const -65536)) (then (call $exit (i32.const 5))))
      (local.set $end (i32.add (local.get $at) (i32.const 0x1000000)))
      (loop $page
        (i32.store (local.get $at) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $page (i32.lt_u (local.get $at) (local.get $end))))
      (br $more))))"#;

fn limited(mock: &Mock, wat: &str) -> (Bundle, Shim) {
    let memory = json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } });
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let bundle = bundle.with_wat("hungry.wasm", HUNGRY).set("/linux/resources", memory);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (bundle, shim)
}

/// How often the kernel's kill was told.
fn told(mock: &Mock, id: &str) -> usize {
    let events = mock.events(id);
    events.iter().filter(|event| matches!(event, Event::OutOfMemory(_))).count()
}

#[test]
fn a_task_that_takes_more_memory_than_it_may_is_told_to_be_killed_for_it() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock, HUNGRY);
    let id = &bundle.id;
    let pid = shim.state(id).expect("a state").pid;
    assert_eq!(shim.wait(id).expect("it ends"), 137);
    let events = mock.await_events(id, 4);
    assert_eq!(events[2..], [Event::OutOfMemory(id.clone()), Event::Exit(id.clone(), pid, 137)]);
    shim.finish(&mock, &bundle);
    assert_eq!(told(&mock, id), 1);
}

#[test]
fn a_process_that_takes_more_is_killed_and_told_while_the_task_runs_on() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock, SPIN);
    let id = &bundle.id;
    let pid = shim.state(id).expect("a state").pid;
    let hungry = json!({ "user": { "uid": 0, "gid": 0 }, "args": ["/hungry.wasm"], "cwd": "/" });
    for (count, exec) in ["one", "two"].into_iter().enumerate() {
        let process = shim.process(id, exec);
        process.exec(&hungry).expect("the task runs");
        let hungry = process.start().expect("it can be started");
        assert_eq!(process.wait().expect("it ends"), 137);
        process.delete().expect("it has ended");
        wait::until("word of the kill", || told(&mock, id) == count + 1);
        let exit = Event::ExecExit(id.clone(), exec.to_owned(), hungry, 137);
        wait::until("word of the end", || mock.events(id).contains(&exit));
    }
    let state = shim.state(id).expect("a state");
    assert_eq!((state.status.enum_value(), state.pid), (Ok(Status::RUNNING), pid));
    shim.kill(id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
    wait::until("word of the end", || mock.events(id).contains(&Event::Exit(id.clone(), pid, 137)));
    assert_eq!(told(&mock, id), 2, "SIGKILL alone is no want of memory: {:?}", mock.events(id));
}

#[test]
fn sigkill_is_not_told_as_want_of_memory() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock, SPIN);
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(&mock, &bundle);
    assert_eq!(told(&mock, &bundle.id), 0);
}

/// What a guest ends with under a setting of the node and an annotation of its own.
#[track_caller]
fn under(setting: Option<&str>, annotation: Option<&str>) -> u32 {
    let mock = Mock::new();
    let mut bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HUNGRY);
    let memory = json!({ "memory": { "limit": 128 << 20, "swap": 128 << 20 } });
    bundle = bundle.set("/linux/resources", memory);
    if let Some(amount) = annotation {
        bundle.spec["annotations"]["io.containerd.wasmtime.max-guest-memory"] = json!(amount);
    }
    let mut request = CreateTaskRequest::new();
    if let Some(amount) = setting {
        request.options = Some(options::body(&format!("MaxGuestMemory = {amount}\n"))).into();
    }
    let shim = mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let code = shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
    code
}

#[test]
fn memory_grow_above_the_ceiling_gives_minus_one() {
    assert_eq!(under(Some("\"40MiB\""), None), 5);
    assert_eq!(under(Some("41943040"), None), 5);
    assert_eq!(under(None, Some("40MiB")), 5);
}

#[test]
fn the_lower_of_two_ceilings_counts() {
    assert_eq!(under(Some("\"4GiB\""), Some("40MiB")), 5);
    assert_eq!(under(Some("\"40MiB\""), Some("4GiB")), 5);
    assert_eq!(under(None, None), 137, "without one the kernel's limit is met");
}

#[test]
fn a_component_has_the_same_ceiling() {
    let mock = Mock::new();
    let guest = fs::read(paths::guest("probe-p2.wasm")).expect("a file of ours");
    let bundle = mock
        .bundle(&["/app.wasm", "alloc", "64"])
        .with("app.wasm", guest)
        .set("/annotations", json!({ "io.containerd.wasmtime.max-guest-memory": "16MiB" }));
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 1, "the guest's own error");
    shim.finish(&mock, &bundle);
}

#[test]
fn a_guest_that_begins_above_its_ceiling_and_a_ceiling_that_is_none_are_refused() {
    let mock = Mock::new();
    let annotated = |amount: &str| {
        let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
        bundle.set("/annotations", json!({ "io.containerd.wasmtime.max-guest-memory": amount }))
    };
    mock.refused(&annotated("1KiB")).names(&["65536 bytes", "1024 bytes", "MaxGuestMemory"]);
    mock.refused(&annotated("lots")).names(&["max-guest-memory", "lots", "64MiB"]);
}
