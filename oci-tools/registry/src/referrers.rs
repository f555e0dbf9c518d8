//! Artifacts that refer to an image by their `subject`: the referrers API, and its place in registries
//! that do not have it, a tag that is made of the image's digest
//! (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>).

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::document::{Descriptor, MAX_DOCUMENT, media};
use crate::error::Error;
use crate::repository::{Repository, header};
use crate::transport::secured;

/// By which a registry says that it keeps the list itself.
const OCI_SUBJECT: &str = "oci-subject";

/// How often a list is written again that somebody else has changed meanwhile.
const TRIES: usize = 5;

/// The most pages of a list.
const MAX_PAGES: usize = 20;

/// The most entries of a list that are looked at.
const MAX_ENTRIES: usize = 1000;

/// The most bytes of a list, all pages together.
const MAX_LIST: u64 = 2 * MAX_DOCUMENT;

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

/// Whoever writes a list again leaves the others' entries as they are.
#[derive(Deserialize)]
struct List {
    manifests: Vec<Value>,
}

impl Repository {
    /// The artifacts of the first of `types` that refer to `subject`. There may be none. Where it is
    /// clients who keep the list, they may call it by another of `types`. Entries that cannot be read
    /// are passed over.
    pub async fn referrers(
        &self,
        subject: &Digest,
        types: &[&str],
    ) -> Result<Vec<Descriptor>, Error> {
        // The registry may pass over others, or leave that to us.
        let escaped = types[0].replace('/', "%2F").replace('+', "%2B");
        let query = format!("artifactType={escaped}");
        let (list, types) =
            match self.list(&format!("referrers/{subject}"), Some(query), subject).await? {
                Some(list) => (list, &types[..1]),
                None => (self.tagged(subject).await?, types),
            };
        let entries = list.into_iter().filter_map(|entry| serde_json::from_value(entry).ok());
        let wanted = entries.filter(|entry: &Referrer| {
            entry
                .artifact_type
                .as_deref()
                .is_some_and(|artifact_type| types.contains(&artifact_type))
        });
        Ok(wanted.map(|entry| entry.descriptor).collect())
    }

    /// The list that clients keep.
    async fn tagged(&self, subject: &Digest) -> Result<Vec<Value>, Error> {
        let list = self.list(&format!("manifests/{}", tag(subject)), None, subject).await?;
        Ok(list.unwrap_or_default())
    }

    /// Puts the artifact whose manifest is `bytes`, of type `artifact_type`, and has it listed as one
    /// that refers to `subject`. What it names must be there already.
    pub async fn attach(
        &self,
        subject: &Digest,
        artifact_type: &str,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let reference = descriptor.digest.as_str();
        if self.put_manifest(reference, descriptor, bytes).await?.contains_key(OCI_SUBJECT) {
            return Ok(());
        }
        let entry = json!(Referrer {
            descriptor: descriptor.clone(),
            artifact_type: Some(artifact_type.to_owned()),
        });
        // Nobody keeps two from writing the list at the same time, so it is looked at again.
        for _ in 0..TRIES {
            let mut list = self.tagged(subject).await?;
            if list.contains(&entry) {
                return Ok(());
            }
            list.push(entry.clone());
            let index = json!({
                "schemaVersion": 2,
                "mediaType": media::INDEX,
                "manifests": list,
            });
            let index = index.to_string().into_bytes();
            let descriptor = Descriptor {
                media_type: media::INDEX.to_owned(),
                digest: Digest::of(&index),
                size: index.len() as u64,
                platform: None,
                annotations: None,
            };
            self.put_document(&tag(subject), &descriptor, index.into()).await?;
        }
        let what = format!("artifacts of {subject} of {}/{}", self.host().name(), self.path());
        Err(self.registry.answer(&what, "others change the list all the time"))
    }

    /// The index at `path`, with the pages that follow; `None` where the registry has none.
    async fn list(
        &self,
        path: &str,
        query: Option<String>,
        subject: &Digest,
    ) -> Result<Option<Vec<Value>>, Error> {
        let mut request = self.request(Method::GET, &format!("artifacts of {subject}"), path);
        request.headers.insert(ACCEPT, HeaderValue::from_static(media::INDEX));
        request.url.set_query(query.as_deref());
        let (what, mut entries, mut size) = (request.what.clone(), Vec::new(), 0);
        for page in 0..MAX_PAGES {
            let answer = self.registry.persistent(&request, &self.scopes()).await?;
            match answer.status() {
                StatusCode::OK => {}
                // Registries without the API answer one or another.
                StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::BAD_REQUEST
                | StatusCode::NOT_ACCEPTABLE
                    if page == 0 =>
                {
                    return Ok(None);
                }
                _ => return Err(self.registry.refusal(&what, answer).await),
            }
            // One without the API may serve a web page.
            let media_type = header(answer.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
            if !media_type.starts_with(media::INDEX) && page == 0 {
                return Ok(None);
            }
            let next = header(answer.headers(), LINK.as_str()).and_then(|link| {
                let (url, rest) = link.strip_prefix('<')?.split_once('>')?;
                rest.contains("next").then(|| url.to_owned())
            });
            let bytes = self.registry.transport.read(&what, answer, MAX_DOCUMENT).await?;
            size += bytes.as_ref().map_or(MAX_LIST, |bytes| bytes.len() as u64);
            let bytes = bytes.filter(|_| size <= MAX_LIST);
            let bytes = bytes.ok_or_else(|| self.registry.answer(&what, "it sends too much"))?;
            let list: List = serde_json::from_slice(&bytes)
                .map_err(|e| self.registry.answer(&what, format!("it sends no list: {e}")))?;
            entries.extend(list.manifests);
            match next {
                _ if entries.len() > MAX_ENTRIES => break,
                None => return Ok(Some(entries)),
                Some(next) => {
                    let url = request.url.join(&next).ok().map(|url| secured(&request.url, url));
                    let url = url.filter(|url| self.host().owns(url)).ok_or_else(|| {
                        self.registry.answer(&what, "the rest of its list is not in this registry")
                    })?;
                    request.url = url;
                }
            }
        }
        Err(self.registry.answer(&what, "it lists too many"))
    }
}

/// Where the list is in registries that do not keep it.
fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}
