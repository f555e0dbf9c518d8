//! Attributes of mounts (mount_setattr(2)), which the C library does not wrap.

use nix::errno::Errno;
use nix::mount::MsFlags;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The flags of mount(2) that are attributes of one mount, with their names in mount_setattr(2).
const ATTRIBUTES: [(MsFlags, u64); 5] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
];

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
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
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
