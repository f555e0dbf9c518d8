//! Which layer of an image is the wasm that its entrypoint means, by the image's own documents
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>). Pure: who can read blobs
//! is given. The documents are hostile input.

use artifact::digest::Digest;
use artifact::media;
use artifact::module::MAX_WASM;
use serde::Deserialize;
use std::collections::HashMap;

/// The largest document read, in bytes: as much as registries take.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The most entries of a document.
const MAX_ENTRIES: usize = 1024;

/// How many indexes may lie within each other.
const MAX_DEPTH: usize = 2;

/// How many manifests of one index are read, of those that say no platform.
const MAX_TRIED: usize = 8;

/// What a person is told of at most, of names and of characters of one.
const NAMED: (usize, usize) = (10, 100);

/// The longest words of the parser's that a person is told, in bytes.
const LONGEST_WHY: usize = 300;

/// The systems of a platform that means WebAssembly, best first. The image specification takes them
/// from Go; the field settled on `wasi`.
const SYSTEMS: [&str; 3] = [media::OS, media::OS_PREVIEW_2, media::OS_PREVIEW_1];

const MANIFESTS: [&str; 2] =
    [media::MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] =
    [media::INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Why no layer of an image can be run; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document that nobody has.
    #[error("{digest} cannot be read: {why}; pull the image again")]
    Unreadable {
        /// What it is called.
        digest: String,
        /// Why not.
        why: String,
    },
    /// More than anybody would read.
    #[error(
        "the document {digest} has {size} bytes, of which {MAX_DOCUMENT} are read at most; this is no image that a registry takes"
    )]
    DocumentSize {
        /// What it is called.
        digest: String,
        /// What its descriptor says, in bytes.
        size: u64,
    },
    /// Not sha256, or not hexadecimal.
    #[error("{0:?} is no sha256 digest; build the image again")]
    Digest(String),
    /// Somebody changed it.
    #[error("the content of {0} is not what its digest says; remove the image and pull it again")]
    Content(String),
    /// Not JSON of the form that its media type promises.
    #[error("{digest} is no {what}: {why}; build the image again")]
    Malformed {
        /// What it is called.
        digest: String,
        /// `image manifest` or `image index`.
        what: &'static str,
        /// Where and why.
        why: String,
    },
    /// Neither a manifest nor an index.
    #[error(
        "{digest} is of media type {media_type:?}, which is neither an image manifest nor an index"
    )]
    MediaType {
        /// What it is called.
        digest: String,
        /// As it is written.
        media_type: String,
    },
    /// More than a document of an image has.
    #[error("{digest} names {count} {what}, of which this runtime takes {MAX_ENTRIES} at most")]
    TooMany {
        /// What it is called.
        digest: String,
        /// How many.
        count: usize,
        /// `layers` or `manifests`.
        what: &'static str,
    },
    /// Indexes within indexes.
    #[error("it is an index within an index within an index; this runtime looks into {MAX_DEPTH}")]
    Depth,
    /// More than anybody would compile.
    #[error("its layer {digest} has {size} bytes; this runtime takes modules of 1 GiB")]
    LayerSize {
        /// What it is called.
        digest: String,
        /// What its descriptor says.
        size: u64,
    },
    /// It is not clear which.
    #[error(
        "it has {count} layers that are wasm, and none of them is called {word:?}; let the first argument name one: {titles}"
    )]
    WhichOne {
        /// How many.
        count: usize,
        /// What was looked for.
        word: String,
        /// Their titles.
        titles: String,
    },
}

/// A layer that is wasm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What its content is called.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// The name of the file that it was.
    pub title: Option<String>,
}

/// What an image was found to hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The layer that is meant.
    Layer(Layer),
    /// No layer that is wasm, or none that is meant.
    Nothing,
    /// No manifest for WebAssembly; these platforms are there.
    Platforms(String),
}

/// What a document says of another blob.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// What it is called.
    pub digest: String,
    /// How many bytes it has.
    pub size: u64,
    platform: Option<Platform>,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The entrypoint, without the export.
    pub word: &'a str,
    /// That of the container, when this is another process of it: a word that is neither this one nor
    /// a layer's title means nothing then.
    pub own: Option<&'a str>,
}

impl Descriptor {
    /// Of a blob that another source tells of.
    pub fn new(media_type: String, digest: String, size: u64) -> Self {
        Self { media_type, digest, size, ..Self::default() }
    }
}

/// The layer that `wanted` means of the image whose manifest or index is `target`. `read` gives the
/// content of a blob, which is checked here, or says why it cannot.
///
/// # Errors
/// See [`Error`].
pub fn find(
    target: &Descriptor,
    wanted: Wanted<'_>,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, String>,
) -> Result<Found, Error> {
    find_within(target, wanted, read, 0)
}

