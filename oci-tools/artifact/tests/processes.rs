//! Processes that use one cache at the same time, some of them killed at work.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use artifact::cache::{self, Cache, Collection, Health, collect, entries};
use artifact::digest::Digest;
use artifact::engine::{Compatibility, Tier, engine};

/// What all entries may weigh, in bytes; all that are made weigh three times as much.
const BOUND: u64 = 256 << 10;
const MODULES: u64 = 12;
const STEPS: u64 = 400;
/// This variable makes a worker of this test's process: the cache, and a number to begin with.
const WORKER: &str = "CACHE_WORKER";

/// (which, its code): each byte tells where it belongs.
fn code(module: u64) -> Vec<u8> {
    let length = (module + 1) * (10 << 10);
    (0..length).map(|at| (at / 7 + module * 31) as u8).collect()
}

fn digest(module: u64) -> Digest {
    Digest::of(&module.to_le_bytes())
}

fn open(root: &Path) -> Cache {
    let engine = engine(Tier::Optimized).expect("an engine");
    Cache::open(root, &Compatibility::of(&engine), Tier::Optimized).expect("a cache of ours")
}

/// Whether there was an entry, which must be whole.
fn read(cache: &Cache, module: u64) -> bool {
    let Some(mut file) = cache.get(&digest(module)).expect("a readable entry") else {
        return false;
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("a readable entry");
    let code = code(module);
    assert!(bytes.len() > code.len(), "{} bytes of module {module}", bytes.len());
    assert_eq!(bytes[..code.len()], code, "module {module}");
    true
}

fn make(cache: &Cache, module: u64) {
    let lock = cache.lock(&digest(module)).expect("a lock");
    if read(cache, module) {
        return;
    }
    let written = cache.put(&digest(module), &lock, |mut file| {
        for piece in code(module).chunks(4096) {
            file.write_all(piece).expect("room");
        }
        Ok::<_, cache::Error>(())
    });
    written.expect("an entry");
    cache.evict(BOUND).expect("a readable cache");
}

fn work(root: &Path, mut random: u64) {
    let cache = open(root);
    for step in 0..STEPS {
        // Knuth's linear congruential generator; its high bits are the good ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (what, module) = (random >> 60, (random >> 32) % MODULES);
        match what {
            0..8 => drop(read(&cache, module)),
            8..13 => make(&cache, module),
            13 => cache.evict(BOUND).expect("a readable cache"),
            14 => cache.remove(&digest(module)).expect("a cache of ours"),
            _ => {
                for entry in entries(root).expect("a readable cache") {
                    let health = entry.check().expect("a readable entry");
                    assert!(matches!(health, None | Some(Health::Whole)), "{health:?}");
                }
            }
        }
        println!("step {step}");
    }
}

fn start(root: &Path, number: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--exact", "nobody_sees_half_an_entry_and_the_bound_holds", "--nocapture"]);
    command.env(WORKER, format!("{} {number}", root.display()));
    command.stdout(Stdio::piped()).spawn().expect("this test's own binary")
}

#[test]
fn nobody_sees_half_an_entry_and_the_bound_holds() {
    if let Ok(order) = std::env::var(WORKER) {
        let (root, number) = order.split_once(' ').expect("two words");
        return work(Path::new(root), number.parse().expect("a number"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("code");
    let mut steady: Vec<_> = (1..=4).map(|number| start(&root, number)).collect();
    // Others are killed wherever they are after so many steps, and succeeded.
    for round in 0..8 {
        let mut victim = start(&root, 100 + round);
        let lines = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
        let seen = lines.map_while(Result::ok).filter(|line| line.contains("step"));
        assert_eq!(seen.take(10 + 7 * round as usize).count(), 10 + 7 * round as usize);
        victim.kill().expect("ours");
        victim.wait().expect("ours");
    }
    for worker in &mut steady {
        let mut said = String::new();
        worker.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(worker.wait().expect("ours").success(), "{said}");
        assert_eq!(said.matches("step ").count(), STEPS as usize);
    }
    let cache = open(&root);
    make(&cache, 0);
    cache.evict(BOUND).expect("a readable cache");
    let left = entries(&root).expect("a readable cache");
    assert!(left.iter().map(|entry| entry.size).sum::<u64>() <= BOUND, "{left:#?}");
    assert!(!left.is_empty());
    for entry in left {
        assert_eq!(entry.check().expect("readable"), Some(Health::Whole));
    }
    // Of those who were killed nothing is left.
    collect(&root, &Collection::default()).expect("a readable cache");
    let files = fs::read_dir(&root).expect("the cache").flatten();
    let files = files.filter_map(|dir| fs::read_dir(dir.path()).ok()).flatten().flatten();
    let other: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension() != Some("cwasm".as_ref()))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}
