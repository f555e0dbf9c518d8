//! The process that containers' processes are forked from: it knows no container, and has made ahead
//! what they would all make alike.
//!
//! It is forked from the shim before that knows anything, or executed; it waits for requests and ends
//! with its control channel. Its children are the shim's: what it forks it gives away.

use super::{Warm, receive, send};
use crate::sys;
use crate::sys::channel::Channel;
use crate::sys::fork::PidNamespace;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;

/// In which pid namespace a child shall live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// In the zygote's.
    Inherit,
    /// As process 1 of one of its own.
    New,
    /// In that of the second descriptor.
    Join,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToZygote {
    /// With a descriptor, the child's end of its talk with the shim: fork one.
    Fork {
        /// Where it lives.
        namespace: Namespace,
        /// Nothing more will be asked for.
        last: bool,
    },
}

/// From the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromZygote {
    /// With a descriptor, the child's pidfd.
    Forked {
        /// Its pid on the host.
        pid: i32,
    },
    /// There is no child.
    Failed(String),
}

/// Serves `control`; never returns. For a process of its own.
pub fn run(control: Channel) -> ! {
    // The shim's log is not this process's.
    log::set_max_level(log::LevelFilter::Off);
    drop(panic::take_hook());
    let code = match serve(&control) {
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => 1,
        _ => 0,
    };
    sys::process::exit_now(code)
}

fn serve(control: &Channel) -> io::Result<()> {
    sys::fd::close_all_but(&[control.as_fd()])?;
    // Until a child has nothing left of the shim, nobody of a joined namespace may look into it.
    nix::sys::prctl::set_dumpable(false)?;
    sys::signal::end_when_told()?;
    sys::signal::ignore_the_rest();
    sys::net::pin_resolver()?;
    let warm = Warm::default();
    loop {
        let (ToZygote::Fork { namespace, last }, fds) = receive(control)?;
        match fork(namespace, fds, &warm) {
            Ok((pid, pidfd)) => send(control, &FromZygote::Forked { pid }, &[pidfd.as_fd()])?,
            Err(e) => send(control, &FromZygote::Failed(format!("cannot fork: {e}")), &[])?,
        }
        if last {
            return Ok(());
        }
        // Behind the first: that one is waited for, and can do it itself meanwhile. What fails here
        // fails there again, and is told there.
        let _ = warm.all();
    }
}

fn fork(namespace: Namespace, fds: Vec<OwnedFd>, warm: &Warm) -> io::Result<(i32, OwnedFd)> {
    let mut fds = fds.into_iter();
    let talk = Channel::from(fds.next().ok_or(io::ErrorKind::InvalidData)?);
    let joined = fds.next();
    let into = match (namespace, &joined) {
        (Namespace::Inherit, _) => PidNamespace::Inherit,
        (Namespace::New, _) => PidNamespace::New,
        (Namespace::Join, Some(file)) => PidNamespace::Join(file.as_fd()),
        (Namespace::Join, None) => return Err(io::ErrorKind::InvalidData.into()),
    };
    match sys::fork::fork_orphan(into)? {
        Some((pid, pidfd)) => Ok((pid.as_raw(), pidfd)),
        None => {
            // Closed with all the others, under the eyes of its owner.
            std::mem::forget(joined);
            super::run(talk, warm)
        }
    }
}
