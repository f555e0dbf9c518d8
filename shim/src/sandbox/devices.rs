//! The container's `/dev`.

use super::Error;
use crate::spec::Plan;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What every program may expect of the devices that runtimes must provide
/// (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>),
/// but for terminals.
const USUAL: [(&str, u64, u64); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// Fills the freshly mounted `dev` with the usual nodes and those of the plan.
///
/// # Errors
/// When a node cannot be made.
pub fn fill(dev: BorrowedFd<'_>, root: BorrowedFd<'_>, plan: &Plan) -> Result<(), Error> {
    let umask = nix::sys::stat::umask(Mode::empty());
    let filled = fill_unmasked(dev, root, plan);
    nix::sys::stat::umask(umask);
    filled
}

fn fill_unmasked(dev: BorrowedFd<'_>, root: BorrowedFd<'_>, plan: &Plan) -> Result<(), Error> {
    for (name, major, minor) in USUAL {
        let mode = Mode::from_bits_truncate(0o666);
        match mknodat(dev, name, SFlag::S_IFCHR, mode, makedev(major, minor)) {
            // In a user namespace nobody makes device nodes, but those of the host can be lent.
            Err(Errno::EPERM) => lend(dev, name),
            made => made.map_err(io::Error::from),
        }
        .map_err(Error::step(format!("make /dev/{name}")))?;
    }
    plan.isolation.devices.iter().try_for_each(|device| node(dev, root, device))
}

/// Mounts the host's node `name` in its place.
fn lend(dev: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let node = sys::mount::clone_tree(AT_FDCWD, &Path::new("/dev").join(name), false)?;
    let place = super::paths::make_file(dev, Path::new(name))?;
    sys::mount::attach(node.as_fd(), place.as_fd())
}

fn node(dev: BorrowedFd<'_>, root: BorrowedFd<'_>, device: &LinuxDevice) -> Result<(), Error> {
    let path = device.path();
    let what = || format!("make the device {}", path.display());
    // Elsewhere in the rootfs no node can be opened, so none is made there.
    let Ok(name) = path.strip_prefix("/dev") else {
        return Ok(());
    };
    if USUAL.iter().any(|(usual, ..)| Path::new(usual) == name) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        super::paths::make_dir(root, parent).map_err(Error::step(what()))?;
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        _ => SFlag::S_IFCHR,
    };
    let mode = Mode::from_bits_truncate(device.file_mode().unwrap_or(0o666) & 0o7777);
    let number = makedev(device.major() as u64, device.minor() as u64);
    let _ = nix::unistd::unlinkat(dev, name, UnlinkatFlags::NoRemoveDir);
    mknodat(dev, name, kind, mode, number).map_err(Error::step(what()))?;
    let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
    nix::unistd::fchownat(dev, name, uid, gid, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(Error::step(what()))
}
