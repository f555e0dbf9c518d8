//! Images of `wasm-image`'s own store, loaded into the engines.

use integration::names::unique;
use integration::{PLATFORM, RUNTIME, leaks, paths};

#[test]
fn an_image_goes_from_the_store_into_docker_and_containerd_and_runs() {
    let (docker, _turn) = crate::docker();
    let bed = docker.0;
    let (folder, name) = (bed.folder("store"), unique("stored"));
    let inside = bed.share().join(folder.trim_start_matches("/share/"));
    std::fs::copy(paths::guest("probe-p1.wasm"), inside.join("probe.wasm")).unwrap();
    let tool =
        |verb: &str| bed.sh(&format!("cd {folder} && WASM_IMAGE_STORE=store wasm-image {verb}"));
    tool(&format!("build -t {name} probe.wasm"));
    tool(&format!("load {name}"));
    let run = ["run", "--rm", "--runtime", RUNTIME, "--platform", PLATFORM];
    let done = docker.cli(&[&run[..], &[&name]].concat()).ok();
    assert_eq!(done.text(), "hello from wasm");
    docker.cli(&["image", "rm", &name]).ok();

    tool(&format!("load --into containerd -n default {name}"));
    let (ctr, id) = (integration::ctr::Ctr(bed), unique("stored"));
    let full = format!("docker.io/library/{name}:latest");
    let done = ctr.cli(&[&run[..], &[&full, &id]].concat()).ok();
    assert_eq!(done.text(), "hello from wasm");
    ctr.cli(&["image", "rm", &full]).ok();
    leaks::none_of(bed, &id);
}
