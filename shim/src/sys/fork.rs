//! Fork, in a process that has one thread.

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::BorrowedFd;

/// In which pid namespace a child shall live.
#[derive(Debug, Clone, Copy)]
pub enum PidNamespace<'a> {
    /// In its parent's.
    Inherit,
    /// As process 1 of one of its own.
    New,
    /// In an existing one.
    Join(BorrowedFd<'a>),
}

/// Forks. `Ok(None)` is the child, `Ok(Some(pid))` the parent.
///
/// # Errors
/// When this process has more than one thread (a child would inherit locks that nobody opens), or
/// what fork(2) fails with.
pub fn fork() -> io::Result<Option<Pid>> {
    assert_one_thread()?;
    // SAFETY: with one thread, the child is as whole as the parent: no lock is held by a thread
    // that does not exist in it.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child)),
    }
}

/// Forks a child that lives in the pid namespace asked for, while its parent stays in its own:
/// libc's fork(), not a raw clone, so that the fork handlers of libraries run.
///
/// # Errors
/// When the namespace cannot be made or joined, else as [`fork`].
pub fn fork_into(namespace: PidNamespace<'_>) -> io::Result<Option<Pid>> {
    if matches!(namespace, PidNamespace::Inherit) {
        return fork();
    }
    // `unshare` and `setns` choose the namespace of children yet to be made, not of the caller.
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    match namespace {
        PidNamespace::New => unshare(CloneFlags::CLONE_NEWPID)?,
        PidNamespace::Join(fd) => setns(fd, CloneFlags::CLONE_NEWPID)?,
        PidNamespace::Inherit => {}
    }
    let forked = fork();
    if !matches!(forked, Ok(None)) {
        setns(&own, CloneFlags::CLONE_NEWPID)?;
    }
    forked
}

fn assert_one_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.take(2).count() {
        1 => Ok(()),
        _ => Err(io::Error::other("fork refused: this process has several threads")),
    }
}
