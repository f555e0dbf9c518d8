//! Fork, in a process that has one thread.

use super::channel::Channel;
use super::pidfd::PidFd;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    let forked = fork_away(namespace);
    if !matches!(forked, Ok(None)) {
        setns(&own, CloneFlags::CLONE_NEWPID)?;
    }
    forked
}

/// The same, but all that the caller forks later lives there too: to come back takes rights over its
/// own namespace, which the root of a user's own has not.
///
/// # Errors
/// As [`fork_into`].
pub fn fork_away(namespace: PidNamespace<'_>) -> io::Result<Option<Pid>> {
    choose(namespace)?;
    fork()
}

/// Forks a child for somebody else: its parent is the nearest ancestor of the caller that collects
/// orphans (`PR_SET_CHILD_SUBREAPER`). A process in between forks it and is gone when this returns.
///
/// # Errors
/// As [`fork_into`].
pub fn fork_orphan(namespace: PidNamespace<'_>) -> io::Result<Option<(Pid, OwnedFd)>> {
    let (ours, theirs) = Channel::pair()?;
    let Some(between) = fork()? else {
        drop(ours);
        let code = match fork_away(namespace) {
            // The end of the channel stays: whoever calls this closes what it does not need.
            Ok(None) => {
                std::mem::forget(theirs);
                return Ok(None);
            }
            Ok(Some(child)) => tell(&theirs, child),
            Err(e) => Err(e),
        }
        .map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
        super::process::exit_now(code);
    };
    drop(theirs);
    let told = ours.receive();
    match (waitpid(between, None)?, told) {
        (WaitStatus::Exited(_, 0), Ok((pid, mut fds))) => {
            let pid = pid.try_into().map(i32::from_ne_bytes).map(Pid::from_raw);
            match (pid, fds.pop()) {
                (Ok(pid), Some(fd)) => Ok(Some((pid, fd))),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        }
        (WaitStatus::Exited(_, code), _) if code != 0 => Err(io::Error::from_raw_os_error(code)),
        (status, _) => Err(io::Error::other(format!("the fork was lost: {status:?}"))),
    }
}

/// Says who the child is, and hands over a pidfd of it: as long as its parent lives nobody else can
/// have its pid.
fn tell(to: &Channel, child: Pid) -> io::Result<()> {
    let pidfd = PidFd::open(child)?;
    to.send(&child.as_raw().to_ne_bytes(), &[pidfd.as_fd()])
}

/// Chooses the pid namespace of children yet to be made; the caller stays in its own.
fn choose(namespace: PidNamespace<'_>) -> io::Result<()> {
    match namespace {
        PidNamespace::New => unshare(CloneFlags::CLONE_NEWPID)?,
        PidNamespace::Join(fd) => setns(fd, CloneFlags::CLONE_NEWPID)?,
        PidNamespace::Inherit => {}
    }
    Ok(())
}

fn assert_one_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.take(2).count() {
        1 => Ok(()),
        _ => Err(io::Error::other("fork refused: this process has several threads")),
    }
}
