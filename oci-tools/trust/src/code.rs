//! Compiled code that comes with an image: an artifact that refers to the image
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>, `subject`), with a layer
//! for each module and target. What a layer is, a signed statement in its annotations says; so the
//! code is vouched for wherever the artifact is found, and for whatever image has the same module.

use std::fmt;
use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use registry::{Descriptor, Digest, Document, Error as RegistryError, Repository, media};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::image::describe;
use crate::key::{PrivateKey, PublicKey};

/// What the artifact is; also what a statement says that it is about.
pub const ARTIFACT: &str = "application/vnd.containerd.wasmtime.code.v1";

/// The media type of its layers: compiled code, compressed.
pub const LAYER: &str = "application/vnd.containerd.wasmtime.code.v1.cwasm+gzip";

/// The annotation of a layer that holds the statement.
pub const STATEMENT: &str = "io.containerd.wasmtime.code.statement";

/// The annotation that holds the statement's signature, in base64.
pub const SIGNATURE: &str = "io.containerd.wasmtime.code.signature";

/// An empty configuration, as the image specification gives it to artifacts.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");

/// The most artifacts of one image that are looked at.
const MAX_ARTIFACTS: usize = 64;

/// The most layers of all of them that are offered.
const MAX_OFFERS: usize = 64;

/// The longest statement, in bytes.
const MAX_STATEMENT: usize = 4096;

/// Who compiled what from what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Always [`ARTIFACT`]: a signature for one purpose is none for another.
    #[serde(rename = "type")]
    pub kind: String,
    /// The module or component.
    pub wasm: Digest,
    /// The engine that runs the code: its version, settings and the CPU's features, as
    /// `artifact::engine::Compatibility` writes them.
    pub engine: String,
    /// The CPUs that run it, by name.
    pub target: String,
    /// The compiled code.
    pub code: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A statement and its signature, of which nothing is known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The statement, as it was signed.
    pub text: String,
    /// In base64.
    pub signature: String,
}

/// Code that a registry has, by its own words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// What it is.
    pub signed: Signed,
    /// The blob that holds it, compressed.
    pub blob: Descriptor,
}

/// Why code is not used.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None of the trusted keys has signed it.
    Stranger,
    /// What was signed is no statement about code.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => write!(f, "it is signed by none of the trusted keys"),
            Self::Other(why) => write!(f, "what is signed is something else: {why}"),
        }
    }
}

impl Statement {
    /// Says so, signed by `key`.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn sign(&self, key: &PrivateKey) -> io::Result<Signed> {
        let text = serde_json::to_string(self)?;
        let signature = BASE64_STANDARD.encode(key.sign(text.as_bytes())?);
        Ok(Signed { text, signature })
    }
}

impl Signed {
    /// The statement, and the key of `keys` whose owner makes it.
    ///
    /// # Errors
    /// When none of them does.
    pub fn open<'a>(&self, keys: &'a [PublicKey]) -> Result<(Statement, &'a PublicKey), Refusal> {
        let signature = BASE64_STANDARD.decode(&self.signature).map_err(|_| Refusal::Stranger)?;
        let key = keys.iter().find(|key| key.verifies(self.text.as_bytes(), &signature));
        let key = key.ok_or(Refusal::Stranger)?;
        let statement: Statement =
            serde_json::from_str(&self.text).map_err(|e| Refusal::Other(e.to_string()))?;
        match statement.kind.as_str() {
            ARTIFACT => Ok((statement, key)),
            other => Err(Refusal::Other(format!("{other:?}"))),
        }
    }
}

