//! What signals do to a container's process.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Signals that end a guest: their default as far as a program without handlers is concerned.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// Signals whose default is Wasmtime's, the kernel's or harmless.
const LEFT_ALONE: [i32; 13] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCONT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGCHLD,
];

/// The writing end of a pipe that is closed instead of an exit, once.
static INSTEAD: AtomicI32 = AtomicI32::new(NOTHING);

const NOTHING: RawFd = -1;

extern "C" fn exit_as_killed(signal: i32) {
    if signal != libc::SIGQUIT {
        let pipe = INSTEAD.swap(NOTHING, Ordering::Relaxed);
        // SAFETY: nobody else has this descriptor, which `tell_first` gave away. That it is closed is
        // all that the other end waits for; close(2) on a pipe sets no errno.
        if pipe != NOTHING && unsafe { libc::close(pipe) } == 0 {
            return;
        }
    }
    // Not by the default action: the kernel spares process 1 of a pid namespace from that.
    super::process::exit_now(128 + signal);
}

/// Makes the first SIGTERM or SIGINT from here on do no more than that the answer becomes readable.
///
/// # Errors
/// What pipe(2) fails with.
pub fn tell_first() -> io::Result<OwnedFd> {
    let (told, pipe) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    INSTEAD.store(pipe.into_raw_fd(), Ordering::Relaxed);
    Ok(told)
}

/// Makes SIGTERM, SIGINT and SIGQUIT end this process with 128 + n whatever it does.
///
/// # Errors
/// What sigaction(2) fails with.
pub fn end_when_told() -> nix::Result<()> {
    let end = SigAction::new(
        SigHandler::Handler(exit_as_killed),
        SaFlags::SA_ONSTACK | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in ENDING {
        // SAFETY: the handler calls only `_exit`, which is async-signal-safe.
        unsafe { sigaction(signal, &end) }?;
    }
    Ok(())
}

/// Makes every other signal that can be ignored do nothing, in a pid namespace of its own, where the
/// kernel sees to most of that, or not.
pub fn ignore_the_rest() {
    set_the_rest(libc::SIG_IGN);
}

/// Undoes [`ignore_the_rest`]: they do what they do to any new program.
pub fn heed_the_rest() {
    set_the_rest(libc::SIG_DFL);
}

/// Has `signals` wait to be read from the answer (signalfd(2)) instead of doing what
/// they do. For a process of one thread; programs that it executes are not kept from theirs.
///
/// # Errors
/// What signalfd(2) fails with.
pub fn queue(signals: &[Signal]) -> nix::Result<SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn set_the_rest(action: libc::sighandler_t) {
    for signal in 1..=libc::SIGRTMAX() {
        // 32 and 33 belong to the C library's threads.
        if !LEFT_ALONE.contains(&signal) && !(32..libc::SIGRTMIN()).contains(&signal) {
            // SAFETY: neither action runs code of this process.
            unsafe { libc::signal(signal, action) };
        }
    }
}
