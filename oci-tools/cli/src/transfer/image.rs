//! An image in a registry: its documents are fetched, its blobs are only named.

use std::collections::HashSet;
use std::pin::Pin;

use anyhow::{Result, bail};
use registry::{Descriptor, Digest, Document, Fetched, MAX_DOCUMENT, Platform, Repository, small};
use serde::Deserialize;

/// The most documents of one image: indexes may lie in indexes.
const MAX_DOCUMENTS: usize = 1000;

/// The most bytes of them all together.
const MAX_BYTES: u64 = 64 << 20;

/// The most blobs that they name.
const MAX_BLOBS: usize = 10_000;

/// How deep they may.
const MAX_DEPTH: usize = 3;

/// Which images of an index.
#[derive(Clone, Debug)]
pub enum Wanted {
    All,
    /// The one for a platform; of a name that means one image, that one.
    Only(Platform),
    /// The one for a platform, and no other.
    Exactly(Platform),
}

impl Wanted {
    /// The platform of which one is chosen.
    pub fn platform(&self) -> Option<&Platform> {
        match self {
            Self::All => None,
            Self::Only(platform) | Self::Exactly(platform) => Some(platform),
        }
    }

    /// Refuses an image that is for `actual`.
    pub fn check(&self, actual: Option<&Platform>) -> Result<()> {
        match (self, actual) {
            (Self::Exactly(wanted), Some(actual)) if !same(wanted, actual) => {
                bail!("the image is not for {wanted}, but for {actual}")
            }
            _ => Ok(()),
        }
    }
}

/// Whether an image for `actual` is one for `wanted`.
pub fn same(wanted: &Platform, actual: &Platform) -> bool {
    let wasip = wanted.os == "wasi" && actual.os.starts_with("wasip");
    (wanted.os == actual.os || wasip) && wanted.architecture == actual.architecture
}

/// What is to be moved.
pub struct Image {
    /// What the name stands for.
    pub root: Descriptor,
    /// Those that name others after them; the last is the root.
    pub documents: Vec<Fetched>,
    /// Each digest once.
    pub blobs: Vec<Descriptor>,
}

impl Image {
    /// Fetches the documents of the image `reference`, a tag or digest, of which `wanted` is to be
    /// moved.
    pub async fn look(repository: &Repository, reference: &str, wanted: &Wanted) -> Result<Self> {
        let mut top = repository.document(reference).await?;
        let mut named_alone = true;
        if let Some(platform) = wanted.platform() {
            for _ in 0..MAX_DEPTH {
                let Document::Index(manifests) = &top.document else {
                    break;
                };
                named_alone = false;
                let chosen = choose(manifests, platform)?.clone();
                let mut fetched = named(repository, &chosen).await?;
                fetched.descriptor.platform = chosen.platform;
                top = fetched;
            }
        }
        // Of one in an index it is the index that says it.
        if let (true, Wanted::Exactly(_), Document::Manifest(manifest)) =
            (named_alone, wanted, &top.document)
        {
            wanted.check(
                platform_of(&small(repository, &manifest.config, MAX_DOCUMENT).await?).as_ref(),
            )?;
        }
        let image = Self { root: top.descriptor.clone(), documents: vec![], blobs: vec![] };
        let seen = HashSet::from([top.descriptor.digest.clone()]);
        let mut gathering = Gathering { repository, image, seen, count: 0, bytes: 0 };
        gathering.take(top, 0).await?;
        Ok(gathering.image)
    }
}

/// An image of which more and more is known.
struct Gathering<'a> {
    repository: &'a Repository,
    image: Image,
    seen: HashSet<Digest>,
    count: usize,
    bytes: u64,
}

