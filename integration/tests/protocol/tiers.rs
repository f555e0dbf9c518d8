//! Baseline code at the first start, optimized code at later ones, and the process between them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use integration::bundle::Bundle;
use integration::mock::{Mock, Shim};
use integration::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::code::{
    Background, Tier, backgrounds, cached, compiled, entry, functions, lives, runs, stat,
    with_options,
};

/// A bundle whose module keeps the background busy for a second.
fn big(mock: &Mock) -> Bundle {
    mock.bundle(&["/big.wasm"]).with_wat("big.wasm", &functions(3000))
}

/// Creates a task, which must run code of a tier, runs it to its end, and removes it.
#[track_caller]
fn run(mock: &Mock, bundle: &Bundle, settings: &str, tier: Tier) {
    finish(mock, bundle, create(mock, bundle, settings, tier));
}

#[track_caller]
fn create(mock: &Mock, bundle: &Bundle, settings: &str, tier: Tier) -> Shim {
    let created = mock.create_with(bundle, with_options(settings));
    let shim = created.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    assert_eq!(runs(&shim, bundle), tier);
    shim
}

#[track_caller]
fn finish(mock: &Mock, bundle: &Bundle, shim: Shim) {
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
    shim.finish(mock, bundle);
}

/// Waits until nobody compiles in the background any more.
#[track_caller]
fn settle() {
    wait::until("the end of the background", || backgrounds().is_empty());
}

/// Waits until a compiler works in the background, with its child.
#[track_caller]
fn at_work() -> (u32, u32) {
    wait::some("a compiler at work in the background", || {
        backgrounds().iter().find_map(|one| Some((one.keeper, one.worker?)))
    })
}

#[track_caller]
fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("it is there");
}

#[test]
fn the_first_start_runs_baseline_code_and_later_ones_the_optimized_code_made_meanwhile() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "", Tier::Baseline);
    wait::until("the optimized code", || entry(Tier::Optimized).is_some());
    settle();
    let files = cached();
    assert_eq!(files.len(), 2, "one of each tier, and nothing else: {files:#?}");
    run(&mock, &big(&mock), "", Tier::Optimized);
    assert!(backgrounds().is_empty(), "there is nothing left to optimize");
    assert_eq!(cached(), files);
}

#[test]
fn a_small_module_is_optimized_at_once() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/small.wasm"]).with_wat("small.wasm", &functions(10));
    run(&mock, &bundle, "", Tier::Optimized);
    assert_eq!(cached(), [entry(Tier::Optimized).expect("its code")]);
}

#[test]
fn settings_choose_the_compiler() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "Compiler = \"baseline\"", Tier::Baseline);
    assert!(backgrounds().is_empty(), "baseline code is all that is asked for");
    assert_eq!(cached(), [entry(Tier::Baseline).expect("its code")]);
    run(&mock, &big(&mock), "Compiler = \"optimized\"", Tier::Optimized);
    assert_eq!(cached().len(), 2);
    run(&mock, &big(&mock), "Compiler = \"baseline\"", Tier::Baseline);
    run(&mock, &big(&mock), "Compiler = \"tiered\"", Tier::Optimized);
    assert_eq!(cached().len(), 2);

    let wrong = mock.bundle(&["/big.wasm"]).with_wat("big.wasm", "(module)");
    let Err(refusal) = mock.create_with(&wrong, with_options("Compiler = \"fast\"")) else {
        panic!("there is no such compiler");
    };
    refusal.names(&["runtime options", "fast", "tiered", "optimized", "baseline"]);
    mock.nothing_left(&wrong);
}

#[test]
fn what_the_baseline_compiler_does_not_know_is_optimized_at_once_and_that_is_remembered() {
    let mock = Mock::new();
    let tail = "(func $f (return_call $f)))";
    let wat = functions(1000);
    let wat = format!("{}{tail}", wat.strip_suffix(')').expect("the module's end"));
    let bundle = || mock.bundle(&["/tail.wasm"]).with_wat("tail.wasm", &wat);
    run(&mock, &bundle(), "", Tier::Optimized);
    assert!(backgrounds().is_empty(), "there is nothing left to optimize");
    let code = entry(Tier::Optimized).expect("its code");
    let [note] = &cached().into_iter().filter(|path| *path != code).collect::<Vec<_>>()[..] else {
        panic!("a note beside the code: {:#?}", cached());
    };
    let inode = |path| fs::metadata(path).expect("a file of the cache").ino();
    let before = (inode(&code), inode(note));
    for settings in ["", "Compiler = \"baseline\"", "Compiler = \"optimized\""] {
        run(&mock, &bundle(), settings, Tier::Optimized);
    }
    assert_eq!((inode(&code), inode(note)), before, "it was tried again");
}

#[test]
fn the_background_outlives_the_shim_and_holds_nothing_of_it_or_the_container() {
    let mock = Mock::new();
    let bundle = big(&mock);
    let shim = create(&mock, &bundle, "", Tier::Baseline);
    let (keeper, worker) = at_work();
    send(keeper, Signal::SIGSTOP);
    send(worker, Signal::SIGSTOP);
    finish(&mock, &bundle, shim);
    for pid in [keeper, worker] {
        let held = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is at work");
        for held in held.flatten() {
            let target = fs::read_link(held.path()).expect("a descriptor that is held");
            let target = target.to_string_lossy().into_owned();
            let own = target == "/dev/null"
                || target.starts_with("/memfd:stderr")
                || target.starts_with("/var/lib/containerd-shim-wasmtime/");
            assert!(own, "{pid} holds {target}");
        }
        assert_eq!(stat(pid, 19), "19", "nice");
        assert_eq!(stat(pid, 41), libc::SCHED_IDLE.to_string(), "policy");
    }
    assert_eq!(stat(keeper, 6), keeper.to_string(), "a session of its own");
    send(keeper, Signal::SIGCONT);
    send(worker, Signal::SIGCONT);
    wait::until("the optimized code", || entry(Tier::Optimized).is_some());
    wait::until("the end of the background", || !lives(keeper) && !lives(worker));
    assert_eq!(cached().len(), 2, "{:#?}", cached());
}

