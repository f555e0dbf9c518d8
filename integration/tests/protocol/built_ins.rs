//! Commands that need no file of the image.

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use integration::bundle::Bundle;
use integration::mock::{Mock, Outlet, Shim};
use integration::{command, options};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use ttrpc::Code;

use crate::SPIN;

fn running(mock: &Mock, bundle: Bundle, options: Option<Any>) -> (Bundle, Shim) {
    let bundle = bundle.with_wat("app.wasm", SPIN).with("etc/greeting", "good morning\n");
    let request = CreateTaskRequest { options: options.into(), ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    (bundle, shim)
}

fn process(uid: u32, args: &[&str]) -> Value {
    json!({ "user": { "uid": uid, "gid": uid }, "args": args, "cwd": "/etc" })
}

/// Executes a command, and returns its exit code and what it wrote.
fn execute(mock: &Mock, bundle: &Bundle, shim: &Shim, spec: &Value) -> (u32, String, String) {
    let fifos = ["stdout", "stderr"].map(|stream| {
        mock.fifo(bundle, &format!("{}-{stream}", integration::names::unique("exec")))
    });
    let [stdout, stderr] = fifos.each_ref().map(|fifo| Outlet::of(fifo));
    let [out, err] = fifos.each_ref().map(|fifo| fifo.to_string_lossy().into_owned());
    let request = ExecProcessRequest { stdout: out, stderr: err, ..Default::default() };
    let one = shim.process(&bundle.id, "one");
    one.exec_with(spec, request).expect("it can be executed");
    one.start().unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let code = one.wait().expect("it ends");
    one.delete().expect("a stopped process can be deleted");
    (code, stdout.all(), stderr.all())
}

fn finish(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(mock, bundle);
}

#[test]
fn help_names_all_of_them() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, mock.bundle(&["/app.wasm"]), None);
    let (code, said, _) = execute(&mock, &bundle, &shim, &process(0, &["@help"]));
    assert_eq!(code, 0);
    for name in ["@help", "@stack", "@stat", "@ls", "@cat", "#EXPORT"] {
        assert!(said.contains(name), "{said}");
    }
    finish(&mock, &bundle, shim);
}

#[test]
fn ls_and_cat_show_files_as_the_guest_sees_them() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, mock.bundle(&["/app.wasm"]), None);
    let root = bundle.path.join("rootfs");
    std::os::unix::fs::symlink("/etc/passwd", root.join("out")).expect("a new link");
    std::fs::write(root.join("secret"), "of root").expect("a new file");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(root.join("secret"), mode(0o600)).expect("a file of ours");
    let run = |uid, args: &[&str]| execute(&mock, &bundle, &shim, &process(uid, args));
    let (code, said, _) = run(0, &["@ls", "/"]);
    assert_eq!(code, 0);
    for words in ["-rw------- ", " 7 secret", " app.wasm", " out -> /etc/passwd", "drwx"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(run(0, &["@cat", "/etc/greeting", "greeting"]).1, "good morning\n".repeat(2));
    let (code, _, complaint) = run(0, &["@cat", "/out"]);
    assert_eq!(code, 1, "a link that leads out of the root");
    assert!(complaint.starts_with("@cat: /out: "), "{complaint}");
    let (code, _, complaint) = run(1234, &["@cat", "/secret"]);
    assert_eq!((code, complaint.contains("ermission denied")), (1, true), "{complaint}");
    let (code, _, complaint) = run(0, &["@ls", "/nowhere"]);
    assert_eq!((code, complaint.contains("/nowhere")), (1, true), "{complaint}");
    finish(&mock, &bundle, shim);
}

#[test]
fn stat_shows_what_the_container_uses_and_has() {
    let mock = Mock::new();
    let tmp =
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] });
    let bundle = mock.bundle(&["/app.wasm"]).push("/mounts", tmp).set(
        "/linux/resources",
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 9 } }),
    );
    let (bundle, shim) = running(&mock, bundle, None);
    let (code, said, complaint) = execute(&mock, &bundle, &shim, &process(0, &["@stat"]));
    assert_eq!((code, complaint.as_str()), (0, ""));
    let mut sum = std::process::Command::new("sha256sum");
    sum.arg(bundle.path.join("rootfs/app.wasm"));
    let digest = command::run(sum, b"", command::DEADLINE).ok().text();
    for words in [
        &bundle.id,
        "of 64.0 MiB",
        "processes  1 of 9",
        "/app.wasm",
        &format!("sha256:{}", &digest[..12]),
        "  /  read-write",
        "  /tmp  read-only",
    ] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    finish(&mock, &bundle, shim);
}

