//! What a task uses, as containerd's clients read it.

use containerd_shim_protos::cgroups::metrics::Metrics;
use containerd_shim_protos::protobuf::Message;
use integration::bundle::Bundle;
use integration::mock::{Mock, Outlet, Shim};
use integration::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use containerd_shim_protos::api::CreateTaskRequest;

use crate::SPIN;

/// Of cgroup v1, which this machine has.
fn metrics(shim: &Shim, bundle: &Bundle) -> Metrics {
    let stats = shim.stats(&bundle.id).expect("stats of a live task");
    assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
    Metrics::parse_from_bytes(&stats.value).expect("the message of its type")
}

fn limited(mock: &Mock) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN).set(
        "/linux/resources",
        json!({
            "memory": { "limit": 64 << 20 },
            "cpu": { "quota": 10_000, "period": 100_000 },
            "pids": { "limit": 9 }
        }),
    );
    let stdout = mock.fifo(&bundle, "stdout");
    let outlet = Outlet::of(&stdout);
    let request =
        CreateTaskRequest { stdout: stdout.display().to_string(), ..CreateTaskRequest::new() };
    let shim = mock.create_with(&bundle, request).expect("the task can be created");
    shim.start(&bundle.id).expect("the task can be started");
    outlet.says("spinning");
    (bundle, shim)
}

fn end(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 137);
    shim.finish(mock, bundle);
}

#[test]
fn memory_is_told_with_limit_peak_and_kinds() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock);
    let memory = metrics(&shim, &bundle).memory.unwrap_or_default();
    assert_eq!(memory.usage.limit, 64 << 20);
    assert!(memory.usage.usage > 0 && memory.usage.max >= memory.usage.usage, "{memory:?}");
    assert_eq!(memory.hierarchical_memory_limit, 64 << 20);
    assert!(memory.kernel.usage > 0, "{memory:?}");
    // The kernel gathers these from its processors every two seconds.
    wait::until("kinds of memory", || {
        let memory = metrics(&shim, &bundle).memory.unwrap_or_default();
        memory.total_rss > 0 && memory.pg_fault > 0
    });
    end(&mock, &bundle, shim);
}

#[test]
fn processor_time_is_told_with_what_was_held_back() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock);
    wait::until("throttled periods", || {
        let cpu = metrics(&shim, &bundle).cpu.unwrap_or_default();
        let (usage, held) = (cpu.usage.unwrap_or_default(), cpu.throttling.unwrap_or_default());
        usage.total > 0
            && usage.user > 0
            && usage.per_cpu.iter().sum::<u64>() > 0
            && held.periods >= held.throttled_periods
            && held.throttled_periods > 0
            && held.throttled_time > 0
    });
    end(&mock, &bundle, shim);
}

#[test]
fn processes_are_counted_and_listed() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock);
    let pids = metrics(&shim, &bundle).pids.unwrap_or_default();
    assert_eq!((pids.current, pids.limit), (1, 9));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    assert_eq!(shim.pids(&bundle.id).expect("a list"), [pid]);
    end(&mock, &bundle, shim);
}

#[test]
fn a_task_that_has_ended_has_no_processes_and_uses_none() {
    let mock = Mock::new();
    let (bundle, shim) = limited(&mock);
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    let refusal = shim.pids(&bundle.id).expect_err("it has ended");
    assert_eq!(refusal.code, Some(ttrpc::Code::NOT_FOUND), "{refusal:?}");
    assert_eq!(metrics(&shim, &bundle).pids.current, 0);
    shim.finish(&mock, &bundle);
}
