//! Ways out that a guest, an image or a mount could offer to whoever holds the process.

use std::fs;
use std::process::Command;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::bundle::Bundle;
use integration::mock::{Mock, Outlet};
use integration::paths;
use serde_json::{Value, json};

use crate::SPIN;

/// What the probe says to `command` in a bundle changed by `change`, and its exit code.
fn probe(guest: &str, command: &[&str], change: impl FnOnce(Bundle) -> Bundle) -> (String, u32) {
    let mock = Mock::new();
    let wasm = fs::read(paths::guest(guest)).expect("scripts/guests has made it");
    let words: Vec<&str> = ["/app.wasm"].iter().chain(command).copied().collect();
    let bundle = change(mock.bundle(&words).with("app.wasm", wasm));
    let [stdout, stderr] = ["stdout", "stderr"].map(|stream| mock.fifo(&bundle, stream));
    let outlets = [&stdout, &stderr].map(|fifo| Outlet::of(fifo));
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let request =
        CreateTaskRequest { stdout: text(stdout), stderr: text(stderr), ..Default::default() };
    let shim = mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let code = shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
    (outlets.map(Outlet::all).concat(), code)
}

fn bind(source: &str, destination: &str) -> Value {
    json!({ "destination": destination, "source": source, "type": "bind", "options": ["rbind"] })
}

#[test]
fn a_guest_cannot_have_native_code_loaded_to_look_up_a_name() {
    let folder = tempfile::tempdir().expect("a new folder");
    let source = folder.path().join("evil.c");
    let library = folder.path().join("evil.so");
    let code = "#include <unistd.h>\n__attribute__((constructor)) static void go(void) { write(1, \"NATIVE\", 6); }\n";
    fs::write(&source, code).expect("a new file");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().expect("there is a C compiler").success());
    let library = fs::read(&library).expect("it was built");
    let (said, code) = probe("probe-p2.wasm", &["resolve", "localhost"], |bundle| {
        bundle
            .with("etc/nsswitch.conf", "hosts: evil\n")
            .with("etc/hosts", "127.0.0.1 localhost\n")
            .with("lib/x86_64-linux-gnu/libnss_evil.so.2", &library)
            .with("lib64/libnss_evil.so.2", &library)
            .with("usr/lib/x86_64-linux-gnu/libnss_evil.so.2", &library)
    });
    assert!(!said.contains("NATIVE"), "{said}");
    assert_eq!((said.trim(), code), ("127.0.0.1", 0));
}

#[test]
fn a_procfs_of_the_host_does_not_reach_the_guest_by_a_mount() {
    let (said, code) = probe("probe-p1.wasm", &["ls", "/host"], |bundle| {
        bundle.push("/mounts", bind("/proc", "/host"))
    });
    assert_eq!((said.as_str(), code), ("", 0));
    let (said, _) = probe("probe-p1.wasm", &["ls", "/host/proc"], |bundle| {
        bundle.push("/mounts", bind("/", "/host"))
    });
    assert_eq!(said, "");
}

#[test]
fn a_procfs_below_another_mount_does_not_reach_the_guest() {
    let (said, _) = probe("probe-p1.wasm", &["ls", "/host"], |bundle| {
        bundle.push("/mounts", bind("/proc", "/host")).push(
            "/mounts",
            json!({ "destination": "/host", "source": "tmpfs", "type": "tmpfs", "options": [] }),
        )
    });
    assert_eq!(said, "");
}

#[test]
fn a_procfs_is_found_when_the_bundle_is_named_through_a_link() {
    let (said, _) = probe("probe-p1.wasm", &["ls", "/host"], |mut bundle| {
        let real = bundle.path.parent().expect("a folder").to_owned();
        let link = real.with_file_name("link");
        std::os::unix::fs::symlink(&real, &link).expect("a new link");
        bundle.path = link.join(&bundle.id);
        bundle.push("/mounts", bind("/proc", "/host"))
    });
    assert_eq!(said, "");
}

#[test]
fn capabilities_that_no_guest_can_use_are_not_held() {
    let mock = Mock::new();
    let all = json!(["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_BIND_SERVICE"]);
    let sets = json!({ "bounding": all, "effective": all, "permitted": all });
    let bundle =
        mock.bundle(&["/app.wasm"]).with_wat("app.wasm", SPIN).set("/process/capabilities", sets);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let pid = shim.state(&bundle.id).expect("a state").pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let line =
            status.lines().find(|line| line.starts_with(set)).expect("a field of every process");
        // NET_BIND_SERVICE is capability 10.
        assert!(line.ends_with("\t0000000000000400"), "{line}");
    }
    shim.finish(&mock, &bundle);
}

#[test]
fn masked_paths_look_empty_and_read_only_paths_refuse_writes() {
    let change = |bundle: Bundle| {
        bundle
            .with("secret/file", "text")
            .with("alone", "text")
            .with("fixed/file", "text")
            .set("/linux/maskedPaths", json!(["/secret", "/alone", "/not/there"]))
            .set("/linux/readonlyPaths", json!(["/fixed", "/not/there"]))
    };
    assert_eq!(probe("probe-p1.wasm", &["ls", "/secret"], change), (String::new(), 0));
    let (said, code) = probe("probe-p1.wasm", &["cat", "/alone"], change);
    assert!(!said.contains("text") && code == 1, "{said}");
    assert_eq!(probe("probe-p1.wasm", &["cat", "/fixed/file"], change), ("text".into(), 0));
    assert_eq!(probe("probe-p1.wasm", &["write", "/fixed/file", "x"], change).1, 1);
}
