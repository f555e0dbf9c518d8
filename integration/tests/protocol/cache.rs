//! Compiled code: made once, kept by content, never trusted from strangers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use artifact::cache::{Health, entries};
use integration::bundle::Bundle;
use integration::mock::Mock;

use crate::EXIT_7;
use crate::code::{CACHE, compiled, with_options};

fn run(mock: &Mock) -> Bundle {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    let shim = mock.create(&bundle).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
    shim.finish(mock, &bundle);
    bundle
}

fn stamp(path: &Path) -> (u64, i64, i64) {
    let data = fs::metadata(path).expect("a file of the cache");
    (data.ino(), data.ctime(), data.ctime_nsec())
}

#[test]
fn the_second_start_of_a_module_compiles_nothing() {
    let mock = Mock::new();
    run(&mock);
    let [file] = compiled().try_into().expect("one module makes one file");
    // Compiled code is written under another name and renamed: a compilation makes a new inode.
    let inode = fs::metadata(&file).expect("a file of the cache").ino();
    run(&mock);
    assert_eq!(compiled(), std::slice::from_ref(&file));
    assert_eq!(fs::metadata(&file).expect("a file of the cache").ino(), inode);
}

#[test]
fn compiled_code_is_named_by_content_and_belongs_to_root_alone() {
    let mock = Mock::new();
    run(&mock);
    let [file] = compiled().try_into().expect("one module makes one file");
    let name = file.file_stem().expect("a file name").to_string_lossy().into_owned();
    assert!(name.len() == 64 && name.chars().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    let mut path = file.as_path();
    while path != Path::new("/var/lib") {
        let data = fs::metadata(path).expect("a path of the cache");
        assert_eq!(data.uid(), 0, "{}", path.display());
        assert_eq!(data.permissions().mode() & 0o022, 0, "others can write {}", path.display());
        path = path.parent().expect("/var/lib is above");
    }
    assert_eq!(
        fs::metadata(CACHE).expect("the cache").permissions().mode() & 0o077,
        0,
        "others can enter {CACHE}"
    );
}

#[test]
fn code_that_belongs_to_somebody_else_is_not_run() {
    let mock = Mock::new();
    run(&mock);
    let [file] = compiled().try_into().expect("one module makes one file");
    chown(&file, Some(1000), Some(1000)).expect("the tests run as root");
    let planted = stamp(&file);
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    match mock.create(&bundle) {
        Ok(shim) => {
            assert_ne!(stamp(&file), planted, "it was taken as it is");
            assert_eq!(fs::metadata(&file).expect("made anew").uid(), 0);
            shim.finish(&mock, &bundle);
        }
        Err(refusal) => {
            refusal.names(&[file.to_str().expect("a path of ours")]);
            mock.nothing_left(&bundle);
        }
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_made_anew_or_named() {
    let mock = Mock::new();
    run(&mock);
    let [file] = compiled().try_into().expect("one module makes one file");
    let length = fs::metadata(&file).expect("a file of the cache").len();
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|open| open.set_len(length / 2))
        .expect("a file of ours");
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    match mock.create(&bundle) {
        Ok(shim) => {
            shim.start(&bundle.id).expect("the task can be started");
            assert_eq!(shim.wait(&bundle.id).expect("it ends"), 7);
            shim.finish(&mock, &bundle);
        }
        Err(refusal) => {
            refusal.names(&[file.to_str().expect("a path of ours")]);
            mock.nothing_left(&bundle);
        }
    }
}

#[test]
fn what_a_power_loss_leaves_of_a_file_is_made_anew() {
    let mock = Mock::new();
    run(&mock);
    let [file] = compiled().try_into().expect("one module makes one file");
    let whole = fs::read(&file).expect("a file of the cache");
    let info = whole.windows(14).position(|window| window == b".wasmtime.info");
    let info = info.expect("the names of sections are in an ELF file");
    let mut damages = vec![Vec::new(), vec![0; whole.len()]];
    for length in [1, 4096, whole.len() / 3, whole.len() - 4096, whole.len() - 1] {
        damages.push(whole[..length].to_vec());
        let mut zeros = whole.clone();
        zeros[length..].fill(0);
        damages.push(zeros);
    }
    // Bits of what is parsed at a start: the header, and the sections' names.
    for at in [5, 41, info + 3] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        damages.push(flipped);
    }
    for (number, damage) in damages.iter().enumerate() {
        fs::write(&file, damage).expect("a file of ours");
        let damaged = stamp(&file);
        run(&mock);
        assert_ne!(stamp(&file).0, damaged.0, "damage {number} was run");
        let [entry] = entries(Path::new(CACHE)).expect("the cache").try_into().expect("one file");
        assert_eq!(entry.check().expect("a file of ours"), Some(Health::Whole));
    }
}

#[test]
fn the_cache_keeps_to_its_setting() {
    let mock = Mock::new();
    let small = "MaxCodeCache = 4096";
    for code in 0..3 {
        let wat = format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
               (memory (export \"memory\") 1)
               (func (export \"_start\") (call $exit (i32.const {code}))))"
        );
        let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", &wat);
        let shim = mock
            .create_with(&bundle, with_options(small))
            .unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
        shim.start(&bundle.id).expect("the task can be started");
        assert_eq!(shim.wait(&bundle.id).expect("it ends"), code);
        shim.finish(&mock, &bundle);
        assert_eq!(compiled().len(), 1, "only the newest is left, larger than the setting or not");
    }
}
