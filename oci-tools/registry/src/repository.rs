//! One repository of a registry: its documents, and whether it has a blob.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OnceCell;

use crate::auth::{Auth, who};
use crate::body::Body;
use crate::credentials::{Credential, Keeper};
use crate::digest::Digest;
use crate::document::{Descriptor, Document, MAX_DOCUMENT, media, printable};
use crate::error::Error;
use crate::host::Host;
use crate::retry::Retry;
use crate::transport::{Request, Transport};

/// By which a registry says the digest of what it sent or took.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// One registry, with what was found out about access to it.
pub struct Registry {
    pub(crate) transport: Arc<Transport>,
    pub(crate) host: Host,
    keeper: Option<Keeper>,
    credential: OnceCell<Option<Credential>>,
    auth: Auth,
    /// One challenge is answered at a time, so that many requests do not ask for as many tokens.
    asking: tokio::sync::Mutex<()>,
}

/// What is done to a repository: it goes into the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// One repository.
pub struct Repository {
    pub(crate) registry: Arc<Registry>,
    pub(crate) path: String,
    scope: String,
    /// More repositories of the registry, to take blobs from, that the token has to be for.
    others: Mutex<Vec<String>>,
}

/// A manifest or index, checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What it is called by.
    pub descriptor: Descriptor,
    /// As they came.
    pub bytes: Bytes,
    /// What they say.
    pub document: Document,
}

impl Registry {
    /// The registry at `host`. `keeper` is asked for credentials when the registry wants some.
    #[must_use]
    pub fn new(transport: Arc<Transport>, host: Host, keeper: Option<Keeper>) -> Arc<Self> {
        Arc::new(Self {
            transport,
            host,
            keeper,
            credential: OnceCell::new(),
            auth: Auth::default(),
            asking: tokio::sync::Mutex::new(()),
        })
    }

    /// The same, for a process that cannot ask for credentials any more.
    #[must_use]
    pub fn with(
        transport: Arc<Transport>,
        host: Host,
        credential: Option<Credential>,
    ) -> Arc<Self> {
        let registry = Self::new(transport, host, None);
        let _ = registry.credential.set(credential);
        registry
    }

    /// Its address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Asks the registry whether it is one, and whether it takes `credential`.
    pub async fn login(
        transport: Arc<Transport>,
        host: Host,
        credential: Credential,
    ) -> Result<(), Error> {
        let registry = Self::with(transport, host, Some(credential));
        let what = format!("login to {}", registry.host.name());
        let request = Request::new(what.clone(), Method::GET, registry.host.url("/v2/"));
        let answer = registry.persistent(&request, "").await?;
        if !answer.status().is_success() {
            return Err(registry.refusal(&what, answer).await);
        }
        Ok(())
    }

    async fn credential(&self) -> Result<Option<&Credential>, Error> {
        let find = || async {
            let Some(keeper) = self.keeper.clone() else {
                return Ok(None);
            };
            let host = self.host.clone();
            let found = tokio::task::spawn_blocking(move || keeper.get(&host)).await;
            found.unwrap_or_else(|lost| Err(Error::Credentials(lost.to_string())))
        };
        self.credential.get_or_try_init(find).await.map(Option::as_ref)
    }

    /// Sends `request` with what gives access, and asks for access once if it is wanted.
    pub(crate) async fn send(&self, request: &Request, scopes: &str) -> Result<Response, Error> {
        let held = self.auth.header(scopes);
        let (answer, own) = self.transport.send(&self.host, request, held.as_ref()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !own {
            return Ok(answer);
        }
        {
            let _asking = self.asking.lock().await;
            // Unless another request has just been given access.
            let now = self.auth.header(scopes);
            if now.is_none() || now == held {
                let credential = self.credential().await?;
                let (transport, host) = (&self.transport, &self.host);
                if !self.auth.answer(transport, host, answer.headers(), scopes, credential).await? {
                    return Ok(answer);
                }
            }
        }
        let held = self.auth.header(scopes);
        let (answer, _) = self.transport.send(&self.host, request, held.as_ref()).await?;
        Ok(answer)
    }

    /// As [`Registry::send`], again and again while it fails in passing.
    pub(crate) async fn persistent(
        &self,
        request: &Request,
        scopes: &str,
    ) -> Result<Response, Error> {
        let mut retry = Retry::new(self.transport.settings.retries);
        loop {
            let error = match self.send(request, scopes).await {
                Ok(answer) if is_passing(answer.status()) => {
                    self.refusal(&request.what, answer).await
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            retry.after(error, 0).await?;
        }
    }

    /// The error that an answer with an unexpected status is.
    pub(crate) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let who = who(self.credential.get().and_then(Option::as_ref));
        self.transport.refusal(what, &self.host, answer, who).await
    }

    pub(crate) fn answer(&self, what: &str, reason: impl Into<String>) -> Error {
        Error::Answer {
            what: what.to_owned(),
            host: self.host.name().to_owned(),
            reason: reason.into(),
        }
    }
}

impl Repository {
    /// The repository `path` of `registry`; `path` has the grammar of image names.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, path: &str, access: Access) -> Self {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{path}:{actions}");
        let others = Mutex::default();
        Self { registry: registry.clone(), path: path.to_owned(), scope, others }
    }

    /// The registry it is in.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.registry.host
    }

