//! Images in the forms that are met, with docker 26 and with containerd 1.7 alone.

use artifact::media;
use integration::command::Done;
use integration::docker::Docker;
use integration::forms::{Archive, Handmade, built, layer_said_to_be_files, linux, on};
use integration::{PLATFORM, RUNTIME};

mod with_ctr {
    integration::images_core!(crate::ctr, layers);
}

#[test]
fn an_index_runs_on_wasi_and_on_linux() {
    let (docker, _turn) = crate::docker();
    integration::core::images::docker_runs_an_index(docker);
}

#[track_caller]
fn run(docker: Docker, platform: &str, image: &Archive) -> Done {
    docker.cli(&["load", "-q", "-i", &image.path]).ok();
    let fixed = ["run", "--rm", "--pull", "never", "--runtime", RUNTIME];
    let words = ["--platform", platform, &image.reference, "/app.wasm"];
    docker.cli(&[&fixed[..], &words].concat())
}

#[test]
fn a_layer_that_is_wasm_is_not_found_because_docker_does_not_say_which_image_it_runs() {
    let (docker, _turn) = crate::docker();
    let mut image = Handmade::default();
    let layer = image.guest(media::WASM_LAYER, "probe-p2.wasm");
    let config = image.config("wasi");
    let manifest = image.manifest(&config, &[layer]);
    for (image, platform) in [
        (built(docker.0, &["--form", "artifact"], "probe-p2.wasm"), "wasip2/wasm"),
        (image.archive(docker.0, &on(manifest, "wasi")), PLATFORM),
    ] {
        let words = [".wasm\": no such file", "which image the container is of", "Docker 26"];
        run(docker, platform, &image).exits(127).complains_of(&words);
    }
}

#[test]
fn what_docker_itself_refuses_it_refuses_in_these_words() {
    let (docker, _turn) = crate::docker();
    let linux = linux(docker.0);
    let flags = ["--form", "artifact-index", "--linux", &linux];
    let image = built(docker.0, &flags, "probe-p2.wasm");
    run(docker, PLATFORM, &image).fails().complains_of(&["No such image"]);
    let image = layer_said_to_be_files(docker.0);
    run(docker, PLATFORM, &image)
        .fails()
        .complains_of(&["mismatched image rootfs and manifest layers"]);
}