impl Gathering<'_> {
    /// Takes in what `fetched` names, and then itself. `depth` is the number of indexes around it.
    fn take(
        &mut self,
        fetched: Fetched,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + '_>> {
        Box::pin(async move {
            self.count += 1;
            self.bytes += fetched.descriptor.size;
            let named_here: Vec<_> = match &fetched.document {
                Document::Manifest(manifest) => manifest.blobs().collect(),
                Document::Index(manifests) => manifests.iter().collect(),
            };
            for entry in named_here {
                if self.count > MAX_DOCUMENTS
                    || self.bytes > MAX_BYTES
                    || self.image.blobs.len() > MAX_BLOBS
                    || depth > MAX_DEPTH
                {
                    bail!("it names more than an image can consist of: choose with --platform");
                }
                if !self.seen.insert(entry.digest.clone()) {
                    continue;
                }
                if entry.is_document() {
                    let inner = named(self.repository, entry).await?;
                    self.take(inner, depth + 1).await?;
                } else {
                    self.image.blobs.push(entry.clone());
                }
            }
            self.image.documents.push(fetched);
            Ok(())
        })
    }
}

/// The document that an index names as `entry`, which it must be.
async fn named(repository: &Repository, entry: &Descriptor) -> Result<Fetched> {
    let fetched = repository.document(entry.digest.as_str()).await?;
    let (actual, says) = (&fetched.descriptor, entry);
    if actual.size != says.size || (says.is_document() && actual.media_type != says.media_type) {
        bail!("the index says something else of {} than it is; nothing of it is kept", says.digest);
    }
    Ok(fetched)
}

/// The entry for `platform`. Images for `wasi/wasm` are also called `wasip1/wasm` and `wasip2/wasm`,
/// and artifacts may have no platform at all.
pub fn choose<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let fits = |entry: &&Descriptor, os: &str| {
        entry.platform.as_ref().is_some_and(|p| {
            p.os == os
                && p.architecture == platform.architecture
                && (platform.variant.is_none() || p.variant == platform.variant)
        })
    };
    let mut names = vec![platform.os.as_str()];
    if (platform.os.as_str(), platform.architecture.as_str()) == ("wasi", "wasm") {
        names.extend(["wasip2", "wasip1"]);
    }
    for os in names {
        if let Some(entry) = manifests.iter().find(|entry| fits(entry, os)) {
            return Ok(entry);
        }
    }
    if let [only] = manifests
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut others: Vec<_> = manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(Platform::to_string)
        .collect();
    others.dedup();
    let more = others.len().saturating_sub(12);
    others.truncate(12);
    if more > 0 {
        others.push(format!("{more} more"));
    }
    if others.is_empty() {
        bail!("the index names no image for {platform}, nor for any other platform");
    }
    bail!(
        "the image is not for {platform}, but for {}: choose with --platform, or take all with --all",
        others.join(", ")
    )
}

/// The platform that a configuration says.
pub fn platform_of(config: &[u8]) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Config {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    let config: Config = serde_json::from_slice(config).ok()?;
    let words = [Some(&config.os), Some(&config.architecture), config.variant.as_ref()];
    let written = words.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/");
    // What is no platform is not shown as one.
    written.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: Option<&str>, content: &str) -> Descriptor {
        Descriptor {
            media_type: registry::media::MANIFEST.into(),
            digest: registry::Digest::of(content.as_bytes()),
            size: 1,
            platform: platform.map(|text| text.parse().unwrap()),
            annotations: None,
        }
    }

    #[test]
    fn an_image_is_chosen_by_its_platform_and_by_the_names_that_wasm_has() {
        let index =
            [entry(Some("linux/amd64"), "a"), entry(Some("wasip1/wasm"), "b"), entry(None, "c")];
        let wasm = "wasi/wasm".parse().unwrap();
        assert_eq!(choose(&index, &wasm).unwrap(), &index[1]);
        let linux = "linux/amd64".parse().unwrap();
        assert_eq!(choose(&index, &linux).unwrap(), &index[0]);
        assert_eq!(choose(&index[2..], &wasm).unwrap(), &index[2]);
        let error = choose(&index, &"linux/arm64".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("not for linux/arm64, but for linux/amd64, wasip1/wasm"), "{error}");
        assert!(choose(&[], &wasm).is_err());
    }

    #[test]
    fn a_configuration_says_its_platform_or_nothing() {
        let config = br#"{"os":"wasi","architecture":"wasm","rootfs":{}}"#;
        assert_eq!(platform_of(config).unwrap().to_string(), "wasi/wasm");
        assert_eq!(platform_of(br#"{"os":"a b","architecture":"c"}"#), None);
        assert_eq!(platform_of(b"{}"), None);
    }
}
