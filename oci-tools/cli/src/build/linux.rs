//! Images of Linux that stand beside the Wasm image in an index, taken out of other OCI layouts: a
//! folder, or a tar such as `docker save` and `docker buildx build --output type=oci` write.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use artifact::digest::Digest as Sha;
use artifact::media;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::digest;
use super::layout::{Blob, Content};

/// The largest document read, in bytes: as much as registries take.
const MAX_DOCUMENT: u64 = 4 << 20;

/// How many indexes may lie within each other.
const MAX_DEPTH: usize = 3;

/// The media types that Docker had before there was a specification.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// One image of one platform.
pub struct LinuxImage {
    /// What an index says of it.
    pub descriptor: Value,
    /// All that it is made of.
    pub blobs: Vec<Blob>,
}

impl LinuxImage {
    /// `linux/amd64`, `linux/arm/v7`.
    pub fn platform(&self) -> String {
        let platform = &self.descriptor["platform"];
        let parts = ["os", "architecture", "variant"].map(|key| platform[key].as_str());
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }
}

/// Every Linux image of the layouts `paths`, in their order.
///
/// # Errors
/// When one is no OCI layout or holds no such image, or two are of one platform.
pub fn read(paths: &[PathBuf]) -> Result<Vec<LinuxImage>> {
    let mut images: Vec<LinuxImage> = Vec::new();
    for path in paths {
        let found = images_of(path).with_context(|| format!("cannot use {}", path.display()))?;
        for image in found {
            let platform = image.platform();
            if images.iter().any(|other| other.platform() == platform) {
                bail!(
                    "cannot use {}: there is an image for {platform} already; give one for each platform",
                    path.display()
                );
            }
            images.push(image);
        }
    }
    Ok(images)
}

fn images_of(path: &Path) -> Result<Vec<LinuxImage>> {
    let source = Rc::new(Source::open(path)?);
    let index = source.section("index.json").map_err(|_| {
        anyhow!("it is no OCI layout: it has no index.json; save it with `docker save` of Docker 25 or later, or `docker buildx build --output type=oci`")
    })?;
    let index =
        serde_json::from_reader(index.take(MAX_DOCUMENT)).context("its index.json is none")?;
    let mut images = Vec::new();
    walk(&source, &index, 0, &mut images)?;
    if images.is_empty() {
        bail!("it holds no image for Linux");
    }
    Ok(images)
}

/// Takes the Linux images of `index`, and of the indexes in it.
fn walk(
    source: &Rc<Source>,
    index: &Value,
    depth: usize,
    images: &mut Vec<LinuxImage>,
) -> Result<()> {
    if depth == MAX_DEPTH {
        bail!("its indexes lie deeper than {MAX_DEPTH} within each other");
    }
    for entry in index["manifests"].as_array().into_iter().flatten() {
        match entry["mediaType"].as_str() {
            Some(media::INDEX | DOCKER_INDEX) => {
                walk(source, &source.document(entry)?, depth + 1, images)?;
            }
            Some(media::MANIFEST | DOCKER_MANIFEST) => images.extend(image(source, entry)?),
            _ => {}
        }
    }
    Ok(())
}

