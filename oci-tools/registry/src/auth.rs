//! Access: what a registry asks for with status 401, and the tokens that answer it.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

mod challenge;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use crate::body::Body;
use crate::credentials::Credential;
use crate::document::printable;
use crate::error::Error;
use crate::host::{Host, is_loopback};
use crate::transport::{Request, Transport};
use challenge::Challenge;

/// The longest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

/// How long a token holds that does not say.
/// <https://distribution.github.io/distribution/spec/auth/token/#token-response-fields>
const DEFAULT_LIFE: u64 = 60;

/// The name by which token services know us.
const CLIENT: &str = "wasm-image";

/// What was found out about the access to one registry.
#[derive(Default)]
pub(crate) struct Auth {
    /// By the scopes that they are for, `""` for none.
    headers: Mutex<HashMap<String, Held>>,
}

struct Held {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Auth {
    /// What is sent along with a request for `scopes`.
    pub(crate) fn header(&self, scopes: &str) -> Option<HeaderValue> {
        let headers = self.headers.lock().expect("no panic while it is held");
        let held = headers.get(scopes)?;
        held.until.is_none_or(|until| Instant::now() < until).then(|| held.header.clone())
    }

    /// Answers the challenges in `headers`, so that [`Auth::header`] has something to send; gives
    /// whether it has.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        host: &Host,
        headers: &HeaderMap,
        scopes: &str,
        credential: Option<&Credential>,
    ) -> Result<bool, Error> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<_> = challenges.flat_map(challenge::parse).collect();
        let bearer = challenges.iter().find(|c| c.scheme == "bearer" && c.get("realm").is_some());
        let held = if let Some(bearer) = bearer {
            fetch(transport, host, bearer, scopes, credential).await?
        } else if challenges.iter().any(|c| c.scheme == "basic")
            && let Some(Credential::Password { user, password }) = credential
        {
            Held { header: basic(user, password), until: None }
        } else {
            return Ok(false);
        };
        self.headers.lock().expect("no panic while it is held").insert(scopes.to_owned(), held);
        Ok(true)
    }
}

/// Asks the service that `challenge` names for a token.
async fn fetch(
    transport: &Transport,
    host: &Host,
    challenge: &Challenge,
    scopes: &str,
    credential: Option<&Credential>,
) -> Result<Held, Error> {
    let what = format!("a token for {}", host.name());
    let realm = challenge.get("realm").unwrap_or_default();
    let answer =
        |reason: String| Error::Answer { what: what.clone(), host: host.name().to_owned(), reason };
    let mut url = Url::parse(realm)
        .map_err(|_| answer(format!("the token service `{}` is no URL", printable(realm))))?;
    let (local, own) = (is_loopback(&url), is_loopback(&host.url("/")));
    if local && !own {
        return Err(answer(format!("the token service `{}` is this machine", printable(realm))));
    }
    let open = transport.settings.plain_http || local;
    if url.scheme() != "https" && !(url.scheme() == "http" && open) {
        return Err(answer(format!("the token service `{}` is without TLS", printable(realm))));
    }
    let mut form: Vec<(&str, &str)> = Vec::new();
    if let Some(service) = challenge.get("service") {
        form.push(("service", service));
    }
    // One parameter for each, as Docker does it.
    let split = scopes.split(' ').filter(|scope| !scope.is_empty());
    let mut authorization = None;
    let mut request = match credential {
        Some(Credential::Token(token)) => {
            form.extend([("client_id", CLIENT), ("grant_type", "refresh_token")]);
            form.extend([("refresh_token", token.as_str()), ("scope", scopes)]);
            let mut encoded = Url::parse("form:").expect("it is a URL");
            encoded.query_pairs_mut().extend_pairs(&form);
            let mut request = Request::new(what.clone(), Method::POST, url);
            let body = encoded.query().unwrap_or_default().to_owned();
            request.body = Body::Bytes(body.into());
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers.insert(CONTENT_TYPE, form);
            request
        }
        other => {
            form.extend(split.map(|scope| ("scope", scope)));
            if let Some(Credential::Password { user, password }) = other {
                form.push(("account", user));
                authorization = Some(basic(user, password));
            }
            url.query_pairs_mut().extend_pairs(form);
            Request::new(what.clone(), Method::GET, url)
        }
    };
    // Credentials are for the service itself: it may be another host, and is not redirected.
    if let Some(authorization) = authorization {
        request.headers.insert(reqwest::header::AUTHORIZATION, authorization);
    }
    let response = transport.direct(&request).await?;
    if !response.status().is_success() {
        let who = who(credential);
        return Err(transport.refusal(&what, host, response, who).await);
    }
    let body = transport.read(&what, response, MAX_TOKEN).await?;
    let body = body.ok_or_else(|| answer("the token service sends more than a token".into()))?;
    held(&body).ok_or_else(|| answer("the token service sends no token".into()))
}

fn held(body: &[u8]) -> Option<Held> {
    #[derive(serde::Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let token: Token = serde_json::from_slice(body).ok()?;
    let text = token.token.or(token.access_token).filter(|text| !text.is_empty())?;
    let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
    header.set_sensitive(true);
    // Asked for anew a little early, so that none ends on its way.
    let life = Duration::from_secs(token.expires_in.unwrap_or(DEFAULT_LIFE).min(24 * 3600));
    Some(Held { header, until: Some(Instant::now() + life * 9 / 10) })
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::try_from(text).expect("base64 is ASCII");
    header.set_sensitive(true);
    header
}

/// Whose access was refused, for a message.
pub(crate) fn who(credential: Option<&Credential>) -> &'static str {
    match credential {
        Some(_) => "the credentials that are kept for it",
        None => "access without credentials",
    }
}
