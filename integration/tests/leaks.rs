//! What many containers leave behind, in one shim and each in its own: nothing.
//!
//! `CONTAINERS` says how many.

use std::env;
use std::fs;

use integration::bundle::Bundle;
use integration::mock::{Dialect, Mock, Shim};
use nix::sys::signal::Signal;
use serde_json::json;

/// Never comes back.
const SPIN: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

/// Ends at once.
const END: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// As many as it takes until a shim has what it keeps for good.
const FIRST: usize = 10;

fn containers() -> usize {
    env::var("CONTAINERS").map_or(100, |text| text.parse().expect("CONTAINERS is a number"))
}

fn bundle(mock: &Mock) -> Bundle {
    mock.bundle(&["/spin.wasm"]).with_wat("spin.wasm", SPIN).with_wat("end.wasm", END)
}

fn member(mock: &Mock) -> Bundle {
    let group = format!("{}-group", mock.namespace);
    let bundle = bundle(mock).set("/annotations", json!({ "io.containerd.runc.v2.group": group }));
    bundle.write();
    bundle
}

/// Starts the container, executes another process in it, and removes both.
fn live(mock: &Mock, shim: &Shim, bundle: &Bundle) {
    let id = &bundle.id;
    shim.start(id).expect("the task can be started");
    let one = shim.process(id, "one");
    let user = json!({ "uid": 0, "gid": 0 });
    one.exec(&json!({ "user": user, "args": ["/end.wasm"], "cwd": "/" })).expect("it is executed");
    one.start().expect("it can be started");
    assert_eq!(one.wait().expect("it ends"), 0);
    one.delete().expect("it can be deleted");
    shim.kill(id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 137);
    shim.delete(id).expect("a stopped task can be deleted");
    // The shim may be gone before its answer is.
    let _ = shim.shutdown(id);
    mock.delete(bundle);
    fs::remove_dir_all(&bundle.path).expect("nothing is mounted in it");
}

#[test]
fn containers_of_a_group_leave_nothing_in_their_shim_nor_outside() {
    let mock = Mock::new();
    let anchor = member(&mock);
    let shim = mock.start(&anchor, &Dialect::Silent).expect("the shim starts");
    shim.create(&anchor).expect("the task can be created");
    let pid = Some(shim.connect(&anchor.id).expect("the task is there").shim_pid);
    let one = || {
        let bundle = member(&mock);
        // Its connection is its own.
        let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim is there");
        shim.create(&bundle).expect("the task can be created");
        live(&mock, &shim, &bundle);
    };
    (0..FIRST).for_each(|_| one());
    let before = mock.holdings(pid);
    (0..containers()).for_each(|_| one());
    let after = mock.holds_no_more_than(&before, pid);
    println!("{} containers in one shim; before:\n{before}after:\n{after}", containers());
    shim.finish(&mock, &anchor);
}

#[test]
fn containers_with_shims_of_their_own_leave_nothing() {
    let mock = Mock::new();
    let one = || {
        let bundle = bundle(&mock);
        let shim = mock.create(&bundle).expect("the task can be created");
        live(&mock, &shim, &bundle);
    };
    // The cache of compiled code stays.
    one();
    let before = mock.holdings(None);
    (0..containers()).for_each(|_| one());
    let after = mock.holds_no_more_than(&before, None);
    println!("{} containers, each in its own shim; before:\n{before}after:\n{after}", containers());
}