    /// Its name in the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Has access cover the repositories `paths` of the same registry, to take blobs from.
    pub fn may_mount(&self, paths: impl IntoIterator<Item = String>) {
        let mut others = self.others.lock().expect("no panic while it is held");
        others.extend(paths.into_iter().filter(|path| *path != self.path));
        others.sort();
        others.dedup();
    }

    /// What the token is for.
    pub(crate) fn scopes(&self) -> String {
        let others = self.others.lock().expect("no panic while it is held");
        let mut scopes = self.scope.clone();
        for path in others.iter() {
            scopes.push_str(&format!(" repository:{path}:pull"));
        }
        scopes
    }

    pub(crate) fn request(&self, method: Method, what: &str, path: &str) -> Request {
        let url = self.registry.host.url(&format!("/v2/{}/{path}", self.path));
        let what = format!("{what} of {}/{}", self.registry.host.name(), self.path);
        Request::new(what, method, url)
    }

    /// Fetches the document that `reference`, a tag or digest, names.
    pub async fn document(&self, reference: &str) -> Result<Fetched, Error> {
        let mut request = self.request(Method::GET, reference, &format!("manifests/{reference}"));
        request
            .headers
            .insert(ACCEPT, HeaderValue::from_str(&media::ACCEPT.join(", ")).expect("ASCII"));
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut retry = Retry::new(self.registry.transport.settings.retries);
        loop {
            match self.try_document(reference, &request).await {
                Err(error) => retry.after(error, 0).await?,
                fetched => return fetched,
            }
        }
    }

    async fn try_document(&self, reference: &str, request: &Request) -> Result<Fetched, Error> {
        let registry = &self.registry;
        let what = &request.what;
        let answer = registry.send(request, &self.scopes()).await?;
        if answer.status() != StatusCode::OK {
            return Err(registry.refusal(what, answer).await);
        }
        let media_type = header(answer.headers(), CONTENT_TYPE.as_str());
        let said = content_digest(answer.headers());
        let bytes = registry.transport.read(what, answer, MAX_DOCUMENT).await?;
        let bytes = bytes.ok_or_else(|| {
            registry.answer(
                what,
                format!(
                    "it sends more than the {} MiB that a manifest can have",
                    MAX_DOCUMENT >> 20
                ),
            )
        })?;
        let digest = Digest::of(&bytes);
        let wanted = reference.parse::<Digest>().ok().or(said);
        if wanted.is_some_and(|wanted| wanted != digest) {
            // A web page is told by what it is, not by its digest.
            if bytes.trim_ascii_start().starts_with(b"{") {
                return Err(Error::Digest { what: what.clone(), actual: digest });
            }
        }
        let (document, media_type) =
            Document::parse(&bytes, media_type.as_deref()).map_err(|source| {
                match (source, &media_type) {
                    (crate::document::BadDocument::NotJson, Some(sent)) => registry
                        .answer(what, format!("it sends `{}` and no manifest", printable(sent))),
                    (source, _) => Error::Document { what: what.clone(), source },
                }
            })?;
        let size = bytes.len() as u64;
        let descriptor = Descriptor { media_type, digest, size, platform: None, annotations: None };
        Ok(Fetched { descriptor, bytes, document })
    }

    /// Puts the document `bytes` under `reference`, a tag or its digest. Everything that it names
    /// must be there already.
    pub async fn put_document(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<(), Error> {
        self.put_manifest(reference, descriptor, bytes).await.map(drop)
    }

    /// As [`Repository::put_document`]; gives the answer's headers.
    pub(crate) async fn put_manifest(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<HeaderMap, Error> {
        let mut request = self.request(Method::PUT, reference, &format!("manifests/{reference}"));
        let media_type = HeaderValue::from_str(&descriptor.media_type).expect("it is a known type");
        request.headers.insert(CONTENT_TYPE, media_type);
        request.body = Body::Bytes(bytes);
        let answer = self.registry.persistent(&request, &self.scopes()).await?;
        if !answer.status().is_success() {
            return Err(self.registry.refusal(&request.what, answer).await);
        }
        self.check_digest(&request.what, answer.headers(), &descriptor.digest)?;
        Ok(answer.headers().clone())
    }

    /// Whether the repository has the blob or document.
    pub async fn has(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        let digest = &descriptor.digest;
        let kind = if descriptor.is_document() { "manifests" } else { "blobs" };
        let mut request = self.request(Method::HEAD, digest.as_str(), &format!("{kind}/{digest}"));
        if descriptor.is_document() {
            let accept = HeaderValue::from_str(&media::ACCEPT.join(", ")).expect("ASCII");
            request.headers.insert(ACCEPT, accept);
        }
        let answer = self.registry.persistent(&request, &self.scopes()).await?;
        match answer.status() {
            StatusCode::OK => {
                let length = header(answer.headers(), CONTENT_LENGTH.as_str());
                let length = length.and_then(|text| text.parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == descriptor.size))
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.registry.refusal(&request.what, answer).await),
        }
    }

    /// What the registry says that it took must be what was sent.
    pub(crate) fn check_digest(
        &self,
        what: &str,
        headers: &HeaderMap,
        sent: &Digest,
    ) -> Result<(), Error> {
        match content_digest(headers) {
            Some(actual) if actual != *sent => {
                let reason = format!("it says that it took {actual}, but was sent {sent}");
                Err(self.registry.answer(what, reason))
            }
            _ => Ok(()),
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Of an algorithm that is known.
fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    header(headers, CONTENT_DIGEST)?.parse().ok()
}
