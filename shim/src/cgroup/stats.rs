//! What a control group has used, read from either interface into one form.

use super::{Cgroup, Version};
use std::collections::BTreeMap;

/// A measurement of one container; what a system does not account is zero or empty.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// Memory, in bytes.
    pub memory: Memory,
    /// Processor time, in nanoseconds.
    pub cpu: Cpu,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub io: Vec<IoEntry>,
    /// Huge pages, by their size as the kernel names it.
    pub huge: BTreeMap<String, Amount>,
}

/// Bytes of one kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Amount {
    /// In use now.
    pub usage: u64,
    /// The most that was in use at once.
    pub max: u64,
    /// The most that may be; `u64::MAX` is no limit.
    pub limit: u64,
    /// How often the limit was met.
    pub failures: u64,
}

/// Memory.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// All of it.
    pub all: Amount,
    /// Swap (v2), memory and swap together (v1).
    pub swap: Amount,
    /// The kernel's for the container; v1 only.
    pub kernel: Amount,
    /// The kernel's for its TCP buffers; v1 only.
    pub kernel_tcp: Amount,
    /// The lines of `memory.events` (v2) or `memory.oom_control` (v1).
    pub events: BTreeMap<String, u64>,
    /// The lines of `memory.stat`.
    pub stat: BTreeMap<String, u64>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Default, Clone)]
pub struct Cpu {
    /// All of it.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By processor; v1 only.
    pub per_cpu: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled: u64,
    /// Periods in which more than the quota was used, by a burst; v2 only.
    pub bursts: u64,
    /// Time used by bursts; v2 only.
    pub burst: u64,
}

/// Processes and threads. A limit of 0 is none.
#[derive(Debug, Default, Clone)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be.
    pub limit: u64,
}

/// What was done on one block device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IoEntry {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

pub fn read(cgroup: &Cgroup) -> Stats {
    match cgroup.version {
        Version::V1 => read_v1(cgroup),
        Version::V2 => read_v2(cgroup),
    }
}

fn read_v1(cgroup: &Cgroup) -> Stats {
    let ticks = |key| cgroup.keyed("cpuacct", "cpuacct.stat", key).unwrap_or(0) * 10_000_000;
    let cpu = |key| cgroup.keyed("cpu", "cpu.stat", key).unwrap_or(0);
    let amount = |controller: &str, kind: &str| {
        let read = |what: &str| number(cgroup.text(controller, &format!("{kind}.{what}")));
        Amount {
            usage: read("usage_in_bytes"),
            max: read("max_usage_in_bytes"),
            limit: read("limit_in_bytes"),
            failures: read("failcnt"),
        }
    };
    Stats {
        memory: Memory {
            all: amount("memory", "memory"),
            swap: amount("memory", "memory.memsw"),
            kernel: amount("memory", "memory.kmem"),
            kernel_tcp: amount("memory", "memory.kmem.tcp"),
            events: table(cgroup.text("memory", "memory.oom_control")),
            stat: table(cgroup.text("memory", "memory.stat")),
        },
        cpu: Cpu {
            total: number(cgroup.text("cpuacct", "cpuacct.usage")),
            user: ticks("user"),
            system: ticks("system"),
            per_cpu: cgroup
                .text("cpuacct", "cpuacct.usage_percpu")
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect(),
            periods: cpu("nr_periods"),
            throttled_periods: cpu("nr_throttled"),
            throttled: cpu("throttled_time"),
            bursts: 0,
            burst: 0,
        },
        pids: pids(cgroup),
        io: io_v1(cgroup),
        huge: huge_pages(cgroup, ".usage_in_bytes", |kind| amount("hugetlb", kind)),
    }
}

fn read_v2(cgroup: &Cgroup) -> Stats {
    // Times are told without the controller, too.
    let file = cgroup.dirs.first().map(|dir| dir.path.join("cpu.stat"));
    let cpu = table(file.and_then(|path| std::fs::read_to_string(path).ok()));
    let count = |key| cpu.get(key).copied().unwrap_or(0);
    let nanos = |key| count(key) * 1000;
    let events = table(cgroup.text("memory", "memory.events"));
    let amount = |controller: &str, kind: &str| {
        let read = |what: &str| number(cgroup.text(controller, &format!("{kind}.{what}")));
        let met = cgroup.keyed(controller, &format!("{kind}.events"), "max");
        Amount {
            usage: read("current"),
            max: read("peak"),
            limit: read("max"),
            failures: met.unwrap_or(0),
        }
    };
    Stats {
        memory: Memory {
            all: amount("memory", "memory"),
            swap: amount("memory", "memory.swap"),
            kernel: Amount::default(),
            kernel_tcp: Amount::default(),
            events,
            stat: table(cgroup.text("memory", "memory.stat")),
        },
        cpu: Cpu {
            total: nanos("usage_usec"),
            user: nanos("user_usec"),
            system: nanos("system_usec"),
            per_cpu: Vec::new(),
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled: nanos("throttled_usec"),
            bursts: count("nr_bursts"),
            burst: nanos("burst_usec"),
        },
        pids: pids(cgroup),
        io: cgroup.text("io", "io.stat").map(|t| io_v2(&t)).unwrap_or_default(),
        huge: huge_pages(cgroup, ".current", |kind| amount("hugetlb", kind)),
    }
}

