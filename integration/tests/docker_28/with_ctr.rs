//! containerd 2.1 of the same host, without docker.

use integration::ctr::Ctr;
use integration::images::PROBE;
use integration::names::unique;
use integration::{PLATFORM, RUNTIME, leaks, wait};

integration::ctr_core!(crate::ctr);

#[test]
fn a_container_outlives_containerd() {
    let host = crate::host();
    let _alone = host.alone();
    let ctr = Ctr(host);
    let id = unique("outliving");
    let image = ctr.import(&PROBE);
    let fixed = ["run", "-d", "--runtime", RUNTIME, "--platform", PLATFORM];
    ctr.cli(&[&fixed[..], &[&image, &id, PROBE.entry, "sleep", "1000"]].concat()).ok();
    let before = ctr.pid(&id).expect("the task runs");
    host.sh("pkill -KILL -x containerd");
    wait::until("the end of containerd", || !host.test("pgrep -x containerd"));
    host.up();
    assert_eq!(ctr.pid(&id), Some(before));
    ctr.cli(&["task", "kill", "-s", "SIGTERM", &id]).ok();
    wait::until("the end of the task", || {
        let tasks = ctr.cli(&["task", "ls"]).ok().lines();
        tasks.iter().any(|line| line.starts_with(&id) && line.contains("STOPPED"))
    });
    ctr.cli(&["task", "rm", &id]).ok().complains_of(&["143"]);
    ctr.cli(&["container", "rm", &id]).ok();
    leaks::none_of(host, &id);
}
