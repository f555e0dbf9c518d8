//! Threads of another process, held still to be looked at (ptrace(2)).

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread may take to stand still; one that waits for a disk takes as long as that.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a thread is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The address of its next instruction.
    pub instruction: u64,
    /// The end of its stack.
    pub stack: u64,
    /// The frame of the function that it is in, where functions keep one.
    pub frame: u64,
}

/// A thread that stands still, until this is dropped.
#[derive(Debug)]
pub struct Held {
    thread: Pid,
    /// What was about to be delivered, and still shall be.
    signal: Option<Signal>,
    /// Where it does.
    pub place: Place,
}

impl Held {
    /// Holds a thread. Nothing of it is changed; a system call that it waits in may be restarted, or
    /// fail with `EINTR` as by a signal.
    ///
    /// # Errors
    /// `ESRCH` when it has ended, `EPERM` when it may not be looked at or is looked at already,
    /// `TimedOut` when it does not stand still.
    pub fn new(thread: Pid) -> io::Result<Self> {
        ptrace::seize(thread, ptrace::Options::empty())?;
        // From here on it is let go whatever happens.
        let none = Place { instruction: 0, stack: 0, frame: 0 };
        let mut held = Self { thread, signal: None, place: none };
        ptrace::interrupt(thread)?;
        let begin = Instant::now();
        while !held.stands_still()? {
            if begin.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        held.place = place(thread)?;
        Ok(held)
    }

    fn stands_still(&mut self) -> nix::Result<bool> {
        match waitpid(self.thread, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL))? {
            WaitStatus::StillAlive => return Ok(false),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
            WaitStatus::Stopped(_, signal) => self.signal = Some(signal),
            _ => {}
        }
        Ok(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that has ended needs it no more; one that never stood still is let go when this process
        // ends.
        let _ = ptrace::detach(self.thread, self.signal);
    }
}

#[cfg(target_arch = "x86_64")]
fn place(thread: Pid) -> nix::Result<Place> {
    let registers = ptrace::getregs(thread)?;
    Ok(Place { instruction: registers.rip, stack: registers.rsp, frame: registers.rbp })
}

#[cfg(target_arch = "aarch64")]
fn place(thread: Pid) -> nix::Result<Place> {
    let registers = ptrace::getregs(thread)?;
    Ok(Place { instruction: registers.pc, stack: registers.sp, frame: registers.regs[29] })
}
