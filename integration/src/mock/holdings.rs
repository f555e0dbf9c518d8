//! What a shim, and the machine for it, holds at one moment.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::remains::{cgroups, mounts, processes};
use super::{GRACE, Mock};

/// As much as a shim's memory may have grown, for its allocator's own reasons.
const ALLOWANCE_KIB: usize = 4 * 1024;

/// How long nothing must change: what ended a moment ago may still be on its way out.
const QUIET: Duration = Duration::from_millis(200);

/// What can be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    counts: [(&'static str, usize); 7],
    resident_kib: usize,
}

impl Mock {
    /// What there is of this containerd's containers, and what the shim with this pid has, once that
    /// changes no more.
    pub fn holdings(&self, shim: Option<u32>) -> Holdings {
        let deadline = Instant::now() + GRACE;
        let (mut seen, mut since) = (self.look(shim), Instant::now());
        while since.elapsed() < QUIET && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
            let now = self.look(shim);
            if now.counts != seen.counts {
                (seen, since) = (now, Instant::now());
            }
        }
        seen
    }

    fn look(&self, shim: Option<u32>) -> Holdings {
        let of_shim = |count: fn(u32) -> usize| shim.map_or(0, count);
        Holdings {
            counts: [
                ("processes", processes(&self.namespace).len()),
                ("children of the shim, zombies too", of_shim(children)),
                ("descriptors of the shim", of_shim(|shim| descriptors(shim, ""))),
                ("sockets among them", of_shim(|shim| descriptors(shim, "socket:"))),
                ("cgroups", cgroups(&self.namespace).len()),
                ("mounts", mounts().len() + of_shim(mounts_of)),
                ("files below /run", files(Path::new("/run"))),
            ],
            resident_kib: of_shim(resident_kib),
        }
    }

    /// Insists that no more comes to be held than `before`, but for some memory.
    ///
    /// # Panics
    /// Saying both.
    #[track_caller]
    pub fn holds_no_more_than(&self, before: &Holdings, shim: Option<u32>) -> Holdings {
        let deadline = Instant::now() + GRACE;
        loop {
            let now = self.look(shim);
            let grown = now.resident_kib.saturating_sub(before.resident_kib);
            let more = now.counts.iter().zip(&before.counts).any(|(now, before)| now.1 > before.1);
            if !more && grown <= ALLOWANCE_KIB {
                return now;
            }
            assert!(Instant::now() < deadline, "before:\n{before}after:\n{now}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:8} {what}")?;
        }
        writeln!(f, "{:8} KiB of the shim's memory", self.resident_kib)
    }
}

fn children(shim: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"));
    text.expect("the shim runs").split_whitespace().count()
}

fn descriptors(shim: u32, kind: &str) -> usize {
    let all = fs::read_dir(format!("/proc/{shim}/fd")).expect("the shim runs").flatten();
    let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with(kind)).count()
}

fn mounts_of(shim: u32) -> usize {
    let table = fs::read_to_string(format!("/proc/{shim}/mountinfo"));
    table.expect("the shim runs").lines().count()
}

fn files(folder: &Path) -> usize {
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => 1 + files(&entry.path()),
        _ => 1,
    };
    fs::read_dir(folder).into_iter().flatten().flatten().map(below).sum()
}

fn resident_kib(shim: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{shim}/status")).expect("the shim runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
