//! What a container may use, and what docker tells about it.

use integration::docker::Container;
use integration::images::{PROBE, PROBE_P2};
use integration::wait;

use crate::docker;

/// A file of the container's own cgroup in a v1 hierarchy.
fn knob(container: &Container, controller: &str, file: &str) -> String {
    container.look(&format!(
        "group=$(sed -n 's/^[0-9]*:{controller}://p' /proc/$pid/cgroup); cat /sys/fs/cgroup/{controller}$group/{file}"
    ))
}

#[test]
fn memory_over_the_limit_ends_the_container_with_137() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let neighbour = docker.start(&["--memory", "64m"], image, &["hold", "1"]);
        neighbour.says("allocated 1");
        docker.run(&["--memory", "64m"], image, &["alloc", "256"]).exits(137);
        docker.run(&["--memory", "64m"], image, &["alloc", "16"]).ok();
        assert!(neighbour.runs());
    }
}

#[test]
fn the_memory_limit_is_the_cgroups() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--memory", "64m"], &PROBE, &["sleep", "1000"]);
    assert_eq!(knob(&container, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
}

#[test]
fn the_cpu_limit_is_the_cgroups() {
    let (docker, _turn) = docker();
    let container =
        docker.start(&["--cpus", "0.5", "--cpu-shares", "512"], &PROBE, &["sleep", "1000"]);
    let [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        .map(|file| knob(&container, "cpu", file).parse::<f64>().expect("a number"));
    assert!((quota / period - 0.5).abs() < 0.001, "{quota} of {period}");
    assert_eq!(knob(&container, "cpu", "cpu.shares"), "512");
}

#[test]
fn a_guest_in_a_tight_loop_is_held_to_its_share_of_a_processor() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--cpus", "0.2"], &PROBE, &["spin"]);
    container.says("spinning");
    wait::until("throttled periods", || {
        let stat = knob(&container, "cpu", "cpu.stat");
        let line = stat.lines().find(|line| line.starts_with("nr_throttled")).unwrap_or_default();
        line.split_whitespace().nth(1).is_some_and(|count| count != "0")
    });
}

#[test]
fn the_limit_of_processes_is_the_cgroups() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--pids-limit", "32"], &PROBE_P2, &["sleep", "1000"]);
    container.says("sleeping");
    assert_eq!(knob(&container, "pids", "pids.max"), "32");
}

#[test]
fn stats_show_the_limit_and_what_is_used() {
    let (docker, _turn) = docker();
    let container =
        docker.start(&["--memory", "64m", "--pids-limit", "32"], &PROBE, &["hold", "8"]);
    container.says("allocated 8");
    let format = "{{.MemUsage}} {{.PIDs}} {{.CPUPerc}}";
    let stats = container.cli(&["stats", "--no-stream", "--format", format]).ok().text();
    let words: Vec<&str> = stats.split_whitespace().collect();
    assert_eq!(words.get(2), Some(&"64MiB"), "{stats}");
    let used: f64 =
        words[0].trim_end_matches("MiB").parse().unwrap_or_else(|_| panic!("no MiB in {stats}"));
    assert!((8.0..64.0).contains(&used), "{stats}");
    let pids: u32 = words[3].parse().expect("docker prints a number");
    assert!((1..=32).contains(&pids), "{stats}");
}

#[test]
fn rlimits_and_the_oom_score_are_honoured() {
    let (docker, _turn) = docker();
    let flags = ["--ulimit", "nofile=88:99", "--oom-score-adj", "321"];
    let container = docker.start(&flags, &PROBE, &["sleep", "1000"]);
    let limits = container.look("grep '^Max open files' /proc/$pid/limits");
    assert_eq!(limits.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["88", "99"]);
    assert_eq!(container.look("cat /proc/$pid/oom_score_adj"), "321");
}

