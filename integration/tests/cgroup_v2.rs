//! docker 28 and containerd 2.1 on a host with the unified cgroup hierarchy.

use std::sync::RwLockReadGuard;

use integration::bed::{Bed, Cgroup, Suite, bed};
use integration::ctr::Ctr;
use integration::docker::Docker;
use integration::images::PROBE;

fn host() -> &'static Bed {
    bed(Suite::Forky, Cgroup::V2)
}

fn docker() -> (Docker, RwLockReadGuard<'static, ()>) {
    (Docker(host()), host().shared())
}

fn ctr() -> (Ctr, RwLockReadGuard<'static, ()>) {
    (Ctr(host()), host().shared())
}

mod with_docker {
    integration::docker_core!(crate::docker);
}

mod with_ctr {
    integration::ctr_core!(crate::ctr);
}

#[test]
fn a_container_has_a_cgroup_of_its_own_with_its_one_process_in_it() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["sleep", "1000"]);
    let group = container.look("sed -n 's/^0:://p' /proc/$pid/cgroup");
    assert!(group.contains(&container.id), "{group}");
    assert_eq!(
        docker.0.sh(&format!("cat /sys/fs/cgroup{group}/cgroup.procs")),
        container.pid().to_string()
    );
}
