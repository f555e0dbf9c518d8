//! The namespaces of a program that runs a container without a daemon. What it makes in them is seen
//! by nobody else, and is gone with its last process, however that ends.

use super::Error;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

const NONE: Option<&str> = None;

/// Takes the calling process, of one thread, into a mount namespace of its own; and unless it is
/// root's, into a user namespace before that, whose root it becomes. There is nobody else in that
/// one, so its user may do there what it may do anyway.
///
/// # Errors
/// When the system does not let this user have one.
pub fn enter() -> Result<(), Error> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| {
            Error::step("make a mount namespace")(e)
                .hint("; root needs CAP_SYS_ADMIN for it, which containers have not")
        })?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e: Errno| {
            Error::step("make a user namespace")(e).hint(
                "; this system keeps them from users: run it as root, or see its sysctls \
                 kernel.unprivileged_userns_clone, user.max_user_namespaces and \
                 kernel.apparmor_restrict_unprivileged_userns",
            )
        })?;
        // In this order (user_namespaces(7)).
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(Error::step(format!("write {file} of the user namespace")))?;
        }
    }
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)
        .map_err(Error::step("keep mounts from spreading to the host"))
}

/// Mounts an empty folder, in memory, on the folder `at`, which is made if it is not there.
///
/// # Errors
/// When it cannot be made or mounted on.
pub fn empty_folder(at: &Path) -> Result<(), Error> {
    let what = || format!("use the folder {}", at.display());
    if !at.is_dir() {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700).create(at).map_err(Error::step(what()))?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=755")).map_err(Error::step(what()))
}
