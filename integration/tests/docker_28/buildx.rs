//! Images that docker builds itself, by buildx.

use std::fs;

use integration::PLATFORM;
use integration::RUNTIME;
use integration::docker::Docker;
use integration::names::unique;
use integration::paths;

use crate::docker;

const CONTAINERFILE: &str = r#"FROM scratch
COPY app.wasm /bin/app.wasm
COPY site /srv/site
ENV COLOUR=blue PATH=/bin
WORKDIR /srv
USER 1000:1000
LABEL one=two
EXPOSE 80
STOPSIGNAL SIGINT
ENTRYPOINT ["app.wasm"]
CMD ["args", "two words"]
"#;

/// Builds `guest` by the file above, and gives the image's name.
fn built(docker: Docker, guest: &str) -> String {
    let (host, name) = (docker.0, unique("buildx"));
    let folder = host.share().join(&name);
    fs::create_dir_all(folder.join("site")).expect("the share is writable");
    fs::write(folder.join("site/index.html"), "hello").expect("the share is writable");
    fs::write(folder.join("Containerfile"), CONTAINERFILE).expect("the share is writable");
    fs::copy(paths::guest(guest), folder.join("app.wasm")).expect("the share is writable");
    let plugin = paths::judge("buildx/usr/libexec/docker/cli-plugins/docker-buildx");
    let plugins = folder.join("docker/cli-plugins");
    fs::create_dir_all(&plugins).expect("the share is writable");
    fs::copy(plugin, plugins.join("docker-buildx")).expect("the share is writable");
    host.sh(&format!(
        "cd /share/{name} && DOCKER_CONFIG=/share/{name}/docker docker buildx build --quiet \
         --platform {PLATFORM} --file Containerfile --tag {name} . && rm -r docker"
    ));
    name
}

#[test]
fn what_buildx_builds_runs_and_is_explained() {
    let (docker, _turn) = docker();
    for guest in ["probe-p1.wasm", "probe-p2.wasm"] {
        let image = built(docker, guest);
        let run = |words: &[&str]| {
            let fixed = ["run", "--rm", "--runtime", RUNTIME, "--platform", PLATFORM];
            docker.cli(&[&fixed[..], words].concat()).ok()
        };
        assert_eq!(run(&[&image]).lines(), ["app.wasm", "args", "two words"]);
        assert_eq!(run(&[&image, "cat", "/srv/site/index.html"]).text(), "hello");
        assert!(run(&[&image, "env"]).lines().contains(&"COLOUR=blue".to_owned()));

        // buildx puts an attestation beside the image, which is none.
        let host = docker.0;
        let saved = format!("/share/{image}/saved.tar");
        host.sh(&format!("docker save --output {saved} {image}"));
        let said = host.sh(&format!("wasm-image inspect --format json {saved}"));
        let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
        assert_eq!(said["image"]["platform"], PLATFORM, "{said}");
    }
}