#[test]
fn nobody_who_is_waited_for_waits_for_the_background() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "", Tier::Baseline);
    let (keeper, worker) = at_work();
    send(keeper, Signal::SIGSTOP);
    send(worker, Signal::SIGSTOP);
    run(&mock, &big(&mock), "", Tier::Baseline);
    let other = mock.bundle(&["/other.wasm"]).with_wat("other.wasm", &functions(1000));
    run(&mock, &other, "", Tier::Baseline);
    let queued = |one: &Background| one.keeper != keeper && one.worker.is_none();
    wait::until("the other in the queue", || backgrounds().iter().any(queued));
    run(&mock, &big(&mock), "Compiler = \"optimized\"", Tier::Optimized);
    assert_eq!(backgrounds().len(), 2, "one for each module");
    send(keeper, Signal::SIGCONT);
    send(worker, Signal::SIGCONT);
    settle();
    assert_eq!(cached().len(), 4, "{:#?}", cached());
    assert_eq!(compiled().len(), 4);
}

#[test]
fn a_background_that_is_killed_leaves_a_note_and_is_tried_again_when_that_has_expired() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "", Tier::Baseline);
    let (_, worker) = at_work();
    send(worker, Signal::SIGKILL);
    settle();
    let baseline = entry(Tier::Baseline).expect("its code");
    let [note] = &cached().into_iter().filter(|path| *path != baseline).collect::<Vec<_>>()[..]
    else {
        panic!("a note beside the code: {:#?}", cached());
    };
    assert!(fs::read_to_string(note).expect("a note").contains("SIGKILL"));
    run(&mock, &big(&mock), "", Tier::Baseline);
    assert!(backgrounds().is_empty(), "it was tried again at once");
    File::open(note).and_then(|note| note.set_modified(SystemTime::now())).expect("a note");
    run(&mock, &big(&mock), "", Tier::Baseline);
    wait::until("the optimized code", || entry(Tier::Optimized).is_some());
    settle();
    assert_eq!(cached().len(), 2, "{:#?}", cached());
}

#[test]
fn a_background_that_is_killed_as_a_whole_is_made_again_by_the_next_start() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "", Tier::Baseline);
    let (keeper, worker) = at_work();
    send(keeper, Signal::SIGKILL);
    wait::until("the end of its compiler", || !lives(worker));
    run(&mock, &big(&mock), "", Tier::Baseline);
    wait::until("the optimized code", || entry(Tier::Optimized).is_some());
    settle();
    assert_eq!(cached().len(), 2, "{:#?}", cached());
}

#[test]
fn damaged_optimized_code_is_made_anew_while_baseline_code_runs() {
    let mock = Mock::new();
    run(&mock, &big(&mock), "", Tier::Baseline);
    let damaged = wait::some("the optimized code", || entry(Tier::Optimized));
    settle();
    let length = fs::metadata(&damaged).expect("a file of the cache").len();
    File::options()
        .write(true)
        .open(&damaged)
        .and_then(|file| file.set_len(length / 2))
        .expect("a file of ours");
    run(&mock, &big(&mock), "", Tier::Baseline);
    let anew = || fs::metadata(&damaged).is_ok_and(|data| data.len() == length);
    wait::until("the optimized code, whole", anew);
    settle();
    run(&mock, &big(&mock), "", Tier::Optimized);
}

#[test]
fn many_first_starts_at_once_make_one_of_each_tier() {
    let mock = Mock::new();
    let bundles: Vec<Bundle> = (0..20).map(|_| big(&mock)).collect();
    // Compiled code is written under another name and renamed: a compilation makes a new inode.
    let (seen, over) = (&mut BTreeSet::new(), &AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.extend(compiled().iter().flat_map(fs::metadata).map(|data| data.ino()));
            }
            seen.len()
        });
        let starts: Vec<_> = bundles
            .iter()
            .map(|bundle| scope.spawn(|| mock.create(bundle).expect("created")))
            .collect();
        let shims: Vec<Shim> =
            starts.into_iter().map(|start| start.join().expect("it ends")).collect();
        wait::until("the optimized code", || entry(Tier::Optimized).is_some());
        settle();
        over.store(true, Ordering::Relaxed);
        assert_eq!(watcher.join().expect("it ends"), 2, "files that were made");
        for (shim, bundle) in shims.into_iter().zip(&bundles) {
            shim.start(&bundle.id).expect("the task can be started");
            assert_eq!(shim.wait(&bundle.id).expect("it ends"), 0);
            let _ = shim.delete(&bundle.id);
            let _ = shim.shutdown(&bundle.id);
            mock.delete(bundle);
        }
    });
    bundles.iter().for_each(|bundle| mock.nothing_left(bundle));
    assert_eq!(cached().len(), 2, "{:#?}", cached());
}