/// Nothing for what is no Linux image, such as an attestation.
fn image(source: &Rc<Source>, entry: &Value) -> Result<Option<LinuxImage>> {
    let manifest = source.document(entry)?;
    let platform = match &entry["platform"] {
        Value::Null => source.document(&manifest["config"])?,
        platform => platform.clone(),
    };
    if platform["os"] != "linux" {
        return Ok(None);
    }
    let mut descriptor = json!({
        "mediaType": entry["mediaType"],
        "digest": entry["digest"],
        "size": entry["size"],
        "platform": { "os": "linux", "architecture": platform["architecture"] },
    });
    if platform["variant"].is_string() {
        descriptor["platform"]["variant"] = platform["variant"].clone();
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let blobs = [entry, &manifest["config"]].into_iter().chain(layers);
    let blobs = blobs.map(|described| source.blob(described)).collect::<Result<_>>()?;
    Ok(Some(LinuxImage { descriptor, blobs }))
}

/// A layout.
enum Source {
    Folder(PathBuf),
    Archive {
        path: PathBuf,
        file: Rc<File>,
        /// Where each file is: its offset and its size in bytes.
        files: HashMap<PathBuf, (u64, u64)>,
    },
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if fs::metadata(path)?.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path)?;
        let mut files = HashMap::new();
        let not_tar = "it is no tar; unpack it if it is compressed";
        for entry in tar::Archive::new(&file).entries_with_seek().context(not_tar)? {
            let entry = entry.context(not_tar)?;
            if entry.header().entry_type().is_file() {
                let name = entry.path().context(not_tar)?;
                let name = name.strip_prefix(".").unwrap_or(&name).to_owned();
                files.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Self::Archive { path: path.to_owned(), file: Rc::new(file), files })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive { path, .. } => path,
        }
    }

    fn section(&self, name: &str) -> io::Result<Section> {
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(name))?;
                let left = file.metadata()?.len();
                Ok(Section { file: Rc::new(file), offset: 0, left })
            }
            Self::Archive { file, files, .. } => {
                let (offset, left) = *files.get(Path::new(name)).ok_or(io::ErrorKind::NotFound)?;
                Ok(Section { file: file.clone(), offset, left })
            }
        }
    }

    /// The blob that a descriptor means, not read yet.
    fn blob(self: &Rc<Self>, descriptor: &Value) -> Result<Blob> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let hex = digest.strip_prefix("sha256:").filter(|hex| Sha::parse(hex).is_some());
        let Some((hex, size)) = hex.zip(descriptor["size"].as_u64()) else {
            bail!("{descriptor} describes no blob by sha256 and size");
        };
        let (source, name) = (self.clone(), format!("blobs/sha256/{hex}"));
        match self.section(&name) {
            Ok(section) if section.left == size => {}
            Ok(section) => bail!("its {digest} has {} bytes in place of {size}", section.left),
            Err(e) if e.kind() == io::ErrorKind::NotFound => bail!(
                "its {digest} is not there: it holds a part of the image only; pull and save all of it"
            ),
            Err(e) => return Err(e.into()),
        }
        let digest = digest.to_owned();
        let part = Part { source, name, digest: digest.clone() };
        Ok(Blob { digest, size, content: Content::Part(part) })
    }

    /// The document that a descriptor means.
    fn document(self: &Rc<Self>, descriptor: &Value) -> Result<Value> {
        let Blob { digest, size, content: Content::Part(part) } = self.blob(descriptor)? else {
            bail!("it is no part of a layout");
        };
        if size > MAX_DOCUMENT {
            bail!("its document {digest} has {size} bytes, which no registry takes");
        }
        let (mut bytes, mut content) = (Vec::new(), part.open()?);
        content.read_to_end(&mut bytes)?;
        content.finish()?;
        serde_json::from_slice(&bytes).with_context(|| format!("its {digest} is no JSON"))
    }
}

/// A part of a file, read without moving anybody else's place in it.
struct Section {
    file: Rc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// A blob of a layout.
pub struct Part {
    source: Rc<Source>,
    name: String,
    digest: String,
}

impl Part {
    /// Begins to read it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(self) -> io::Result<Reading> {
        let section = self.source.section(&self.name)?;
        Ok(Reading { section, hash: Sha256::new(), part: self })
    }
}

/// A blob that is read, and hashed as it goes by.
pub struct Reading {
    section: Section,
    hash: Sha256,
    part: Part,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.section.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

impl Reading {
    /// Checks that all of it was what it is called.
    ///
    /// # Errors
    /// When it was not.
    pub fn finish(self) -> io::Result<()> {
        let Part { source, digest: name, .. } = self.part;
        if self.section.left == 0 && digest(self.hash) == name {
            return Ok(());
        }
        let words = format!(
            "{}: the content of {name} is not what its digest says; save the image again",
            source.path().display()
        );
        Err(io::Error::other(words))
    }
}
