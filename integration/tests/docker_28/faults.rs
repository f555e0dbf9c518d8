//! What goes wrong around a container: its shim is killed, containerd is killed.

use integration::command::DEADLINE;
use integration::docker::{Container, Docker};
use integration::images::{PROBE, TICK};
use integration::names::unique;
use integration::{PLATFORM, RUNTIME, leaks, wait};

use crate::{ctr, docker, host};

/// The shim of a container.
fn shim(container: &Container) -> String {
    container.look("ps -o ppid= -p $pid | tr -d ' '")
}

/// Kills containerd and takes its socket, by which it would seem to be there.
fn kill_containerd() {
    host().sh("pkill -KILL -x containerd; rm -f /run/containerd/containerd.sock*");
}

/// How often the guest has ticked.
fn ticks(container: &Container) -> usize {
    container.logs().lines().len()
}

#[test]
fn a_container_whose_shim_is_killed_ends_with_137_and_starts_again() {
    let (docker, _turn) = docker();
    for pause in [false, true] {
        let container = docker.start(&[], &PROBE, &["spin"]);
        container.says("spinning");
        let (pid, shim) = (container.pid(), shim(&container));
        if pause {
            container.cli(&["pause"]).ok();
        }
        docker.0.sh(&format!("kill -KILL {shim}"));
        assert_eq!(container.wait(), 137);
        wait::until("the end of the guest", || !docker.0.test(&format!("test -e /proc/{pid}")));
        let left = leaks::traces(docker.0, &container.id);
        let left: Vec<&String> = left.iter().filter(|line| !line.starts_with("file: ")).collect();
        assert!(left.is_empty(), "{left:#?}");
        container.cli(&["start"]).ok();
        assert!(container.runs());
        container.cli(&["stop"]).ok();
        assert_eq!(container.wait(), 143);
    }
}

#[test]
fn containers_run_on_and_log_while_containerd_restarts() {
    let host = host();
    let _alone = host.alone();
    let container = Docker(host).start(&[], &TICK, &[]);
    container.says("tick");
    let pid = container.pid();
    kill_containerd();
    let before = ticks(&container);
    wait::until("ticks without containerd", || ticks(&container) > before + 2);
    host.up();
    let before = ticks(&container);
    wait::until("ticks after it has come back", || ticks(&container) > before + 2);
    assert!(container.runs());
    assert_eq!(container.pid(), pid);
    container.cli(&["stop"]).ok();
    assert_eq!(container.wait(), 143);
}

#[test]
fn what_ends_while_containerd_is_away_is_cleared_away_when_it_is_back() {
    let host = host();
    let _alone = host.alone();
    let (ctr, id) = (integration::ctr::Ctr(host), "ends-unseen");
    let image = ctr.import(&PROBE);
    let run = [
        "run",
        "-d",
        "--null-io",
        "--runtime",
        RUNTIME,
        "--platform",
        PLATFORM,
        image.as_str(),
        id,
    ];
    ctr.cli(&[&run[..], &[PROBE.entry, "sleep", "1000"]].concat()).ok();
    let pid = ctr.pid(id).expect("it runs");
    kill_containerd();
    host.sh(&format!("kill -TERM {pid}"));
    wait::until("the end of the guest", || {
        !host.test(&format!("grep -qv '^State:.*Z' /proc/{pid}/status"))
    });
    host.up();
    // containerd asks its shims for their processes, and has those without any delete their task.
    assert_eq!(ctr.pid(id), None);
    ctr.cli(&["container", "rm", id]).ok();
    leaks::none_of(host, id);
}

/// A network whose plumbing waits: `ctr run --cni` has it done between Create and Start.
struct SlowNetwork(String);

impl SlowNetwork {
    const CONFIGURATION: &str = "/etc/cni/net.d/slow.conflist";

    fn new() -> Self {
        let folder = host().folder("slow-network");
        let plugin = format!(
            r#"#!/bin/sh
cat >/dev/null
if [ "$CNI_COMMAND" = ADD ]; then touch {folder}/waits; cat <{folder}/go >/dev/null; fi
echo '{{"cniVersion":"0.4.0"}}'"#
        );
        let network = r#"{"cniVersion":"0.4.0","name":"slow","plugins":[{"type":"slow"}]}"#;
        for (file, text) in [("/opt/cni/bin/slow", plugin.as_str()), (Self::CONFIGURATION, network)]
        {
            let write = format!("mkdir -p $(dirname {file}); cat >{file}; chmod 755 {file}");
            host().exec_with(&["sh", "-ec", &write], text.as_bytes()).ok();
        }
        host().sh(&format!("mkfifo {folder}/go"));
        Self(folder)
    }

