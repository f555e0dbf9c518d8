//! The harness itself, tried on Linux containers: what it looks for it must be able to see.

use integration::docker::Docker;
use integration::leaks::{Inventory, traces};

use crate::host;

#[test]
fn the_harness_sees_what_a_running_container_holds_and_that_it_is_gone_afterwards() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    // The first container makes the cgroup that all of docker's are in.
    docker.start_linux(&[], &["true"]).remove();
    let before = Inventory::of(host);
    let container = docker.start_linux(&[], &["sleep", "1000"]);
    let seen = traces(host, &container.id);
    for kind in ["process: ", "process in its cgroup: ", "mount: ", "cgroup: ", "file: "] {
        assert!(seen.iter().any(|line| line.starts_with(kind)), "no {kind}in {seen:#?}");
    }
    let added = before.added(host);
    for kind in ["process: ", "mount: ", "cgroup: ", "bundle: ", "socket: ", "link: "] {
        assert!(added.iter().any(|line| line.starts_with(kind)), "no {kind}in {added:#?}");
    }
    container.remove();
    before.unchanged(host);
}

#[test]
fn a_linux_container_beside_the_wasm_ones_runs() {
    let host = host();
    let _turn = host.shared();
    let container = Docker(host).start_linux(&[], &["sh", "-c", "echo from linux; exit 4"]);
    assert_eq!(container.wait(), 4);
    assert_eq!(container.logs().text(), "from linux");
}
