//! The process that reads hostile wasm.

use super::{Error, internal};
use crate::cli::confine::confine;
use crate::launch::UNUSABLE;
use crate::sys;
use crate::sys::fork::PidNamespace;
use artifact::compile;
use artifact::engine::Engine;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;

/// (resource, the most that compiling one module may take, in its unit)
const LIMITS: [(u32, u64); 4] = [
    (libc::RLIMIT_DATA, 4 << 30),
    (libc::RLIMIT_CPU, 900),
    (libc::RLIMIT_FSIZE, 4 << 30),
    (libc::RLIMIT_CORE, 0),
];

/// The worker's exit code when it could not be locked in.
const NOT_LOCKED_IN: i32 = 1;

/// Its exit code when the cache's file system takes no more.
const FULL: i32 = 3;

/// The exit code for one that a signal ended, but for the signal's number.
const SIGNALED: i32 = 128;

/// Compiles `wasm` to `out`, in a child that holds nothing else.
pub fn compile(engine: &Engine, wasm: &[u8], out: &File) -> Result<(), Error> {
    let unstarted = |e: io::Error| internal(format!("cannot start the compiler: {e}"));
    let stderr = memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC).map_err(|e| unstarted(e.into()))?;
    // Alone in a pid namespace: another compiler is the same user's.
    let one_user = sys::process::groups_are_fixed().map_err(unstarted)?;
    let forked = if one_user { sys::fork::fork() } else { sys::fork::fork_into(PidNamespace::New) };
    let Some(child) = forked.map_err(unstarted)? else {
        let _ = sys::fd::become_standard(stderr.as_fd(), 2);
        sys::process::exit_now(match one_user {
            true => stand_between(engine, wasm, out),
            false => compile_locked_in(engine, wasm, out),
        });
    };
    let ended = waitpid(child, None);
    let mut said = String::new();
    let mut stderr = File::from(stderr);
    let _ = stderr.rewind().and_then(|()| stderr.take(8192).read_to_string(&mut said));
    let said = said.trim().to_owned();
    match ended {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(WaitStatus::Exited(_, FULL)) => Err(internal(format!(
            "cannot write the compiled code ({said}); make room on its file system"
        ))),
        Ok(WaitStatus::Exited(_, NOT_LOCKED_IN)) => Err(internal(said)),
        Ok(WaitStatus::Exited(_, code @ SIGNALED..)) => Err(ended_by(code - SIGNALED)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Err(ended_by(signal as i32)),
        Ok(WaitStatus::Exited(..)) => Err(Error::Refused(said)),
        other => Err(internal(format!("the compiler was lost: {other:?}"))),
    }
}

fn ended_by(signal: i32) -> Error {
    // For want of memory, or by somebody's hand.
    if signal == libc::SIGKILL {
        return internal("the compiler was ended by SIGKILL; it may take 4 GiB of memory");
    }
    let signal = Signal::try_from(signal).map_or("a signal", Signal::as_str);
    Error::Refused(format!(
        "the compiler was ended by {signal}; it may take 4 GiB of memory and 15 minutes"
    ))
}

/// In a user's own namespace, between the two: goes into another pid namespace, from which there is no
/// way back, forks the worker and ends as that does.
fn stand_between(engine: &Engine, wasm: &[u8], out: &File) -> i32 {
    let forked =
        sys::process::die_with_parent().and_then(|()| sys::fork::fork_away(PidNamespace::New));
    match forked {
        Ok(None) => compile_locked_in(engine, wasm, out),
        Ok(Some(worker)) => match waitpid(worker, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => SIGNALED + signal as i32,
            _ => SIGNALED + libc::SIGKILL,
        },
        Err(e) => {
            eprintln!("cannot start the compiler: {e}");
            NOT_LOCKED_IN
        }
    }
}

/// The worker: gives up everything but its input, its output and standard error, then compiles.
fn compile_locked_in(engine: &Engine, wasm: &[u8], mut out: &File) -> i32 {
    if let Err(e) = confine(&[out.as_fd()], &LIMITS) {
        eprintln!("cannot lock the compiler in: {e}");
        return NOT_LOCKED_IN;
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
