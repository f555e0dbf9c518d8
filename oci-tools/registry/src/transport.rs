//! Requests over HTTP/1.1: redirects, limits of time and bytes, trust in certificates.
//!
//! Redirects are followed here and not by the HTTP library, because where they may lead and what
//! they may take along is a matter of the protocol's.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use time::format_description::well_known::Rfc2822;
use tokio::time::timeout;

use crate::Meter;
use crate::body::{Body, Sent};
use crate::document::printable;
use crate::error::Error;
use crate::host::{Host, is_loopback, same_origin};

/// How many redirects lead to a blob; object stores take one.
const MAX_REDIRECTS: usize = 5;

/// How much of the text of an error is read, in bytes.
const MAX_COMPLAINT: u64 = 64 << 10;

/// A body of which fewer bytes than this come in the time of a stall has stalled.
const MIN_PACE: u64 = 1 << 10;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// HTTP without TLS, also with other machines.
    pub plain_http: bool,
    /// A file of certificates in PEM that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// How long nothing may move.
    pub stall: Duration,
    /// How often a thing is tried again that failed in passing.
    pub retries: u32,
    /// No request is longer, in bytes; a longer blob is sent in chunks, each of which costs the
    /// registry a write to its disk.
    pub chunk: u64,
}

/// The HTTP clients, made when they are needed: the system's certificates take a while to read.
pub struct Transport {
    pub(crate) settings: Settings,
    /// By whether they speak TLS, and whether to this machine, to which no proxy is between.
    clients: [[OnceLock<Client>; 2]; 2],
}

/// One request, which can be sent again.
#[derive(Clone)]
pub(crate) struct Request {
    /// What is asked for, in words.
    pub what: String,
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Body,
    /// Told how much of the body went, from `base` on.
    pub meter: Option<Meter>,
    pub base: u64,
    /// How many times longer than a stall the answer may take once everything is sent.
    pub patience: u32,
}

impl Request {
    pub(crate) fn new(what: String, method: Method, url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Body::Empty);
        Self { what, method, url, headers, body, meter: None, base: 0, patience: 2 }
    }
}

