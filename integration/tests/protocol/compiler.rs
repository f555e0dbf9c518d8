//! The process that reads hostile wasm: what it may do, and what becomes of everything else when it
//! or those above it are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use integration::bundle::Bundle;
use integration::mock::{Answer, Mock, Shim, processes};
use integration::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::code::{OPTIMIZED, big, cached, children, lives, with_options};

/// The processes that compile for a shim.
struct Compiler {
    shim: u32,
    /// root's: it holds the entry of the cache.
    keeper: u32,
    /// nobody's: it holds the wasm.
    worker: u32,
}

impl Compiler {
    /// Waits until a shim of `mock` compiles, and the worker is locked in.
    #[track_caller]
    fn at_work(mock: &Mock) -> Self {
        wait::some("a compiler at work", || {
            let shims = processes(&mock.namespace).into_iter().map(|(pid, _)| pid);
            shims
                .flat_map(|shim| children(shim).into_iter().map(move |keeper| (shim, keeper)))
                .find_map(|(shim, keeper)| {
                    let words = fs::read_to_string(format!("/proc/{keeper}/cmdline")).ok()?;
                    let worker = *children(keeper).first()?;
                    // The code's threads come after the last step of the locking.
                    let ready = words.contains("\0compile\0") && tasks(worker) > 1;
                    ready.then_some(Self { shim, keeper, worker })
                })
        })
    }

    fn end(pid: u32) {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("it is at work");
    }

    /// Waits until neither of the two is there any more.
    fn gone(&self) {
        for pid in [self.keeper, self.worker] {
            wait::until("the end of the compiler", || !lives(pid));
        }
    }
}

fn tasks(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Creates a bundle while `meanwhile` is done to its compiler.
fn create(mock: &Mock, bundle: &Bundle, meanwhile: impl FnOnce(&Compiler)) -> Answer<Shim> {
    thread::scope(|scope| {
        let creating = scope.spawn(|| mock.create_with(bundle, with_options(OPTIMIZED)));
        let compiler = Compiler::at_work(mock);
        meanwhile(&compiler);
        creating.join().expect("Create is answered")
    })
}

/// Insists that the module can be compiled and run, and that the cache then holds its code alone.
#[track_caller]
fn compiles(mock: &Mock, bundle: &Bundle) {
    let created = mock.create_with(bundle, with_options(OPTIMIZED));
    let shim = created.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(mock, bundle);
    let files = cached();
    assert!(
        files.len() == 1 && files[0].extension().is_some_and(|end| end == "cwasm"),
        "{files:#?}"
    );
}

/// Insists that a process that reads hostile input holds nothing else.
#[track_caller]
pub fn confined(pid: u32) {
    is_nobody(pid);
    let proc = PathBuf::from(format!("/proc/{pid}"));
    for kind in ["net", "ipc", "uts"] {
        let own = fs::read_link(proc.join("ns").join(kind)).expect("it is at work");
        let ours = fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("our own");
        assert_ne!(own, ours, "{kind}");
    }
    let root = proc.join("root");
    for folder in ["etc", "proc", "run", "var"] {
        assert!(!root.join(folder).exists(), "it can see /{folder}");
    }
}

/// Insists that a process has no user, no rights, and finite means.
#[track_caller]
pub fn is_nobody(pid: u32) {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let read = |file: &str| fs::read_to_string(proc.join(file)).expect("it is at work");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}\n{status}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(field("Uid:"), "65534 65534 65534 65534");
    assert_eq!(field("Gid:"), "65534 65534 65534 65534");
    assert_eq!(field("Groups:"), "");
    assert_eq!(field("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name}\n{limits}"));
        let mut both = line.split_whitespace().map(|word| word.parse::<u64>());
        let mut next = || both.next().expect("a soft and a hard limit");
        (next().expect(name), next().expect(name))
    };
    assert_eq!(limit("Max core file size"), (0, 0));
    for name in ["Max cpu time", "Max data size"] {
        let (soft, hard) = limit(name);
        assert!(0 < soft && soft <= hard, "{name} {soft} {hard}");
    }
    let (soft, hard) = limit("Max file size");
    assert!(soft <= hard, "{soft} {hard}");
}

