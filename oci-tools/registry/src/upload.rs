//! A blob on its way into a repository: it is there already, or another repository has it, or it is
//! sent; a short one at once, a long one in chunks, from where the registry says that it broke off.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#push>

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::Meter;
use crate::body::Body;
use crate::document::Descriptor;
use crate::download::BlobReader;
use crate::error::Error;
use crate::repository::{Repository, header};
use crate::retry::Retry;
use crate::transport::{location, upload_location};

/// A blob of at most so many bytes is sent with the request that ends the upload. A longer one is sent
/// before that, for only so can it go on from where it broke off.
const SHORT: u64 = 16 << 20;

/// The longest chunk of a blob that comes from another registry, of which a chunk is held in memory.
const REMOTE_CHUNK: u64 = 4 << 20;

/// The longest chunk that a registry may demand.
const LONGEST_CHUNK: u64 = 64 << 20;

/// How many stalls long the registry may take over an upload that is complete: it computes the
/// digest, and some copy.
const COMMIT_PATIENCE: u32 = 10;

/// Where the bytes of a blob come from.
pub enum Source<'a> {
    /// A file that holds the blob and nothing else.
    File(Arc<File>),
    /// Another registry.
    Remote(Box<BlobReader<'a>>),
}

/// How a blob got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Present,
    /// Another repository of the same registry had it.
    Mounted,
    /// It was sent.
    Sent,
}

/// What is left to do of an upload.
enum Start {
    Mounted,
    At { url: Url, chunk_min: u64 },
}

impl Repository {
    /// Asks for the blob of `descriptor` to be taken from `from`, another repository of the same
    /// registry; gives whether it was. A registry that does not do so costs one request.
    pub async fn mount(&self, descriptor: &Descriptor, from: &str) -> Result<bool, Error> {
        match self.start(descriptor, Some(from)).await? {
            Start::Mounted => Ok(true),
            Start::At { url, .. } => {
                // The registry began an upload instead, which nobody wants.
                let request = self.upload(Method::DELETE, descriptor, url);
                let _ = self.registry.send(&request, &self.scopes()).await;
                Ok(false)
            }
        }
    }

    /// Sends the blob of `descriptor`. `meter` is told how many bytes are on their way.
    pub async fn put_blob(
        &self,
        descriptor: &Descriptor,
        source: &mut Source<'_>,
        meter: &Meter,
    ) -> Result<(), Error> {
        let mut retry = Retry::new(self.registry.transport.settings.retries);
        let mut whole = false;
        loop {
            let mut done = 0;
            let result = self.try_put(descriptor, source, meter, whole, &mut retry, &mut done);
            match result.await {
                Ok(()) => return Ok(()),
                // It may know uploads in one piece only.
                Err(Error::Status { status, .. })
                    if done > 0
                        && !whole
                        && matches!(status, 400 | 405 | 411 | 415 | 416 | 501)
                        && matches!(source, Source::File(_)) =>
                {
                    whole = true;
                }
                Err(error) => retry.after(error, 0).await?,
            }
            if let Source::Remote(reader) = source {
                reader.rewind();
            }
        }
    }

