//! What signals do to a guest, whatever it is at.

use containerd_shim_protos::api::CreateTaskRequest;
use integration::bundle::Bundle;
use integration::mock::{Mock, Outlet, Shim};
use nix::sys::signal::Signal;

use crate::SPIN;

/// Says `reading` and reads from standard input.
const READ: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\08\00\00\00reading\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

/// Says `polling` and waits for 4000 timers at once, each of which is 1000 seconds away.
const POLL: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 0) "\08\00\00\00\08\00\00\00polling\n")
  (func (export "_start") (local $at i32)
    (local.set $at (i32.const 1024))
    (loop $more
      ;; tag 0 is a clock; the clock is the monotonic one
      (i32.store (i32.add (local.get $at) (i32.const 16)) (i32.const 1))
      (i64.store (i32.add (local.get $at) (i32.const 24)) (i64.const 1000000000000))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 193024))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $poll (i32.const 1024) (i32.const 196608) (i32.const 4000) (i32.const 64)))))"#;

/// A guest of each kind, and the word by which it says that it is at it.
const GUESTS: [(&str, &str); 3] = [(SPIN, "spinning"), (READ, "reading"), (POLL, "polling")];

fn running(mock: &Mock, wat: &str, word: &str) -> (Bundle, Shim) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    let (stdin, stdout) = (mock.fifo(&bundle, "stdin"), mock.fifo(&bundle, "stdout"));
    let outlet = Outlet::of(&stdout);
    let request = CreateTaskRequest {
        stdin: stdin.display().to_string(),
        stdout: stdout.display().to_string(),
        ..Default::default()
    };
    let shim = mock.create_with(&bundle, request).expect("the task can be created");
    shim.start(&bundle.id).expect("the task can be started");
    outlet.says(word);
    (bundle, shim)
}

#[test]
fn term_int_quit_and_kill_end_a_guest_whatever_it_is_at() {
    let mock = Mock::new();
    for (wat, word) in GUESTS {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
            let (bundle, shim) = running(&mock, wat, word);
            shim.kill(&bundle.id, signal).expect("a running task can be signalled");
            let code = shim.wait(&bundle.id).expect("it ends");
            assert_eq!(code, 128 + (signal as i32).cast_unsigned(), "{word}: {signal}");
            shim.finish(&mock, &bundle);
        }
    }
}

#[test]
fn hup_usr1_usr2_and_others_do_nothing_to_it() {
    let mock = Mock::new();
    for (wat, word) in GUESTS {
        let (bundle, shim) = running(&mock, wat, word);
        for signal in [
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
            Signal::SIGPIPE,
            Signal::SIGWINCH,
        ] {
            shim.kill(&bundle.id, signal).expect("a running task can be signalled");
        }
        // They were sent before it, and a lower number is delivered first.
        shim.kill(&bundle.id, Signal::SIGTERM).expect("a running task can be signalled");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), 143, "{word}");
        shim.finish(&mock, &bundle);
    }
}

#[test]
fn a_number_that_is_no_signal_is_refused() {
    let mock = Mock::new();
    let (bundle, shim) = running(&mock, SPIN, "spinning");
    let request = containerd_shim_protos::api::KillRequest {
        id: bundle.id.clone(),
        signal: 1000,
        ..Default::default()
    };
    type Empty = containerd_shim_protos::protobuf::well_known_types::empty::Empty;
    let refusal = shim.call::<Empty>("Kill", &request).expect_err("there is no such signal");
    assert_eq!(refusal.code, Some(ttrpc::Code::INVALID_ARGUMENT), "{refusal:?}");
    refusal.names(&["1000"]);
    shim.kill(&bundle.id, Signal::SIGKILL).expect("a running task can be killed");
    shim.wait(&bundle.id).expect("it ends");
    shim.finish(&mock, &bundle);
}
