//! The images of the tests, made by the real `wasm-image build`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::bed::Bed;
use crate::command::{self, DEADLINE};
use crate::paths;

/// What an image is made of.
pub struct Image {
    /// Its name without registry and tag.
    pub name: &'static str,
    /// The module in it, as an absolute path: its first word when a command line is given in full.
    pub entry: &'static str,
    module: Module,
    flags: &'static [&'static str],
    extras: &'static [(&'static str, Extra)],
}

enum Module {
    Guest(&'static str),
    Wat(&'static str),
}

/// A file beside the module.
enum Extra {
    /// As it is.
    Text(&'static str),
    /// wat, to be put there as a binary.
    Compiled(&'static str),
}

/// Preview 1, from Rust, with odd files beside it for the tests that name their own entrypoint.
pub static PROBE: Image = Image {
    name: "probe",
    entry: "/probe-p1.wasm",
    module: Module::Guest("probe-p1.wasm"),
    flags: &["--env", "FROM_IMAGE=yes"],
    extras: &[
        ("/etc/greeting", Extra::Text("good morning\n")),
        ("/hello.wat", Extra::Text(HELLO)),
        ("/usr/bin/tool.wasm", Extra::Compiled(HELLO)),
        ("/srv/local.wasm", Extra::Compiled(HELLO)),
        ("/usr/bin/in-etc.wasm", Extra::Compiled(IN_ETC)),
        ("/bad/text.wasm", Extra::Text("this is no module\n")),
        ("/bad/import.wasm", Extra::Compiled(MOON)),
        ("/bad/world.wasm", Extra::Compiled(FENCE)),
    ],
};

/// The same program as a component of 0.2.
pub static PROBE_P2: Image = Image {
    name: "probe-p2",
    entry: "/probe-p2.wasm",
    module: Module::Guest("probe-p2.wasm"),
    flags: &[],
    extras: &[],
};

/// A component of `wasi:http/proxy` 0.2.
pub static WEB: Image = Image {
    name: "web2",
    entry: "/web2.wasm",
    module: Module::Guest("web2.wasm"),
    flags: &[],
    extras: &[("/etc/greeting", Extra::Text("good morning\n"))],
};

/// A component of `wasi:http/service` 0.3.
pub static WEB_P3: Image = Image {
    name: "web3",
    entry: "/web3.wasm",
    module: Module::Guest("web3.wasm"),
    flags: &[],
    extras: &[],
};

/// A component of `wasi:cli/command` 0.3.
pub static COMMAND_P3: Image = Image {
    name: "command3",
    entry: "/command3.wasm",
    module: Module::Guest("command3.wasm"),
    flags: &[],
    extras: &[],
};

/// Preview 1, from C.
pub static HELLO_C: Image = Image {
    name: "hello-c",
    entry: "/hello-c.wasm",
    module: Module::Guest("hello-c.wasm"),
    flags: &[],
    extras: &[],
};

/// Preview 1, from Go.
pub static HELLO_GO: Image = Image {
    name: "hello-go",
    entry: "/hello-go.wasm",
    module: Module::Guest("hello-go.wasm"),
    flags: &[],
    extras: &[],
};

/// The smallest guest that says something.
pub static HELLO_WAT: Image = Image {
    name: "hello-wat",
    entry: "/hello-wat.wasm",
    module: Module::Wat(HELLO),
    flags: &[],
    extras: &[],
};

/// Ticks ten times a second, for ever.
pub static TICK: Image = Image {
    name: "tick",
    entry: "/tick.wasm",
    module: Module::Wat(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\05\00\00\00tick\n")
  (func (export "_start")
    ;; a subscription to the monotonic clock
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 100000000))
    (loop $for_ever
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 32)))
      (br $for_ever))))"#,
    ),
    flags: &[],
    extras: &[],
};

