//! File descriptors: making, passing on, and closing all that a child must not keep.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Opens `path` close-on-exec.
///
/// # Errors
/// What open(2) fails with.
pub fn open(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600))?)
}

/// Makes `target` (0, 1 or 2) another name of `fd`, kept over exec.
///
/// # Errors
/// What dup2(2) fails with.
pub fn become_standard(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    debug_assert!((0..=2).contains(&target));
    // SAFETY: the standard descriptors are owned by nobody in this process; replacing one
    // invalidates no `OwnedFd`.
    if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A close-on-exec copy of a standard descriptor (0, 1 or 2).
///
/// # Errors
/// When it is not open.
pub fn standard(number: RawFd) -> io::Result<OwnedFd> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: fcntl only reads the number; a closed one gives EBADF.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A standard descriptor (0, 1 or 2) that does not wait, as an open file of its own, so that nobody
/// else who has the same pipe or terminal meets that; what cannot be opened anew is only copied.
///
/// # Errors
/// When it is not open.
pub fn standard_anew(number: RawFd) -> io::Result<OwnedFd> {
    use nix::sys::stat::{SFlag, fstat};
    let copy = standard(number)?;
    let kind = SFlag::from_bits_truncate(fstat(&copy)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFIFO && kind != SFlag::S_IFCHR {
        return Ok(copy);
    }
    let access = if number == 0 { OFlag::O_RDONLY } else { OFlag::O_WRONLY };
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // It may be another user's, or have nobody at its other end.
    let anew = open(Path::new(&path), access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
    Ok(anew.unwrap_or(copy))
}

/// Keeps `fd` open over exec.
///
/// # Errors
/// What fcntl(2) fails with.
pub fn keep_over_exec(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Has calls on `fd` wait, for all who share its open file.
///
/// # Errors
/// What fcntl(2) fails with.
pub fn make_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
    Ok(())
}

/// Closes every descriptor above 2 except `keep`.
///
/// For a freshly forked child: all `OwnedFd`s but the kept ones become dangling and must never be
/// used or dropped, which holds where the child ends in `_exit` or exec.
///
/// # Errors
/// What close_range(2) fails with.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only called in forked children, as `close_all_but` demands.
    if unsafe { libc::close_range(first, last, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Opens `path` as seen from `root`, whatever `..` and symbolic links it is made of
/// (openat2 with `RESOLVE_IN_ROOT`).
///
/// # Errors
/// What openat2(2) fails with.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = nix::fcntl::OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(nix::fcntl::ResolveFlag::RESOLVE_IN_ROOT);
    Ok(nix::fcntl::openat2(root, path, how)?)
}

/// What a file of the kernel says now, by a descriptor that may have been read before.
///
/// # Errors
/// What pread(2) fails with.
pub fn read_from_start(file: impl AsFd) -> io::Result<String> {
    let mut bytes = [0; 4096];
    let length = nix::sys::uio::pread(file, &mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// Opens `path`, which must not lead out of `dir`, as WASI opens for a guest (openat2 with
/// `RESOLVE_BENEATH`).
///
/// # Errors
/// What openat2(2) fails with; `EXDEV` when it would lead out.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    use nix::fcntl::ResolveFlag;
    let how = nix::fcntl::OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(nix::fcntl::openat2(dir, path, how)?)
}
