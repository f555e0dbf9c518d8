//! Images in the forms that are met, with docker 28 and with containerd 2.1 alone.

use artifact::media;
use integration::command::Done;
use integration::docker::{Container, Docker};
use integration::forms::{Archive, Handmade, built, layer_said_to_be_files, linux};
use integration::images::HELLO;
use integration::names::unique;
use integration::{PLATFORM, RUNTIME};

use crate::docker;

mod with_ctr {
    integration::images_core!(crate::ctr, layers);
}

fn words<'a>(platform: &'a str, image: &'a Archive, command: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["--pull", "never", "--runtime", RUNTIME, "--platform", platform];
    [&fixed[..], &[image.reference.as_str()], command].concat()
}

#[track_caller]
fn load(docker: Docker, image: &Archive) {
    docker.cli(&["load", "-q", "-i", &image.path]).ok();
}

#[track_caller]
fn run(docker: Docker, platform: &str, image: &Archive, command: &[&str]) -> Done {
    load(docker, image);
    docker.cli(&[&["run", "--rm"][..], words(platform, image, command).as_slice()].concat())
}

#[track_caller]
fn start(docker: Docker, platform: &str, image: &Archive, command: &[&str]) -> Container {
    load(docker, image);
    let name = unique("form");
    let words = words(platform, image, command);
    let id =
        docker.cli(&[&["run", "-d", "--name", &name][..], words.as_slice()].concat()).ok().text();
    docker.adopt(name, id)
}

#[test]
fn an_index_runs_on_wasi_and_on_linux() {
    let (docker, _turn) = docker();
    integration::core::images::docker_runs_an_index(docker);
}

#[test]
fn an_artifact_runs_whatever_its_program_is_called() {
    let (docker, _turn) = docker();
    for (guest, platform) in [("probe-p1.wasm", "wasip1/wasm"), ("probe-p2.wasm", "wasip2/wasm")] {
        let image = built(docker.0, &["--form", "artifact"], guest);
        for word in ["/", "app", "/app.wasm"] {
            let done = run(docker, platform, &image, &[word, "args", "two words"]).ok();
            assert_eq!(done.lines(), [word, "args", "two words"]);
        }
    }
}

#[test]
fn an_artifact_in_an_index_runs_on_wasi_beside_linux() {
    let (docker, _turn) = docker();
    let linux = linux(docker.0);
    let flags = ["--form", "artifact-index", "--linux", &linux];
    let image = built(docker.0, &flags, "probe-p2.wasm");
    assert_eq!(run(docker, PLATFORM, &image, &["/"]).ok().text(), "hello from wasm");
    let done = docker.cli(&["run", "--rm", "--pull", "never", &image.reference, "echo", "linux"]);
    assert_eq!(done.ok().text(), "linux");
}

#[test]
fn a_layer_of_every_media_type_runs() {
    let (docker, _turn) = docker();
    for media_type in media::WASM_LAYERS {
        let mut image = Handmade::default();
        let layer = image.guest(media_type, "probe-p2.wasm");
        let config = image.config("wasi");
        let manifest = image.manifest(&config, &[layer]);
        let image = image.archive(docker.0, &manifest);
        assert_eq!(run(docker, PLATFORM, &image, &[]).ok().text(), "hello from wasm");
    }
}

#[test]
fn an_export_of_an_artifact_is_called_by_its_name() {
    let (docker, _turn) = docker();
    let mut image = Handmade::default();
    let wasm = wat::parse_str(HELLO).expect("the wat of a test is well-formed");
    let layer = image.blob(media::WASM_LAYER, &wasm);
    let config = image.config("wasi");
    let manifest = image.manifest(&config, &[layer]);
    let image = image.archive(docker.0, &manifest);
    load(docker, &image);
    let words = words(PLATFORM, &image, &[]);
    let run = ["run", "--rm", "--entrypoint", "/#greet"];
    docker.cli(&[&run[..], &words].concat()).ok().complains_of(&["hello from wat"]);
}

#[test]
fn processes_of_an_artifact_are_executed_by_the_name_of_its_program() {
    let (docker, _turn) = docker();
    let image = built(docker.0, &["--form", "artifact"], "probe-p2.wasm");
    let container = start(docker, "wasip2/wasm", &image, &["/", "sleep", "1000"]);
    container.says("sleeping");
    let exec =
        |words: &[&str]| docker.cli(&[&["exec", container.name.as_str()][..], words].concat());
    for word in ["/", "/probe-p2.wasm"] {
        assert_eq!(exec(&[word, "args", "x"]).ok().lines(), [word, "args", "x"]);
    }
    let refused = exec(&["ls"]).exits(127).text();
    assert!(refused.contains("\"ls\"") && refused.contains("@help"), "{refused}");
}

#[test]
fn what_docker_itself_refuses_it_refuses_in_these_words() {
    let (docker, _turn) = docker();
    let image = built(docker.0, &["--form", "artifact"], "probe-p2.wasm");
    run(docker, "wasip2/wasm", &image, &[]).fails().complains_of(&["no command specified"]);
    run(docker, PLATFORM, &image, &["/"])
        .fails()
        .complains_of(&["does not provide the specified platform (wasi/wasm)"]);
    let image = layer_said_to_be_files(docker.0);
    run(docker, PLATFORM, &image, &[])
        .fails()
        .complains_of(&["mismatched image rootfs and manifest layers"]);
}
