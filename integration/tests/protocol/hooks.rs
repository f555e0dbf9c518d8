//! OCI hooks: each at its moment, with the container's full state on standard input.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use integration::bundle::Bundle;
use integration::mock::Mock;
use integration::{RUNTIME, images::HELLO};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::SPIN;

const KEPT: &str = "/run/kept";
const MOMENTS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn with_hooks(mock: &Mock) -> Bundle {
    let kept = Path::new(KEPT);
    fs::create_dir_all(kept).expect("/run is the test's own");
    let mut bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    bundle.spec["hooks"] = json!({});
    for moment in MOMENTS {
        bundle = bundle.with_hook(moment, kept);
    }
    // startContainer hooks are found and run inside: the machine's own shell is lent to the rootfs.
    for folder in ["/usr", "/bin", "/lib", "/lib64", KEPT] {
        let mount = json!({ "destination": folder, "source": folder, "type": "bind", "options": ["rbind"] });
        bundle = bundle.push("/mounts", mount);
    }
    bundle
}

fn order() -> Vec<String> {
    let order = fs::read_to_string(Path::new(KEPT).join("order")).unwrap_or_default();
    order.lines().map(str::to_owned).collect()
}

fn state(moment: &str) -> Value {
    let text = fs::read_to_string(Path::new(KEPT).join(moment)).expect("the hook has run");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{moment}: {error}: {text:?}"))
}

#[test]
fn each_hook_runs_at_its_moment_with_the_full_state() {
    let mock = Mock::new();
    let bundle = with_hooks(&mock);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    assert_eq!(order(), MOMENTS[..3], "after Create");
    shim.start(&bundle.id).expect("the task can be started");
    integration::wait::until("the poststart hook", || order().len() >= 5);
    assert_eq!(order(), MOMENTS[..5], "after Start");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
    assert_eq!(order(), MOMENTS, "after Delete");

    let expected = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (moment, status) in expected {
        let state = state(moment);
        assert_eq!(state["id"], bundle.id, "{moment}");
        assert_eq!(state["status"], status, "{moment}");
        assert_eq!(state["bundle"], bundle.path.to_str().expect("a path of ours"), "{moment}");
        assert_eq!(state["annotations"]["org.example.kept"], "word for word", "{moment}");
        assert!(
            state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")),
            "{moment}: {state}"
        );
        if ["prestart", "createRuntime", "poststart"].contains(&moment) {
            assert_eq!(state["pid"], pid, "{moment}");
        }
    }
}

#[test]
fn a_hook_that_fails_is_named_with_what_it_said() {
    let mock = Mock::new();
    fs::create_dir_all(KEPT).expect("/run is the test's own");
    let script = Path::new(KEPT).join("broken.sh");
    fs::write(&script, "#!/bin/sh\necho no room at the inn >&2\nexit 3\n").expect("a new file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", HELLO)
        .set("/hooks", json!({ "createRuntime": [{ "path": script }] }));
    mock.refused(&bundle).names(&["/run/kept/broken.sh", "3", "no room at the inn"]);
}

#[test]
fn a_hook_that_hangs_is_killed_at_its_timeout() {
    let mock = Mock::new();
    let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 });
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", HELLO)
        .set("/hooks", json!({ "prestart": [hook] }));
    mock.refused(&bundle).names(&["/bin/sleep", "1s"]);
}

#[test]
fn a_prestart_hook_can_reach_the_containers_network_namespace_by_its_pid() {
    let mock = Mock::new();
    fs::create_dir_all(KEPT).expect("/run is the test's own");
    let script = Path::new(KEPT).join("net.sh");
    let body = "#!/bin/sh\npid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tail -n 1)\nreadlink /proc/$pid/ns/net >/run/kept/net\n";
    fs::write(&script, body).expect("a new file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let hook = json!({ "path": script, "env": ["PATH=/usr/bin:/bin"] });
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", SPIN)
        .set("/hooks", json!({ "prestart": [hook] }));
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).expect("a live process");
    let seen = fs::read_to_string("/run/kept/net").expect("the hook has run");
    assert_eq!(seen.trim(), link.to_str().expect("a link of the kernel's"), "{RUNTIME}");
    shim.finish(&mock, &bundle);
}

#[test]
fn what_a_failed_hook_leaves_running_is_ended() {
    let mock = Mock::new();
    fs::create_dir_all(KEPT).expect("/run is the test's own");
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 300 & exit 3"], "env": ["PATH=/usr/bin:/bin"] }]);
    let mut bundle =
        mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO).without_namespace("pid");
    bundle.spec["hooks"] = json!({ "createContainer": hook });
    mock.refused(&bundle).names(&["/bin/sh", "3"]);
}

#[test]
fn a_task_that_is_being_created_is_not_there_yet() {
    let mock = Mock::new();
    let folder = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let gate = folder.path.join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a new fifo");
    let mut bundle = folder;
    bundle.spec["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/cat", "args": ["cat", gate] }] });
    bundle.write();
    let shim = mock.start(&bundle, &integration::mock::Dialect::Silent).expect("the shim starts");
    let other = integration::mock::Shim::at(shim.address.clone(), shim.version);
    std::thread::scope(|scope| {
        let created = scope.spawn(|| shim.create(&bundle));
        // The hook has the fifo open, so Create is at it.
        let writer = fs::OpenOptions::new().write(true).open(&gate).expect("the hook reads");
        let refusal = other.state(&bundle.id).map(|_| ()).expect_err("it is not there yet");
        assert_eq!(refusal.code, Some(ttrpc::Code::NOT_FOUND));
        let refusal = other.create(&bundle).expect_err("the id is taken");
        assert_eq!(refusal.code, Some(ttrpc::Code::ALREADY_EXISTS));
        drop(writer);
        created.join().expect("no panic").expect("the task can be created");
    });
    shim.finish(&mock, &bundle);
}

#[test]
fn what_a_hook_leaves_running_is_not_the_shims_to_collect() {
    let mock = Mock::new();
    fs::create_dir_all(KEPT).expect("/run is the test's own");
    let script = Path::new(KEPT).join("leave");
    fs::write(
        &script,
        format!("#!/bin/sh\nsleep 60 </dev/null >/dev/null 2>&1 &\necho $! >{KEPT}/left\n"),
    )
    .expect("a new file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let hook = json!({ "path": script, "env": ["PATH=/usr/bin:/bin"] });
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let bundle = bundle.set("/hooks", json!({ "createRuntime": [hook] }));
    bundle.write();
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let left = fs::read_to_string(Path::new(KEPT).join("left")).expect("the hook has run");
    let left: i32 = left.trim().parse().expect("a pid");
    let stat = fs::read_to_string(format!("/proc/{left}/stat")).expect("it runs");
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
    let shims = shim.connect(&bundle.id).expect("the shim answers").shim_pid;
    assert_ne!(parent, Some(shims.to_string().as_str()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), Signal::SIGKILL).expect("it runs");
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
}
