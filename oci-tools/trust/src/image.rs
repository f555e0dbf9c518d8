//! Signatures of images, as cosign has always kept them: the image's digest in a small document, the
//! document as a layer of an artifact, its signature in an annotation of that layer, and all of it under
//! a tag that is made of the digest
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>). Those that cosign 3 keeps
//! unless told otherwise, [`bundle`]s, are read as well.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use registry::{
    Descriptor, Digest, Document, Error as RegistryError, Fetched, Repository, media, small,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bundle;
use crate::key::{PrivateKey, PublicKey};

/// The media type of the document.
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation that holds the signature, in base64.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// The media type of the artifact's configuration.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What the document says that it is.
const KIND: &str = "cosign container image signature";

/// The most signatures of one image that are looked at, of each form.
pub const MAX_SIGNATURES: usize = 32;

/// The longest document, in bytes.
pub(crate) const MAX_PAYLOAD: u64 = 64 << 10;

/// A document and its signature, of which nothing is known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The bytes that were signed.
    #[serde(with = "text")]
    pub payload: Vec<u8>,
    /// The signature.
    #[serde(with = "text")]
    pub signature: Vec<u8>,
}

/// What a registry has of an image's signatures.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Found {
    /// Those that could be read.
    pub signatures: Vec<Signature>,
    /// Why there may be more.
    pub trouble: Option<String>,
}

/// Bytes in JSON.
mod text {
    use super::{BASE64_STANDARD, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Why nobody vouches for an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// There are no signatures.
    None,
    /// None of so many is of a key that counts.
    Strangers(usize),
    /// A key that counts has signed another image.
    Other(String),
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "it is not signed"),
            Self::Strangers(1) => write!(f, "its signature is of none of the trusted keys"),
            Self::Strangers(n) => write!(f, "its {n} signatures are of none of the trusted keys"),
            Self::Other(why) => write!(f, "its signature is for something else: {why}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

impl Signature {
    /// Signs the image `digest`, which is called `name` (without tag).
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(key: &PrivateKey, name: &str, digest: &Digest) -> std::io::Result<Self> {
        let critical = Critical {
            identity: Identity { docker_reference: name.to_owned() },
            image: Image { docker_manifest_digest: digest.to_string() },
            kind: KIND.to_owned(),
        };
        let payload = serde_json::to_vec(&Payload { critical, optional: None })?;
        let signature = key.sign(&payload)?;
        Ok(Self { payload, signature })
    }
}

/// The key, of `keys`, whose owner vouches for the image `digest` by one of `signatures`, and that one.
///
/// # Errors
/// When there is none.
pub fn signer<'a>(
    signatures: &'a [Signature],
    digest: &Digest,
    keys: &'a [PublicKey],
) -> Result<(&'a PublicKey, &'a Signature), Unsigned> {
    let mut why = match signatures.len() {
        0 => Unsigned::None,
        count => Unsigned::Strangers(count),
    };
    for one in signatures.iter().take(2 * MAX_SIGNATURES) {
        let Signature { payload, signature } = one;
        let Some(key) = keys.iter().find(|key| key.verifies(payload, signature)) else {
            continue;
        };
        match vouches(payload, digest) {
            Ok(()) => return Ok((key, one)),
            Err(other) => why = Unsigned::Other(other),
        }
    }
    Err(why)
}

/// Whether `payload`, which a key that counts has signed, is a word for the image `digest`; else for what.
fn vouches(payload: &[u8], digest: &Digest) -> Result<(), String> {
    if let Some(statement) = bundle::statement(payload) {
        return bundle::vouches(statement, digest);
    }
    let Payload { critical, .. } = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let named = critical.image.docker_manifest_digest;
    match critical.kind.as_str() {
        KIND if named == digest.as_str() => Ok(()),
        KIND => Err(named),
        other => Err(format!("{other:?}")),
    }
}

/// The tag under which the signatures of the image `digest` are kept.
#[must_use]
pub fn tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// The signatures that `repository` has of the image `digest` under the tag.
///
/// # Errors
/// When the registry cannot be asked. That it has none is no error.
pub async fn fetch(
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Signature>, RegistryError> {
    let layers = match there(repository, digest).await?.map(|fetched| fetched.document) {
        Some(Document::Manifest(manifest)) => manifest.layers,
        _ => Vec::new(),
    };
    let mut signatures = Vec::new();
    for layer in layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MAX_SIGNATURES) {
        let signature = layer.annotations.as_ref().and_then(|notes| notes.get(ANNOTATION));
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok());
        let payload = small(repository, layer, MAX_PAYLOAD).await?;
        if let (Some(signature), false) = (signature, payload.is_empty()) {
            signatures.push(Signature { payload, signature });
        }
    }
    Ok(signatures)
}

