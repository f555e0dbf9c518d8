//! `wasm-image cache`: what a person sees of a node's compiled code, and what becomes of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use artifact::cache::{self, Cache};
use artifact::digest::Digest;
use artifact::engine::{Compatibility, Tier};
use serde_json::Value;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A node with a cache.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("code")
    }

    /// Of the engine `number`, whatever the format of caches is now.
    fn cache(&self, number: u64, tier: Tier) -> Cache {
        let engine =
            (1..100).find_map(|format| Compatibility::parse(&format!("{number:016x}-{format}")));
        Cache::open(&self.root(), &engine.expect("some format"), tier).unwrap()
    }

    /// Code of a module, last used so long ago; gives its file.
    fn put(&self, cache: &Cache, module: &str, bytes: usize, ago: Duration) -> PathBuf {
        let digest = Digest::of(module.as_bytes());
        let lock = cache.lock(&digest).unwrap();
        let code = vec![b'c'; bytes];
        let file = cache.put(&digest, &lock, |mut file| {
            file.write_all(&code).unwrap();
            Ok::<_, cache::Error>(())
        });
        file.unwrap().set_modified(SystemTime::now() - ago).unwrap();
        let entries = cache::entries(&self.root()).unwrap();
        entries.into_iter().find(|entry| entry.digest == digest).unwrap().path
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
        command.arg("cache").args(args).arg("--root").arg(self.root()).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().chain(&["--format", "json"]).copied().collect();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    #[track_caller]
    fn fail(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {words}");
        assert!(words.starts_with("error: ") && words.lines().count() == 1, "{words}");
        words
    }
}

fn name(module: &str) -> String {
    Digest::of(module.as_bytes()).to_string()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[5] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_list_says_whose_code_it_is_how_much_and_since_when() {
    let node = Node::new();
    assert!(node.ok(&["ls"]).ends_with("0 B in 0 files\n"));
    assert!(!node.root().exists(), "who looks makes nothing");
    node.put(&node.cache(1, Tier::Optimized), "old", 2000, 3 * DAY);
    let this = node.cache(2, Tier::Baseline);
    node.put(&this, "new", 1 << 20, Duration::ZERO);

    let list = node.ok(&["ls"]);
    let lines: Vec<_> = list.lines().collect();
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(0), ["DIGEST", "TIER", "ENGINE", "SIZE", "USED", "MADE"]);
    assert_eq!(words(1)[..4], [&name("new")[..12], "baseline", "this", "1.0"]);
    assert_eq!(words(2)[..3], [&name("old")[..12], "optimized", "another"]);
    assert_eq!(words(2)[5..7], ["3d", "ago"]);
    assert!(lines[3].ends_with("in 2 files"), "{list}");

    let list = node.json(&["list"]);
    assert_eq!(list[0]["digest"], format!("sha256:{}", name("new")));
    assert_eq!((&list[0]["current"], &list[1]["current"]), (&true.into(), &false.into()));
    assert!(list[0]["size"].as_u64().unwrap() > 1 << 20);
    let made = list[1]["made"].as_str().unwrap();
    assert!(made > list[1]["used"].as_str().unwrap(), "{list:#}");
}

#[test]
fn code_is_removed_by_the_beginning_of_its_digest() {
    let node = Node::new();
    let cache = node.cache(1, Tier::Optimized);
    let modules: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    for module in &modules {
        node.put(&cache, module, 10, Duration::ZERO);
    }
    let other_tier = node.cache(1, Tier::Baseline);
    node.put(&other_tier, &modules[0], 10, Duration::ZERO);
    // Of seventeen, two begin with the same digit.
    let first = |module: &String| name(module)[..1].to_owned();
    let twice = modules
        .iter()
        .find(|one| modules.iter().filter(|other| first(other) == first(one)).count() > 1);
    let words = node.fail(&["rm", &first(twice.unwrap())]);
    assert!(words.contains("several digests"), "{words}");
    assert!(node.fail(&["rm", &"0".repeat(64)]).contains("cache ls"));
    assert!(node.fail(&["rm", ""]).contains("no code"));
    assert_eq!(node.json(&["ls"]).as_array().unwrap().len(), 18, "a refusal removes nothing");

    let both = format!("sha256:{}", &name(&modules[0])[..16].to_uppercase());
    let said = node.ok(&["rm", &both, &name(&modules[1])[..12]]);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("(baseline, ") && said.contains("(optimized, "), "{said}");
    assert_eq!(node.json(&["ls"]).as_array().unwrap().len(), 15);
}

