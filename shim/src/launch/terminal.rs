//! The terminal of one process. The shim holds the side that shows it and copies between that and
//! containerd's fifos: the one place where it copies.
//!
//! A chunk is read only when the one before it was taken, so a reader that is slow holds the process
//! up, as one of a plain fifo does, and no more than a chunk of each direction is in memory.

use crate::sys::polled::watch;
use crate::sys::pty::{self, Size};
use nix::errno::Errno;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How much is copied at a time, in bytes.
const CHUNK: usize = 4096;

/// What a terminal's keyboard sends for the end of input (termios(3), `VEOF`).
const END_OF_INPUT: u8 = 4;

/// How long the last output may take once the process has ended and its container is deleted: as
/// long as somebody reads it needs a moment, and without a reader it would be for ever.
const GOODBYE: Duration = Duration::from_secs(2);

/// A terminal that is shown.
pub struct Terminal {
    shown: Arc<AsyncFd<OwnedFd>>,
    /// Says that what is typed is for the program now.
    started: Arc<Notify>,
    /// The copier's: it ends with that.
    output: Weak<End>,
    copying: JoinHandle<()>,
}

impl Terminal {
    /// A new one, whose input comes from `input`, once it is [`started`](Self::started), and whose
    /// output goes to `output`; and the side of the program. Needs the runtime.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn open(
        size: Option<Size>,
        input: Option<OwnedFd>,
        output: OwnedFd,
    ) -> io::Result<(Self, OwnedFd)> {
        let (shown, program) = pty::open()?;
        if let Some(size) = size {
            pty::resize(&shown, size)?;
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let shown = Arc::new(watch(shown, both).map_err(|(_, e)| e)?);
        let input = input.map(|fd| End::new(fd, Interest::READABLE)).transpose()?;
        let output = Arc::new(End::new(output, Interest::WRITABLE)?);
        let its = Arc::downgrade(&output);
        let started = Arc::new(Notify::new());
        let copying = tokio::spawn(copy(shown.clone(), started.clone(), input, output));
        Ok((Self { shown, started, output: its, copying }, program))
    }

    /// Another name of where its output goes.
    ///
    /// # Errors
    /// When it has ended, or there are too many descriptors.
    pub fn output(&self) -> io::Result<OwnedFd> {
        match &*self.output.upgrade().ok_or(io::ErrorKind::NotConnected)? {
            End::Watched(fd) => fd.get_ref().try_clone(),
            End::Plain(fd) => fd.try_clone(),
        }
    }

    /// Lets keys through. Those that were typed before have waited: one that ends the program is not
    /// to end the preparation of it.
    pub fn started(&self) {
        self.started.notify_one();
    }

    /// Sets its size.
    ///
    /// # Errors
    /// What ioctl(2) fails with.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        pty::resize(self.shown.get_ref(), size)
    }

    /// Lets the last output of an ended process out.
    pub async fn finish(mut self) {
        if tokio::time::timeout(GOODBYE, &mut self.copying).await.is_err() {
            log::warn!("nobody reads the terminal's output, so the last of it is lost");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// Copies until no process has the terminal any more and all that they wrote is out. The end of the
/// input does not end that.
async fn copy(
    shown: Arc<AsyncFd<OwnedFd>>,
    started: Arc<Notify>,
    input: Option<End>,
    output: Arc<End>,
) {
    let shown = End::Watched(shown);
    let show = async {
        let mut chunk = [0; CHUNK];
        // The end is told by EIO.
        while let Ok(length @ 1..) = shown.read(&mut chunk).await {
            if output.write(&chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    let type_in = async {
        started.notified().await;
        if let Some(input) = input {
            type_all(&input, &shown).await;
        }
        pending().await
    };
    tokio::select! {
        () = show => {}
        () = type_in => {}
    }
}

/// Types all of `input`, then the key for its end: at the beginning of a line that is the end for
/// the program, elsewhere it only hands over the line so far, so it takes another.
async fn type_all(input: &End, terminal: &End) {
    let mut chunk = [0; CHUNK];
    let mut last = b'\n';
    while let Ok(length @ 1..) = input.read(&mut chunk).await {
        last = chunk[length - 1];
        if terminal.write(&chunk[..length]).await.is_err() {
            return;
        }
    }
    let end: &[u8] = if last == b'\n' { &[END_OF_INPUT] } else { &[END_OF_INPUT; 2] };
    let _ = terminal.write(end).await;
}

/// One end of a copy: watched, or always ready (a file, `/dev/null`).
enum End {
    Watched(Arc<AsyncFd<OwnedFd>>),
    Plain(OwnedFd),
}

impl End {
    fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        match watch(fd, interest) {
            Ok(watched) => Ok(Self::Watched(Arc::new(watched))),
            Err((fd, e)) if e.raw_os_error() == Some(Errno::EPERM as i32) => Ok(Self::Plain(fd)),
            Err((_, e)) => Err(e),
        }
    }

    async fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        self.when(Interest::READABLE, |fd| nix::unistd::read(fd, chunk)).await
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.when(Interest::WRITABLE, |fd| nix::unistd::write(fd, bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Does it as soon as it can be done.
    async fn when(
        &self,
        interest: Interest,
        mut act: impl FnMut(BorrowedFd<'_>) -> nix::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Self::Watched(fd) => {
                fd.async_io(interest, |fd| act(fd.as_fd()).map_err(io::Error::from)).await
            }
            Self::Plain(fd) => Ok(act(fd.as_fd())?),
        }
    }
}
