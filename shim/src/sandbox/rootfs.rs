//! The container's view of the file system: its rootfs, what is mounted on it, and the move into it.
//!
//! All mounts are made in the container's own mount namespace, so they are gone with its last
//! process. Nothing but the container's `/dev` lets a device node be opened.

use super::{Error, mounts, paths};
use crate::spec::{Mount, Plan};
use crate::sys;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const NONE: Option<&str> = None;

/// Mounts the rootfs (from `parts`, as containerd hands them over, or the folder as it is) and all
/// that the plan mounts on it. Gives the rootfs's folder.
///
/// # Errors
/// The first step that fails, naming the mount.
pub fn mount_all(plan: &Plan, parts: &[Mount]) -> Result<OwnedFd, Error> {
    let rootfs = plan.rootfs.as_path();
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)
        .map_err(Error::step("keep mounts from spreading to the host"))?;
    if parts.is_empty() {
        mount(Some(rootfs), rootfs, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
            .map_err(Error::step(format!("bind the rootfs {}", rootfs.display())))?;
    }
    for part in parts {
        mounts::mount_root(part, rootfs)?;
    }
    let root = sys::fd::open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY)
        .map_err(Error::step(format!("open the rootfs {}", rootfs.display())))?;
    sys::mount::add_attributes(root.as_fd(), MsFlags::MS_NODEV, parts.is_empty())
        .map_err(Error::step("keep device nodes of the rootfs from being opened"))?;
    for mount in &plan.mounts {
        mounts::mount_one(root.as_fd(), mount, plan)?;
    }
    mounts::mask(root.as_fd(), &plan.masked_paths)?;
    mounts::make_read_only(root.as_fd(), &plan.read_only_paths)?;
    paths::make_dir(root.as_fd(), &plan.process.cwd).map_err(Error::step(format!(
        "make the working directory {}",
        plan.process.cwd.display()
    )))?;
    if plan.rootfs_read_only {
        sys::mount::add_attributes(root.as_fd(), MsFlags::MS_RDONLY, false)
            .map_err(Error::step("make the rootfs read-only"))?;
    }
    Ok(root)
}

/// Makes `root` the `/` of this process and forgets the host's.
///
/// # Errors
/// The first step that fails.
pub fn pivot(root: BorrowedFd<'_>, propagation: MsFlags) -> Result<(), Error> {
    let proc = sys::fd::open(Path::new("/proc"), OFlag::O_PATH | OFlag::O_DIRECTORY)
        .map_err(Error::step("open /proc"))?;
    nix::unistd::fchdir(root).map_err(Error::step("enter the rootfs"))?;
    // The old root ends up mounted over the new one, and needs no folder of its own there.
    nix::unistd::pivot_root(".", ".").map_err(Error::step("pivot into the rootfs"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::step("let go of the host's root"))?;
    nix::unistd::chdir("/").map_err(Error::step("enter the new root"))?;
    withhold_procfs(proc.as_fd())?;
    let spreads = MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE;
    if propagation.intersects(spreads) {
        mount(NONE, "/", NONE, propagation, NONE).map_err(Error::step("set rootfsPropagation"))?;
    }
    Ok(())
}

/// Unmounts every procfs that came along with a bind mount: through `/proc/self/mem` a guest could
/// write its own runtime's memory. Goes by the kernel's list as seen from the new root, `proc` being
/// the host's, until none is left: what is on top of one hides it no longer than that.
fn withhold_procfs(proc: BorrowedFd<'_>) -> Result<(), Error> {
    loop {
        let mut text = String::new();
        nix::fcntl::openat(
            proc,
            "self/mountinfo",
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(io::Error::from)
        .and_then(|fd| File::from(fd).read_to_string(&mut text))
        .map_err(Error::step("read /proc/self/mountinfo"))?;
        let Some(point) = text.lines().find_map(procfs_point) else {
            return Ok(());
        };
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(Error::step(format!("withhold the procfs {}", point.display())))?;
    }
}

/// Where a line of mountinfo says that a procfs is mounted, if it does.
fn procfs_point(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    filesystem.starts_with("proc ").then(|| unescape(point))
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(path: &str) -> PathBuf {
    let text = path
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfs_is_told_from_other_mounts_by_its_line() {
        let line = "29 23 0:24 / /host\\040files/proc rw,nosuid shared:14 - proc proc rw";
        assert_eq!(procfs_point(line).unwrap(), Path::new("/host files/proc"));
        assert_eq!(procfs_point("29 23 0:24 / /proc rw - tmpfs proc rw"), None);
        assert_eq!(procfs_point("nonsense"), None);
    }
}