/// The artifact of signatures of the image `digest` that `repository` has.
///
/// # Errors
/// When the registry cannot be asked.
pub async fn there(
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Fetched>, RegistryError> {
    match repository.document(&tag(digest)).await {
        Ok(fetched) => Ok(Some(fetched)),
        Err(RegistryError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// An artifact that holds signatures: what has to be pushed, the manifest last.
pub struct Artifact {
    /// The blobs.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
    /// What the manifest is called by.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// The artifact that holds `signature` besides the layers of `before`, the manifest of one that is there.
/// Those stay as they are: other tools write more about them than is read here.
#[must_use]
pub fn artifact(before: Option<&[u8]>, signature: &Signature) -> Artifact {
    let before = before.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let before = before.as_ref().and_then(|manifest| manifest["layers"].as_array());
    let mut layers = before.cloned().unwrap_or_default();
    let Signature { payload, signature } = signature;
    let mut layer = describe(PAYLOAD, payload);
    let note = (ANNOTATION.to_owned(), BASE64_STANDARD.encode(signature));
    layer.annotations = Some([note].into());
    layers.push(json!(layer));
    let digests: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
    // An image's configuration, as for registries that know nothing but images.
    let config = json!({
        "architecture": "",
        "config": {},
        "created": "0001-01-01T00:00:00Z",
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = config.to_string().into_bytes();
    let described = describe(CONFIG, &config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::MANIFEST,
        "config": described,
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let descriptor = describe(media::MANIFEST, &manifest);
    let blobs = vec![(layer, payload.clone()), (described, config)];
    Artifact { blobs, descriptor, manifest }
}

/// What `bytes` are called by.
pub(crate) fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::parse("key", PrivateKey::generate().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn only_a_trusted_key_vouches_and_only_for_what_it_signed() {
        let (ours, theirs) = (key(), key());
        let (image, other) = (Digest::of(b"image"), Digest::of(b"other"));
        let keys = [key().public("nobody"), ours.public("ours")];
        let sign = |key, digest| Signature::new(key, "localhost:5000/a", digest).unwrap();
        let signer = |signatures: &[Signature]| {
            signer(signatures, &image, &keys).map(|(key, _)| key.clone())
        };

        assert_eq!(signer(&[sign(&theirs, &image), sign(&ours, &image)]).unwrap().name(), "ours");
        assert_eq!(signer(&[]).unwrap_err(), Unsigned::None);
        assert_eq!(signer(&[sign(&theirs, &image)]).unwrap_err(), Unsigned::Strangers(1));
        let moved = sign(&ours, &other);
        assert_eq!(signer(&[moved]).unwrap_err(), Unsigned::Other(other.to_string()));
        let mut changed = sign(&ours, &image);
        changed.payload.push(b' ');
        assert_eq!(signer(&[changed]).unwrap_err(), Unsigned::Strangers(1));
        // Signed indeed, and for this digest, but as something else.
        let payload = String::from_utf8(sign(&ours, &image).payload).unwrap();
        let payload = payload.replace("cosign container", "another").into_bytes();
        let signature = ours.sign(&payload).unwrap();
        let odd = signer(&[Signature { payload, signature }]).unwrap_err().to_string();
        assert!(odd.contains("another"), "{odd}");
    }

    #[test]
    fn the_payload_is_that_of_cosign() {
        let digest = Digest::of(b"image");
        let signature = Signature::new(&key(), "localhost:5000/a", &digest).unwrap();
        let expected = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"localhost:5000/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        assert_eq!(String::from_utf8(signature.payload).unwrap(), expected);
    }
}
