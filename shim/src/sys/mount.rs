//! Mounts by descriptor (open_tree(2), mount_setattr(2), move_mount(2)), which the C library does not
//! wrap: a mount gets its attributes before anybody can reach it, and its place without a second
//! look at a path.

use nix::errno::Errno;
use nix::mount::MsFlags;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// From linux/mount.h.
const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// The flags of mount(2) that are attributes of one mount, with their names in mount_setattr(2).
const ATTRIBUTES: [(MsFlags, u64); 5] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
];

/// A mount that is nowhere yet: what is mounted at `path`, seen from `dir` (the folder itself when
/// `path` is empty), and with `recursive` all below it.
///
/// # Errors
/// What open_tree(2) fails with.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let how = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | recursive;
    // SAFETY: the path is NUL-terminated and live.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), how) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Mounts `tree`, which is nowhere yet, on `target`.
///
/// # Errors
/// What move_mount(2) fails with.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated constants.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(done)?;
    Ok(())
}

/// Sets how `mount` spreads: the flags of mount(2), `MS_REC` for all below it.
///
/// # Errors
/// What mount_setattr(2) fails with.
pub fn set_propagation(mount: BorrowedFd<'_>, how: MsFlags) -> io::Result<()> {
    let recursive = how.contains(MsFlags::MS_REC);
    let propagation = how.difference(MsFlags::MS_REC).bits();
    set_attributes(
        mount,
        libc::mount_attr { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 },
        recursive,
    )
}

/// Adds attributes to the mount whose root `mount` is, and with `recursive` to all below it. Those
/// that it has stay.
///
/// # Errors
/// What mount_setattr(2) fails with.
pub fn add_attributes(mount: BorrowedFd<'_>, flags: MsFlags, recursive: bool) -> io::Result<()> {
    let attr_set = ATTRIBUTES
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(0, |set, (_, attribute)| set | attribute);
    set_attributes(
        mount,
        libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 },
        recursive,
    )
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: libc::mount_attr,
    recursive: bool,
) -> io::Result<()> {
    let how = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, the structure is live and its size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            how,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done)?;
    Ok(())
}
