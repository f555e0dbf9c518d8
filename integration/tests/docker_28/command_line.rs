//! Entrypoint, arguments, environment and working folder.

use integration::images::{HELLO_WAT, PROBE, PROBE_P2};

use crate::docker;

#[test]
fn the_image_runs_without_arguments() {
    let (docker, _turn) = docker();
    assert_eq!(docker.run(&[], &PROBE, &[]).ok().text(), "hello from wasm");
    assert_eq!(docker.run(&[], &PROBE_P2, &[]).ok().text(), "hello from wasm");
}

#[test]
fn an_image_built_from_wat_runs() {
    let (docker, _turn) = docker();
    assert_eq!(docker.run(&[], &HELLO_WAT, &[]).ok().text(), "hello from wat");
}

#[test]
fn arguments_arrive_word_for_word() {
    let (docker, _turn) = docker();
    let odd = ["two words", "", "ünïcödé", "--flag=\"quoted\""];
    for image in [&PROBE, &PROBE_P2] {
        let done = docker.run(&[], image, &[&["args"], &odd[..]].concat()).ok();
        let lines = done.lines();
        assert_eq!(lines[1..], [&["args"], &odd[..]].concat(), "{done}");
    }
}

#[test]
fn argv_0_is_the_entrypoint_as_it_was_given() {
    let (docker, _turn) = docker();
    assert_eq!(docker.run(&[], &PROBE, &["args"]).ok().lines()[0], PROBE.entry);
}

#[test]
fn the_environment_is_the_images_and_the_commands() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let done = docker.run(&["-e", "COLOUR=deep blue", "-e", "EMPTY="], image, &["env"]).ok();
        let lines = done.lines();
        for expected in ["COLOUR=deep blue", "EMPTY="] {
            assert!(lines.iter().any(|line| line == expected), "no {expected}\n{done}");
        }
    }
    let done = docker.run(&[], &PROBE, &["env"]).ok();
    assert!(done.lines().iter().any(|line| line == "FROM_IMAGE=yes"), "{done}");
}

#[test]
fn the_environment_of_the_host_does_not_leak() {
    let (docker, _turn) = docker();
    let done = docker.run(&[], &PROBE, &["env"]).ok();
    for name in ["TTRPC_ADDRESS", "GRPC_ADDRESS", "MAX_SHIM_VERSION", "NAMESPACE"] {
        assert!(!done.text().contains(name), "{done}");
    }
}

#[test]
fn the_working_folder_is_the_one_that_was_asked_for() {
    let (docker, _turn) = docker();
    // Preview 1 knows no working folder: only a component can ask for it.
    let flags = ["--entrypoint", "/usr/bin/in-etc.wasm"];
    docker.run(&flags, &PROBE, &[]).exits(1);
    docker.run(&[&flags[..], &["-w", "/etc"]].concat(), &PROBE, &[]).ok();
}

#[test]
fn the_working_folder_is_made_when_it_is_not_there() {
    let (docker, _turn) = docker();
    let done = docker.run(&["-w", "/made/by/test"], &PROBE, &["ls", "/made/by"]).ok();
    assert_eq!(done.text(), "test");
}

#[test]
fn an_entrypoint_without_a_slash_is_found_in_the_path() {
    let (docker, _turn) = docker();
    let done = docker
        .run(&["--entrypoint", "tool.wasm", "-e", "PATH=/nowhere:/usr/bin"], &PROBE, &[])
        .ok();
    assert_eq!(done.text(), "hello from wat");
}

#[test]
fn an_entrypoint_without_a_slash_is_found_in_the_working_folder() {
    let (docker, _turn) = docker();
    let done = docker.run(&["--entrypoint", "local.wasm", "-w", "/srv"], &PROBE, &[]).ok();
    assert_eq!(done.text(), "hello from wat");
}

#[test]
fn an_entrypoint_can_name_an_export() {
    let (docker, _turn) = docker();
    let done = docker.run(&["--entrypoint", "/usr/bin/tool.wasm#greet"], &PROBE, &[]).ok();
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("", "hello from wat\n"));
}

#[test]
fn an_entrypoint_can_be_wat_text() {
    let (docker, _turn) = docker();
    assert_eq!(
        docker.run(&["--entrypoint", "/hello.wat"], &PROBE, &[]).ok().text(),
        "hello from wat"
    );
}

#[test]
fn the_guest_has_clocks_and_random_numbers_of_its_own() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let time: u64 = docker.run(&[], image, &["clock"]).ok().text().parse().expect("seconds");
        assert!(time > 1_500_000_000);
        let drawn = [(); 2].map(|()| docker.run(&[], image, &["random"]).ok().text());
        assert!(drawn[0].len() == 32 && drawn[0] != drawn[1], "{drawn:?}");
    }
}
