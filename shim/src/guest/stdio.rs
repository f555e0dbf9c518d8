//! The guest's standard streams: straight to and from the descriptors 0, 1 and 2, which are
//! containerd's fifos. Nothing is buffered that the guest was told is written; a reader that is
//! slow or gone holds up the guest's writes and nothing else.

use crate::sys;
use async_trait::async_trait;
use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// How much a guest may hand over in one write, in bytes: what a pipe holds.
const PERMIT: usize = 64 * 1024;

/// The three streams of a guest.
#[derive(Clone)]
pub struct Streams {
    pub input: Input,
    pub output: Output,
    pub error: Output,
}

impl Streams {
    /// Takes the standard descriptors. Needs a runtime.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            input: Input(Arc::new(Descriptor::new(sys::fd::standard(0)?, Interest::READABLE)?)),
            output: Output::new(sys::fd::standard(1)?)?,
            error: Output::new(sys::fd::standard(2)?)?,
        })
    }

    /// Waits until all that the guest wrote is out.
    pub async fn drain(&self) {
        self.output.clone().ready().await;
        self.error.clone().ready().await;
    }
}

/// A descriptor that tells when it is ready, or is always (a file, `/dev/null`).
enum Descriptor {
    Polled(AsyncFd<OwnedFd>),
    Plain(OwnedFd),
}

impl Descriptor {
    fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        match sys::polled::watch(fd, interest) {
            Ok(polled) => Ok(Self::Polled(polled)),
            // epoll has no use for files, which are always ready.
            Err((fd, e)) if e.raw_os_error() == Some(Errno::EPERM as i32) => Ok(Self::Plain(fd)),
            Err((_, e)) => Err(e),
        }
    }

    /// Waits until `done` says that nothing more is to be waited for.
    async fn until(&self, interest: Interest, mut done: impl FnMut() -> bool) {
        while !done() {
            let Self::Polled(fd) = self else { return };
            let Ok(mut guard) = fd.ready(interest).await else { return };
            if done() {
                return;
            }
            guard.clear_ready();
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Polled(fd) => fd.get_ref().as_fd(),
            Self::Plain(fd) => fd.as_fd(),
        }
    }
}

/// The guest's standard input. Its end is the end of the last writer, which the shim is one of
/// until containerd says `CloseIO`.
#[derive(Clone)]
pub struct Input(Arc<Descriptor>);

impl Input {
    fn is_ready(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.0.until(Interest::READABLE, || self.is_ready()).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = vec![0; size.min(PERMIT)];
        match nix::unistd::read(self.0.as_fd(), &mut buffer) {
            Ok(0) => Err(StreamError::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(buffer.into())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Bytes::new()),
            Err(e) => Err(StreamError::LastOperationFailed(io::Error::from(e).into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match nix::unistd::read(self.0.as_fd(), buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let Descriptor::Polled(fd) = &*self.0 else {
                        return Poll::Ready(Err(Errno::EAGAIN.into()));
                    };
                    let mut guard = ready!(fd.poll_read_ready(context))?;
                    if !self.is_ready() {
                        guard.clear_ready();
                    }
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.0.as_fd().is_terminal()
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

/// The guest's standard output or error.
#[derive(Clone)]
pub struct Output {
    descriptor: Arc<Descriptor>,
    /// Taken from the guest while the pipe was full; nothing more is taken before it is out.
    pending: Arc<Mutex<Bytes>>,
}

impl Output {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            descriptor: Arc::new(Descriptor::new(fd, Interest::WRITABLE)?),
            pending: Arc::default(),
        })
    }

    /// Writes what is pending as far as it goes; whether all of it is out.
    fn push(&self) -> io::Result<bool> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        while !pending.is_empty() {
            match nix::unistd::write(self.descriptor.as_fd(), &pending) {
                Ok(n) => drop(pending.split_to(n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(e) => {
                    pending.clear();
                    return Err(e.into());
                }
            }
        }
        Ok(true)
    }

    /// Writes a line of ours, behind all that the guest wrote.
    pub fn say(&self, mut words: String) {
        words.push('\n');
        self.add(words.into());
        let _ = self.push();
    }

    fn add(&self, bytes: Bytes) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *pending =
            if pending.is_empty() { bytes } else { [&pending[..], &bytes[..]].concat().into() };
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.descriptor.until(Interest::WRITABLE, || self.push().unwrap_or(true)).await;
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(bytes);
        self.push().map_err(failed)?;
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.push().map_err(failed)? { PERMIT } else { 0 })
    }
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(context))?;
        let taken = bytes.len().min(PERMIT);
        self.add(Bytes::copy_from_slice(&bytes[..taken]));
        self.push()?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.push()? {
            let Descriptor::Polled(fd) = &*self.descriptor else {
                return Poll::Ready(Err(Errno::EAGAIN.into()));
            };
            let mut guard = ready!(fd.poll_write_ready(context))?;
            if !self.push()? {
                guard.clear_ready();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.descriptor.as_fd().is_terminal()
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
