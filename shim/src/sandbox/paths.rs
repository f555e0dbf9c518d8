//! Paths of the rootfs. None that a guest or image chose is followed out of it.

use crate::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Opens the folder `path` of the rootfs, making what is missing of it.
pub fn make_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
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
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
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