fn find_within(
    target: &Descriptor,
    wanted: Wanted<'_>,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, String>,
    depth: usize,
) -> Result<Found, Error> {
    let media_type = essence(&target.media_type);
    if MANIFESTS.contains(&media_type) {
        let Manifest { layers } = parse(target, "image manifest", &document(target, read)?)?;
        check_count(target, layers.len(), "layers")?;
        return choose(layers, wanted);
    }
    if !INDEXES.contains(&media_type) {
        let (digest, media_type) = (shown(&target.digest), shown(media_type));
        return Err(Error::MediaType { digest, media_type });
    }
    if depth == MAX_DEPTH {
        return Err(Error::Depth);
    }
    let Index { manifests } = parse(target, "image index", &document(target, read)?)?;
    check_count(target, manifests.len(), "manifests")?;
    for next in candidates(&manifests) {
        match find_within(next, wanted, read, depth + 1)? {
            Found::Layer(layer) => return Ok(Found::Layer(layer)),
            // One that said to be for WebAssembly is what it is.
            Found::Nothing if next.platform.is_some() => return Ok(Found::Nothing),
            Found::Nothing | Found::Platforms(_) => {}
        }
    }
    let platforms = manifests.iter().filter_map(|entry| entry.platform.as_ref());
    let names = platforms.map(|p| format!("{}/{}", p.os, p.architecture)).collect();
    Ok(Found::Platforms(listed(names)))
}

/// The manifests that may be for WebAssembly: the best platform, then those that say none.
fn candidates(manifests: &[Descriptor]) -> Vec<&Descriptor> {
    let of = |os: &str| {
        manifests.iter().find(|entry| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|p| {
                (p.os.as_str(), p.architecture.as_str()) == (os, media::ARCHITECTURE)
            })
        })
    };
    let best = SYSTEMS.into_iter().find_map(of);
    let silent = manifests.iter().filter(|entry| entry.platform.is_none()).take(MAX_TRIED);
    match best {
        Some(best) => vec![best],
        None => silent.collect(),
    }
}

fn document(
    target: &Descriptor,
    read: &mut dyn FnMut(&Descriptor) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, Error> {
    let digest = digest(target)?;
    let name = shown(&target.digest);
    if target.size > MAX_DOCUMENT {
        return Err(Error::DocumentSize { digest: name, size: target.size });
    }
    match read(target) {
        Ok(bytes) if Digest::of(&bytes) == digest => Ok(bytes),
        Ok(_) => Err(Error::Content(name)),
        Err(why) => Err(Error::Unreadable { digest: name, why }),
    }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, Error> {
    let hex = descriptor.digest.strip_prefix("sha256:");
    hex.and_then(Digest::parse).ok_or_else(|| Error::Digest(shown(&descriptor.digest)))
}

fn parse<'a, T: Deserialize<'a>>(
    target: &Descriptor,
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Malformed {
        digest: shown(&target.digest),
        what,
        // It quotes what it did not expect, however long that is.
        why: match e.to_string() {
            words if words.len() <= LONGEST_WHY => words,
            words => format!("{} at line {} column {}", shown(&words), e.line(), e.column()),
        },
    })
}

fn check_count(target: &Descriptor, count: usize, what: &'static str) -> Result<(), Error> {
    match count > MAX_ENTRIES {
        true => Err(Error::TooMany { digest: shown(&target.digest), count, what }),
        false => Ok(()),
    }
}

/// One that is called as wanted; else the only one, which needs no name.
fn choose(layers: Vec<Descriptor>, wanted: Wanted<'_>) -> Result<Found, Error> {
    let mut wasm: Vec<_> =
        layers.into_iter().filter(|layer| media::is_wasm_layer(&layer.media_type)).collect();
    let index = match wasm.iter().position(|layer| is_called(layer, wanted.word)) {
        Some(index) => index,
        None if wasm.is_empty() || wanted.own.is_some_and(|own| own != wanted.word) => {
            return Ok(Found::Nothing);
        }
        None if wasm.len() == 1 => 0,
        None => {
            let titles = wasm.iter().map(|layer| title(layer).unwrap_or("(no title)").to_owned());
            return Err(Error::WhichOne {
                count: wasm.len(),
                word: shown(wanted.word),
                titles: listed(titles.collect()),
            });
        }
    };
    let layer = wasm.swap_remove(index);
    let digest = digest(&layer)?;
    if layer.size > MAX_WASM {
        return Err(Error::LayerSize { digest: shown(&layer.digest), size: layer.size });
    }
    let title = title(&layer).map(str::to_owned);
    Ok(Found::Layer(Layer { digest, size: layer.size, title }))
}

/// Whether a layer was the file that `word` names, wherever in the image that would be.
fn is_called(layer: &Descriptor, word: &str) -> bool {
    let plain = |path: &str| {
        let path = path.strip_prefix('.').filter(|rest| rest.starts_with('/')).unwrap_or(path);
        path.trim_start_matches('/').to_owned()
    };
    title(layer).is_some_and(|title| !title.is_empty() && plain(title) == plain(word))
}

fn title(layer: &Descriptor) -> Option<&str> {
    layer.annotations.as_ref()?.get(media::ANNOTATION_TITLE).map(String::as_str)
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Names for a message: whoever made the image chose them.
fn listed(mut names: Vec<String>) -> String {
    let count = names.len();
    names.truncate(NAMED.0);
    let mut words: Vec<_> =
        names.iter().map(|name| shown(name).escape_debug().to_string()).collect();
    if count > NAMED.0 {
        words.push(format!("and {} more", count - NAMED.0));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(NAMED.1) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