#[test]
fn the_compiler_is_nobody_with_no_rights_no_network_and_finite_means() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let shim = create(&mock, &bundle, |compiler| {
        confined(compiler.worker);
    });
    shim.unwrap_or_else(|refusal| panic!("refused: {refusal:?}")).finish(&mock, &bundle);
}

#[test]
fn the_compiler_holds_its_input_its_output_and_standard_error_alone() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let shim = create(&mock, &bundle, |compiler| {
        let proc = PathBuf::from(format!("/proc/{}", compiler.worker));
        let mut held: Vec<(u32, String, u32)> = fs::read_dir(proc.join("fd"))
            .expect("it is at work")
            .flatten()
            .map(|entry| {
                let number = entry.file_name().to_string_lossy().into_owned();
                let target = fs::read_link(entry.path()).expect("a descriptor that is held");
                let info = fs::read_to_string(proc.join("fdinfo").join(&number)).expect("the same");
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
                let flags = u32::from_str_radix(flags.expect("open flags").trim(), 8);
                (
                    number.parse().expect("a number"),
                    target.to_string_lossy().into_owned(),
                    flags.expect("an octal number") & libc::O_ACCMODE.cast_unsigned(),
                )
            })
            .collect();
        held.sort();
        let [(0, input, read), (1, null, _), (2, error, _), (_, output, _)] = &held[..] else {
            panic!("other descriptors than its own: {held:#?}");
        };
        assert!(input.ends_with("/big.wasm"), "{held:#?}");
        assert_eq!(*read, libc::O_RDONLY.cast_unsigned(), "it could write the wasm: {held:#?}");
        assert_eq!(null, "/dev/null", "{held:#?}");
        assert!(error.starts_with("/memfd:stderr"), "{held:#?}");
        let [expected] = &cached()
            .into_iter()
            .filter(|file| file.extension().is_some_and(|end| end == "new"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("one file is being made: {:#?}", cached());
        };
        assert_eq!(Path::new(output), expected, "{held:#?}");
    });
    shim.unwrap_or_else(|refusal| panic!("refused: {refusal:?}")).finish(&mock, &bundle);
}

#[test]
fn a_compiler_that_is_killed_fails_create_by_the_entrypoints_name_and_leaves_nothing() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let refused = create(&mock, &bundle, |compiler| {
        Compiler::end(compiler.worker);
        compiler.gone();
    });
    let Err(refusal) = refused else { panic!("there is code without a compiler") };
    refusal.names(&["/big.wasm", "compiler", "SIGKILL"]);
    mock.nothing_left(&bundle);
    assert_eq!(cached(), Vec::<PathBuf>::new());
    compiles(&mock, &bundle);
}

#[test]
fn the_keeper_of_the_cache_that_is_killed_takes_the_compiler_along() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let refused = create(&mock, &bundle, |compiler| {
        Compiler::end(compiler.keeper);
        compiler.gone();
    });
    let Err(refusal) = refused else { panic!("there is code without a compiler") };
    refusal.names(&["/big.wasm", "compiler"]);
    mock.nothing_left(&bundle);
    compiles(&mock, &bundle);
}

#[test]
fn a_shim_that_is_killed_while_it_compiles_leaves_nothing_for_good() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let mut lost = None;
    let refused = create(&mock, &bundle, |compiler| {
        Compiler::end(compiler.shim);
        lost = Some((compiler.keeper, compiler.worker));
    });
    assert!(refused.is_err(), "nobody was there to answer");
    mock.nothing_left(&bundle);
    compiles(&mock, &bundle);
    let (keeper, worker) = lost.expect("a compiler was at work");
    Compiler { shim: 0, keeper, worker }.gone();
}
