//! What signals do to a container's process.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

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

extern "C" fn exit_as_killed(signal: i32) {
    // Not by the default action: the kernel spares process 1 of a pid namespace from that.
    super::process::exit_now(128 + signal);
}

/// Makes SIGTERM, SIGINT and SIGQUIT end this process with 128 + n whatever it does.
///
/// # Errors
/// What sigaction(2) fails with.
pub fn end_when_told() -> nix::Result<()> {
    let end =
        SigAction::new(SigHandler::Handler(exit_as_killed), SaFlags::SA_ONSTACK, SigSet::empty());
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

fn set_the_rest(action: libc::sighandler_t) {
    for signal in 1..=libc::SIGRTMAX() {
        // 32 and 33 belong to the C library's threads.
        if !LEFT_ALONE.contains(&signal) && !(32..libc::SIGRTMIN()).contains(&signal) {
            // SAFETY: neither action runs code of this process.
            unsafe { libc::signal(signal, action) };
        }
    }
}
