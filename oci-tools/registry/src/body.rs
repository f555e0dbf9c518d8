//! What is sent: bytes in memory, or a stretch of a file, read as the network takes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::Meter;

/// How much is read at once. The allocator gives longer stretches back to the system each time.
const PIECE: u64 = 64 << 10;

/// A body that can be sent more than once.
#[derive(Clone)]
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    File { file: Arc<File>, at: u64, len: u64 },
}

/// How far a body has been sent, for who watches whether it moves.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// For one sending. `meter` is told how much went, from `base` on.
    pub(crate) fn start(&self, sent: Sent, base: u64, meter: Option<Meter>) -> reqwest::Body {
        reqwest::Body::wrap(Sending { body: self.clone(), done: 0, sent, base, meter })
    }
}

struct Sending {
    body: Body,
    done: u64,
    sent: Sent,
    base: u64,
    meter: Option<Meter>,
}

impl Sending {
    fn piece(&self) -> io::Result<Bytes> {
        let len = PIECE.min(self.body.len() - self.done);
        match &self.body {
            Body::Empty => Ok(Bytes::new()),
            Body::Bytes(bytes) => {
                let from = self.done as usize;
                Ok(bytes.slice(from..from + len as usize))
            }
            Body::File { file, at, .. } => {
                let mut piece = vec![0; len as usize];
                file.read_exact_at(&mut piece, at + self.done)?;
                Ok(piece.into())
            }
        }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = self.piece();
        if let Ok(piece) = &piece {
            self.done += piece.len() as u64;
            self.sent.0.store(self.done, Ordering::Relaxed);
            if let Some(meter) = &self.meter {
                meter(self.base + self.done);
            }
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.done >= self.body.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.len() - self.done)
    }
}
