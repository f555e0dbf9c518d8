//! User namespaces: the container's root is nobody in particular to the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use integration::bundle::Bundle;
use integration::command::Running;
use integration::mock::Mock;
use serde_json::{Value, json};

/// The host's user who is the container's root.
const FIRST: u32 = 100_000;
const SIZE: u32 = 65_536;

/// Makes the file `/made` and ends with what went wrong.
const MAKE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "made")
  (func (export "_start")
    ;; Descriptor 3 is the root; O_CREAT and O_EXCL; the right to write.
    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4)
      (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))))"#;

fn mappings() -> Value {
    json!([{ "containerID": 0, "hostID": FIRST, "size": SIZE }])
}

/// A bundle of a user of the container, to whom its rootfs belongs.
fn bundle(mock: &Mock, uid: u32, namespace: Value) -> Bundle {
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", MAKE)
        .set("/process/user", json!({ "uid": uid, "gid": uid, "additionalGids": [9] }))
        .push("/linux/namespaces", namespace);
    let rootfs = bundle.path.join("rootfs");
    for path in [rootfs.join("app.wasm"), rootfs] {
        chown(path, Some(FIRST + uid), Some(FIRST + uid)).expect("the tests run as root");
    }
    bundle
}

/// Runs the bundle, and insists that the host sees the mapped user at all times.
fn runs_mapped(mock: &Mock, bundle: &Bundle, uid: u32) {
    let shim = mock.create(bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a live process");
    for file in ["uid_map", "gid_map"] {
        let map: Vec<u32> =
            read(file).split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert_eq!(map, [0, FIRST, SIZE], "{file}");
    }
    let status = read("status");
    let field = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    };
    assert_eq!(field("Uid:"), [FIRST + uid; 4]);
    assert_eq!(field("Gid:"), [FIRST + uid; 4]);
    assert_eq!(field("Groups:"), [FIRST + 9]);
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0, "the errno of what the guest tried");
    let made = fs::metadata(bundle.path.join("rootfs/made")).expect("the guest made it");
    assert_eq!((made.uid(), made.gid()), (FIRST + uid, FIRST + uid));
    shim.finish(mock, bundle);
}

#[test]
fn a_new_user_namespace_maps_the_containers_users() {
    for uid in [0, 1234] {
        let mock = Mock::new();
        let bundle = bundle(&mock, uid, json!({ "type": "user" }))
            .set("/linux/uidMappings", mappings())
            .set("/linux/gidMappings", mappings());
        runs_mapped(&mock, &bundle, uid);
    }
}

#[test]
fn a_user_namespace_with_a_path_is_joined() {
    let mock = Mock::new();
    let mut command = Command::new("unshare");
    command.args(["-U", "sh", "-c", "echo $$; exec sleep 1000"]);
    let process = Running::spawn(command);
    process.says("\n");
    let owner = process.so_far().trim().to_owned();
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{owner}/{file}"), format!("0 {FIRST} {SIZE}"))
            .expect("the tests run as root");
    }
    let path = format!("/proc/{owner}/ns/user");
    let bundle = bundle(&mock, 0, json!({ "type": "user", "path": path }));
    // Only this one namespace has the mappings: the bundle brings none.
    runs_mapped(&mock, &bundle, 0);
}

#[test]
fn a_new_user_namespace_without_mappings_is_refused_by_name() {
    for given in [None, Some("/linux/uidMappings"), Some("/linux/gidMappings")] {
        let mock = Mock::new();
        let mut bundle = bundle(&mock, 0, json!({ "type": "user" }));
        if let Some(given) = given {
            bundle = bundle.set(given, mappings());
        }
        mock.refused(&bundle).names(&["linux.uidMappings", "linux.gidMappings"]);
    }
}

#[test]
fn mappings_that_the_kernel_refuses_are_named() {
    let mock = Mock::new();
    let twice = json!([
        { "containerID": 0, "hostID": FIRST, "size": SIZE },
        { "containerID": 5, "hostID": 300_000, "size": SIZE }
    ]);
    let bundle = bundle(&mock, 0, json!({ "type": "user" }))
        .set("/linux/uidMappings", twice)
        .set("/linux/gidMappings", mappings());
    mock.refused(&bundle).names(&["uid_map"]);
}

#[test]
fn a_user_that_is_not_mapped_is_refused_by_number() {
    let mock = Mock::new();
    let mut bundle = bundle(&mock, 0, json!({ "type": "user" }))
        .set("/linux/uidMappings", mappings())
        .set("/linux/gidMappings", mappings());
    bundle.spec["process"]["user"] = json!({ "uid": 70_000, "gid": 0 });
    mock.refused(&bundle).names(&["70000"]);
}
