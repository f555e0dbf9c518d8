//! Images of the store, of registries and of layouts.

use std::fs;

use serde_json::json;

use crate::harness::{Place, guest, layout, probe, stderr, stdout, tar, zstd};
use crate::registry::Registry;

/// An image of the probe with all that an image can say.
fn build(place: &Place, args: &[&str]) {
    place.file("site/index.html", "hello\n");
    let say = ["--add", "site:/srv", "--env", "COLOUR=blue", "--workdir", "/srv"];
    let entrypoint = ["--entrypoint", r#"["/probe-p2.wasm"]"#];
    let own = ["--cmd", r#"["args", "own"]"#];
    let own = if args.contains(&"--cmd") { &[][..] } else { &own };
    place.build(&guest("probe-p2.wasm"), &[&say[..], &entrypoint, own, args].concat());
}

#[test]
fn an_image_of_the_store_runs_as_it_says_or_as_the_flags_say() {
    let place = Place::new();
    build(&place, &["-t", "probe"]);
    assert_eq!(place.says(&["probe"]), "/probe-p2.wasm\nargs\nown\n");
    assert_eq!(place.says(&["probe", "args", "other"]), "/probe-p2.wasm\nargs\nother\n");
    assert_eq!(place.says(&["--entrypoint", "../probe-p2.wasm", "probe"]), "hello from wasm\n");
    assert_eq!(place.says(&["probe", "cat", "/srv/index.html"]), "hello\n");
    let own = place.says(&["probe", "env"]);
    assert!(own.contains("COLOUR=blue\n") && own.contains("PWD=/srv\n"), "{own}");
    let other = place.says(&["-e", "COLOUR=red", "-w", "/", "probe", "env"]);
    assert!(other.contains("COLOUR=red\n") && other.contains("PWD=/\n"), "{other}");
}

#[test]
fn what_a_guest_changes_is_its_own() {
    let place = Place::new();
    build(&place, &["-t", "probe"]);
    place.says(&["probe", "write", "/srv/index.html", "changed"]);
    place.says(&["probe", "rm", "/srv/index.html"]);
    assert_eq!(place.says(&["probe", "cat", "/srv/index.html"]), "hello\n");
    place.ends(1, &["--read-only", "probe", "write", "/srv/index.html", "changed"]);
}

#[test]
fn removing_an_image_removes_what_was_unpacked_of_it() {
    let place = Place::new();
    build(&place, &["-t", "probe"]);
    place.says(&["probe"]);
    let unpacked = || fs::read_dir(place.path("store/unpacked")).unwrap().count();
    assert_eq!(unpacked(), 1);
    assert!(place.command(&["rm", "probe"]).status().unwrap().success());
    assert_eq!(unpacked(), 0);
}

#[test]
fn an_image_of_a_registry_is_pulled_once_or_as_often_as_is_said() {
    let (place, other, registry) = (Place::new(), Place::new(), Registry::start());
    let name = registry.name("team/probe:1");
    build(&place, &["-t", &name]);
    assert!(place.command(&["push", &name]).status().unwrap().success());
    let refused = other.refused(125, &["--pull", "never", &name]);
    assert!(refused.contains("the store has no image"), "{refused}");
    let output = other.run(&[&name]);
    assert!(stderr(&output).contains(&format!("the store has no image {name}, so it is pulled")));
    assert_eq!(stdout(&output), "/probe-p2.wasm\nargs\nown\n");
    assert_eq!(other.ends(0, &[&name]), "");
    // Another image takes over the name.
    build(&place, &["-t", &name, "--cmd", r#"["args", "anew"]"#]);
    assert!(place.command(&["push", &name]).status().unwrap().success());
    assert_eq!(other.says(&[&name]), "/probe-p2.wasm\nargs\nown\n");
    assert_eq!(other.says(&["--pull", "always", &name]), "/probe-p2.wasm\nargs\nanew\n");
    let none = registry.name("team/none:1");
    let words = other.ends(125, &[&none]);
    assert!(words.contains(&format!("cannot run {none}: it could not be pulled")), "{words}");
}

#[test]
fn a_layout_runs_as_a_tar_and_as_a_folder() {
    let place = Place::new();
    build(&place, &["--output", "probe.tar"]);
    assert_eq!(place.says(&["probe.tar", "args", "a"]), "/probe-p2.wasm\nargs\na\n");
    let (_, plain) = tar(|tar| tar.file("probe.wasm", &probe()));
    let mut files = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&plain[..]), &mut files).unwrap();
    let compressed = ("application/vnd.oci.image.layer.v1.tar+zstd", zstd(&files));
    let config = json!({ "Entrypoint": ["probe.wasm"], "Cmd": ["args", "zstd"] });
    layout(&place.path("layout"), &config, &[compressed]);
    assert_eq!(place.says(&["./layout"]), "probe.wasm\nargs\nzstd\n");
}

#[test]
fn a_module_that_is_a_layer_runs_with_the_arguments() {
    let place = Place::new();
    for form in ["artifact", "artifact-index"] {
        place.build(&guest("probe-p2.wasm"), &["--form", form, "-t", form, "-o", "artifact.tar"]);
        assert_eq!(place.says(&["artifact.tar", "args", "a"]), "/probe-p2.wasm\nargs\na\n");
        place.build(&guest("probe-p2.wasm"), &["--form", form, "-t", form]);
        assert_eq!(place.says(&[form, "args", "a"]), "/probe-p2.wasm\nargs\na\n");
        assert_eq!(place.says(&[form]), "hello from wasm\n");
    }
}

#[test]
fn of_several_modules_that_are_layers_one_is_named() {
    let place = Place::new();
    let exits = |code: i32| {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        ("application/wasm", wat::parse_str(text).unwrap())
    };
    layout(&place.path("layout"), &json!({}), &[exits(3), exits(4)]);
    let refused = place.refused(125, &["./layout"]);
    assert!(
        refused.contains("2 modules as layers") && refused.contains("--entrypoint"),
        "{refused}"
    );
}

#[test]
fn an_image_for_linux_or_without_a_program_is_refused() {
    let place = Place::new();
    layout(&place.path("layout"), &json!({}), &[tar(|tar| tar.file("a", b""))]);
    let refused = place.refused(125, &["./layout"]);
    assert!(refused.contains("it names no program"), "{refused}");
    let refused = place.refused(127, &["./layout", "none.wasm"]);
    assert!(refused.contains("none.wasm"), "{refused}");
}

#[test]
fn a_module_in_the_store_that_is_not_what_its_name_says_does_not_run() {
    let place = Place::new();
    place.build(&guest("probe-p2.wasm"), &["-t", "art", "--form", "artifact"]);
    place.says(&["art"]);
    let module = fs::read(guest("probe-p2.wasm")).unwrap();
    let blobs = fs::read_dir(place.path("store/blobs/sha256")).unwrap();
    let blob =
        blobs.map(|blob| blob.unwrap().path()).find(|blob| fs::read(blob).unwrap() == module);
    let blob = blob.expect("the layer is the module");
    for damaged in [fs::read(guest("hello-c.wasm")).unwrap(), module[..1000].to_vec()] {
        fs::write(&blob, damaged).unwrap();
        let words = place.ends(125, &["art"]);
        assert!(
            words.contains("is damaged") && words.contains("pull or build it again"),
            "{words}"
        );
    }
}

#[test]
fn an_image_of_the_store_is_also_known_by_its_digest() {
    let place = Place::new();
    build(&place, &["-t", "probe"]);
    let listed = place.command(&["list", "--format", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let digest = listed[0]["digest"].as_str().unwrap();
    place.says(&["--pull", "never", &format!("probe@{digest}")]);
    place.says(&["--pull", "never", &format!("probe:any@{digest}")]);
    place.ends(125, &["--pull", "never", &format!("other@{digest}")]);
    place.ends(125, &["--pull", "never", &format!("probe@sha256:{}", "0".repeat(64))]);
}

#[test]
fn a_file_does_not_stand_before_an_image_of_its_name() {
    let place = Place::new();
    place.build(&guest("probe-p2.wasm"), &["-t", "probe"]);
    place.file("probe", "no image");
    assert_eq!(place.says(&["probe"]), "hello from wasm\n");
    place.file("plain", "(module (func (export \"_start\")))");
    place.says(&["plain"]);
}

#[test]
fn an_image_of_the_store_can_be_looked_at_by_its_name() {
    let place = Place::new();
    build(&place, &["-t", "probe"]);
    for verb in ["inspect", "explain"] {
        let output = place.command(&[verb, "probe"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains("runs here"), "{}", stdout(&output));
    }
    let output = place.command(&["inspect", "none"]).output().unwrap();
    assert!(stderr(&output).contains("cannot read none: No such file"), "{}", stderr(&output));
}
