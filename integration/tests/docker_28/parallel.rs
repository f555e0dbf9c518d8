//! Many containers at once, and what a host holds when they are gone.

use std::thread;

use integration::docker::Docker;
use integration::images::{PROBE, PROBE_P2};
use integration::leaks::Inventory;
use integration::{PLATFORM, RUNTIME, wait};

use crate::host;

const MANY: usize = 50;

#[test]
fn fifty_containers_in_parallel_all_run_and_leave_nothing_behind() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.run(&[], &PROBE, &[]).ok();
    let before = Inventory::of(host);
    let image = PROBE.reference();
    let script = format!(
        "for i in $(seq {MANY}); do docker run -d --name many-$i --pull never --runtime {RUNTIME} --platform {PLATFORM} {image} sleep 1000 & done; wait"
    );
    let started = host.sh(&script);
    assert_eq!(started.lines().count(), MANY, "{started}");
    wait::until("all of them to say that they sleep", || {
        host.sh(&format!("for i in $(seq {MANY}); do docker logs many-$i; done")).lines().count()
            == MANY
    });
    let running = docker.cli(&["ps", "-q", "--filter", "name=many-"]).ok();
    assert_eq!(running.lines().len(), MANY);
    host.sh(&format!("docker rm -f $(seq -f many-%g {MANY})"));
    before.unchanged(host);
}

#[test]
fn fifty_containers_that_end_by_themselves_leave_nothing_behind() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.run(&[], &PROBE_P2, &[]).ok();
    let before = Inventory::of(host);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(docker.run(&[], &PROBE_P2, &["args"]).ok().lines().len(), 2);
                }
            });
        }
    });
    before.unchanged(host);
}

#[test]
fn containers_of_every_fate_leave_nothing_behind() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    docker.run(&[], &PROBE, &[]).ok();
    let before = Inventory::of(host);
    docker.run(&[], &PROBE, &["trap"]).exits(134);
    docker.run(&["--memory", "64m"], &PROBE, &["alloc", "256"]).exits(137);
    docker.run(&["--entrypoint", "/bad/import.wasm"], &PROBE, &[]).fails();
    docker.run(&["--entrypoint", "/nowhere.wasm"], &PROBE, &[]).fails();
    docker.start(&["-p", "18099:80"], &PROBE, &["spin"]).remove();
    docker.create(&[], &PROBE, &["spin"]).remove();
    before.unchanged(host);
}
