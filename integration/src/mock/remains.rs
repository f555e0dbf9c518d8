//! What is left on the machine.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The processes that carry a word in their command line or their environment.
pub fn processes(word: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Whatever cannot be read has just ended.
        let read = |file| {
            String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default())
                .replace('\0', " ")
        };
        let (words, environment, groups) = (read("cmdline"), read("environ"), read("cgroup"));
        let alive =
            !read("stat").rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        if alive && [&words, &environment, &groups].into_iter().any(|text| text.contains(word)) {
            found.push((pid, words));
        }
    }
    found
}

/// The cgroups whose path carries a word.
pub fn cgroups(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = pending.pop() {
        // A cgroup that cannot be listed has just been removed.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if path.to_string_lossy().contains(word) {
                    found.push(path.clone());
                }
                pending.push(path);
            }
        }
    }
    found
}

/// The sockets below a folder, but for the mock's own.
pub(super) fn sockets(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(sockets(&entry.path()));
        } else if kind.is_socket()
            && !entry.path().starts_with("/run/containerd/containerd.sock.ttrpc")
        {
            found.push(entry.path());
        }
    }
    found
}

/// The mounts of this thread's namespace: where, and what.
pub(super) fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc is mounted");
    table.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" ")).collect()
}

/// What the first of a container's groups that has this file says in it.
#[track_caller]
pub fn group_file(id: &str, file: &str) -> String {
    let text = cgroups(id).iter().find_map(|group| fs::read_to_string(group.join(file)).ok());
    text.unwrap_or_else(|| panic!("no group of {id} has {file}")).trim().to_owned()
}
