//! `compile`: makes one entry of the code cache from the wasm on standard input.
//!
//! Two processes: this one, root's, holds the entry's lock and the unnamed entry; its child reads
//! the hostile wasm and holds nothing else.

use crate::launch::UNUSABLE;
use crate::sys;
use crate::sys::fork::PidNamespace;
use artifact::cache::{self, Cache, DEFAULT_MAX_SIZE};
use artifact::compile::{self, MAX_WASM};
use artifact::digest::Digest;
use artifact::engine::{self, Compatibility, Engine};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// `nobody` of every distribution.
const NOBODY: u32 = 65534;

/// (resource, the most that compiling one module may take, in its unit)
const LIMITS: [(u32, u64); 4] = [
    (libc::RLIMIT_DATA, 4 << 30),
    (libc::RLIMIT_CPU, 900),
    (libc::RLIMIT_FSIZE, 4 << 30),
    (libc::RLIMIT_CORE, 0),
];

/// The child's exit code when the cache's file system takes no more.
const FULL: i32 = 3;

/// Why no entry was made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cache(#[from] cache::Error),
    #[error("{0}")]
    Unusable(String),
    #[error("{0}")]
    Internal(String),
    /// The child has said why.
    #[error("")]
    Told(i32),
}

pub fn run(root: &str, digest: &str) -> ExitCode {
    let code = match make(Path::new(root), digest) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Error::Told(code)) => code,
        Err(error) => {
            eprintln!("{error}");
            if matches!(error, Error::Unusable(_)) { UNUSABLE } else { 1 }
        }
    };
    ExitCode::from(code as u8)
}

fn make(root: &Path, digest: &str) -> Result<(), Error> {
    let internal = |e: &dyn std::fmt::Display| Error::Internal(e.to_string());
    let digest =
        Digest::parse(digest).ok_or_else(|| internal(&"usage: compile ROOT SHA256 <WASM"))?;
    let engine = engine::engine().map_err(|e| internal(&e))?;
    let cache = Cache::open(root, &Compatibility::of(&engine))?;
    let lock = cache.lock(&digest)?;
    if cache.get(&digest)?.is_some() {
        return Ok(());
    }
    let wasm = read_wasm(&digest)?;
    let told = |e: Error| match e {
        Error::Internal(words) => {
            Error::Internal(format!("code cache {}: {words}", root.display()))
        }
        other => other,
    };
    cache.put(&digest, &lock, |file| in_child(&engine, &wasm, file).map_err(told))?;
    cache.evict(DEFAULT_MAX_SIZE)?;
    Ok(())
}

/// Reads the wasm into memory and checks that it is the one that is asked for: what is compiled
/// under a name must be what has the name, even if the file changes meanwhile.
fn read_wasm(digest: &Digest) -> Result<Vec<u8>, Error> {
    let mut file = File::from(sys::fd::standard(0).map_err(|e| Error::Internal(e.to_string()))?);
    let mut wasm = Vec::new();
    io::Seek::rewind(&mut file)
        .and_then(|()| file.take(MAX_WASM + 1).read_to_end(&mut wasm))
        .map_err(|e| Error::Internal(format!("cannot read it: {e}")))?;
    if wasm.len() as u64 > MAX_WASM {
        return Err(Error::Unusable("it is larger than 1 GiB".into()));
    }
    if Digest::of(&wasm) != *digest {
        return Err(Error::Unusable("the file changed while it was read".into()));
    }
    Ok(wasm)
}

fn in_child(engine: &Engine, wasm: &[u8], out: &File) -> Result<(), Error> {
    let internal = |e: io::Error| Error::Internal(format!("cannot start the compiler: {e}"));
    // Alone in a pid namespace: another compiler is the same user's.
    let Some(child) = sys::fork::fork_into(PidNamespace::New).map_err(internal)? else {
        sys::process::exit_now(compile_locked_in(engine, wasm, out));
    };
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, FULL)) => Err(Error::Internal(
            "cannot write the compiled code; make room on its file system".into(),
        )),
        Ok(WaitStatus::Exited(_, code)) => Err(Error::Told(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Err(Error::Unusable(format!(
            "the compiler was ended by {signal}; it may take 4 GiB of memory and 15 minutes"
        ))),
        other => Err(Error::Internal(format!("the compiler was lost: {other:?}"))),
    }
}

/// The child: gives up everything but its input, its output and standard error, then compiles.
fn compile_locked_in(engine: &Engine, wasm: &[u8], mut out: &File) -> i32 {
    if let Err(e) = lock_in(out) {
        eprintln!("cannot lock the compiler in: {e}");
        return 1;
    }
    match compile::compile(engine, wasm) {
        Ok(code) => match out.write_all(&code) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("{e}");
                FULL
            }
        },
        Err(e) => {
            eprintln!("{e}");
            UNUSABLE
        }
    }
}

fn lock_in(out: &File) -> io::Result<()> {
    sys::fd::close_all_but(&[out.as_fd()])?;
    // The first to go when memory runs out, before the shim whose score it has.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    for (resource, most) in LIMITS {
        let most = most.min(sys::process::hard_limit(resource)?);
        sys::process::set_limit(resource, most, most)?;
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    // A folder of its own in which there is nothing that anybody could open for writing.
    nix::unistd::chroot("/proc/self/fdinfo")?;
    nix::unistd::chdir("/")?;
    setgroups(&[])?;
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
    setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    sys::process::die_with_parent()
}
