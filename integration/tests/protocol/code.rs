//! What the tests of compiled code look at: the cache, who compiles, and which code runs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::protobuf::MessageField;
use integration::bundle::Bundle;
use integration::mock::{Mock, Shim};
use integration::options;

/// The cache of the test's own `/var/lib`.
pub const CACHE: &str = "/var/lib/containerd-shim-wasmtime/code";

/// Which compiler's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Made quickly.
    Baseline,
    /// Made to be quick.
    Optimized,
}

impl Tier {
    fn of(path: &str) -> Self {
        if path.contains("-baseline/") { Self::Baseline } else { Self::Optimized }
    }
}

/// The files of the cache, whatever they are.
pub fn cached() -> Vec<PathBuf> {
    let folders = fs::read_dir(CACHE).into_iter().flatten().flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .collect()
}

/// The compiled files of the cache.
pub fn compiled() -> Vec<PathBuf> {
    let mut files = cached();
    files.retain(|path| path.extension().is_some_and(|end| end == "cwasm"));
    files
}

/// The compiled file of a tier, if there is one.
#[track_caller]
pub fn entry(tier: Tier) -> Option<PathBuf> {
    let mut files = compiled();
    files.retain(|path| Tier::of(&path.to_string_lossy()) == tier);
    assert!(files.len() <= 1, "one module has one file of a tier: {files:#?}");
    files.pop()
}

/// Which code a container's process has mapped.
#[track_caller]
pub fn runs(shim: &Shim, bundle: &Bundle) -> Tier {
    let pid = shim.state(&bundle.id).expect("the task is there").pid;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its process is there");
    let code = maps.lines().find(|line| line.contains(".cwasm"));
    Tier::of(code.unwrap_or_else(|| panic!("no compiled code in\n{maps}")))
}

/// Settings by which the first start waits for optimized code.
pub const OPTIMIZED: &str = "Compiler = \"optimized\"";

/// A request with settings of the runtime.
pub fn with_options(toml: &str) -> CreateTaskRequest {
    CreateTaskRequest { options: MessageField::some(options::body(toml)), ..Default::default() }
}

/// A bundle whose module keeps the compilers busy and the guest not.
pub fn big(mock: &Mock) -> Bundle {
    mock.bundle(&["/big.wasm"]).with_wat("big.wasm", &functions(10_000))
}

/// The same, of so many functions.
pub fn functions(number: u32) -> String {
    let mut wat = String::from("(module (memory (export \"memory\") 1) (func (export \"_start\"))");
    for number in 0..number {
        write!(wat, "(func (param i32 i32) (result i32) local.get 0").expect("memory");
        for step in 0..20 {
            write!(
                wat,
                " i32.const {} i32.mul local.get 1 i32.xor i32.load offset={step}",
                number + step
            )
            .expect("memory");
        }
        wat.push(')');
    }
    wat.push(')');
    wat
}

/// A process that compiles in the background.
#[derive(Clone, Debug)]
pub struct Background {
    /// root's: it holds the entry of the cache.
    pub keeper: u32,
    /// nobody's, once it compiles: it holds the wasm.
    pub worker: Option<u32>,
}

/// Those of this test: they share its mount namespace.
pub fn backgrounds() -> Vec<Background> {
    let own = fs::read_link("/proc/thread-self/ns/mnt").expect("/proc is mounted");
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours: Vec<u32> = pids
        .filter(|pid| {
            // Whatever cannot be read has just ended.
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.contains("\0compile\0background\0")
                && fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|other| other == own)
        })
        .collect();
    let workers: Vec<u32> = ours.iter().flat_map(|pid| children(*pid)).collect();
    let keepers = ours.into_iter().filter(|pid| !workers.contains(pid));
    keepers
        .map(|keeper| {
            // What comes before the compiler's own work takes no time.
            let worker = children(keeper).into_iter().find(|worker| stat(*worker, 14) != "0");
            Background { keeper, worker }
        })
        .collect()
}

/// A field of proc_pid_stat(5), by its number there; `0` once the process is gone.
pub fn stat(pid: u32, field: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(field - 3).unwrap_or("0").to_owned()
}

/// The children of a process with one thread.
pub fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Whether there is a process of this number, ended ones that nobody has collected left out.
pub fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/root/.")).exists()
}