/// Reads numbers to the end of its input, 8 bytes each and the lowest first, that must count up from
/// 0: traps where one does not. Then writes how many there were, in the same form.
pub static NUMBERS: Image = Image {
    name: "numbers",
    entry: "/numbers.wasm",
    module: Module::Wat(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $filled i32) (local $at i32) (local $number i64)
    (loop $more
      (local.set $filled (i32.const 0))
      (block $end
        (loop $fill
          (i32.store (i32.const 0) (i32.add (i32.const 0x10000) (local.get $filled)))
          (i32.store (i32.const 4) (i32.sub (i32.const 0x10000) (local.get $filled)))
          (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
          (br_if $end (i32.eqz (i32.load (i32.const 8))))
          (local.set $filled (i32.add (local.get $filled) (i32.load (i32.const 8))))
          (br_if $fill (i32.lt_u (local.get $filled) (i32.const 0x10000)))))
      (local.set $at (i32.const 0))
      (block $checked
        (loop $next
          (br_if $checked (i32.ge_u (local.get $at) (local.get $filled)))
          (if (i64.ne (i64.load offset=0x10000 (local.get $at)) (local.get $number)) (then unreachable))
          (local.set $number (i64.add (local.get $number) (i64.const 1)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br $next)))
      (if (i32.ne (local.get $at) (local.get $filled)) (then unreachable))
      (br_if $more (i32.eq (local.get $filled) (i32.const 0x10000))))
    (i64.store (i32.const 16) (local.get $number))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    ),
    flags: &[],
    extras: &[],
};

/// 64 KiB of numbers as [`NUMBERS`] reads them, which begin behind `blocks` such blocks.
pub fn numbers(blocks: u64) -> Vec<u8> {
    (blocks * 8192..(blocks + 1) * 8192).flat_map(u64::to_le_bytes).collect()
}

/// A module that prints `hello from wat`.
pub const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\0f\00\00\00hello from wat\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
  (func (export "greet") (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))))
"#;

/// A component that succeeds where its working folder is `/etc`.
const IN_ETC: &str = r#"(component
  (import "wasi:cli/environment@0.2.0" (instance $env
    (export "initial-cwd" (func (result (option string))))))
  (core module $libc
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $free)
      (global.set $free (i32.add (global.get $free) (local.get 3)))))
  (core instance $libc (instantiate $libc))
  (core func $cwd (canon lower (func $env "initial-cwd")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $main
    (import "env" "cwd" (func $cwd (param i32)))
    (import "libc" "memory" (memory 1))
    (func (export "run") (result i32)
      (call $cwd (i32.const 0))
      (if (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1)) (then (return (i32.const 1))))
      (if (i32.ne (i32.load (i32.const 8)) (i32.const 4)) (then (return (i32.const 1))))
      (i32.ne (i32.load (i32.load (i32.const 4))) (i32.const 0x6374652f))))
  (core instance $main (instantiate $main
    (with "env" (instance (export "cwd" (func $cwd))))
    (with "libc" (instance $libc))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $interface (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $interface)))"#;

/// A module that nobody can link.
const MOON: &str = r#"(module
  (import "moon" "shine" (func))
  (memory (export "memory") 1)
  (func (export "_start")))"#;

/// A component of a world of its own.
const FENCE: &str = r#"(component
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func $f (canon lift (core func $i "f")))
  (export "paint-the-fence" (func $f)))"#;

impl Image {
    /// The name with registry and tag.
    pub fn reference(&self) -> String {
        format!("docker.io/library/{}:test", self.name)
    }

    /// Builds the image for a bed, once, and returns where the bed sees the archive.
    #[track_caller]
    pub fn archive(&self, bed: &Bed) -> String {
        static BUILT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
        let folder = bed.share().join("images");
        let archive = folder.join(format!("{}.tar", self.name));
        let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let built = built.get_or_insert_default();
        if !built.contains(&archive) {
            fs::create_dir_all(&folder).expect("the share is writable");
            let mut flags: Vec<String> = self.flags.iter().map(|&flag| flag.to_owned()).collect();
            flags.extend(self.extras(&folder));
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            build(&self.reference(), &archive, &flags, &self.module(&folder));
            built.insert(archive);
        }
        format!("/share/images/{}.tar", self.name)
    }

    /// Writes the files beside the module, and returns the flags that add them.
    fn extras(&self, folder: &Path) -> Vec<String> {
        let mut flags = Vec::new();
        for (destination, extra) in self.extras {
            let content = match extra {
                Extra::Text(text) => text.as_bytes().to_vec(),
                Extra::Compiled(wat) => {
                    wat::parse_str(wat).expect("the wat of a test is well-formed")
                }
            };
            let file = folder.join(destination.trim_start_matches('/').replace('/', "-"));
            fs::write(&file, content).expect("the share is writable");
            flags.extend(["--add".to_owned(), format!("{}:{destination}", file.display())]);
        }
        flags
    }

    fn module(&self, folder: &Path) -> PathBuf {
        match self.module {
            Module::Guest(file) => paths::guest(file),
            Module::Wat(text) => {
                let file = folder.join(format!("{}.wat", self.name));
                fs::write(&file, text).expect("the share is writable");
                file
            }
        }
    }
}

/// Runs `wasm-image build`.
#[track_caller]
pub fn build(reference: &str, archive: &Path, flags: &[&str], module: &Path) {
    let mut command = Command::new(paths::binary("wasm-image"));
    command.args(["build", "-t", reference, "-o"]).arg(archive).args(flags).arg(module);
    command::run(command, b"", DEADLINE).ok();
}
