//! Other limits for a task that is there.

use containerd_shim_protos::api::UpdateTaskRequest;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use integration::bundle::Bundle;
use integration::mock::{Mock, Shim, group_file};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use ttrpc::Code;

use crate::SPIN;

const MIB: u64 = 1 << 20;

fn running(mock: &Mock, resources: Value) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let bundle = bundle.set("/linux/resources", resources);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (bundle, shim)
}

fn end(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(mock, bundle);
}

#[test]
fn all_limits_can_be_changed_while_the_task_runs() {
    let mock = Mock::new();
    let (bundle, shim) = running(
        &mock,
        json!({ "memory": { "limit": 64 * MIB }, "cpu": { "shares": 512 }, "pids": { "limit": 50 } }),
    );
    let id = &bundle.id;
    let changed = json!({
        "memory": { "limit": 128 * MIB, "reservation": 32 * MIB },
        "cpu": { "shares": 1024, "quota": 25_000, "period": 50_000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 9 }
    });
    shim.update(id, &changed).expect("the limits can be kept");
    for (file, value) in [
        ("memory.limit_in_bytes", (128 * MIB).to_string().as_str()),
        ("memory.soft_limit_in_bytes", (32 * MIB).to_string().as_str()),
        ("cpu.shares", "1024"),
        ("cpu.cfs_quota_us", "25000"),
        ("cpu.cfs_period_us", "50000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "9"),
    ] {
        assert_eq!(group_file(id, file), value, "{file}");
    }
    shim.update(id, &json!({ "pids": { "limit": -1 }, "cpu": { "quota": -1 } }))
        .expect("no limit is one, too");
    assert_eq!(group_file(id, "pids.max"), "max");
    assert_eq!(group_file(id, "cpu.cfs_quota_us"), "-1");
    assert_eq!(group_file(id, "cpu.cfs_period_us"), "50000");
    end(&mock, &bundle, shim);
}

#[test]
fn memory_can_go_up_and_down_again() {
    let mock = Mock::new();
    let (bundle, shim) =
        running(&mock, json!({ "memory": { "limit": 64 * MIB, "swap": 64 * MIB } }));
    for mib in [256, 96, 512, 64] {
        let resources = json!({ "memory": { "limit": mib * MIB, "swap": mib * MIB } });
        shim.update(&bundle.id, &resources).expect("the limits can be kept");
        assert_eq!(group_file(&bundle.id, "memory.limit_in_bytes"), (mib * MIB).to_string());
    }
    end(&mock, &bundle, shim);
}

#[test]
fn a_limit_that_cannot_be_kept_is_named_and_the_others_are_set_back() {
    let mock = Mock::new();
    let (bundle, shim) = running(
        &mock,
        json!({ "memory": { "limit": 64 * MIB }, "cpu": { "shares": 512, "quota": 30_000, "period": 60_000 } }),
    );
    let id = &bundle.id;
    // There is no such processor, and it comes after memory and shares.
    let impossible = json!({
        "memory": { "limit": 128 * MIB },
        "cpu": { "shares": 100, "quota": 50_000, "period": 100_000, "cpus": "4000" }
    });
    let refusal = shim.update(id, &impossible).expect_err("it cannot be kept");
    refusal.names(&["cpuset.cpus", "4000"]);
    for (file, value) in [
        ("memory.limit_in_bytes", (64 * MIB).to_string().as_str()),
        ("cpu.shares", "512"),
        ("cpu.cfs_quota_us", "30000"),
        ("cpu.cfs_period_us", "60000"),
    ] {
        assert_eq!(group_file(id, file), value, "{file}");
    }
    end(&mock, &bundle, shim);
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_with_both_numbers() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, json!({ "memory": { "limit": 64 * MIB } }));
    let tiny = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
    let refusal = shim.update(&bundle.id, &tiny).expect_err("more is in use");
    assert_eq!(refusal.code, Some(Code::INVALID_ARGUMENT), "{refusal:?}");
    refusal.names(&["memory.limit", "4096", "in use"]);
    let less = json!({ "memory": { "limit": 64 * MIB, "swap": 32 * MIB } });
    let refusal = shim.update(&bundle.id, &less).expect_err("swap counts memory, too");
    refusal.names(&["memory.swap", "memory.limit"]);
    end(&mock, &bundle, shim);
}

#[test]
fn what_is_no_update_is_refused() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, json!({}));
    let id = &bundle.id;
    let request = UpdateTaskRequest { id: id.clone(), ..Default::default() };
    let refusal = shim.call::<Empty>("Update", &request).expect_err("there is nothing in it");
    assert_eq!(refusal.code, Some(Code::INVALID_ARGUMENT), "{refusal:?}");
    let refusal = shim.update(id, &json!({ "pids": "many" })).expect_err("it is not a number");
    assert_eq!(refusal.code, Some(Code::INVALID_ARGUMENT), "{refusal:?}");
    refusal.names(&["malformed"]);
    end(&mock, &bundle, shim);
}

#[test]
fn a_created_and_a_paused_task_can_be_updated_and_a_stopped_one_not() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let id = &bundle.id;
    let limit = |n: u64| json!({ "pids": { "limit": n } });
    shim.update(id, &limit(7)).expect("a created task can be updated");
    shim.start(id).expect("the task can be started");
    shim.pause(id).expect("a running task can be paused");
    shim.update(id, &limit(8)).expect("a paused task can be updated");
    assert_eq!(group_file(id, "pids.max"), "8");
    shim.kill(id, Signal::SIGKILL).expect("a paused task can be killed");
    assert_eq!(shim.wait(id).expect("it ends"), 137);
    let refusal = shim.update(id, &limit(9)).expect_err("it has ended");
    assert_eq!(refusal.code, Some(Code::FAILED_PRECONDITION), "{refusal:?}");
    refusal.names(&["cannot update a stopped container"]);
    shim.finish(&mock, &bundle);
}
