//! Descriptors that the runtime watches.

use super::channel::Channel;
use super::pidfd::PidFd;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Owners of a descriptor that stays the same and open as long as they live.
pub trait Watchable: AsRawFd {}

impl Watchable for OwnedFd {}
impl Watchable for BorrowedFd<'_> {}
impl Watchable for PidFd {}
impl Watchable for Channel {}
impl Watchable for SignalFd {}

/// Has the runtime watch `descriptor`; gives it back with the error when that cannot be.
///
/// # Errors
/// `EPERM` for what is always ready, as files are.
pub fn watch<T: Watchable>(
    descriptor: T,
    interest: Interest,
) -> Result<AsyncFd<T>, (T, io::Error)> {
    // SAFETY: a `Watchable` gives the same descriptor as long as it lives, and owns it or borrows
    // it from its owner, so it is open for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(|e| e.into_parts())
}
