//! Pseudo-terminals (pty(7)).

use super::fd;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// How much a terminal shows, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Across.
    pub columns: u16,
    /// Down.
    pub rows: u16,
}

/// A new terminal: the side of whoever shows it, and the side of the program. Neither becomes the
/// caller's controlling terminal, and neither waits.
///
/// # Errors
/// When the system has none left, or no devpts is mounted.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let shown = fd::open(Path::new("/dev/ptmx"), flags)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the pointer is to a live integer, which this request reads.
    Errno::result(unsafe { libc::ioctl(shown.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) })?;
    // Not by its path, which another mount namespace may give another meaning.
    let flags = (flags | OFlag::O_CLOEXEC).bits();
    // SAFETY: this request takes plain flags.
    let program = unsafe { libc::ioctl(shown.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let program = Errno::result(program)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok((shown, unsafe { OwnedFd::from_raw_fd(program) }))
}

/// Sets the size of the terminal that `side` is of; its foreground processes get SIGWINCH.
///
/// # Errors
/// What ioctl(2) `TIOCSWINSZ` fails with.
pub fn resize(side: impl AsFd, size: Size) -> io::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a live, initialised structure, which this request reads.
    let done = unsafe { libc::ioctl(side.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) };
    Errno::result(done)?;
    Ok(())
}

/// The size of the terminal that `side` is of.
///
/// # Errors
/// What ioctl(2) `TIOCGWINSZ` fails with; `ENOTTY` for what is no terminal.
pub fn size(side: impl AsFd) -> io::Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a live structure, which this request fills.
    let done = unsafe { libc::ioctl(side.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    Errno::result(done)?;
    Ok(Size { columns: size.ws_col, rows: size.ws_row })
}

/// Makes a terminal the controlling one of this process, which leads a session without one: its keys
/// for signals reach this process from now on.
///
/// # Errors
/// `EPERM` when the session has one, or another session has this one.
pub fn control(program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes a plain number: 0 takes the terminal from nobody else.
    Errno::result(unsafe { libc::ioctl(program.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IsTerminal;

    #[test]
    fn what_the_program_writes_is_shown_to_its_end() {
        let (shown, program) = open().unwrap();
        assert!(program.is_terminal());
        resize(&shown, Size { columns: 80, rows: 25 }).unwrap();
        assert_eq!(nix::unistd::write(&program, b"words").unwrap(), 5);
        drop(program);
        let mut buffer = [0; 16];
        assert_eq!(nix::unistd::read(&shown, &mut buffer).unwrap(), 5);
        assert_eq!(nix::unistd::read(&shown, &mut buffer).unwrap_err(), Errno::EIO);
    }
}
