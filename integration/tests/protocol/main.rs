//! The shim's binary, driven as containerd drives it: every dialect of the bootstrap, and every
//! moment between two requests.

mod alone;
mod bad_input;
mod bootstrap;
mod built_ins;
mod cache;
mod changed;
mod code;
mod compiler;
mod counts;
mod crash;
mod escapes;
mod exec;
mod faults;
mod groups;
mod hooks;
mod info;
mod isolation;
mod layer;
mod life;
mod oom;
mod pause;
mod random;
mod signals;
mod stats;
mod stdio;
mod terminal;
mod tiers;
mod trust;
mod update;
mod users;
mod zygote;

/// Ends at once with exit code 7.
const EXIT_7: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 7))))"#;

/// Prints `spinning` and never comes back.
const SPIN: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\09\00\00\00spinning\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (loop $forever (br $forever))))"#;

/// Prints 16 MiB of zeros and then ends with exit code 9.
const FLOOD: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\01\00\00\00\00\01\00")
  (func (export "_start")
    (local $left i32)
    (local.set $left (i32.const 0x1000000))
    (block $done
      (loop $more
        (i32.store (i32.const 4) (select (local.get $left) (i32.const 0x10000) (i32.lt_u (local.get $left) (i32.const 0x10000))))
        (br_if $done (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
        (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 32))))
        (br_if $more (local.get $left))))
    (call $exit (i32.const 9))))"#;

/// Copies standard input to standard output until its end.
const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (block $end
      (loop $more
        (i32.store (i32.const 0) (i32.const 256))
        (i32.store (i32.const 4) (i32.const 4096))
        (br_if $end (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
        (br_if $end (i32.eqz (i32.load (i32.const 32))))
        (i32.store (i32.const 4) (i32.load (i32.const 32)))
        (br_if $end (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 36)))
        (br $more)))))"#;
