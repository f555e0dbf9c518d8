//! Manifests and indexes: what an image consists of.
//!
//! Documents are kept as the bytes that came, which the digest is of; what is read from them here is
//! only what moving an image takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The longest manifest or index, in bytes: what registries promise to take.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The most layers of an image. Docker's own limit is 127; artifacts of other tools have more.
const MAX_LAYERS: usize = 1000;

/// The most manifests that an index names.
const MAX_MANIFESTS: usize = 1000;

/// Media types of documents.
pub mod media {
    pub use artifact::media::{INDEX, MANIFEST};

    /// A manifest of Docker's, schema 2.
    /// <https://distribution.github.io/distribution/spec/manifest-v2-2/>
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

    /// An index of Docker's.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// All that are understood, in the form of an `Accept` header.
    pub(crate) const ACCEPT: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
}

/// A blob or document by digest and size.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// In an index: where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Words about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// Whether it names a manifest or an index, and not a blob.
    #[must_use]
    pub fn is_document(&self) -> bool {
        media::ACCEPT.contains(&self.media_type.as_str())
    }
}

/// Where an image runs.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    /// Such as `linux` or `wasi`.
    #[serde(default)]
    pub os: String,
    /// Such as `amd64` or `wasm`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
            _ => ("", "", None),
        };
        if !parts.iter().all(word) || os.is_empty() {
            return Err("a platform is OS/ARCHITECTURE[/VARIANT], such as wasi/wasm".to_owned());
        }
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant })
    }
}

/// A manifest or an index, read.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images, usually one for each platform.
    Index(Vec<Descriptor>),
}

/// What one image consists of.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The configuration, a blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Configuration and layers, each digest once.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let mut seen = BTreeSet::new();
        std::iter::once(&self.config).chain(&self.layers).filter(move |d| seen.insert(&d.digest))
    }
}

/// Why a document cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// A web page, most often.
    #[error("it is not JSON")]
    NotJson,
    /// JSON of another shape.
    #[error("it is not a manifest: {0}")]
    Shape(String),
    /// Two readers could take it for two different things (CVE-2021-41190).
    #[error("it says both that it is a manifest and that it is an index")]
    Ambiguous,
    /// The document says one type, the header or the descriptor another.
    #[error("it is announced as `{announced}`, but says that it is `{says}`")]
    Type {
        /// In the header or the descriptor.
        announced: String,
        /// In the document.
        says: String,
    },
    /// An old or foreign form.
    #[error("`{0}` is not a media type that is known; schema 1 of Docker's is no more")]
    Unknown(String),
    /// Only something else than an image gives such a number.
    #[error("it has {0} {1}; more than {2} are refused")]
    Many(usize, &'static str, usize),
    /// A blob has one size.
    #[error("it gives two sizes for {0}")]
    Sizes(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads `bytes`, which were announced as `announced` (of a header or a descriptor), and gives
    /// the document with its media type.
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<(Self, String), BadDocument> {
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(BadDocument::NotJson);
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| {
            // It quotes what it did not expect, however long that is.
            BadDocument::Shape(printable(&error.to_string()))
        })?;
        let essence = announced.and_then(|text| text.split(';').next()).map(str::trim);
        // Registries on plain web servers announce nothing better.
        let announced = essence.filter(|text| {
            !matches!(*text, "" | "application/json" | "application/octet-stream" | "text/plain")
        });
        let media_type = match (announced, &raw.media_type) {
            (Some(announced), Some(says)) if announced != says => {
                return Err(BadDocument::Type {
                    announced: printable(announced),
                    says: printable(says),
                });
            }
            (Some(announced), _) => announced.to_owned(),
            (None, Some(says)) => says.clone(),
            (None, None) if raw.manifests.is_some() => media::INDEX.to_owned(),
            (None, None) => media::MANIFEST.to_owned(),
        };
        let is_index = match media_type.as_str() {
            media::INDEX | media::DOCKER_INDEX => true,
            media::MANIFEST | media::DOCKER_MANIFEST => false,
            other => return Err(BadDocument::Unknown(printable(other))),
        };
        if raw.schema_version != Some(2) {
            return Err(BadDocument::Shape("schemaVersion is not 2".to_owned()));
        }
        if raw.manifests.is_some() && (raw.config.is_some() || raw.layers.is_some()) {
            return Err(BadDocument::Ambiguous);
        }
        let missing = |field: &str| BadDocument::Shape(format!("it has no `{field}`"));
        let document = if is_index {
            let manifests = raw.manifests.ok_or_else(|| missing("manifests"))?;
            limit(manifests.len(), "manifests", MAX_MANIFESTS)?;
            one_size(&manifests)?;
            Self::Index(manifests)
        } else {
            let layers = raw.layers.ok_or_else(|| missing("layers"))?;
            limit(layers.len(), "layers", MAX_LAYERS)?;
            let config = raw.config.ok_or_else(|| missing("config"))?;
            one_size(layers.iter().chain([&config]))?;
            Self::Manifest(Manifest { config, layers })
        };
        Ok((document, media_type))
    }
}

fn limit(count: usize, what: &'static str, most: usize) -> Result<(), BadDocument> {
    if count > most { Err(BadDocument::Many(count, what, most)) } else { Ok(()) }
}

