//! Processes by descriptor: a pidfd never means another process than the one it was opened for.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A process, held by descriptor. Readable (poll) once the process has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process `pid`: a child that was not yet waited for.
    ///
    /// # Errors
    /// What pidfd_open(2) fails with.
    pub fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends signal number `signal`.
    ///
    /// # Errors
    /// `ESRCH` when the process has ended, `EINVAL` when there is no such signal.
    pub fn kill(&self, signal: i32) -> nix::Result<()> {
        // SAFETY: a null siginfo is allowed and means one as of kill(2).
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        Errno::result(sent).map(drop)
    }

    /// Waits until the process has ended, child or not, for `timeout` at most.
    pub fn wait(&self, timeout: Duration) {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        while poll(&mut fds, timeout) == Err(Errno::EINTR) {}
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Collects the ended child. `None` while it runs.
    ///
    /// # Errors
    /// `ECHILD` when it is not our child or was collected before.
    pub fn try_wait(&self) -> nix::Result<Option<WaitStatus>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match waitid(Id::PIDFd(self.0.as_fd()), flags)? {
            WaitStatus::StillAlive => Ok(None),
            status => Ok(Some(status)),
        }
    }
}

impl From<OwnedFd> for PidFd {
    fn from(pidfd: OwnedFd) -> Self {
        Self(pidfd)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// When a process was started, in clock ticks since boot: with its pid it names one process for
/// good (field 22 of proc_pid_stat(5)). `None` when there is no such process.
pub fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, a parenthesis too: fields start behind the last one.
    stat[stat.rfind(')')? + 2..].split(' ').nth(19)?.parse().ok()
}
