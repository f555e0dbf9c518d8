//! A virtual machine with a kernel whose cgroup v2 has all controllers, which systemd owns: limits
//! hold there, the kernel's kills are told, and a reload of systemd takes nothing back.

use std::collections::HashMap;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use integration::command;
use integration::images;
use integration::paths;

/// The script gives up by itself before that.
const DEADLINE: Duration = Duration::from_secs(600);

/// What `integration/vm/limits.sh` saw, by name. It runs once for all tests, which all fail if it does.
static SEEN: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let archive = folder.path().join("probe.tar");
    let reference = images::PROBE.reference();
    images::build(&reference, &archive, &[], &paths::guest("probe-p1.wasm"));
    let mut vm = Command::new(paths::script("vm"));
    vm.arg(paths::repository().join("integration/vm/limits.sh")).arg(&archive);
    let done = command::run(vm, b"", DEADLINE).ok();
    println!("{done}");
    let lines = done.lines();
    let facts = lines.iter().filter_map(|line| line.split_once(": "));
    facts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
});

fn seen(name: &str) -> &'static str {
    SEEN.get(name).map_or("", String::as_str)
}

/// Insists on the limits that a container was given.
#[track_caller]
fn limits(container: &str, expected: [(&str, &str); 6]) {
    for (file, value) in expected {
        assert_eq!(seen(&format!("{container} {file}")), value, "{container}: {file}");
    }
}

const DOCKERS: [(&str, &str); 6] = [
    ("memory.max", "67108864"),
    // 96 MiB of memory and swap together
    ("memory.swap.max", "33554432"),
    ("memory.low", "33554432"),
    ("cpu.max", "25000 50000"),
    ("cpu.weight", "59"),
    ("pids.max", "20"),
];

#[test]
fn the_machine_is_what_it_is_for() {
    assert_eq!(seen("driver"), "systemd 2");
    for controller in ["cpu", "io", "memory", "pids"] {
        assert!(seen("controllers").split(' ').any(|c| c == controller), "{controller}");
    }
}

#[test]
fn dockers_limits_are_those_of_the_scope() {
    assert_eq!(seen("docker group"), "/system.slice/docker-ID.scope");
    limits("docker", DOCKERS);
}

#[test]
fn a_reload_of_systemd_takes_no_limit_back() {
    limits("reloaded", DOCKERS);
}

#[test]
fn an_update_changes_the_limits_of_the_scope_and_a_reload_does_not_set_them_back() {
    for time in ["updated", "updated and reloaded"] {
        limits(
            time,
            [
                ("memory.max", "100663296"),
                // 160 MiB of memory and swap together
                ("memory.swap.max", "67108864"),
                ("memory.low", "33554432"),
                ("cpu.max", "10000 50000"),
                ("cpu.weight", "100"),
                ("pids.max", "30"),
            ],
        );
    }
}

#[test]
fn a_paused_container_is_frozen_until_it_is_unpaused() {
    assert_eq!(seen("paused"), "paused 1");
    assert_eq!(seen("unpaused"), "running 0");
}

#[test]
fn a_kill_of_another_process_is_told_while_the_container_runs_on() {
    assert_eq!(seen("oom beside"), "running oom");
}

#[test]
fn a_kill_is_told_though_systemd_has_removed_the_scope_before() {
    assert_eq!(seen("scope"), "removed");
    assert_eq!(seen("oom raced"), "137 true");
}

#[test]
fn stats_show_the_limit_and_what_is_used() {
    let stats = seen("stats");
    let words: Vec<&str> = stats.split(' ').collect();
    let [usage, "/", "64MiB", "1"] = words[..] else { panic!("{stats}") };
    let used: f64 = usage.trim_end_matches("MiB").parse().unwrap_or_else(|_| panic!("{stats}"));
    assert!((8.0..16.0).contains(&used), "{stats}");
}

#[test]
fn a_container_over_its_memory_is_known_to_be_killed_for_it() {
    for run in ["oom 1", "oom 2", "oom 3"] {
        assert_eq!(seen(run), "137 true", "{run}");
    }
    assert_eq!(seen("ctr oom"), "137 /tasks/oom");
}

#[test]
fn a_tight_loop_is_held_to_its_share_of_a_processor() {
    assert!(seen("throttled").parse::<u32>().is_ok_and(|n| n > 5), "{}", seen("throttled"));
}

#[test]
fn a_group_by_path_has_its_limits_too() {
    assert_eq!(seen("ctr group"), "/default/by-path");
    limits(
        "ctr",
        [
            ("memory.max", "67108864"),
            ("memory.swap.max", "max"),
            ("memory.low", "0"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "100"),
            ("pids.max", "max"),
        ],
    );
    assert_eq!(seen("ctr limit"), "67108864");
}

#[test]
fn nothing_stays() {
    for container in ["docker", "beside", "raced", "busy", "ctr", "hungry"] {
        assert_eq!(seen(&format!("{container} left")), "nothing", "{container}");
    }
}
