//! How guests end, and what is said when they never began.

use crate::harness::{Place, guest, stdout};

#[test]
fn a_guests_exit_code_is_the_commands() {
    let place = Place::new();
    for (probe, code) in [("probe-p1.wasm", 7), ("probe-p2.wasm", 1)] {
        assert_eq!(place.ends(code, &[&guest(probe), "exit", "7"]), "");
    }
    assert_eq!(place.ends(0, &[&guest("probe-p1.wasm"), "exit", "0"]), "");
}

#[test]
fn a_trap_is_told_with_the_functions_that_it_happened_in() {
    let words = Place::new().ends(134, &[&guest("probe-p1.wasm"), "trap"]);
    assert!(words.starts_with("wasm trap: wasm `unreachable` instruction executed\n"), "{words}");
    let at = ["trap_c", "trap_b", "trap_a"].map(|name| words.find(name).expect(name));
    assert!(at.is_sorted(), "{words}");
}

#[test]
fn text_runs_and_so_does_an_export() {
    let place = Place::new();
    place.file(
        "exits.wat",
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const 3)))
            (func (export "other") (call $exit (i32.const 4))))"#,
    );
    assert_eq!(place.ends(3, &["exits.wat"]), "");
    assert_eq!(place.ends(4, &["--entrypoint", "/exits.wat#other", "exits.wat"]), "");
}

#[test]
fn what_cannot_be_run_is_named_and_has_dockers_exit_codes() {
    let place = Place::new();
    place.file("no.wasm", "no wasm");
    let hello = guest("hello-c.wasm");
    let cases: [(i32, &[&str], &str); 9] = [
        (127, &["none.wasm"], "cannot run none.wasm: there is no such file"),
        (127, &["--entrypoint", "/none.wasm", &hello], "\"/none.wasm\": no such file or directory"),
        (126, &["no.wasm"], "cannot run /no.wasm: not a WebAssembly module"),
        (125, &["."], "it is no OCI layout"),
        (125, &["--pull", "never", "none"], "no image docker.io/library/none:latest"),
        (125, &["--workdir", "srv", &hello], "\"srv\" is invalid"),
        (125, &["--volume", "/no/such:/a", &hello], "must exist on the host"),
        (125, &["-it", &hello], "the input device is not a TTY"),
        (125, &["--frobnicate", &hello], "unexpected argument"),
    ];
    for (code, args, words) in cases {
        let said = place.refused(code, args);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_memory_that_is_shared_is_refused_as_inspect_says() {
    let place = Place::new();
    let text = r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#;
    place.file("threads.wat", text);
    let words = place.refused(126, &["threads.wat"]);
    let reason = "its memory is shared between threads, of which a guest has one";
    assert!(words.contains(reason), "{words}");
    let seen = place.command(&["inspect", "threads.wat"]).output().unwrap();
    assert!(stdout(&seen).contains(reason), "{}", stdout(&seen));
}

#[test]
fn flags_behind_the_program_are_the_programs() {
    let args = [&guest("probe-p1.wasm"), "args", "--env", "A=b", "-it", "--help", "--"];
    let said = Place::new().says(&args);
    assert_eq!(said, "/probe-p1.wasm\nargs\n--env\nA=b\n-it\n--help\n--\n");
}