#[test]
fn a_prune_takes_what_is_of_no_use_and_more_if_it_is_told_to() {
    let node = Node::new();
    let (old, this) = (node.cache(1, Tier::Optimized), node.cache(2, Tier::Optimized));
    node.put(&old, "other version", 1000, Duration::ZERO);
    for (module, days) in [("a", 1), ("b", 9), ("c", 3)] {
        node.put(&this, module, 1000, days * DAY);
    }
    let folder = node.put(&this, "now", 1000, Duration::ZERO).parent().unwrap().to_owned();
    File::create(folder.join(format!("{}.new", name("killed")))).unwrap();

    let removed = node.json(&["prune"]);
    assert_eq!((&removed["entries"], &removed["leftovers"]), (&1.into(), &1.into()));
    let left = |node: &Node| node.json(&["ls"]).as_array().unwrap().len();
    assert_eq!(left(&node), 4);
    let said = node.ok(&["prune", "--unused-for", "7d"]);
    assert!(said.starts_with("removed 1 compiled module and 0 leftovers, freed 1.1 KiB"), "{said}");
    node.ok(&["prune", "--max-size", "2300"]);
    let names: Vec<_> = node.json(&["ls"]).as_array().unwrap().clone();
    let names: Vec<_> = names.iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
    assert_eq!(names, ["now", "a"].map(|module| format!("sha256:{}", name(module))));
    node.ok(&["prune", "--all"]);
    assert_eq!(left(&node), 0);
    let usage = node.run(&["prune", "--unused-for", "soon"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8(usage.stderr).unwrap().contains("7d"));
}

#[test]
fn what_is_not_as_it_was_made_is_found_and_removed_only_if_that_is_asked_for() {
    let node = Node::new();
    let cache = node.cache(1, Tier::Optimized);
    node.put(&cache, "good", 5000, Duration::ZERO);
    assert!(node.ok(&["verify"]).contains("1 file, 0 damaged, 0 removed"));
    flip(&node.put(&cache, "flipped", 5000, Duration::ZERO));
    let torn = node.put(&cache, "torn", 5000, Duration::ZERO);
    File::options().write(true).open(&torn).unwrap().set_len(4096).unwrap();

    let output = node.run(&["verify"]);
    let (said, words) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("2 damaged; --fix removes"), "{words}");
    let line = |module: &str| {
        let line = said.lines().find(|line| line.starts_with(&name(module)[..12]));
        line.unwrap_or_else(|| panic!("{module} is not in {said}")).to_owned()
    };
    assert!(line("good").ends_with("ok"));
    assert!(line("flipped").contains("damaged") && line("flipped").contains("not what was made"));
    assert!(line("torn").contains("damaged") && line("torn").contains("no seal"));
    assert!(torn.exists());

    let report = node.json(&["verify", "--fix"]);
    let health = |module: &str| {
        let digest = format!("sha256:{}", name(module));
        let all = report.as_array().unwrap();
        all.iter().find(|entry| entry["digest"] == digest.as_str()).unwrap().clone()
    };
    assert_eq!(
        (&health("good")["health"], &health("good")["removed"]),
        (&"ok".into(), &false.into())
    );
    assert_eq!(
        (&health("torn")["health"], &health("torn")["removed"]),
        (&"damaged".into(), &true.into())
    );
    assert!(!torn.exists());
    assert!(node.ok(&["verify"]).contains("1 file, 0 damaged"));
}

#[test]
fn who_is_not_root_is_told_so() {
    let node = Node::new();
    node.put(&node.cache(1, Tier::Optimized), "a", 10, Duration::ZERO);
    // The way to the cache is open, the cache is not.
    fs::set_permissions(node.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = node.0.path().join("wasm-image");
    fs::copy(env!("CARGO_BIN_EXE_wasm-image"), &program).unwrap();
    for args in [&["ls"][..], &["verify"], &["prune"], &["rm", "00"]] {
        let mut command = Command::new(&program);
        command.arg("cache").args(args).arg("--root").arg(node.root()).uid(65534).gid(65534);
        let output = command.output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("run this as root"), "{words}");
    }
}
