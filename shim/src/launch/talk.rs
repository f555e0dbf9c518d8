//! The shim's end of the talk with a container's process.

use crate::init::{FromInit, ToInit, receive, send};
use crate::sys::channel::Channel;
use crate::sys::polled::watch;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct Talk(AsyncFd<Channel>);

impl Talk {
    pub fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking()?;
        Ok(Self(watch(channel, Interest::READABLE | Interest::WRITABLE).map_err(|(_, e)| e)?))
    }

    pub async fn send(&self, message: &ToInit, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        loop {
            let mut guard = self.0.writable().await?;
            if let Ok(sent) = guard.try_io(|channel| send(channel.get_ref(), message, fd)) {
                return sent;
            }
        }
    }

    pub async fn receive(&self) -> io::Result<(FromInit, Option<OwnedFd>)> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(received) = guard.try_io(|channel| receive(channel.get_ref())) {
                return received;
            }
        }
    }
}
