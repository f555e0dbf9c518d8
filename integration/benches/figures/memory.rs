//! What sleeping containers weigh, from `/proc/PID/smaps`: proportional set size, that is, private
//! pages and a share of each shared one.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use integration::mock::processes;
use integration::mock::raw::Raw;

use crate::life::{Container, connect};
use crate::sample::Figure;
use crate::world::{Peer, Program, Runs, World};

const ALONE: [usize; 3] = [1, 10, 50];
const GROUPED: [usize; 4] = [1, 10, 100, 1000];

/// The name of a row.
pub fn row(containers: usize, grouped: bool) -> String {
    match grouped {
        true => format!("{containers} in one group"),
        false => format!("{containers}, each its own shim"),
    }
}

/// PSS of a container in MB, its processes, and where its kilobytes are.
pub fn measure(peers: &[Peer]) -> Vec<Figure> {
    let mut memory = Figure::new("memory", "MB");
    let mut count = Figure::new("processes", "processes");
    let mut kilobytes = Figure::new("kilobytes", "kB");
    let points = ALONE.map(|n| (n, false)).into_iter().chain(GROUPED.map(|n| (n, true)));
    for (containers, grouped) in points {
        for peer in peers {
            if grouped && matches!(peer.runs, Runs::Linux(_)) && containers > 100 {
                continue;
            }
            // A world each: its processes are found by its name.
            let world = World::new();
            let sleeping = Sleeping::new(&world, peer, containers, grouped);
            let weight = settled(&world.mock.namespace);
            let each = |sum: f64| vec![sum / containers as f64];
            let what = row(containers, grouped);
            memory.add(&what, &peer.name, each(weight.pss() / 1024.0));
            count.add(&what, &peer.name, each(weight.processes as f64));
            let telling = [(50, false), (1000, true)].contains(&(containers, grouped));
            if telling && peer.runs == Runs::Wasm {
                let kind =
                    |kind: &str| format!("{}: {kind}", if grouped { "group" } else { "own" });
                let (mut large, small): (Vec<_>, Vec<_>) =
                    weight.kinds.into_iter().partition(|(_, sum)| each(*sum)[0] >= 4.0);
                large.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                for (words, sum) in large {
                    kilobytes.add(&kind(&words), &peer.name, each(sum));
                }
                let rest = small.into_iter().map(|(_, sum)| sum).sum();
                kilobytes.add(&kind("the rest"), &peer.name, each(rest));
            }
            sleeping.end();
        }
    }
    vec![memory, count, kilobytes]
}

/// Containers that sleep, and their shims: one for all, or one each.
struct Sleeping {
    containers: Vec<Container>,
    shims: Vec<Raw>,
}

impl Sleeping {
    fn new(world: &World, peer: &Peer, count: usize, grouped: bool) -> Self {
        let group = grouped.then(|| world.group(peer, "sleeping"));
        let (mut containers, mut shims) = (Vec::new(), Vec::<Raw>::new());
        for _ in 0..count {
            let bundle = world.bundle(peer, Program::Sleeper, group.as_deref());
            let mut container = Container::new(&world.mock, peer, bundle);
            if !grouped || shims.is_empty() {
                shims.push(connect(&world.mock, peer, &container.bundle));
            }
            container.stay(shims.last_mut().expect("there is one"));
            containers.push(container);
        }
        Self { containers, shims }
    }

    fn end(self) {
        let mut shims: Vec<_> = self.shims.into_iter().map(Some).collect();
        let last = self.containers.len() - 1;
        let shared = shims.len() == 1;
        for (at, mut container) in self.containers.into_iter().enumerate() {
            let of = if shared { 0 } else { at };
            container.end(shims[of].as_mut().expect("it is there until its last container ends"));
            container.bury(if !shared || at == last { shims[of].take() } else { None });
        }
    }
}

/// What the processes of one name weigh, in kilobytes.
#[derive(Default)]
struct Weight {
    processes: usize,
    kinds: BTreeMap<String, f64>,
}

impl Weight {
    fn pss(&self) -> f64 {
        self.kinds.values().sum()
    }
}

/// Weighs when nothing changes any more: shims may still be at work for the next container.
fn settled(word: &str) -> Weight {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = weigh(word);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = weigh(word);
        let same = now.processes == before.processes && now.pss() == before.pss();
        if same || Instant::now() > deadline {
            return now;
        }
        before = now;
    }
}

fn weigh(word: &str) -> Weight {
    let mut weight = Weight::default();
    let found = processes(word);
    let shims: Vec<u32> =
        found.iter().filter(|(_, words)| is_shim(words)).map(|(pid, _)| *pid).collect();
    for (pid, words) in &found {
        let role = match is_shim(words) {
            // A shim's child of the same name stands ready to become a container.
            true if parent(*pid).is_some_and(|parent| shims.contains(&parent)) => "spare",
            true => "shim",
            false => "container",
        };
        // It may have ended meanwhile.
        let Ok(smaps) = fs::read_to_string(format!("/proc/{pid}/smaps")) else { continue };
        weight.processes += 1;
        add(&mut weight.kinds, role, &smaps);
    }
    weight
}

fn is_shim(words: &str) -> bool {
    words.split(' ').next().is_some_and(|program| program.contains("containerd-shim-"))
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Sorts a process's mappings by what they hold.
fn add(kinds: &mut BTreeMap<String, f64>, role: &str, smaps: &str) {
    let mut kind = String::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "Pss:" {
            let kilobytes: f64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
            *kinds.entry(format!("{role}, {kind}")).or_default() += kilobytes;
        } else if !first.ends_with(':') {
            let rights = words.next().unwrap_or_default();
            kind = held(rights, words.nth(3).unwrap_or_default());
        }
    }
}

fn held(rights: &str, name: &str) -> String {
    let part = match rights {
        _ if rights.contains('x') => "code",
        _ if rights.contains('w') => "data",
        _ => "constants",
    };
    match name {
        "" => "anonymous".into(),
        "[heap]" | "[stack]" => name.trim_matches(['[', ']']).into(),
        _ if name.starts_with('[') => "anonymous".into(),
        _ if name.contains(".cwasm") => "compiled wasm".into(),
        _ if name.contains(".so") => format!("libraries' {part}"),
        _ if name.contains("memfd") => "memfd".into(),
        _ => format!("binary's {part}"),
    }
}
