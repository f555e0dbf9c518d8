//! Who the container is: user, groups, capabilities, namespaces, host name.

use integration::docker::Container;
use integration::images::PROBE;

use crate::docker;

const SLEEP: &[&str] = &["sleep", "1000"];

fn status(container: &Container, field: &str) -> String {
    container.look(&format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/$pid/status | tr '\\t' ' '"))
}

#[test]
fn the_user_and_group_are_the_ones_that_were_asked_for() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-u", "1234:2345", "--group-add", "3456"], &PROBE, SLEEP);
    assert_eq!(status(&container, "Uid"), "1234 1234 1234 1234");
    assert_eq!(status(&container, "Gid"), "2345 2345 2345 2345");
    assert!(status(&container, "Groups").split_whitespace().any(|group| group == "3456"));
}

#[test]
fn a_user_cannot_write_where_only_root_may() {
    let (docker, _turn) = docker();
    docker.run(&["-u", "1234"], &PROBE, &["write", "/etc/greeting", "mine"]).exits(1);
    docker.run(&[], &PROBE, &["write", "/etc/greeting", "roots"]).ok();
}

#[test]
fn capabilities_are_no_more_than_docker_grants() {
    let (docker, _turn) = docker();
    let dropped = docker.start(&["--cap-drop", "ALL"], &PROBE, SLEEP);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&dropped, set), "0000000000000000", "{set}");
    }
    let linux = docker.start_linux(&[], &["sleep", "1000"]);
    let usual = docker.start(&[], &PROBE, SLEEP);
    let mask = |container: &Container| {
        u64::from_str_radix(&status(container, "CapBnd"), 16).expect("a mask")
    };
    assert_eq!(mask(&usual) & !mask(&linux), 0, "more than a Linux container has");
}

#[test]
fn no_new_privileges_is_honoured() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--security-opt", "no-new-privileges"], &PROBE, SLEEP);
    assert_eq!(status(&container, "NoNewPrivs"), "1");
}

#[test]
fn the_container_is_one_process_in_namespaces_of_its_own() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, SLEEP);
    for kind in ["net", "pid", "mnt", "uts", "ipc"] {
        container.look(&format!(
            "test $(readlink /proc/$pid/ns/{kind}) != $(readlink /proc/1/ns/{kind})"
        ));
    }
    assert_eq!(status(&container, "NSpid").split_whitespace().last(), Some("1"));
    let top = container.cli(&["top"]).ok();
    assert_eq!(top.lines().len(), 2, "{top}");
}

#[test]
fn namespaces_of_the_host_are_used_where_they_are_asked_for() {
    let (docker, _turn) = docker();
    let flags = ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"];
    let container = docker.start(&flags, &PROBE, SLEEP);
    for kind in ["net", "pid", "uts", "ipc"] {
        container.look(&format!(
            "test $(readlink /proc/$pid/ns/{kind}) = $(readlink /proc/1/ns/{kind})"
        ));
    }
}

#[test]
fn the_host_name_is_the_containers() {
    let (docker, _turn) = docker();
    let container = docker.start(&["-h", "named-by-test"], &PROBE, SLEEP);
    assert_eq!(container.look("nsenter -t $pid -u hostname"), "named-by-test");
    assert_eq!(
        docker.run(&["-h", "another"], &PROBE, &["cat", "/etc/hostname"]).ok().text(),
        "another"
    );
}
