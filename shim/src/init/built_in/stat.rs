//! `@stat`: what a container uses and has.

use super::{Failure, Order, Reason};
use crate::cgroup::Cgroup;
use crate::guest;
use crate::spec::Plan;
use crate::sys;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the host's files say of a container.
pub struct Stat {
    memory: (u64, u64),
    cpu: u64,
    pids: (u64, u64),
    processes: Vec<Process>,
    sockets: Vec<String>,
}

/// One process.
struct Process {
    /// As the container numbers it.
    pid: String,
    cpu: u64,
    memory: u64,
    code: Option<String>,
    command: String,
}

impl Stat {
    pub fn gather(order: &Order, cgroup: &Cgroup) -> Result<Self, Failure> {
        let gone = || Failure::new(Reason::Internal, "the container has ended");
        let stats = cgroup.stats().ok_or_else(gone)?;
        // A pid of one that has ended may mean another container's process by now.
        let place = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt"));
        let here = place(order.init)?;
        let is_here = |pid: i32| place(pid).is_ok_and(|place| place == here);
        let pids = || order.processes.iter().copied();
        let processes =
            pids().filter_map(|pid| Process::read(pid).filter(|_| is_here(pid))).collect();
        Ok(Self {
            memory: (stats.memory.all.usage, stats.memory.all.limit),
            cpu: stats.cpu.total,
            // The caller is in there too, and not what is asked for.
            pids: (stats.pids.current.saturating_sub(1), stats.pids.limit),
            processes,
            sockets: sockets(order.init, pids().filter(|pid| is_here(*pid))),
        })
    }

    pub fn print(&self, plan: &Plan, out: &mut impl Write) -> io::Result<()> {
        let process = &plan.process;
        writeln!(out, "container  {}", plan.id)?;
        writeln!(out, "user       {}:{}", process.uid, process.gid)?;
        writeln!(out, "memory     {}{}", bytes(self.memory.0), of(self.memory.1, bytes))?;
        writeln!(out, "cpu        {}", seconds(self.cpu / 1_000_000))?;
        writeln!(out, "processes  {}{}", self.pids.0, of(self.pids.1, |limit| limit.to_string()))?;
        for one in &self.processes {
            let code = one.code.as_deref().unwrap_or("-");
            writeln!(
                out,
                "  {:>5}  {:>9}  {:>10}  {code}  {}",
                one.pid,
                seconds(one.cpu),
                bytes(one.memory),
                one.command
            )?;
        }
        writeln!(out, "folders")?;
        for (path, read_only) in guest::folders(plan) {
            let how = match (sys::fd::open(path, nix::fcntl::OFlag::O_RDONLY), read_only) {
                (Err(e), _) => format!("not granted: {e}"),
                (Ok(_), true) => "read-only".into(),
                (Ok(_), false) => "read-write".into(),
            };
            writeln!(out, "  {}  {how}", path.display())?;
        }
        writeln!(out, "sockets{}", if self.sockets.is_empty() { "    none" } else { "" })?;
        self.sockets.iter().try_for_each(|socket| writeln!(out, "  {socket}"))
    }
}

impl Process {
    /// `None` for one that has ended meanwhile.
    fn read(pid: i32) -> Option<Self> {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let status = read("status")?;
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let stat = read("stat")?;
        // Fields 14 and 15 of proc_pid_stat(5), counted from the third, behind the name.
        let ticks = stat[stat.rfind(')')? + 2..].split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let memory = field("VmRSS:")?.trim().trim_end_matches(" kB").parse::<u64>().ok()?;
        Some(Self {
            pid: field("NSpid:")?.split_whitespace().last()?.to_owned(),
            cpu: ticks * 10,
            memory: memory * 1024,
            code: read("maps").as_deref().and_then(code),
            command: read("cmdline")?.trim_end_matches('\0').replace('\0', " "),
        })
    }
}

/// The digest of the wasm whose compiled code is mapped: the code cache's files are named after it.
fn code(maps: &str) -> Option<String> {
    let path = maps.lines().find_map(|line| line.strip_suffix(".cwasm"))?;
    let digest = path.rsplit('/').next()?;
    Some(format!("sha256:{}", digest.get(..12)?))
}

/// The sockets that these processes have open, as the network namespace of `init` shows them.
fn sockets(init: i32, pids: impl Iterator<Item = i32>) -> Vec<String> {
    let mut theirs = HashSet::new();
    for pid in pids {
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            theirs.extend(inode.map(str::to_owned));
        }
    }
    let tables =
        ["tcp", "tcp6", "udp", "udp6"].map(|name| (name, format!("/proc/{init}/net/{name}")));
    let mut lines = Vec::new();
    for (name, path) in tables {
        let text = fs::read_to_string(path).unwrap_or_default();
        lines.extend(text.lines().skip(1).filter_map(|line| socket(name, line, &theirs)));
    }
    lines
}

/// One line of `/proc/net/tcp` and its like, when it is of one of `theirs`.
fn socket(table: &str, line: &str, theirs: &HashSet<String>) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [local, remote, state] = [1, 2, 3].map(|n| fields.get(n).copied());
    if !theirs.contains(*fields.get(9)?) {
        return None;
    }
    let protocol = table.trim_end_matches('6');
    let mut words = format!("{protocol}  {}", address(local?)?);
    match (protocol, state?) {
        ("tcp", "0A") => words.push_str("  listening"),
        _ => {
            let remote = address(remote?)?;
            if remote.port() != 0 {
                let _ = write!(words, "  to {remote}");
            }
        }
    }
    Some(words)
}

/// An address as the kernel writes it: 32-bit words of this machine's byte order in hex, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let words: Option<Vec<u8>> = (0..host.len() / 8)
        .map(|n| u32::from_str_radix(host.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let host = match words?.as_slice() {
        four @ [_, _, _, _] => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(four).ok()?)),
        sixteen => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(sixteen).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

fn bytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

/// A limit in words; one that no machine could meet is none.
fn of(limit: u64, write: impl Fn(u64) -> String) -> String {
    match limit {
        0 | 0x1000_0000_0000_0000.. => String::new(),
        limit => format!(" of {}", write(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_from_the_kernels_tables() {
        let theirs = HashSet::from(["77".to_owned()]);
        let line =
            "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1";
        assert_eq!(socket("tcp", line, &theirs).unwrap(), "tcp  127.0.0.1:8080  listening");
        assert_eq!(socket("tcp", &line.replace(" 77 ", " 78 "), &theirs), None);
        let six = "1: 00000000000000000000000001000000:0050 \
                   00000000000000000000000001000000:0051 01 0:0 0:0 0 0 0 77 1";
        assert_eq!(socket("tcp6", six, &theirs).unwrap(), "tcp  [::1]:80  to [::1]:81");
    }

    #[test]
    fn the_code_is_known_by_its_file() {
        let maps = "7f0-7f1 r-xp 0 08:01 1 /c/0123-1/0123456789abcdef0123.cwasm\n7f2 rw-p";
        assert_eq!(code(maps).unwrap(), "sha256:0123456789ab");
        assert_eq!(code("7f0-7f1 r-xp 0 08:01 1 /lib/libc.so"), None);
    }
}