    /// Waits until the container of a `ctr run` has been created and not been started.
    fn waits(&self) {
        let waits = format!("rm {}/waits", self.0);
        wait::until("the network's turn", || host().test(&waits));
    }

    /// Lets what waits go on.
    fn go(&self) {
        host().sh(&format!(": >{}/go", self.0));
    }
}

impl Drop for SlowNetwork {
    fn drop(&mut self) {
        host().sh(&format!("rm {}", Self::CONFIGURATION));
    }
}

#[test]
fn what_was_created_when_containerd_was_killed_waits_for_the_next() {
    let host = host();
    let _alone = host.alone();
    let (ctr, network) = (integration::ctr::Ctr(host), SlowNetwork::new());
    let image = ctr.import(&PROBE);
    let fixed = ["ctr", "run", "-d", "--cni", "--runtime", RUNTIME, "--platform", PLATFORM, &image];
    for client_is_killed in [false, true] {
        let id = unique("created");
        let client = host.spawn(&[&fixed[..], &[&id, PROBE.entry, "sleep", "1000"]].concat());
        network.waits();
        let pid = ctr.pid(&id).expect("it is created");
        kill_containerd();
        // With it goes the plumbing, which is its child.
        let client = (!client_is_killed).then_some(client);
        host.up();
        assert_eq!(ctr.pid(&id), Some(pid));
        assert!(ctr.cli(&["task", "ls"]).ok().text().contains("CREATED"));
        if let Some(client) = client {
            network.go();
            client.finish(DEADLINE).ok();
            assert_eq!(ctr.pid(&id), Some(pid));
            assert!(ctr.cli(&["task", "ls"]).ok().text().contains("RUNNING"));
        }
        ctr.cli(&["task", "rm", "--force", &id]).ok();
        ctr.cli(&["container", "rm", &id]).ok();
        leaks::none_of(host, &id);
    }
}

/// The bed's `/run`, which is as big as there is room for otherwise.
struct Run;

impl Run {
    /// Leaves room for that many pages of 4 KiB.
    fn leave(&self, pages: u32) {
        let used = "$(df --output=used --block-size=1K /run | tail -1)";
        host().sh(&format!("mount -o remount,size=$(({used} + 4 * {pages}))K /run"));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        host().sh("mount -o remount,size=50% /run");
    }
}

#[test]
fn with_run_full_docker_says_so_and_nothing_is_left() {
    let host = host();
    let _alone = host.alone();
    let docker = Docker(host);
    // The first container of a host has groups made that are not its own.
    docker.run(&[], &PROBE, &["exit", "7"]).exits(7);
    let (mut failed, mut ran) = (0, 0);
    // Whoever asks first gets it, of containerd, the shim and docker: so room is lacking at another
    // place each time.
    let run = Run;
    for pages in 0..24 {
        run.leave(pages);
        let before = leaks::Inventory::of(host);
        let done = docker.run(&[], &PROBE, &["exit", "7"]);
        if done.code == 7 {
            ran += 1;
        } else {
            failed += 1;
            done.complains_of(&["o space left on device"]);
        }
        before.unchanged(host);
    }
    drop(run);
    docker.run(&[], &PROBE, &["exit", "7"]).exits(7);
    assert!(failed > 3 && ran > 3, "{failed} failed and {ran} ran");
}

#[test]
fn ctr_says_why_there_are_no_checkpoints() {
    let (ctr, _turn) = ctr();
    let running = ctr.spawn(&[], &PROBE, &["sleep", "1000"]);
    running.command.says("sleeping");
    let done = ctr.cli(&["task", "checkpoint", &running.id]).fails();
    done.complains_of(&["checkpoint is not supported"]);
    ctr.cli(&["task", "kill", "-s", "SIGKILL", &running.id]).ok();
    running.command.finish(std::time::Duration::from_secs(20)).exits(137);
    leaks::none_of(ctr.0, &running.id);
}