fn one_size<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> Result<(), BadDocument> {
    let mut sizes = BTreeMap::new();
    for descriptor in descriptors {
        if *sizes.entry(&descriptor.digest).or_insert(descriptor.size) != descriptor.size {
            return Err(BadDocument::Sizes(descriptor.digest.clone()));
        }
    }
    Ok(())
}

/// What others said, for a message to a person: one line, not long, nothing that moves a cursor.
pub(crate) fn printable(text: &str) -> String {
    let mut words: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(301).collect();
    if words.chars().count() > 300 {
        words.pop();
        words.push('…');
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(document: &Value, announced: Option<&str>) -> Result<(Document, String), BadDocument> {
        Document::parse(document.to_string().as_bytes(), announced)
    }

    fn blob(content: &str, size: u64) -> Value {
        json!({ "mediaType": "x/y", "digest": Digest::of(content.as_bytes()), "size": size })
    }

    #[test]
    fn the_type_is_the_document_s_own_or_the_announced_and_both_must_agree() {
        let bare = json!({ "schemaVersion": 2, "config": blob("c", 1), "layers": [] });
        assert_eq!(parse(&bare, None).unwrap().1, media::MANIFEST);
        assert_eq!(parse(&bare, Some("text/plain")).unwrap().1, media::MANIFEST);
        let docker = parse(&bare, Some(media::DOCKER_MANIFEST)).unwrap();
        assert_eq!(docker.1, media::DOCKER_MANIFEST);
        let mut typed = bare.clone();
        typed["mediaType"] = media::MANIFEST.into();
        assert!(matches!(parse(&typed, Some(media::INDEX)), Err(BadDocument::Type { .. })));
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(parse(&bare, Some(schema1)).unwrap_err(), BadDocument::Unknown(schema1.into()));
    }

    #[test]
    fn a_document_that_is_two_things_or_too_many_or_none_is_refused() {
        let mut both = json!({ "schemaVersion": 2, "config": blob("c", 1), "layers": [] });
        both["manifests"] = json!([]);
        assert_eq!(parse(&both, Some(media::MANIFEST)).unwrap_err(), BadDocument::Ambiguous);
        let layers = vec![blob("l", 1); MAX_LAYERS + 1];
        let many = json!({ "schemaVersion": 2, "config": blob("c", 1), "layers": layers });
        assert!(matches!(parse(&many, None), Err(BadDocument::Many(1001, "layers", 1000))));
        let sizes = json!({ "schemaVersion": 2, "config": blob("c", 1), "layers": [blob("c", 2)] });
        assert!(matches!(parse(&sizes, None), Err(BadDocument::Sizes(_))));
        let negative = json!({ "schemaVersion": 2, "config": blob("c", 1), "layers": [{
            "digest": Digest::of(b""), "size": -1 }] });
        assert!(matches!(parse(&negative, None), Err(BadDocument::Shape(_))));
        assert!(matches!(Document::parse(b"<html>", None), Err(BadDocument::NotJson)));
        assert!(matches!(parse(&json!({}), None), Err(BadDocument::Shape(_))));
    }

    #[test]
    fn a_platform_reads_as_it_is_written() {
        for text in ["wasi/wasm", "linux/arm64/v8"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in ["", "wasi", "/", "wasi/", "a/b/c/d", "a /b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_of_others_stay_on_one_line() {
        assert_eq!(printable("a\n\u{1b}[2Jb"), "a  [2Jb");
        assert_eq!(printable(&"x".repeat(400)).chars().count(), 301);
    }

    #[test]
    fn any_document_is_refused_in_few_words_or_has_an_end() {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST, "config": blob("c", 1),
            "layers": [blob("l", 2), blob("m", 3)], "annotations": { "a": "b" },
        });
        let mut entry = blob("x", 4);
        entry["platform"] = json!({ "os": "wasi", "architecture": "wasm", "variant": "v1" });
        let index = json!({
            "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry, blob("y", 5)],
        });
        let read = std::cell::Cell::new(0);
        for document in [manifest, index] {
            hostile::check("documents", 2000, hostile::changed(document), |document| {
                for announced in [None, Some(media::MANIFEST), Some(media::INDEX)] {
                    let descriptors = match parse(&document, announced) {
                        Ok((Document::Manifest(manifest), _)) => {
                            assert!(manifest.blobs().count() <= MAX_LAYERS + 1);
                            manifest.layers
                        }
                        Ok((Document::Index(manifests), _)) => manifests,
                        Err(error) => {
                            let words = error.to_string();
                            assert!(words.len() < 2000, "{} bytes", words.len());
                            assert!(!words.contains(char::is_control), "{words:?}");
                            continue;
                        }
                    };
                    read.set(read.get() + 1);
                    for descriptor in descriptors {
                        let text = serde_json::to_string(&descriptor).unwrap();
                        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), descriptor);
                    }
                }
            });
        }
        assert!(read.get() > 1000, "{} were read", read.get());
    }

    #[test]
    fn any_text_is_no_platform_or_reads_as_it_is_written() {
        hostile::check("platforms", 2000, hostile::text(), |text| {
            if let Ok(platform) = text.parse::<Platform>() {
                assert_eq!(platform.to_string(), text);
            }
        });
    }
}