#[test]
fn update_changes_the_limits_of_a_running_container() {
    let (docker, _turn) = docker();
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "32"];
    let container = docker.start(&flags, &PROBE, &["sleep", "1000"]);
    let changed = [
        "--memory",
        "128m",
        "--memory-swap",
        "-1",
        "--cpus",
        "0.25",
        "--cpu-shares",
        "256",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "16",
    ];
    container.cli(&[&["update"], &changed[..]].concat()).ok();
    assert_eq!(knob(&container, "memory", "memory.limit_in_bytes"), (128 << 20).to_string());
    assert_eq!(knob(&container, "cpu", "cpu.shares"), "256");
    assert_eq!(knob(&container, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(knob(&container, "pids", "pids.max"), "16");
    let [quota, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        .map(|file| knob(&container, "cpu", file).parse::<f64>().expect("a number"));
    assert!((quota / period - 0.25).abs() < 0.001, "{quota} of {period}");
    assert!(container.runs());
}

#[test]
fn an_update_that_cannot_be_kept_says_which_file_refused() {
    let (docker, _turn) = docker();
    let container = docker.start(&["--memory", "64m"], &PROBE, &["hold", "32"]);
    container.says("allocated 32");
    let update = ["update", "--memory", "6m", "--memory-swap", "6m"];
    container.cli(&update).fails().complains_of(&["memory.limit", "in use"]);
    assert_eq!(knob(&container, "memory", "memory.limit_in_bytes"), (64 << 20).to_string());
    assert!(container.runs());
}

#[test]
fn a_kill_for_want_of_memory_is_shown_as_one_and_another_kill_is_not() {
    let (docker, _turn) = docker();
    let flags = ["--memory", "64m", "--memory-swap", "64m"];
    let hungry = docker.start(&flags, &PROBE, &["alloc", "256"]);
    let killed = docker.start(&flags, &PROBE, &["sleep", "1000"]);
    killed.says("sleeping");
    killed.cli(&["kill"]).ok();
    for (container, told) in [(&hungry, "true"), (&killed, "false")] {
        assert_eq!(container.wait(), 137);
        assert_eq!(container.inspect("{{.State.OOMKilled}}"), told);
    }
}

#[test]
fn a_process_that_takes_more_is_killed_as_one_in_a_linux_container_is() {
    let (docker, _turn) = docker();
    let flags = ["--memory", "64m", "--memory-swap", "64m"];
    let ours = docker.start(&flags, &PROBE, &["sleep", "1000"]);
    let linux = docker.start_linux(&flags, &["sleep", "1000"]);
    let (alloc, tail) = ([PROBE.entry, "alloc", "256"], ["tail", "/dev/zero"]);
    for (container, hungry) in [(&ours, &alloc[..]), (&linux, &tail[..])] {
        let pid = container.pid();
        docker.cli(&[&["exec", &container.name], hungry].concat()).exits(137);
        let filter = format!("container={}", container.name);
        let events = ["events", "--since", "10m", "--until", "0s", "--format", "{{.Action}}"];
        let events = [&events[..], &["--filter", &filter, "--filter", "event=oom"]].concat();
        wait::until("word of the kill", || docker.cli(&events).ok().lines() == ["oom"]);
        let state = "{{.State.Status}} {{.State.Pid}} {{.State.OOMKilled}}";
        assert_eq!(container.inspect(state), format!("running {pid} true"));
    }
    docker.cli(&["exec", &ours.name, PROBE.entry, "alloc", "16"]).ok();
}

#[test]
fn a_guest_below_a_ceiling_of_its_own_sees_a_failed_allocation() {
    let (docker, _turn) = docker();
    let ceiling = ["--annotation", "io.containerd.wasmtime.max-guest-memory=32MiB"];
    for image in [&PROBE, &PROBE_P2] {
        docker.run(&ceiling, image, &["alloc", "16"]).ok();
        docker.run(&ceiling, image, &["alloc", "64"]).exits(1).complains_of(&["after", "MiB"]);
    }
}
