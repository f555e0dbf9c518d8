//! What cannot run is refused by `docker run` with words that help.

use integration::images::PROBE;

use crate::docker;

#[track_caller]
fn refused(entrypoint: &str, words: &[&str]) {
    let (docker, _turn) = docker();
    let done = docker.run(&["--entrypoint", entrypoint], &PROBE, &[]);
    assert!((125..=127).contains(&done.code), "{done}");
    done.complains_of(words);
}

#[test]
fn an_entrypoint_that_is_not_there() {
    refused("/nowhere.wasm", &["/nowhere.wasm"]);
}

#[test]
fn an_entrypoint_that_is_not_wasm() {
    refused("/bad/text.wasm", &["/bad/text.wasm"]);
}

#[test]
fn an_import_that_nobody_provides() {
    refused("/bad/import.wasm", &["/bad/import.wasm", "moon", "shine"]);
}

#[test]
fn a_component_of_an_unknown_world() {
    refused("/bad/world.wasm", &["/bad/world.wasm", "paint-the-fence"]);
}

#[test]
fn an_export_that_is_not_there() {
    refused("/usr/bin/tool.wasm#nothing", &["nothing"]);
}
