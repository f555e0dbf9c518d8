//! The container's view of the file system: its rootfs, what is mounted on it, and the move into it.
//!
//! All mounts are made in the container's own mount namespace, so they are gone with its last
//! process. No path that a guest or image chose is followed out of the rootfs: every destination is
//! opened beneath it and mounted on by descriptor. Nothing but the container's `/dev` lets a device
//! node be opened.

use super::{Error, devices};
use crate::spec::{Mount, MountKind, Plan};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

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
        mount_root(part, rootfs)?;
    }
    let root = sys::fd::open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY)
        .map_err(Error::step(format!("open the rootfs {}", rootfs.display())))?;
    sys::mount::add_attributes(root.as_fd(), MsFlags::MS_NODEV, parts.is_empty())
        .map_err(Error::step("keep device nodes of the rootfs from being opened"))?;
    for mount in &plan.mounts {
        mount_one(root.as_fd(), mount, plan)?;
    }
    make_dir(root.as_fd(), &plan.process.cwd).map_err(Error::step(format!(
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

fn mount_root(part: &Mount, rootfs: &Path) -> Result<(), Error> {
    let (source, fstype, bind) = match &part.kind {
        MountKind::Bind { source, recursive: true } => {
            (source, NONE, MsFlags::MS_BIND | MsFlags::MS_REC)
        }
        MountKind::Bind { source, recursive: false } => (source, NONE, MsFlags::MS_BIND),
        MountKind::Filesystem { fstype, source } => {
            (source, Some(fstype.as_str()), MsFlags::empty())
        }
        MountKind::Withheld => return Ok(()),
    };
    let what =
        || format!("mount the rootfs from {} ({})", source.display(), fstype.unwrap_or("bind"));
    mount(Some(source), rootfs, fstype, part.flags | bind, Some(part.data.as_str()))
        .map_err(Error::step(what()))?;
    if !bind.is_empty() && part.flags.contains(MsFlags::MS_RDONLY) {
        let root = sys::fd::open(rootfs, OFlag::O_PATH).map_err(Error::step(what()))?;
        sys::mount::add_attributes(root.as_fd(), part.flags, false).map_err(Error::step(what()))?;
    }
    Ok(())
}

fn mount_one(root: BorrowedFd<'_>, one: &Mount, plan: &Plan) -> Result<(), Error> {
    let at = one.destination.display();
    match &one.kind {
        MountKind::Withheld => Ok(()),
        MountKind::Bind { source, recursive } => {
            let what = || format!("mount {} on {at}", source.display());
            let meta = fs::metadata(source).map_err(|e| {
                Error::step(what())(e).hint("; the source of a bind mount must exist on the host")
            })?;
            let target = if meta.is_dir() {
                make_dir(root, &one.destination)
            } else {
                make_file(root, &one.destination)
            }
            .map_err(Error::step(format!("make the mount point {at}")))?;
            let rec = if *recursive { MsFlags::MS_REC } else { MsFlags::empty() };
            mount(Some(source), &by_fd(&target), NONE, MsFlags::MS_BIND | rec, NONE)
                .map_err(Error::step(what()))?;
            finish(root, one, *recursive)
        }
        MountKind::Filesystem { fstype, source } => {
            let target = make_dir(root, &one.destination)
                .map_err(Error::step(format!("make the mount point {at}")))?;
            let dev = fstype == "tmpfs" && one.destination == Path::new("/dev");
            let nodev = if dev { MsFlags::empty() } else { MsFlags::MS_NODEV };
            mount(
                Some(source),
                &by_fd(&target),
                Some(fstype.as_str()),
                // Read-only only once it is filled.
                one.flags.difference(MsFlags::MS_RDONLY) | nodev,
                Some(one.data.as_str()),
            )
            .map_err(Error::step(format!("mount {fstype} on {at}")))?;
            if dev {
                let target = open_mounted(root, &one.destination)?;
                devices::fill(target.as_fd(), root, plan)?;
            }
            finish(root, one, false)
        }
    }
}

/// Attributes and propagation of a mount just made. A bind mount takes its flags only now.
fn finish(root: BorrowedFd<'_>, one: &Mount, recursive: bool) -> Result<(), Error> {
    let what = || format!("set the options of the mount {}", one.destination.display());
    let bind = matches!(one.kind, MountKind::Bind { .. });
    let late = bind || one.flags.contains(MsFlags::MS_RDONLY);
    if !late && one.propagation.is_none() && !one.recursively_read_only {
        return Ok(());
    }
    let target = open_mounted(root, &one.destination)?;
    if bind {
        sys::mount::add_attributes(target.as_fd(), MsFlags::MS_NODEV, recursive)
            .map_err(Error::step(what()))?;
    }
    if late && !one.flags.is_empty() {
        sys::mount::add_attributes(target.as_fd(), one.flags, false)
            .map_err(Error::step(what()))?;
    }
    if one.recursively_read_only {
        sys::mount::add_attributes(target.as_fd(), MsFlags::MS_RDONLY, true)
            .map_err(Error::step(what()))?;
    }
    if let Some(propagation) = one.propagation {
        mount(NONE, &by_fd(&target), NONE, propagation, NONE).map_err(Error::step(what()))?;
    }
    Ok(())
}

fn open_mounted(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    sys::fd::open_in_root(root, path, OFlag::O_PATH)
        .map_err(Error::step(format!("open the mount {}", path.display())))
}

/// A path that means the open file whatever is mounted or renamed meanwhile.
fn by_fd(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Opens the folder `path` of the rootfs, making what is missing of it.
pub(super) fn make_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    match sys::fd::open_in_root(root, path, flags) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut reached = PathBuf::from("/");
    let mut dir = sys::fd::open_in_root(root, &reached, flags)?;
    for step in path.components() {
        let Component::Normal(name) = step else {
            continue;
        };
        reached.push(name);
        dir = match sys::fd::open_in_root(root, &reached, flags) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                nix::sys::stat::mkdirat(dir.as_fd(), name, Mode::from_bits_truncate(0o755))?;
                sys::fd::open_in_root(root, &reached, flags)?
            }
            opened => opened?,
        };
    }
    Ok(dir)
}

/// Opens the file `path` of the rootfs, making it and its folders where they are missing.
fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match sys::fd::open_in_root(root, path, OFlag::O_PATH) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let name = path.file_name().ok_or(Errno::EISDIR)?;
    let dir = make_dir(root, path.parent().unwrap_or(Path::new("/")))?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    nix::fcntl::openat(dir.as_fd(), name, flags, Mode::from_bits_truncate(0o644))?;
    sys::fd::open_in_root(root, path, OFlag::O_PATH)
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