#[test]
fn a_command_that_there_is_not_and_wrong_arguments_are_refused_by_name() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, mock.bundle(&["/app.wasm"]), None);
    for (args, code, words) in [
        (&["@fly"][..], Code::NOT_FOUND, "@fly"),
        (&["@cat"], Code::INVALID_ARGUMENT, "@cat PATH"),
        (&["@help", "me"], Code::INVALID_ARGUMENT, "no arguments"),
    ] {
        let one = shim.process(&bundle.id, "one");
        one.exec(&process(0, args)).expect("it is not looked at yet");
        let refusal = one.start().expect_err("it is refused");
        assert_eq!(refusal.code, Some(code), "{refusal:?}");
        refusal.names(&["exec: ", words]);
        one.delete().expect("a process that never ran can be deleted");
    }
    finish(&mock, &bundle, shim);
}

#[test]
fn they_can_be_switched_off() {
    let mock = Mock::new();
    let off = options::body("ExecBuiltins = false");
    let (bundle, shim) = running(&mock, mock.bundle(&["/app.wasm"]), Some(off));
    let one = shim.process(&bundle.id, "one");
    one.exec(&process(0, &["@help"])).expect("it is not looked at yet");
    let refusal = one.start().expect_err("it is refused");
    assert_eq!(refusal.code, Some(Code::NOT_FOUND), "{refusal:?}");
    refusal.names(&["\"@help\": executable file not found", "/app.wasm"]);
    assert!(!refusal.message.contains("@stat"), "{}", refusal.message);
    finish(&mock, &bundle, shim);
}

/// A guest that is in `body` when it says so.
fn in_calls(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\06\00\00\00there\0a")
  (func $innermost {body})
  (func $middle (call $innermost))
  (func $outermost (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (call $middle)))"#
    )
}

/// Asks a guest that is in `body` where it is, so many times, and ends it.
#[track_caller]
fn stacks<const N: usize>(body: &str) -> [String; N] {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", &in_calls(body));
    let stdout = mock.fifo(&bundle, "stdout");
    let said = Outlet::of(&stdout);
    let stdout = stdout.to_string_lossy().into_owned();
    let request = CreateTaskRequest { stdout, ..Default::default() };
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    said.says("there\n");
    let spec = json!({ "user": { "uid": 5, "gid": 5 }, "args": ["@stack"], "cwd": "/" });
    let asked = [(); N].map(|()| {
        let (code, said, complaint) = execute(&mock, &bundle, &shim, &spec);
        assert_eq!((code, complaint.as_str()), (0, ""));
        said
    });
    finish(&mock, &bundle, shim);
    assert_eq!(said.all(), "there\n");
    asked
}

#[test]
fn stack_tells_where_a_guest_computes() {
    for said in stacks::<3>("(loop $for_ever (br $for_ever))") {
        assert_eq!(said, "in wasm:\n    0: innermost\n    1: middle\n    2: outermost\n");
    }
}

#[test]
fn stack_tells_where_a_guest_waits() {
    // A subscription to the monotonic clock, for an hour.
    let body = "(i32.store (i32.const 80) (i32.const 1))
      (i64.store (i32.const 88) (i64.const 3600000000000))
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))";
    for said in stacks::<3>(body) {
        assert_eq!(said, "in a host call:\n    0: innermost\n    1: middle\n    2: outermost\n");
    }
}

#[test]
fn stack_tells_where_a_guest_is_whatever_it_does() {
    // It writes nothing without an end, so it is in wasm, or in the host, or on its way.
    let body = "(loop $for_ever
      (drop (call $write (i32.const 1) (i32.const 64) (i32.const 0) (i32.const 32)))
      (br $for_ever))";
    for said in stacks::<20>(body) {
        let lines: Vec<&str> = said.lines().collect();
        assert!(matches!(lines[0], "in wasm:" | "in a host call:"), "{said}");
        assert_eq!(lines[lines.len() - 2..], ["    1: middle", "    2: outermost"], "{said}");
    }
}
