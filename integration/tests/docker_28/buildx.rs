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

/// All that both docker and `wasm-image build` know.
const WHOLE: &str = r#"# A comment.
ARG FOLDER=srv
FROM scratch AS web
ARG FOLDER
ARG TARGETARCH
LABEL org.example="x y" \
      # within
      other='$FOLDER'
ENV COLOUR=blue A="1 2" PATH=/bin
ENV B=${COLOUR:-red}-${NONE:-none}${COLOUR:+!} ARCH=$TARGETARCH C=\$A
ENV LEGACY some words
COPY --chown=1000:1000 ["app.wasm", "/bin/"]
COPY si*e /${FOLDER}/site
WORKDIR /$FOLDER
WORKDIR site
USER 1000:1000
EXPOSE 8080 53/udp
STOPSIGNAL SIGINT
HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD ["/bin/app.wasm", "--fast"]
ENTRYPOINT ["app.wasm"]
CMD ["args", "$A"]
"#;

/// Builds `guest` by the file above, and gives the image's name.
fn built(docker: Docker, guest: &str) -> String {
    built_by(docker, guest, CONTAINERFILE)
}

/// The same by another file.
fn built_by(docker: Docker, guest: &str, containerfile: &str) -> String {
    let (host, name) = (docker.0, unique("buildx"));
    let folder = host.share().join(&name);
    fs::create_dir_all(folder.join("site")).expect("the share is writable");
    fs::write(folder.join("site/index.html"), "hello").expect("the share is writable");
    fs::write(folder.join("Containerfile"), containerfile).expect("the share is writable");
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

#[test]
fn wasm_image_builds_what_buildx_builds_of_the_same_containerfile() {
    let (docker, _turn) = docker();
    let host = docker.0;
    let theirs = built_by(docker, "probe-p1.wasm", WHOLE);
    let build = |name: &str, flags: &str| {
        host.sh(&format!(
            "cd /share/{theirs} && wasm-image build --tag {name} --output {name}.tar {flags} . \
             && docker load --input {name}.tar && rm {name}.tar"
        ));
    };
    let (ours, listed) = (unique("ours"), unique("listed"));
    build(&ours, "");
    // With an artifact in it that is no image.
    build(&listed, &format!("--form index --sbom spdx --sbom-output ../{listed}.json"));
    let config = |image: &str| -> serde_json::Value {
        let said =
            host.sh(&format!("docker image inspect --format '{{{{json .Config}}}}' {image}"));
        let mut config: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
        // buildx puts its own PATH first, and ours in the place of that.
        let env = config["Env"].as_array_mut().expect("there are variables");
        env.sort_by_key(ToString::to_string);
        config
    };
    let (theirs_config, ours_config) = (config(&theirs), config(&ours));
    for key in [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "StopSignal",
        "User",
        "WorkingDir",
    ] {
        assert!(!ours_config[key].is_null(), "{key}: {ours_config}");
        assert_eq!(ours_config[key], theirs_config[key], "{key}");
    }
    let run = |image: &str| {
        let fixed = ["run", "--rm", "--runtime", RUNTIME, "--platform", PLATFORM];
        docker.cli(&[&fixed[..], &[image, "cat", "/srv/site/index.html"]].concat()).ok().text()
    };
    for image in [&theirs, &ours, &listed] {
        assert_eq!(run(image), "hello", "{image}");
    }
}
