//! Limits, which root's control groups keep.

use std::fs;

use crate::harness::{Place, guest};

/// The folders that control groups of such containers are.
pub fn groups() -> Vec<String> {
    let mut found = Vec::new();
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for group in fs::read_dir(controller.path()).into_iter().flatten().flatten() {
            let path = group.path().display().to_string();
            found.extend(Some(path).filter(|path| path.contains("wasm-image-")));
        }
    }
    found
}

#[test]
fn too_much_memory_ends_the_guest_and_the_limit_is_named() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    let words = place.ends(137, &["--memory", "24m", &probe, "alloc", "64"]);
    assert!(words.contains("for want of memory; the limit is 24m"), "{words}");
    assert_eq!(place.says(&["--memory", "128m", &probe, "alloc", "16"]), "allocated 16\n");
}

#[test]
fn limits_are_set_in_groups_that_are_gone_after_the_guest() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    let limits = ["--memory", "77m", "--cpus", "0.5", "--pids-limit", "21"];
    let running = place.start(&[&limits[..], &[&probe, "spin"]].concat(), "spinning");
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let children = fs::read_to_string(children).unwrap();
    let lists = children
        .split_whitespace()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default());
    let list = lists.into_iter().find(|list| list.contains("wasm-image-")).expect("a group");
    let name = list.split('/').find(|word| word.starts_with("wasm-image-")).unwrap();
    let name = name.lines().next().unwrap().to_owned();
    let mine = || groups().into_iter().filter(|group| group.contains(&name)).collect::<Vec<_>>();
    let set = |names: [&str; 2]| {
        let mut files = mine().into_iter().flat_map(|group| names.map(|n| format!("{group}/{n}")));
        files.find_map(|file| fs::read_to_string(file).ok()).expect("the limit's file")
    };
    assert_eq!(set(["memory.limit_in_bytes", "memory.max"]).trim(), (77 << 20).to_string());
    assert_eq!(set(["pids.max", "pids.max"]).trim(), "21");
    assert!(set(["cpu.cfs_quota_us", "cpu.max"]).starts_with("50000"));
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
    assert_eq!(mine(), [""; 0]);
}

#[test]
fn amounts_that_are_none_are_refused() {
    let (place, hello) = (Place::new(), guest("hello-c.wasm"));
    for (flag, value) in [("--memory", "much"), ("--cpus", "0"), ("--memory", "0")] {
        let said = place.refused(125, &[flag, value, &hello]);
        assert!(said.contains(flag), "{said}");
    }
}