/// The sizes are those that have a file which ends in `file`, as `hugetlb.2MB.current` does.
fn huge_pages(
    cgroup: &Cgroup,
    file: &str,
    amount: impl Fn(&str) -> Amount,
) -> BTreeMap<String, Amount> {
    let files = cgroup.dir("hugetlb").and_then(|dir| std::fs::read_dir(dir).ok());
    let names = files.into_iter().flatten().flatten();
    names
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(file)?;
            // Reservations have files of their own.
            let plain = !size.contains('.');
            plain.then(|| (size.to_owned(), amount(&format!("hugetlb.{size}"))))
        })
        .collect()
}

fn pids(cgroup: &Cgroup) -> Pids {
    let limit = number(cgroup.text("pids", "pids.max"));
    Pids {
        current: number(cgroup.text("pids", "pids.current")),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

/// `max` is the largest number there is; a missing file is 0.
fn number(text: Option<String>) -> u64 {
    match text.as_deref().map(str::trim) {
        Some("max") => u64::MAX,
        Some(digits) => digits.parse().unwrap_or(0),
        None => 0,
    }
}

fn table(text: Option<String>) -> BTreeMap<String, u64> {
    let text = text.unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect()
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_v2(text: &str) -> Vec<IoEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let mut entry = device(words.next()?)?;
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = value.parse().unwrap_or(0);
                match key {
                    "rbytes" => entry.read_bytes = value,
                    "wbytes" => entry.written_bytes = value,
                    "rios" => entry.reads = value,
                    "wios" => entry.writes = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

/// Lines of `8:0 Read 4096`, in one file for bytes and one for operations.
fn io_v1(cgroup: &Cgroup) -> Vec<IoEntry> {
    let mut entries: Vec<IoEntry> = Vec::new();
    for (file, bytes) in [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ] {
        for line in cgroup.text("blkio", file).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [number, operation, value] = words[..] else {
                continue;
            };
            let (Some(new), Ok(value)) = (device(number), value.parse::<u64>()) else {
                continue;
            };
            let same = |e: &IoEntry| (e.major, e.minor) == (new.major, new.minor);
            let at = entries.iter().position(same).unwrap_or_else(|| {
                entries.push(new.clone());
                entries.len() - 1
            });
            match (operation, bytes) {
                ("Read", true) => entries[at].read_bytes = value,
                ("Write", true) => entries[at].written_bytes = value,
                ("Read", false) => entries[at].reads = value,
                ("Write", false) => entries[at].writes = value,
                _ => {}
            }
        }
    }
    entries
}

fn device(text: &str) -> Option<IoEntry> {
    let (major, minor) = text.split_once(':')?;
    Some(IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, ..IoEntry::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_io_lines_become_entries() {
        let entries = io_v2("8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n");
        let expected = IoEntry {
            major: 8,
            minor: 0,
            read_bytes: 4096,
            written_bytes: 512,
            reads: 2,
            writes: 1,
        };
        assert_eq!(entries, [expected]);
    }

    #[test]
    fn huge_pages_are_found_by_their_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("hugetlb.2MB.current", "4096"),
            ("hugetlb.2MB.max", "max"),
            ("hugetlb.2MB.events", "max 3"),
            ("hugetlb.2MB.rsvd.current", "1"),
        ] {
            std::fs::write(dir.path().join(file), format!("{text}\n")).unwrap();
        }
        let controllers = vec!["hugetlb".to_owned()];
        let dirs = vec![super::super::Dir { controllers, path: dir.path().into() }];
        let stats = read(&Cgroup { version: Version::V2, dirs, scope: None });
        let expected = Amount { usage: 4096, max: 0, limit: u64::MAX, failures: 3 };
        assert_eq!(stats.huge, BTreeMap::from([("2MB".to_owned(), expected)]));
    }

    #[test]
    fn max_is_no_limit_and_a_missing_file_is_zero() {
        assert_eq!(number(Some("max\n".into())), u64::MAX);
        assert_eq!(number(Some("42\n".into())), 42);
        assert_eq!(number(None), 0);
    }
}
