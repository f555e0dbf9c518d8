//! Namespaces, root filesystem and identity of a task, seen before its guest has run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::types::mount::Mount;
use integration::command::Running;
use integration::images::HELLO;
use integration::mock::{Mock, Outlet};
use serde_json::json;

use crate::SPIN;

fn namespace(process: &str, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{process}/ns/{kind}")).expect("a live process")
}

#[test]
fn a_created_task_lives_in_the_namespaces_of_its_spec() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid.to_string();
    for kind in ["mnt", "net", "pid", "uts", "ipc"] {
        assert_ne!(namespace(&pid, kind), namespace("thread-self", kind), "{kind}");
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn namespaces_that_the_spec_does_not_list_are_the_hosts() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let bundle = bundle.without_namespace("network").without_namespace("ipc");
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid.to_string();
    for kind in ["net", "ipc"] {
        assert_eq!(namespace(&pid, kind), namespace("self", kind), "{kind}");
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn a_namespace_with_a_path_is_joined() {
    let mock = Mock::new();
    let mut command = Command::new("unshare");
    command.args(["-n", "-u", "sh", "-c", "echo $$; exec sleep 1000"]);
    let owner = Running::spawn(command);
    owner.says("\n");
    let owner_pid = owner.so_far().trim().to_owned();
    let mut bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    bundle.spec["hostname"] = json!("");
    for (kind, file) in [("network", "net"), ("uts", "uts")] {
        let path = format!("/proc/{owner_pid}/ns/{file}");
        bundle = bundle
            .without_namespace(kind)
            .push("/linux/namespaces", json!({ "type": kind, "path": path }));
    }
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid.to_string();
    for kind in ["net", "uts"] {
        assert_eq!(namespace(&pid, kind), namespace(&owner_pid, kind), "{kind}");
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn the_rootfs_of_the_request_is_mounted_and_unmounted() {
    let mock = Mock::new();
    let layer = Path::new("/run/layer");
    fs::create_dir_all(layer).expect("/run is the test's own");
    fs::write(layer.join("app.wasm"), wat::parse_str(HELLO).expect("well-formed wat"))
        .expect("a new file");
    let bundle = mock.bundle(&["/app.wasm"]);
    let stdout = mock.fifo(&bundle, "stdout");
    let outlet = Outlet::of(&stdout);
    let rootfs = Mount {
        type_: "bind".into(),
        source: layer.to_string_lossy().into_owned(),
        options: vec!["rbind".into(), "ro".into()],
        ..Default::default()
    };
    let request = CreateTaskRequest {
        rootfs: vec![rootfs],
        stdout: stdout.to_string_lossy().into_owned(),
        ..Default::default()
    };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
    assert_eq!(outlet.all(), "hello from wat\n");
}

#[test]
fn an_overlay_of_the_request_is_mounted_and_unmounted() {
    let mock = Mock::new();
    for folder in ["/run/lower", "/run/upper", "/run/work"] {
        fs::create_dir_all(folder).expect("/run is the test's own");
    }
    fs::write("/run/lower/app.wasm", wat::parse_str(SPIN).expect("well-formed wat"))
        .expect("a new file");
    let bundle = mock.bundle(&["/app.wasm"]);
    let rootfs = Mount {
        type_: "overlay".into(),
        source: "overlay".into(),
        options: ["lowerdir=/run/lower", "upperdir=/run/upper", "workdir=/run/work"]
            .map(String::from)
            .into(),
        ..Default::default()
    };
    let request = CreateTaskRequest { rootfs: vec![rootfs], ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    assert!(
        Path::new(&format!("/proc/{pid}/root/app.wasm")).exists(),
        "the root of the task is not the overlay"
    );
    assert!(
        !Path::new(&format!("/proc/{pid}/root/run")).exists(),
        "the task sees the machine's files"
    );
    shim.finish(&mock, &bundle);
}

#[test]
fn a_created_task_has_given_up_what_its_spec_does_not_grant() {
    let mock = Mock::new();
    let mut bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    bundle.spec["process"]["user"] = json!({ "uid": 1234, "gid": 2345, "additionalGids": [3456] });
    bundle.spec["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "hard": 99, "soft": 88 }]);
    bundle.spec["process"]["oomScoreAdj"] = json!(321);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a live process");
    let status = read("status");
    let field = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no {name}\n{status}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "1234 1234 1234 1234");
    assert_eq!(field("Gid:"), "2345 2345 2345 2345");
    assert_eq!(field("Groups:"), "3456");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let limits = read("limits");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("the kernel lists it");
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["88", "99"]);
    assert_eq!(read("oom_score_adj").trim(), "321");
    shim.finish(&mock, &bundle);
}

#[test]
fn a_created_task_holds_no_descriptor_of_the_shim() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a live process").flatten() {
        let target = fs::read_link(entry.path()).expect("a descriptor that is held");
        let target = target.to_string_lossy();
        // The code that it has mapped, open for reading.
        if target.ends_with(".cwasm") {
            continue;
        }
        for forbidden in ["/run/containerd", "/sys/fs/cgroup", "/var/lib"] {
            assert!(!target.starts_with(forbidden), "the task holds {target}");
        }
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn a_rootfs_of_very_many_layers_is_mounted() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]);
    let folder = Path::new("/run/layers-with-a-name-as-long-as-those-of-a-snapshotter");
    let layers: Vec<String> = (0..100).map(|n| format!("{}/{n}/fs", folder.display())).collect();
    for layer in &layers {
        fs::create_dir_all(layer).expect("a new folder");
    }
    let module = wat::parse_str(HELLO).expect("well-formed");
    fs::write(format!("{}/app.wasm", layers[99]), module).expect("a new file");
    let [upper, work] = ["upper", "work"].map(|name| folder.join(name));
    for made in [&upper, &work] {
        fs::create_dir_all(made).expect("a new folder");
    }
    let options = vec![
        format!("workdir={}", work.display()),
        format!("upperdir={}", upper.display()),
        format!("lowerdir={}", layers.join(":")),
    ];
    assert!(options[2].len() > 4096);
    let overlay =
        Mount { type_: "overlay".into(), source: "overlay".into(), options, ..Default::default() };
    let request = CreateTaskRequest { rootfs: vec![overlay], ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(&mock, &bundle);
}
