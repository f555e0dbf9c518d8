//! What runs inside one process: compiling, hashing, finding and loading a module's code.
//!
//! `cargo bench --package artifact --bench inside`

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use artifact::cache::{self, Cache};
use artifact::compile::compile;
use artifact::digest::Digest;
use artifact::engine::{self, Compatibility, Tier};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// `functions` functions, each a loop over memory.
fn module(functions: usize) -> Vec<u8> {
    let body = "(local i32) (loop
        (i32.store (local.get 1) (i32.add (i32.load (local.get 1)) (local.get 0)))
        (local.set 1 (i32.add (local.get 1) (i32.const 4)))
        (br_if 0 (i32.lt_u (local.get 1) (i32.const 65536))))
        (i32.load (local.get 0))";
    let functions: String = (0..functions)
        .map(|n| format!("(func (export \"f{n}\") (param i32) (result i32) {body})\n"))
        .collect();
    wat::parse_str(format!("(module (memory 1) {functions})")).expect("well-formed")
}

fn inside(c: &mut Criterion) {
    let engine = engine::engine(Tier::Optimized).expect("an engine");
    let wasm = module(500);
    c.bench_function("compile 500 functions", |b| {
        b.iter(|| compile(&engine, &wasm).expect("code"))
    });

    let bytes = vec![7; 1 << 20];
    let mut hash = c.benchmark_group("hash");
    hash.throughput(Throughput::Bytes(bytes.len() as u64));
    hash.bench_function("1 MiB", |b| b.iter(|| Digest::of(black_box(&bytes))));
    hash.finish();

    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("code");
    let cache = Cache::open(&root, &Compatibility::of(&engine), Tier::Optimized).expect("a cache");
    let digest = Digest::of(&wasm);
    let code = compile(&engine, &wasm).expect("code");
    let lock = cache.lock(&digest).expect("nobody else's");
    cache
        .put(&digest, &lock, |mut file| {
            file.write_all(&code).expect("room for it");
            Ok::<_, cache::Error>(())
        })
        .expect("an entry");
    drop(lock);
    c.bench_function("find in the cache", |b| b.iter(|| cache.get(&digest).expect("readable")));
    let file = cache.get(&digest).expect("readable").expect("it is there");
    let path = by_descriptor(&file);
    let path = path.to_str().expect("text");
    c.bench_function("load 500 functions", |b| {
        b.iter(|| engine::load_module(&engine, path).expect("loads"))
    });
    c.bench_function("make an engine", |b| {
        b.iter_with_large_drop(|| engine::engine(Tier::Optimized).expect("an engine"))
    });
}

fn by_descriptor(file: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

criterion_group!(benches, inside);
criterion_main!(benches);
