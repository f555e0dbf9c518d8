//! Which forms of images `ctr run` takes with which containerd, and what the runtime makes of those.

#![allow(missing_docs, reason = "the name of each function is the promise that it proves")]

use artifact::media;

use crate::command::Done;
use crate::ctr::Ctr;
use crate::docker::Docker;
use crate::forms::{Archive, Handmade, built, layer_said_to_be_files, linux, on};
use crate::names::unique;
use crate::{PLATFORM, RUNTIME, leaks};

/// Makes a test of each of these functions; `$given` returns a [`Ctr`] and a guard. `layers` are those
/// of a containerd that leaves layers of WebAssembly alone, which 1.6 does not yet.
#[macro_export]
macro_rules! images_core {
    ($given:path) => {
        $crate::ctr_images! { $given;
            an_index_runs_on_wasi_and_on_linux,
            an_artifact_runs_once_a_container_is_of_it,
            an_artifact_in_an_index_runs_once_a_container_is_of_it,
            a_layer_that_is_cached_is_not_read_again_and_one_that_is_gone_is_named,
            one_of_several_components_is_chosen_by_its_name,
            an_artifact_for_other_platforms_says_which,
            images_that_nobody_should_make_are_refused_by_name,
        }
    };
    ($given:path, layers) => {
        $crate::images_core! { $given }
        $crate::ctr_images! { $given;
            a_layer_of_every_media_type_runs,
            a_layer_that_is_said_to_be_files_is_refused_by_containerd,
            an_artifact_is_refused_by_ctr_for_its_configuration,
        }
    };
}

/// See [`images_core`].
#[macro_export]
macro_rules! ctr_images {
    ($given:path; $($case:ident),+ $(,)?) => {
        $(#[test]
        fn $case() {
            let (ctr, _turn) = $given();
            $crate::core::images::$case(ctr);
        })+
    };
}

#[track_caller]
fn import(ctr: Ctr, platform: &str, archive: &Archive) -> Done {
    ctr.cli(&["image", "import", "--platform", platform, &archive.path])
}

/// Into the content store alone, whatever platform it is for.
#[track_caller]
fn import_as_it_is(ctr: Ctr, archive: &Archive) {
    ctr.cli(&["image", "import", "--all-platforms", "--no-unpack", &archive.path]).ok();
}

#[track_caller]
fn run(ctr: Ctr, platform: &str, archive: &Archive, command: &[&str]) -> Done {
    let id = unique("form");
    let fixed = ["run", "--rm", "--runtime", RUNTIME, "--platform", platform];
    let done = ctr.cli(&[&fixed[..], &[archive.reference.as_str(), &id], command].concat());
    ctr.forget(&id);
    leaks::none_of(ctr.0, &id);
    done
}

/// Runs a container of an image that ctr itself refuses: it is made of busybox, under a name that then
/// passes to `archive`. containerd knows a container's image by its name.
#[track_caller]
fn run_as_it_is(ctr: Ctr, archive: &Archive, command: &[&str]) -> Done {
    import_as_it_is(ctr, archive);
    run_imported(ctr, archive, command)
}

#[track_caller]
fn run_imported(ctr: Ctr, archive: &Archive, command: &[&str]) -> Done {
    let (id, name) = (unique("form"), unique(&archive.reference));
    ctr.cli(&["image", "tag", "docker.io/library/busybox:latest", &name]).ok();
    let fixed = ["container", "create", "--runtime", RUNTIME];
    ctr.cli(&[&fixed[..], &[name.as_str(), &id], command].concat()).ok();
    ctr.cli(&["image", "tag", "--force", &archive.reference, &name]).ok();
    let done = ctr.cli(&["task", "start", &id]);
    ctr.forget(&id);
    leaks::none_of(ctr.0, &id);
    done
}

