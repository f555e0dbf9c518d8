//! `wasm-image compile`: code is there before the first start.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Place, guest, stderr, stdout};

/// Builds the probe into an image of the store, compiles it, and gives the digest of its wasm.
fn compiled(place: &Place, args: &[&str]) -> String {
    let probe = fs::read(guest("probe-p1.wasm")).unwrap();
    let app = place.file("in/app.wasm", &probe);
    let build = ["build", app.to_str().unwrap(), "--tag", "probe"];
    // It leaves a tar where it is run.
    let own = PathBuf::from(place.store()).parent().unwrap().to_owned();
    let output = place.command(&build).current_dir(own).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let compile = [&["compile", "probe", "--format", "json"], args].concat();
    let output = place.command(&compile).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["modules"][0]["module"], "app.wasm");
    report["modules"][0]["wasm"].as_str().unwrap().to_owned()
}

#[test]
fn an_image_of_the_store_is_compiled_to_fast_code_once() {
    let place = Place::new();
    let digest = compiled(&place, &["--root", "code"]);
    let list = || {
        let list = ["cache", "ls", "--root", "code", "--format", "json"];
        let output = place.command(&list).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let first = list();
    assert_eq!(first.as_array().unwrap().len(), 1, "{first}");
    assert_eq!(
        (&first[0]["digest"], &first[0]["tier"]),
        (&Value::from(digest), &"optimized".into())
    );
    compiled(&place, &["--root", "code"]);
    assert_eq!(list()[0]["made"], first[0]["made"]);
}

#[test]
fn nobody_has_a_cache_too() {
    let place = Place::of_nobody();
    compiled(&place, &[]);
    let code = place.path("home/.cache/wasm-image/code");
    let folders = fs::read_dir(&code).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let entries = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let count = entries.filter(|file| file.path().extension().is_some_and(|end| end == "cwasm"));
    assert_eq!(count.count(), 1);
    assert_eq!(place.says(&["probe"]), "hello from wasm\n");
    // It is what the commands about caches are about.
    let listed = place.command(&["cache", "ls"]).output().unwrap();
    assert!(stdout(&listed).contains(" in 1 file"), "{} {}", stdout(&listed), stderr(&listed));
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let place = Place::new();
    let output =
        place.command(&["compile", "localhost:1/none", "--retries", "0"]).output().unwrap();
    let words = stderr(&output);
    assert!(!output.status.success() && words.contains("localhost:1"), "{words}");
    let output = place.command(&["compile", "probe", "--push"]).output().unwrap();
    assert!(stderr(&output).contains("--key"), "{}", stderr(&output));
}