/// The code compiled from `wasm` that `repository` has beside the image `subject`.
///
/// # Errors
/// When the registry cannot be asked. That it has none is no error.
pub async fn offers(
    repository: &Repository,
    subject: &Digest,
    wasm: &Digest,
) -> Result<Vec<Offer>, RegistryError> {
    let mut offers = Vec::new();
    let artifacts = repository.referrers(subject, &[ARTIFACT]).await?;
    // The newest were added last.
    for artifact in artifacts.iter().rev().take(MAX_ARTIFACTS) {
        let Document::Manifest(manifest) =
            repository.document(artifact.digest.as_str()).await?.document
        else {
            continue;
        };
        for blob in manifest.layers {
            let note = |name| blob.annotations.as_ref()?.get(name).cloned();
            let (Some(text), Some(signature)) = (note(STATEMENT), note(SIGNATURE)) else {
                continue;
            };
            if blob.media_type != LAYER || text.len() > MAX_STATEMENT {
                continue;
            }
            let said = serde_json::from_str::<Statement>(&text);
            let signed = Signed { text, signature };
            // Of one statement one blob is enough: what it does not tell is in which one the code lies.
            let known = offers.iter().any(|offer: &Offer| offer.signed.text == signed.text);
            if said.is_ok_and(|said| said.wasm == *wasm) && !known && offers.len() < MAX_OFFERS {
                offers.push(Offer { signed, blob: Descriptor { annotations: None, ..blob } });
            }
        }
    }
    Ok(offers)
}

/// An artifact of compiled code, without its layers' content.
pub struct Artifact {
    /// Its configuration.
    pub config: (Descriptor, Vec<u8>),
    /// What the manifest is called by.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// The artifact that holds `offers` for the image `subject`.
#[must_use]
pub fn artifact(subject: &Descriptor, offers: &[Offer]) -> Artifact {
    let layers: Vec<_> = offers
        .iter()
        .map(|Offer { signed, blob }| {
            let notes = [
                (STATEMENT.to_owned(), signed.text.clone()),
                (SIGNATURE.to_owned(), signed.signature.clone()),
            ];
            Descriptor { annotations: Some(notes.into()), ..blob.clone() }
        })
        .collect();
    let config = describe(EMPTY.0, EMPTY.1);
    let Descriptor { media_type, digest, size, .. } = subject;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "artifactType": ARTIFACT,
        "config": config,
        "layers": layers,
        "subject": { "mediaType": media_type, "digest": digest, "size": size },
    });
    let manifest = manifest.to_string().into_bytes();
    let descriptor = describe(media::MANIFEST, &manifest);
    Artifact { config: (config, EMPTY.1.to_vec()), descriptor, manifest }
}

/// The descriptor of a layer whose compressed content has this digest and size.
#[must_use]
pub fn layer(digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: LAYER.to_owned(), digest, size, platform: None, annotations: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::parse("key", PrivateKey::generate().unwrap().as_bytes()).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            kind: ARTIFACT.to_owned(),
            wasm: Digest::of(b"wasm"),
            engine: "0123456789abcdef-1".to_owned(),
            target: "x86_64-v2".to_owned(),
            code: Digest::of(b"code"),
            size: 4,
        }
    }

    #[test]
    fn a_statement_counts_only_as_it_was_signed_and_by_a_trusted_key() {
        let key = key();
        let (keys, strangers) = ([key.public("ours")], [self::key().public("theirs")]);
        let signed = statement().sign(&key).unwrap();
        assert_eq!(signed.open(&keys), Ok((statement(), &keys[0])));
        assert_eq!(signed.open(&strangers), Err(Refusal::Stranger));
        assert_eq!(signed.open(&[]), Err(Refusal::Stranger));
        let text = signed.text.replace("x86_64-v2", "x86_64-v3");
        assert_eq!(Signed { text, ..signed.clone() }.open(&keys), Err(Refusal::Stranger));
        let signature = "no base64".to_owned();
        assert_eq!(Signed { signature, ..signed }.open(&keys), Err(Refusal::Stranger));
    }

    #[test]
    fn a_signature_for_an_image_is_none_for_code() {
        let key = key();
        let keys = [key.public("ours")];
        let image = crate::image::Signature::new(&key, "a", &Digest::of(b"image")).unwrap();
        let signed = Signed {
            text: String::from_utf8(image.payload).unwrap(),
            signature: BASE64_STANDARD.encode(image.signature),
        };
        assert!(matches!(signed.open(&keys), Err(Refusal::Other(_))));
        let other = Statement { kind: "something else".to_owned(), ..statement() };
        assert!(matches!(other.sign(&key).unwrap().open(&keys), Err(Refusal::Other(_))));
    }
}
