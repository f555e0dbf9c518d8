//! Health checks.

use integration::docker::{Container, Docker};
use integration::images::PROBE;
use integration::names::unique;
use integration::{PLATFORM, RUNTIME, wait};

use crate::docker;

#[track_caller]
fn becomes(container: &Container, health: &str) {
    wait::until(&format!("{health} of {}", container.name), || {
        container.inspect("{{.State.Health.Status}}") == health
    });
}

fn checked(docker: &Docker, command: &str) -> Container {
    let command = format!("--health-cmd={command}");
    let flags = [&command, "--health-interval=500ms", "--health-retries=1"];
    docker.start(&flags, &PROBE, &["sleep", "1000"])
}

#[test]
fn a_check_for_a_shell_is_executed_without_one() {
    let (docker, _turn) = docker();
    becomes(&checked(&docker, "/probe-p1.wasm exit 0"), "healthy");
    becomes(&checked(&docker, "/probe-p1.wasm exit 1"), "unhealthy");
}

#[test]
fn a_check_that_needs_a_shell_says_so() {
    let (docker, _turn) = docker();
    let container = checked(&docker, "/probe-p1.wasm || exit 1");
    becomes(&container, "unhealthy");
    let log = container.inspect("{{range .State.Health.Log}}{{.Output}}{{end}}");
    assert!(log.contains("leave out all shell syntax"), "{log}");
}

#[test]
fn a_check_as_a_list_of_words_is_executed_as_it_is() {
    let (docker, _turn) = docker();
    let (image, name) = (docker.load(&PROBE), unique("health"));
    let body = format!(
        r#"{{"Image": "{image}", "Cmd": ["sleep", "1000"],
        "Healthcheck": {{"Test": ["CMD", "@cat", "/etc/greeting"], "Interval": 500000000}},
        "HostConfig": {{"Runtime": "{RUNTIME}"}}}}"#
    );
    let url = format!("http://docker/containers/create?name={name}&platform={PLATFORM}");
    let request = ["curl", "-sS", "--fail-with-body", "--unix-socket", "/run/docker.sock", &url];
    let json = ["-H", "Content-Type: application/json", "-d", &body];
    docker.0.exec(&[&request[..], &json[..]].concat()).ok();
    let id = docker.cli(&["inspect", "--format", "{{.Id}}", &name]).ok().text();
    let container = docker.adopt(name, id);
    container.cli(&["start"]).ok();
    becomes(&container, "healthy");
    let log = container.inspect("{{(index .State.Health.Log 0).Output}}");
    assert_eq!(log, "good morning");
}
