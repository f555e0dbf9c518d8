//! A blob as it comes: checked while it comes, and asked for again from where it broke off.

use std::mem;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::digest::{Digest, Hasher};
use crate::document::Descriptor;
use crate::error::Error;
use crate::repository::{Repository, header};
use crate::retry::Retry;
use crate::transport::Pace;

/// From so many bytes on, a blob is hashed on a thread of its own.
const LONG: u64 = 1 << 20;

/// So many pieces may wait to be hashed: a piece may have half a megabyte.
const WAITING: usize = 1;

/// Gives the bytes of a blob in order, each once, never more than the descriptor says, and the last
/// of them only when all together have the digest that it says.
pub struct BlobReader<'a> {
    repository: &'a Repository,
    descriptor: Descriptor,
    what: String,
    at: u64,
    hashing: Hashing,
    retry: Retry,
    stream: Option<Stream>,
    ended: bool,
}

/// A digest on the way: hashing takes as long as receiving, so it is done beside that where it is
/// worth a thread.
enum Hashing {
    Here(Hasher),
    Beside(mpsc::Sender<Bytes>, JoinHandle<Hasher>),
}

impl Hashing {
    async fn take(&mut self, bytes: &Bytes, size: u64) {
        if let Self::Here(hasher) = self
            && size >= LONG
        {
            let mut hasher = mem::take(hasher);
            let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
            let work = spawn_blocking(move || {
                while let Some(bytes) = waiting.blocking_recv() {
                    hasher.update(&bytes);
                }
                hasher
            });
            *self = Self::Beside(pieces, work);
        }
        match self {
            Self::Here(hasher) => hasher.update(bytes),
            Self::Beside(pieces, _) => {
                pieces.send(bytes.clone()).await.expect("it takes all that comes");
            }
        }
    }

    /// Of all that it took.
    async fn digest(&mut self) -> Digest {
        let hasher = match mem::replace(self, Self::Here(Hasher::default())) {
            Self::Here(hasher) => hasher,
            Self::Beside(pieces, work) => {
                drop(pieces);
                work.await.expect("to hash is not to panic")
            }
        };
        let digest = hasher.digest();
        *self = Self::Here(hasher);
        digest
    }
}

struct Stream {
    answer: Response,
    pace: Pace,
    /// Bytes to pass over, where a registry begins anew.
    skip: u64,
}

/// Reads a small blob whole; of one of more than `most` bytes nothing.
///
/// # Errors
/// When it does not come, or is another.
pub async fn small(
    repository: &Repository,
    blob: &Descriptor,
    most: u64,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if blob.size <= most {
        let mut reader = BlobReader::new(repository, blob, 0, Hasher::default());
        while let Some(piece) = reader.next().await? {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(bytes)
}

impl<'a> BlobReader<'a> {
    /// Reads the blob of `descriptor` from its byte `at` on; `hasher` has taken in those before.
    #[must_use]
    pub fn new(
        repository: &'a Repository,
        descriptor: &Descriptor,
        at: u64,
        hasher: Hasher,
    ) -> Self {
        let what = repository.request(Method::GET, descriptor.digest.as_str(), "").what;
        Self {
            repository,
            descriptor: descriptor.clone(),
            what,
            at,
            hashing: Hashing::Here(hasher),
            retry: Retry::new(repository.registry.transport.settings.retries),
            stream: None,
            ended: false,
        }
    }

    /// What is read.
    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Begins anew at the first byte.
    pub(crate) fn rewind(&mut self) {
        (self.at, self.stream, self.ended) = (0, None, false);
        self.hashing = Hashing::Here(Hasher::default());
    }

    /// The next bytes; `None` when all were given.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    self.retry.after(error, self.at).await?;
                }
            }
        }
    }

    /// One piece, or `None` when there is another step to take.
    async fn step(&mut self) -> Result<Option<Bytes>, Error> {
        let size = self.descriptor.size;
        // Also of an empty blob, or one that was all there, the digest is checked.
        if self.at == size && self.stream.is_none() {
            self.ended = true;
            self.check_digest().await?;
            return Ok(None);
        }
        if self.stream.is_none() {
            self.stream = Some(self.open().await?);
        }
        let transport = &self.repository.registry.transport;
        let stream = self.stream.as_mut().expect("it has just been opened");
        let chunk = transport.chunk(&self.what, &mut stream.answer, &mut stream.pace).await?;
        let Some(mut bytes) = chunk else {
            self.stream = None;
            if self.at < size {
                let reason = format!("it ended after {} of {size} bytes", self.at);
                return Err(Error::Broken { what: self.what.clone(), reason });
            }
            return Ok(None);
        };
        let skip = stream.skip.min(bytes.len() as u64);
        stream.skip -= skip;
        bytes = bytes.slice(skip as usize..);
        if bytes.is_empty() {
            return Ok(None);
        }
        let len = bytes.len() as u64;
        if len > size - self.at {
            return Err(self.size("more"));
        }
        self.hashing.take(&bytes, size).await;
        self.at += len;
        if self.at == size {
            self.check_digest().await?;
        }
        Ok(Some(bytes))
    }

    async fn check_digest(&mut self) -> Result<(), Error> {
        let actual = self.hashing.digest().await;
        if actual != self.descriptor.digest {
            return Err(Error::Digest { what: self.what.clone(), actual });
        }
        Ok(())
    }

    fn size(&self, actual: &str) -> Error {
        let (what, expected) = (self.what.clone(), self.descriptor.size);
        Error::Size { what, expected, actual: actual.to_owned() }
    }

    async fn open(&self) -> Result<Stream, Error> {
        let registry = &self.repository.registry;
        let digest = &self.descriptor.digest;
        let path = format!("blobs/{digest}");
        let mut request = self.repository.request(Method::GET, digest.as_str(), &path);
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.at > 0 {
            let range = format!("bytes={}-", self.at);
            request.headers.insert(RANGE, HeaderValue::try_from(range).expect("ASCII"));
        }
        let answer = registry.send(&request, &self.repository.scopes()).await?;
        let (status, length) = (answer.status(), answer.content_length());
        let (skip, rest) = match status {
            StatusCode::OK => (self.at, self.descriptor.size),
            StatusCode::PARTIAL_CONTENT if self.at > 0 => {
                let range = header(answer.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.at)) {
                    return Err(registry.answer(&self.what, "it sends another part than asked for"));
                }
                (0, self.descriptor.size - self.at)
            }
            _ => return Err(registry.refusal(&self.what, answer).await),
        };
        if let Some(length) = length.filter(|length| *length != rest) {
            return Err(self.size(&format!("{}", length + self.descriptor.size - rest)));
        }
        Ok(Stream { answer, pace: Pace::default(), skip })
    }

    /// The bytes up to `most`, or to the end, collected.
    pub(crate) async fn gather(&mut self, most: u64, rest: &mut Bytes) -> Result<Bytes, Error> {
        let mut gathered = Vec::with_capacity(most.min(self.descriptor.size) as usize);
        loop {
            let piece = if rest.is_empty() { self.next().await? } else { Some(mem::take(rest)) };
            let Some(mut piece) = piece else {
                return Ok(gathered.into());
            };
            let room = most as usize - gathered.len();
            *rest = piece.split_off(room.min(piece.len()));
            gathered.extend_from_slice(&piece);
            if gathered.len() as u64 == most {
                return Ok(gathered.into());
            }
        }
    }
}
