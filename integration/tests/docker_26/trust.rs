//! A node that runs signed images only, where docker does not say which image it runs.

use std::fs;

use integration::docker::Docker;
use integration::images::PROBE;

use crate::host;

const SETTINGS: &str = "/etc/containerd-shim-wasmtime/config.toml";

#[test]
fn what_is_of_no_known_image_does_not_run_where_only_signed_images_do() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.load(&PROBE);
    let rules = "[[SignedImages]]\nImages = \"*\"\nKeys = [\"/share/ours.pub\"]\n";
    fs::write(host.share().join("rules.toml"), rules).expect("the share is writable");
    host.sh(&format!(
        "cd /share && wasm-image keygen ours && mkdir -p $(dirname {SETTINGS}) && cp rules.toml {SETTINGS}"
    ));
    let refused = docker.run(&[], &PROBE, &[]);
    host.sh(&format!("rm {SETTINGS}"));
    let words = "only signed images run here, and containerd does not know which image";
    refused.fails().complains_of(&[words, "Docker 26"]);
    assert_eq!(docker.run(&[], &PROBE, &[]).ok().text(), "hello from wasm");
}
