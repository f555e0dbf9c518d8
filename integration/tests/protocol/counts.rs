//! What a container costs in counts that no clock is in: programs executed, processes made, system
//! calls, instructions. They are the same on a loaded machine, so a limit can be close.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use integration::bundle::Bundle;
use integration::mock::{Mock, Shim};
use integration::{paths, wait};
use serde_json::json;

use crate::EXIT_7;

// The limits: about a tenth above what was counted when they were set, with eight hierarchies of
// cgroup v1. Who does less lowers them.
const OWN: Limits = Limits { execs: 1, processes: 6, calls: 850 };
const ONE_MORE: Limits = Limits { execs: 0, processes: 2, calls: 570 };
const INFO: u64 = 640_000;
const DELETE: u64 = 475_000;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct Limits {
    execs: u64,
    processes: u64,
    calls: u64,
}

/// How often each system call was made.
struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Reads the summary of `strace -c -U name,calls`.
    fn read(summary: &Path) -> Self {
        let text = fs::read_to_string(summary).expect("strace has written it");
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        let mut calls: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
        calls.remove("total");
        Self(calls)
    }

    fn of(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|name| self.0.get(*name)).sum()
    }

    fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Insists on limits for a `count`th of what lies between `before` and this.
    #[track_caller]
    fn within(&self, before: Option<&Self>, count: u64, limits: &Limits) {
        let share = |of: &dyn Fn(&Self) -> u64| {
            (of(self).saturating_sub(before.map_or(0, of))).div_ceil(count)
        };
        let execs = share(&|counts| counts.of(&["execve", "execveat"]));
        let processes = share(&|counts| counts.of(&["clone", "clone3", "fork", "vfork"]));
        let calls = share(&Self::all);
        let by_name: BTreeMap<_, _> =
            self.0.keys().map(|name| (name, share(&|counts| counts.of(&[name])))).collect();
        let words = format!("{execs} execs, {processes} processes, {calls} calls: {by_name:?}");
        eprintln!("{words}");
        assert!(execs <= limits.execs, "more than {} execs: {words}", limits.execs);
        assert!(processes <= limits.processes, "more than {} processes: {words}", limits.processes);
        assert!(calls <= limits.calls, "more than {} calls: {words}", limits.calls);
    }
}

fn member(mock: &Mock, group: &str) -> Bundle {
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", EXIT_7)
        .set("/annotations", json!({ "io.containerd.runc.v2.group": group }));
    bundle.write();
    bundle
}

fn lives(shim: &Shim, bundle: &Bundle) {
    shim.create(bundle).expect("created");
    shim.start(&bundle.id).expect("started");
    assert_eq!(shim.wait(&bundle.id).expect("ended"), 7);
    shim.delete(&bundle.id).expect("deleted");
}

/// Counts a shim's whole life, in which `members` containers live one after the other.
fn counted(mock: &Mock, members: usize) -> Counts {
    let group = integration::names::unique(&format!("{}-counted", mock.namespace));
    let bundles: Vec<_> = (0..members).map(|_| member(mock, &group)).collect();
    let first = &bundles[0];
    let [summary, answer] = ["summary", "answer"].map(|name| first.path.join(name));
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-c", "-U", "name,calls", "-o"])
        .arg(&summary)
        .arg(paths::binary(paths::SHIM))
        .args(["-namespace", &mock.namespace, "-address", "/run/containerd/containerd.sock"])
        .args(["-publish-binary", "/bin/false", "-id", &first.id, "start"])
        // The dynamic linker looks at what the tests' own environment says.
        .env_clear()
        .env("PATH", PATH)
        .env("TTRPC_ADDRESS", "/run/containerd/containerd.sock.ttrpc")
        .current_dir(&first.path)
        .stdin(Stdio::null())
        .stdout(File::create(&answer).expect("a new file"))
        .spawn()
        .expect("strace is there: scripts/setup");
    let address = wait::some("an address", || {
        fs::read_to_string(&answer).ok().filter(|address| !address.is_empty())
    });
    let shim = Shim::at(address, 2);
    bundles.iter().for_each(|bundle| lives(&shim, bundle));
    // It may be gone before its answer is.
    let _ = shim.shutdown(&first.id);
    wait::until("the end of the shim", || strace.try_wait().expect("a child of ours").is_some());
    bundles.iter().for_each(|bundle| mock.nothing_left(bundle));
    Counts::read(&summary)
}

#[test]
fn a_container_costs_one_exec_and_few_calls() {
    const MORE: u64 = 10;
    let mock = Mock::new();
    counted(&mock, 1); // compiled
    let alone = counted(&mock, 1);
    alone.within(None, 1, &OWN);
    counted(&mock, 1 + MORE as usize).within(Some(&alone), MORE, &ONE_MORE);
}

/// How many instructions of its own the binary runs in a role.
fn instructions(bundle: &Bundle, words: &[&str]) -> u64 {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(paths::binary(paths::SHIM))
        .args(["-namespace", "counts", "-id", &bundle.id])
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .current_dir(&bundle.path)
        .stdin(Stdio::null())
        .output()
        .expect("valgrind is there: scripts/setup");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected : "));
    count.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn info_and_delete_run_few_instructions() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    bundle.write();
    let path = bundle.path.to_str().expect("a path of ours");
    for (words, most) in [(&["-info"][..], INFO), (&["-bundle", path, "delete"], DELETE)] {
        let count = instructions(&bundle, words);
        eprintln!("{words:?}: {count} instructions");
        assert!(count <= most, "{words:?}: {count} instructions, more than {most}");
    }
}