pub fn an_index_runs_on_wasi_and_on_linux(ctr: Ctr) {
    let linux = linux(ctr.0);
    let image = built(ctr.0, &["--form", "index", "--linux", &linux], "probe-p2.wasm");
    import(ctr, PLATFORM, &image).ok();
    assert_eq!(run(ctr, PLATFORM, &image, &[]).ok().text(), "hello from wasm");
    import(ctr, "linux/amd64", &image).ok();
    let id = unique("linux");
    let done = ctr.cli(&["run", "--rm", &image.reference, &id, "echo", "hello from linux"]);
    assert_eq!(done.ok().text(), "hello from linux");
}

pub fn an_artifact_runs_once_a_container_is_of_it(ctr: Ctr) {
    for guest in ["probe-p1.wasm", "probe-p2.wasm"] {
        let image = built(ctr.0, &["--form", "artifact"], guest);
        for word in [&format!("/{guest}"), "/any-name", "/"] {
            let done = run_as_it_is(ctr, &image, &[word, "args", "two words"]).ok();
            assert_eq!(done.lines(), [word, "args", "two words"]);
        }
    }
}

pub fn an_artifact_in_an_index_runs_once_a_container_is_of_it(ctr: Ctr) {
    let linux = linux(ctr.0);
    let image = built(ctr.0, &["--form", "artifact-index", "--linux", &linux], "probe-p2.wasm");
    assert_eq!(run_as_it_is(ctr, &image, &["/"]).ok().text(), "hello from wasm");
}

pub fn a_layer_of_every_media_type_runs(ctr: Ctr) {
    for media_type in media::WASM_LAYERS {
        let mut image = Handmade::default();
        let layer = image.guest(media_type, "probe-p2.wasm");
        let config = image.config("wasi");
        let manifest = image.manifest(&config, &[layer]);
        let image = image.archive(ctr.0, &on(manifest, "wasi"));
        import(ctr, PLATFORM, &image).ok();
        assert_eq!(run(ctr, PLATFORM, &image, &[]).ok().text(), "hello from wasm");
        let done = run(ctr, PLATFORM, &image, &["/app", "exit", "3"]);
        assert_eq!(done.code, 1, "0.2 has no other code\n{done}");
    }
}

pub fn a_layer_that_is_said_to_be_files_is_refused_by_containerd(ctr: Ctr) {
    let image = layer_said_to_be_files(ctr.0);
    import_as_it_is(ctr, &image);
    run(ctr, PLATFORM, &image, &[])
        .fails()
        .complains_of(&["mismatched image rootfs and manifest layers"]);
}

pub fn an_artifact_is_refused_by_ctr_for_its_configuration(ctr: Ctr) {
    let artifact = built(ctr.0, &["--form", "artifact"], "probe-p2.wasm");
    let index = built(ctr.0, &["--form", "artifact-index"], "probe-p2.wasm");
    for (image, platform) in [(artifact, "wasip2/wasm"), (index, PLATFORM)] {
        import(ctr, platform, &image).ok();
        run(ctr, platform, &image, &["/"])
            .fails()
            .complains_of(&["unknown image config media type application/vnd.wasm.config.v0+json"]);
    }
}