impl Transport {
    /// Nothing is read or connected yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, clients: Default::default() }
    }

    fn client(&self, url: &Url) -> Result<&Client, Error> {
        let (tls, local) = (url.scheme() == "https", is_loopback(url));
        let place = &self.clients[usize::from(tls)][usize::from(local)];
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls(tls)?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.settings.stall)
            .user_agent(concat!("wasm-image/", env!("CARGO_PKG_VERSION")));
        if local {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::Unreachable { host: authority(url), reason: causes(&error) })?;
        Ok(place.get_or_init(|| client))
    }

    /// Trusts the system's authorities and the user's own; without `used`, none, for no purpose.
    fn tls(&self, used: bool) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        if used {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if let Some(path) = self.settings.ca.as_ref().filter(|_| used) {
            let bad = |reason: String| {
                Error::Credentials(format!(
                    "cannot use {}: {reason}; --ca takes certificates in PEM",
                    path.display()
                ))
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| bad(error.to_string()))?;
            if certificates.is_empty() {
                return Err(bad("it holds no certificate".to_owned()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Credentials(format!("cannot set up TLS: {error}")))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// Sends `request` and gives the answer, whatever its status, and whether it comes from the
    /// registry itself and not from where that sent us. `authorization` goes to the registry alone.
    pub(crate) async fn send(
        &self,
        host: &Host,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, bool), Error> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = host.owns(&url);
            let answer = self.once(request, &url, authorization.filter(|_| own)).await?;
            let follows = matches!(request.method, Method::GET | Method::HEAD);
            if !follows || !is_redirect(answer.status()) {
                return Ok((answer, own));
            }
            let next = location(&answer, &url, &request.what, host)?;
            let refuse = |reason| Error::Redirect {
                what: request.what.clone(),
                to: without_query(&next),
                reason,
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(refuse("that is without TLS"));
            }
            if is_loopback(&next) && !is_loopback(&url) {
                return Err(refuse("that is this machine"));
            }
            url = next;
        }
        Err(Error::Redirect {
            what: request.what.clone(),
            to: without_query(&url),
            reason: "after too many redirects before",
        })
    }

    /// Sends `request` to exactly where it says; a redirect is an answer like any other.
    pub(crate) async fn direct(&self, request: &Request) -> Result<Response, Error> {
        self.once(request, &request.url, None).await
    }

    async fn once(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        let sent = Sent::default();
        let mut builder = self
            .client(url)?
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        // A body of length 0 is said to be so, for servers that want a length of every POST.
        if !matches!(request.method, Method::GET | Method::HEAD) {
            builder =
                builder.body(request.body.start(sent.clone(), request.base, request.meter.clone()));
        }
        let mut answer = pin!(builder.send());
        loop {
            let before = sent.bytes();
            let all_sent = before >= request.body.len();
            let time = self.settings.stall * if all_sent { request.patience } else { 1 };
            match timeout(time, &mut answer).await {
                Ok(answer) => {
                    return answer.map_err(|error| self.broken(&request.what, url, &error));
                }
                Err(_) if sent.bytes() > before => {}
                Err(_) => {
                    return Err(Error::Stalled { what: request.what.clone(), after: time });
                }
            }
        }
    }

    /// The next piece of the body of `answer`; `None` is its end.
    pub(crate) async fn chunk(
        &self,
        what: &str,
        answer: &mut Response,
        pace: &mut Pace,
    ) -> Result<Option<Bytes>, Error> {
        let stall = self.settings.stall;
        let stalled = || Error::Stalled { what: what.to_owned(), after: stall };
        let chunk = timeout(stall, answer.chunk()).await.map_err(|_| stalled())?;
        let chunk = chunk.map_err(|error| self.broken(what, &answer.url().clone(), &error))?;
        if let Some(chunk) = &chunk
            && !pace.holds(chunk.len() as u64, stall)
        {
            return Err(stalled());
        }
        Ok(chunk)
    }

    /// The whole body; `None` when it is longer than `limit` bytes.
    pub(crate) async fn read(
        &self,
        what: &str,
        mut answer: Response,
        limit: u64,
    ) -> Result<Option<Bytes>, Error> {
        if answer.content_length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let mut pace = Pace::default();
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(what, &mut answer, &mut pace).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    /// The error that an answer with an unexpected status is. `who` had access.
    pub(crate) async fn refusal(
        &self,
        what: &str,
        host: &Host,
        answer: Response,
        who: &'static str,
    ) -> Error {
        let (what, host) = (what.to_owned(), host.name().to_owned());
        let status = answer.status();
        let after = retry_after(answer.headers());
        let said = match self.read(&what, answer, MAX_COMPLAINT).await {
            Ok(Some(body)) => complaint(&body),
            Ok(None) | Err(_) => String::new(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::Refused { what, host, who, said }
            }
            StatusCode::NOT_FOUND => Error::NotFound { what, host, said },
            StatusCode::TOO_MANY_REQUESTS => Error::Busy { what, host, after, said },
            status => Error::Status { what, host, status: status.as_u16(), after, said },
        }
    }

    fn broken(&self, what: &str, url: &Url, error: &reqwest::Error) -> Error {
        if error.is_connect() && error.is_timeout() {
            let reason = "the connection timed out".to_owned();
            return Error::Unreachable { host: authority(url), reason };
        }
        if error.is_connect() {
            return Error::Unreachable { host: authority(url), reason: causes(error) };
        }
        Error::Broken { what: what.to_owned(), reason: causes(error) }
    }
}

/// Whether a body keeps coming, or trickles so that it would take for ever.
#[derive(Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    bytes: u64,
}

impl Pace {
    fn holds(&mut self, bytes: u64, stall: Duration) -> bool {
        self.bytes += bytes;
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < stall {
            return true;
        }
        let enough = self.bytes >= MIN_PACE;
        *self = Self::default();
        enough
    }
}

/// `url`, which a registry named when it was asked at `from`. Behind a proxy that ends TLS some
/// registries think that they are spoken to without it.
pub(crate) fn secured(from: &Url, url: Url) -> Url {
    if url.scheme() != "http" || from.scheme() != "https" || url.host_str() != from.host_str() {
        return url;
    }
    let mut secure = from.clone();
    secure.set_path(url.path());
    secure.set_query(url.query());
    secure
}

/// Where `answer`, which came from `from`, points.
pub(crate) fn location(
    answer: &Response,
    from: &Url,
    what: &str,
    host: &Host,
) -> Result<Url, Error> {
    let wrong = |reason: &str| Error::Answer {
        what: what.to_owned(),
        host: host.name().to_owned(),
        reason: format!("the answer with status {} {reason}", answer.status().as_u16()),
    };
    let header = answer.headers().get(LOCATION).ok_or_else(|| wrong("has no Location"))?;
    let text = header.to_str().map_err(|_| wrong("has a Location that is no URL"))?;
    let url = from.join(text).map_err(|_| wrong("has a Location that is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("has a Location that is no URL of HTTP"));
    }
    let mut url = secured(from, url);
    // No part of either is for the next host.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    Ok(url)
}

/// As [`location`], for an upload: to the registry itself, or with TLS to where it keeps blobs.
pub(crate) fn upload_location(
    answer: &Response,
    from: &Url,
    what: &str,
    host: &Host,
) -> Result<Url, Error> {
    let url = location(answer, from, what, host)?;
    if !same_origin(&url, from) && url.scheme() != "https" {
        let reason = "that is another host, without TLS";
        return Err(Error::Redirect { what: what.to_owned(), to: without_query(&url), reason });
    }
    Ok(url)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A query may hold a signature that is as good as a password.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    printable(url.as_str())
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

/// In seconds, or as a date. <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = time::OffsetDateTime::parse(text, &Rfc2822).ok()?;
    (date - time::OffsetDateTime::now_utc()).try_into().ok()
}

/// The registry's words after `: `, if there are any.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
fn complaint(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let words = |error: &One| match error.message.as_str() {
        "" => error.code.clone(),
        message => message.to_owned(),
    };
    match errors.iter().map(words).find(|words| !words.is_empty()) {
        Some(words) => format!(": {}", printable(&words)),
        None => String::new(),
    }
}

/// The innermost causes of an error of reqwest's, whose own words only repeat the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        // Many repeat what they wrap.
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = cause.source();
    }
    let last = words.len().saturating_sub(2);
    if words.is_empty() { error.to_string() } else { words[last..].join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_asks_for_patience_in_seconds_or_until_a_date() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert!(
            after("Wed, 21 Oct 2099 07:28:00 GMT").is_some_and(|wait| wait.as_secs() > 1 << 30)
        );
        // In the past, or nonsense.
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn the_registry_s_own_words_are_found_in_its_errors() {
        let said = br#"{"errors":[{"code":"DENIED","message":"no\nway"}]}"#;
        assert_eq!(complaint(said), ": no way");
        assert_eq!(complaint(br#"{"errors":[{"code":"DENIED"}]}"#), ": DENIED");
        assert_eq!(complaint(b"<html>"), "");
    }
}
