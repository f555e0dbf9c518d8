//! Guests of the real toolchains.

use integration::images::{COMMAND_P3, HELLO_C, HELLO_GO, Image, PROBE, PROBE_P2};

use crate::docker;

fn runs_files_and_exit(image: &Image, hello: &str) {
    let (docker, _turn) = docker();
    let file = integration::names::unique("/share/guest");
    docker.0.sh(&format!("echo from a file >{file}"));
    let mount = format!("{file}:/data/file:ro");
    let done = docker.run(&["-v", &mount], image, &["--cat", "/data/file", "--exit", "5"]).exits(5);
    assert_eq!(done.lines().first().map(String::as_str), Some(hello), "{done}");
    assert!(done.text().contains("from a file"), "{done}");
    assert!(
        done.lines().iter().any(|line| line == image.entry),
        "argv[0] is not the entrypoint\n{done}"
    );
}

#[test]
fn c_through_clang_and_wasi_libc() {
    runs_files_and_exit(&HELLO_C, "hello from C");
}

#[test]
fn go_for_wasip1() {
    runs_files_and_exit(&HELLO_GO, "hello from Go");
}

#[test]
fn rust_for_wasip1_and_wasip2() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let done =
            docker.run(&["--tmpfs", "/scratch"], image, &["write", "/scratch/file", "text"]).ok();
        assert_eq!(done.text(), "");
        let done = docker.run(&[], image, &["stat", image.entry]).ok();
        assert!(done.text().starts_with("file "), "{done}");
    }
}

#[test]
fn rust_for_wasi_0_3() {
    let (docker, _turn) = docker();
    let done = docker.run(&[], &COMMAND_P3, &["three", "words", "said"]).ok();
    assert_eq!(done.text(), "three words said");
    docker.run(&[], &COMMAND_P3, &["fail"]).exits(1);
    docker.run(&[], &COMMAND_P3, &["trap"]).exits(134).complains_of(&["unreachable"]);
    let container = docker.start(&[], &COMMAND_P3, &["sleep"]);
    container.says("sleeping");
    container.cli(&["stop"]).ok();
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "143");
}