pub fn a_layer_that_is_cached_is_not_read_again_and_one_that_is_gone_is_named(ctr: Ctr) {
    // A module that no other test compiles.
    let wat = format!(r#"(module (func (export "_start")) (@custom "{}" ""))"#, unique("own"));
    let wasm = wat::parse_str(&wat).expect("the wat of a test is well-formed");
    let mut image = Handmade::default();
    let layer = image.blob(media::WASM_LAYER, &wasm);
    let digest = layer["digest"].as_str().expect("a descriptor has one").to_owned();
    let config = image.config("wasi");
    let manifest = image.manifest(&config, &[layer]);
    let image = image.archive(ctr.0, &on(manifest, "wasi"));
    let code = digest.trim_start_matches("sha256:");
    let compiled = |verb: &str| {
        let root = "/var/lib/containerd-shim-wasmtime/code";
        ctr.0.sh(&format!("find {root} -name '{code}.cwasm' {verb}"))
    };
    run_as_it_is(ctr, &image, &["/"]).ok();
    assert!(!compiled("-print").is_empty());
    ctr.cli(&["content", "rm", &digest]).ok();
    run_imported(ctr, &image, &["/"]).ok();
    compiled("-delete");
    run_imported(ctr, &image, &["/"]).fails().complains_of(&[
        &image.reference,
        &digest,
        "pull the image again",
    ]);
}

pub fn one_of_several_components_is_chosen_by_its_name(ctr: Ctr) {
    let mut image = Handmade::default();
    let layers = ["probe-p1.wasm", "probe-p2.wasm"].map(|g| image.guest(media::WASM_LAYER, g));
    let config = image.config("wasi");
    let manifest = image.manifest(&config, &layers);
    let image = image.archive(ctr.0, &on(manifest, "wasi"));
    run_as_it_is(ctr, &image, &["/probe-p1.wasm", "exit", "7"]).exits(7);
    run_as_it_is(ctr, &image, &["probe-p2.wasm", "exit", "7"]).exits(1);
    run_as_it_is(ctr, &image, &["/"]).fails().complains_of(&[
        &image.reference,
        "2 layers",
        "probe-p1.wasm, probe-p2.wasm",
    ]);
}

pub fn an_artifact_for_other_platforms_says_which(ctr: Ctr) {
    let mut image = Handmade::default();
    let layer = image.guest(media::WASM_LAYER, "probe-p2.wasm");
    let config = image.config("wasip9");
    let manifest = image.manifest(&config, &[layer]);
    let index = image.index(&[on(manifest, "wasip9")]);
    let image = image.archive(ctr.0, &index);
    run_as_it_is(ctr, &image, &["/app.wasm"]).fails().complains_of(&[
        "\"/app.wasm\"",
        &image.reference,
        "wasi/wasm",
        "wasip9/wasm",
    ]);
}

pub fn images_that_nobody_should_make_are_refused_by_name(ctr: Ctr) {
    let mut many = Handmade::default();
    let layer = many.guest(media::WASM_LAYER, "probe-p2.wasm");
    let config = many.config("wasi");
    let top = many.manifest(&config, &vec![layer; 3000]);
    refused(ctr, many.archive(ctr.0, &top), &["3000 layers"]);

    let mut deep = Handmade::default();
    let config = deep.config("wasi");
    let mut top = deep.manifest(&config, &[]);
    for _ in 0..3 {
        top = deep.index(&[top]);
    }
    refused(ctr, deep.archive(ctr.0, &top), &["an index within an index within an index"]);

    let mut text = Handmade::default();
    let layer = text.blob(media::WASM_LAYER, b"this is no module\n");
    let config = text.config("wasi");
    let top = text.manifest(&config, &[layer]);
    let done = run_as_it_is(ctr, &text.archive(ctr.0, &top), &["/app.wasm"]);
    done.fails().complains_of(&["/app.wasm", "not a WebAssembly module"]);
}

#[track_caller]
fn refused(ctr: Ctr, image: Archive, words: &[&str]) {
    run_as_it_is(ctr, &image, &["/"]).fails().complains_of(&[&image.reference]).complains_of(words);
}

pub fn docker_runs_an_index(docker: Docker) {
    let linux = linux(docker.0);
    let image = built(docker.0, &["--form", "index", "--linux", &linux], "probe-p2.wasm");
    docker.cli(&["load", "-q", "-i", &image.path]).ok();
    let run = ["run", "--rm", "--pull", "never"];
    let flags = ["--runtime", RUNTIME, "--platform", PLATFORM, &image.reference];
    let done = docker.cli(&[&run[..], &flags].concat());
    assert_eq!(done.ok().text(), "hello from wasm");
    let done = docker.cli(&[&run[..], &[&image.reference, "echo", "hello from linux"]].concat());
    assert_eq!(done.ok().text(), "hello from linux");
}
