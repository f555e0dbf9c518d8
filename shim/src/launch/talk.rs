//! The shim's end of the talk with a process that it has made.

use crate::init::{receive, send};
use crate::sys::channel::Channel;
use crate::sys::polled::watch;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct Talk(AsyncFd<Channel>);

/// Whether an error of a channel means that nobody is at its other end.
pub fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset)
}

impl Talk {
    pub fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking()?;
        Ok(Self(watch(channel, Interest::READABLE | Interest::WRITABLE).map_err(|(_, e)| e)?))
    }

    pub async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut guard = self.0.writable().await?;
            if let Ok(sent) = guard.try_io(|channel| send(channel.get_ref(), message, fds)) {
                return sent;
            }
        }
    }

    /// Sends; that nobody is there to hear it is no error: what was last said by the other side is
    /// still to be received.
    pub async fn tell<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.send(message, fds).await {
            Err(e) if is_lost(&e) => Ok(()),
            sent => sent,
        }
    }

    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(received) = guard.try_io(|channel| receive(channel.get_ref())) {
                return received;
            }
        }
    }
}
