//! Settings of the runtime in docker's configuration.

use integration::docker::Docker;
use integration::images::PROBE;
use integration::{RUNTIME, wait};

use crate::host;

/// Has docker know the runtime under another name, with a file of settings.
pub fn configure(name: &str, file: &str) {
    let change = format!(
        ".runtimes[\"{name}\"] = {{runtimeType: \"{RUNTIME}\", options: {{TypeUrl: \"runtimeoptions.v1.Options\", ConfigPath: \"{file}\"}}}}"
    );
    host().sh(&format!(
        "jq '{change}' /etc/docker/daemon.json >/tmp/daemon.json; cat /tmp/daemon.json >/etc/docker/daemon.json; pkill -HUP -x dockerd"
    ));
    wait::until("docker to know the runtime", || {
        host()
            .test(&format!("docker info --format '{{{{json .Runtimes}}}}' | jq -e '.[\"{name}\"]'"))
    });
}

#[test]
fn settings_come_from_the_file_that_docker_names() {
    let _alone = host().alone();
    let docker = Docker(host());
    let folder = host().folder("options");

    let good = format!("{folder}/good.toml");
    host().sh(&format!("echo 'SystemdCgroup = false' >{good}"));
    configure("wasm-good", &good);
    let done = docker.run(&["--runtime", "wasm-good"], &PROBE, &[]).ok();
    assert_eq!(done.text(), "hello from wasm");

    let bad = format!("{folder}/bad.toml");
    host().sh(&format!("echo 'Colour = \"blue\"' >{bad}"));
    configure("wasm-bad", &bad);
    let done = docker.run(&["--runtime", "wasm-bad"], &PROBE, &[]);
    assert!((125..=127).contains(&done.code), "{done}");
    done.complains_of(&["Colour", &bad]);
}

#[test]
fn a_ceiling_for_the_memory_of_all_guests_comes_from_the_file() {
    let _alone = host().alone();
    let docker = Docker(host());
    let file = format!("{}/small.toml", host().folder("options"));
    host().sh(&format!("echo 'MaxGuestMemory = \"32MiB\"' >{file}"));
    configure("wasm-small", &file);
    let small = ["--runtime", "wasm-small"];
    docker.run(&small, &PROBE, &["alloc", "64"]).exits(1).complains_of(&["MiB"]);
    docker.run(&small, &PROBE, &["alloc", "16"]).ok();
}