    /// One upload session. `done` is set to 1 when the first chunk is on its way.
    async fn try_put(
        &self,
        descriptor: &Descriptor,
        source: &mut Source<'_>,
        meter: &Meter,
        whole: bool,
        retry: &mut Retry,
        done: &mut u64,
    ) -> Result<(), Error> {
        let (mut url, chunk_min) = match self.start(descriptor, None).await? {
            Start::Mounted => return Ok(()),
            Start::At { url, chunk_min } => (url, chunk_min),
        };
        let chunk = match source {
            Source::File(_) => self.registry.transport.settings.chunk.max(chunk_min),
            Source::Remote(_) => {
                REMOTE_CHUNK.min(self.registry.transport.settings.chunk).max(chunk_min)
            }
        };
        let (mut at, size) = (0, descriptor.size);
        let mut pieces = Pieces { source, rest: Bytes::new(), held: Bytes::new(), held_at: 0 };
        if size > chunk.min(SHORT) && !whole {
            *done = 1;
            while at < size {
                let body = pieces.piece(at, chunk.min(size - at)).await?;
                let end = at + body.len();
                match self.patch(descriptor, &url, at, body, meter).await {
                    Ok((next, taken)) if taken <= end && taken > at => (url, at) = (next, taken),
                    Ok((_, taken)) => {
                        let what = self.upload(Method::PATCH, descriptor, url).what;
                        let reason = format!("it says that it has {taken} bytes of {end} sent");
                        return Err(self.registry.answer(&what, reason));
                    }
                    Err(error) if error.is_passing() => {
                        retry.after(error, at).await?;
                        (url, at) = self.resume(descriptor, &url).await?;
                        if at > size || !pieces.can(at) {
                            let what = self.upload(Method::PATCH, descriptor, url).what;
                            let reason = format!("the upload went back to byte {at}");
                            return Err(Error::Broken { what, reason });
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let body = if at < size { pieces.piece(at, size - at).await? } else { Body::Empty };
        self.commit(descriptor, url, at, body, meter).await
    }

    async fn start(&self, descriptor: &Descriptor, from: Option<&str>) -> Result<Start, Error> {
        let digest = &descriptor.digest;
        let mut request = self.request(Method::POST, digest.as_str(), "blobs/uploads/");
        if let Some(from) = from {
            let mut query = request.url.query_pairs_mut();
            query.append_pair("mount", digest.as_str()).append_pair("from", from);
        }
        let answer = self.registry.persistent(&request, &self.scopes()).await?;
        match answer.status() {
            StatusCode::CREATED if from.is_some() => {
                self.check_digest(&request.what, answer.headers(), digest)?;
                Ok(Start::Mounted)
            }
            StatusCode::ACCEPTED => {
                let host = self.host();
                let url = upload_location(&answer, &request.url, &request.what, host)?;
                let min = header(answer.headers(), "oci-chunk-min-length");
                let chunk_min = min.and_then(|text| text.parse().ok()).unwrap_or(0);
                if chunk_min > LONGEST_CHUNK {
                    let reason = format!("it wants chunks of at least {chunk_min} bytes");
                    return Err(self.registry.answer(&request.what, reason));
                }
                Ok(Start::At { url, chunk_min })
            }
            status if status.is_success() || status.is_redirection() => {
                let reason = format!("it answers with status {} to an upload", status.as_u16());
                Err(self.registry.answer(&request.what, reason))
            }
            _ => Err(self.registry.refusal(&request.what, answer).await),
        }
    }

    /// Sends one chunk; gives where the next one goes, and how many bytes the registry has.
    async fn patch(
        &self,
        descriptor: &Descriptor,
        url: &Url,
        at: u64,
        body: Body,
        meter: &Meter,
    ) -> Result<(Url, u64), Error> {
        let mut request = self.upload(Method::PATCH, descriptor, url.clone());
        let end = at + body.len();
        let range = format!("{at}-{}", end - 1);
        request.headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("ASCII"));
        request.headers.insert(CONTENT_TYPE, octets());
        (request.body, request.base, request.meter) = (body, at, Some(meter.clone()));
        request.patience = COMMIT_PATIENCE;
        let answer = self.registry.send(&request, &self.scopes()).await?;
        if answer.status() != StatusCode::ACCEPTED && answer.status() != StatusCode::NO_CONTENT {
            return Err(self.registry.refusal(&request.what, answer).await);
        }
        let next = upload_location(&answer, url, &request.what, self.host())?;
        Ok((next, taken(&answer).unwrap_or(end)))
    }

    /// Asks how far an upload got that broke.
    async fn resume(&self, descriptor: &Descriptor, url: &Url) -> Result<(Url, u64), Error> {
        let request = self.upload(Method::GET, descriptor, url.clone());
        let answer = self.registry.persistent(&request, &self.scopes()).await?;
        let broken = |reason: String| Error::Broken { what: request.what.clone(), reason };
        if !answer.status().is_success() {
            // Some registries give up the upload with the connection.
            let status = answer.status().as_u16();
            return Err(broken(format!("the registry forgot the upload (status {status})")));
        }
        let at = taken(&answer).ok_or_else(|| broken("the registry has nothing of it".into()))?;
        let next = if answer.headers().contains_key(reqwest::header::LOCATION) {
            upload_location(&answer, url, &request.what, self.host())?
        } else {
            url.clone()
        };
        Ok((next, at))
    }

    /// Ends the upload with its last bytes and its digest.
    async fn commit(
        &self,
        descriptor: &Descriptor,
        mut url: Url,
        at: u64,
        body: Body,
        meter: &Meter,
    ) -> Result<(), Error> {
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let mut request = self.upload(Method::PUT, descriptor, url.clone());
        request.headers.insert(CONTENT_TYPE, octets());
        (request.body, request.base, request.meter) = (body, at, Some(meter.clone()));
        request.patience = COMMIT_PATIENCE;
        let answer = self.registry.send(&request, &self.scopes()).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => {
                self.check_digest(&request.what, answer.headers(), &descriptor.digest)
            }
            status if status.is_redirection() => {
                let to = location(&answer, &url, &request.what, self.host())?;
                let reason = "an upload is not sent a second time to elsewhere";
                let to = to.host_str().unwrap_or_default().to_owned();
                Err(Error::Redirect { what: request.what, to, reason })
            }
            _ => Err(self.registry.refusal(&request.what, answer).await),
        }
    }

    fn upload(
        &self,
        method: Method,
        descriptor: &Descriptor,
        url: Url,
    ) -> crate::transport::Request {
        let mut request = self.request(method, descriptor.digest.as_str(), "");
        request.url = url;
        request.what = format!("upload of {}", request.what);
        request
    }
}

/// The bytes of a source by their place; of a remote one the last chunk is held, to be sent again.
struct Pieces<'s, 'a> {
    source: &'s mut Source<'a>,
    rest: Bytes,
    held: Bytes,
    held_at: u64,
}

impl Pieces<'_, '_> {
    /// Whether a piece from `at` on can be had.
    fn can(&self, at: u64) -> bool {
        match self.source {
            Source::File(_) => true,
            Source::Remote(_) => {
                (self.held_at..=self.held_at + self.held.len() as u64).contains(&at)
            }
        }
    }

    /// The bytes from `at` on: `len` of a file, up to as many of another registry.
    async fn piece(&mut self, at: u64, len: u64) -> Result<Body, Error> {
        match self.source {
            Source::File(file) => Ok(Body::File { file: file.clone(), at, len }),
            Source::Remote(reader) => {
                let end = self.held_at + self.held.len() as u64;
                if at == end {
                    debug_assert!(len <= reader.descriptor().size);
                    self.held = reader.gather(len, &mut self.rest).await?;
                    self.held_at = at;
                }
                Ok(Body::Bytes(self.held.slice((at - self.held_at) as usize..)))
            }
        }
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

/// `Range: 0-N` says that the registry has N + 1 bytes; of `0-0` nobody knows whether it means none
/// or one, and none is what registries mean.
fn taken(answer: &Response) -> Option<u64> {
    let range = header(answer.headers(), RANGE.as_str())?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}
