//! How a process that reads hostile input gives up what it does not need for that.

use crate::sandbox::privileges;
use crate::sys;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

/// `nobody` of every distribution.
const NOBODY: u32 = 65534;

/// Leaves the process its standard streams, the descriptors `keep` and nothing else: no user, no
/// files, no network, and no more of each resource (its number, and the most in its unit) than
/// `limits` say. It ends with its parent.
///
/// # Errors
/// When a step fails; the process is then not to go on.
pub fn confine(keep: &[BorrowedFd<'_>], limits: &[(u32, u64)]) -> io::Result<()> {
    prepare(keep, limits)?;
    let one_user = sys::process::groups_are_fixed()?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    // A folder of its own in which there is nothing that anybody could open for writing.
    nix::unistd::chroot("/proc/self/fdinfo")?;
    nix::unistd::chdir("/")?;
    become_nobody(one_user)
}

/// The same for one that speaks to others on the network: it keeps that, and the files that everybody
/// may read, among which are authorities and name servers.
///
/// # Errors
/// As [`confine`].
pub fn online(limits: &[(u32, u64)]) -> io::Result<()> {
    prepare(&[], limits)?;
    become_nobody(false)
}

fn prepare(keep: &[BorrowedFd<'_>], limits: &[(u32, u64)]) -> io::Result<()> {
    sys::fd::close_all_but(keep)?;
    // The first to go when memory runs out, before the shim whose score it has.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    for &(resource, most) in limits {
        let hard = sys::process::hard_limit(resource)?;
        // The last second is for the signal that names the limit; at the hard one it is SIGKILL.
        let spare = if resource == libc::RLIMIT_CPU { 1 } else { 0 };
        sys::process::set_limit(resource, most.min(hard), (most + spare).min(hard))?;
    }
    Ok(unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?)
}

fn become_nobody(one_user: bool) -> io::Result<()> {
    if one_user {
        // A user's own namespace has nobody else whom it could become, and nothing of the user is in
        // reach: no file, and where this matters, no other process.
        privileges::give_up_capabilities().map_err(io::Error::other)?;
    } else {
        setgroups(&[])?;
        setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY))?;
        setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY))?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    sys::process::die_with_parent()
}
