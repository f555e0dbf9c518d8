//! docker 28 and containerd 2.1 on a host that systemd runs: a container's cgroup is a scope that
//! systemd made, and that it keeps.

use std::sync::RwLockReadGuard;

use integration::bed::{Bed, Cgroup, Suite, bed};
use integration::docker::{Container, Docker};
use integration::images::PROBE;
use integration::leaks::Inventory;
use integration::{PLATFORM, RUNTIME, wait};

fn host() -> &'static Bed {
    bed(Suite::Forky, Cgroup::Systemd)
}

fn docker() -> (Docker, RwLockReadGuard<'static, ()>) {
    (Docker(host()), host().shared())
}

mod with_docker {
    integration::docker_core!(crate::docker);
}

/// The name of a container's unit.
fn unit(container: &Container) -> String {
    format!("docker-{}.scope", container.id)
}

/// The cgroup that a container's process is in.
#[track_caller]
fn group(container: &Container) -> String {
    container.look("sed -n 's/^0:://p' /proc/$pid/cgroup")
}

/// Properties of a unit, in systemd's order.
#[track_caller]
fn show(unit: &str, properties: &str) -> String {
    host().sh(&format!("systemctl show -p {properties} {unit}"))
}

#[test]
fn docker_leaves_cgroups_to_systemd_here() {
    let (docker, _turn) = docker();
    let driver = docker.cli(&["info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}"]).ok();
    assert_eq!(driver.text(), "systemd 2");
}

#[test]
fn a_container_is_a_delegated_scope_of_the_system_slice() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let unit = unit(&container);
    let folder = format!("/system.slice/{unit}");
    assert_eq!(group(&container), folder);
    let mut properties: Vec<String> =
        show(&unit, "ActiveState,Slice,Delegate,ControlGroup,Transient")
            .lines()
            .map(str::to_owned)
            .collect();
    properties.sort();
    let control = format!("ControlGroup={folder}");
    let expected =
        ["ActiveState=active", &control, "Delegate=yes", "Slice=system.slice", "Transient=yes"];
    assert_eq!(properties, expected);
    assert_eq!(
        host().sh(&format!("cat /sys/fs/cgroup{folder}/cgroup.procs")),
        container.pid().to_string()
    );
}

#[test]
fn a_slice_of_the_users_choice_is_made_for_it() {
    let (docker, _turn) = docker();
    let flags = ["--cgroup-parent", "made-for-tests.slice"];
    let container = docker.start(&flags, &PROBE, &["sleep", "1000"]);
    let unit = unit(&container);
    assert_eq!(
        group(&container),
        format!("/made.slice/made-for.slice/made-for-tests.slice/{unit}")
    );
    assert_eq!(show(&unit, "Slice"), "Slice=made-for-tests.slice");
}

#[test]
fn a_reload_of_systemd_leaves_it_where_it_is() {
    let host = host();
    let _alone = host.alone();
    let container = Docker(host).start(&[], &PROBE, &["sleep", "1000"]);
    let before = group(&container);
    for verb in ["daemon-reload", "daemon-reexec"] {
        host.sh(&format!("systemctl {verb}"));
        assert_eq!(group(&container), before, "{verb}");
        assert_eq!(show(&unit(&container), "ActiveState"), "ActiveState=active", "{verb}");
    }
    container.cli(&["stop"]).ok();
    assert_eq!(container.wait(), 143);
}

#[test]
fn a_container_that_was_stopped_leaves_neither_unit_nor_folder() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let (unit, folder) = (unit(&container), group(&container));
    container.cli(&["stop"]).ok();
    container.remove();
    // systemd forgets what nobody refers to in its own time.
    wait::until("no unit", || show(&unit, "LoadState") == "LoadState=not-found");
    assert!(!host().test(&format!("test -e /sys/fs/cgroup{folder}")), "{folder}");
}

#[test]
fn kill_ends_the_container_with_the_number_of_its_signal() {
    let (docker, _turn) = docker();
    for (signal, code) in [("TERM", 143), ("INT", 130), ("KILL", 137)] {
        let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
        container.says("sleeping");
        container.cli(&["kill", "-s", signal]).ok();
        assert_eq!(container.wait(), code, "{signal}");
    }
}

#[test]
fn systemd_can_stop_the_unit_of_a_container() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    container.says("sleeping");
    host().sh(&format!("systemctl stop {}", unit(&container)));
    assert_eq!(container.wait(), 143);
}

#[test]
fn a_container_starts_again_in_a_scope_of_the_same_name() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let before = group(&container);
    for _ in 0..3 {
        container.cli(&["restart", "-t", "0"]).ok();
        assert_eq!(group(&container), before);
    }
}

#[test]
fn ten_in_parallel_leave_nothing() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.run(&[], &PROBE, &[]).ok();
    let units = || host.sh("systemctl list-units --all --plain --no-legend 'docker-*.scope'");
    wait::until("no scope of an earlier test", || units().is_empty());
    let before = Inventory::of(host);
    let image = PROBE.reference();
    host.sh(&format!(
        "for i in $(seq 10); do docker run -d --name many-$i --pull never --runtime {RUNTIME} --platform {PLATFORM} {image} sleep 1000 & done; wait"
    ));
    assert_eq!(units().lines().count(), 10, "{}", units());
    host.sh("docker rm -f $(seq -f many-%g 10)");
    before.unchanged(host);
    wait::until("no scope", || units().is_empty());
}
