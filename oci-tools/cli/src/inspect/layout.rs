//! An OCI layout, as a folder or as a tar: documents and blobs by name, nothing unpacked.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>. All of it may be
//! hostile: names lead nowhere but to blobs, and nothing is read to a length that it chooses itself.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::Archive;

/// The largest document (index, manifest, configuration) that is taken, in bytes.
const DOCUMENT: u64 = 4 << 20;

/// As many files as a tar of a layout may hold.
const FILES: usize = 100_000;

/// Where the blobs are.
pub enum Layout {
    /// A folder.
    Folder(PathBuf),
    /// A tar: where each file begins in it, and its length.
    Tar(File, HashMap<String, (u64, u64)>),
}

/// What a document says about a blob.
#[derive(Clone)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:` and 64 digits; nothing else passes.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

impl Descriptor {
    /// Reads one; `what` is what the document calls it.
    pub fn read(value: &Value, what: &str) -> Result<Self> {
        let digest = value["digest"].as_str().unwrap_or_default();
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(
            hex.len() == 64 && hex.chars().all(is_hex),
            "{what} has the digest {digest:?}; it must be sha256: and 64 hexadecimal digits"
        );
        let Some(size) = value["size"].as_u64() else {
            bail!("{what} has no size");
        };
        let media_type = value["mediaType"].as_str().unwrap_or_default().to_owned();
        Ok(Self { media_type, digest: digest.to_owned(), size })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

impl Layout {
    /// The layout in a folder.
    pub fn folder(path: &Path) -> Self {
        Self::Folder(path.to_owned())
    }

    /// The layout in a tar.
    pub fn tar(file: File) -> Result<Self> {
        let (mut places, length) = (HashMap::new(), file.metadata()?.len());
        let mut archive = Archive::new(BufReader::new(&file));
        for entry in archive.entries_with_seek()?.raw(true) {
            let entry = entry.context("the tar is damaged or cut off")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if !kind.is_file() {
                continue;
            }
            ensure!(places.len() < FILES, "the tar holds more than {FILES} files");
            let place = (entry.raw_file_position(), entry.size());
            let end = place.0.checked_add(place.1);
            ensure!(end.is_some_and(|end| end <= length), "the tar is cut off within {name:?}");
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            ensure!(
                places.insert(name.clone(), place).is_none(),
                "the tar holds {name:?} twice, and which one counts is anybody's guess"
            );
        }
        Ok(Self::Tar(file, places))
    }

    /// A document that has no digest, by its name.
    pub fn document(&self, name: &str) -> Result<Value> {
        let (reader, size) = self.open(name)?;
        parse(name, &read(reader, name, size)?)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// A document that a descriptor names.
    pub fn described(&self, descriptor: &Descriptor) -> Result<Value> {
        let name = &descriptor.digest;
        let mut blob = self.blob(descriptor)?;
        let bytes = read(&mut blob, name, descriptor.size)?;
        blob.verify()?;
        parse(name, &bytes)
    }

    /// What a descriptor names, to be read once and then verified.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>> {
        let (reader, size) = self.open(&descriptor.path())?;
        ensure!(
            size == descriptor.size,
            "{} has {size} bytes; the document that names it says {}",
            descriptor.digest,
            descriptor.size
        );
        Ok(Blob { reader, hash: Sha256::new(), digest: descriptor.digest.clone() })
    }

    fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                // Not to wait for the other end of a fifo.
                let file = OpenOptions::new()
                    .read(true)
                    .custom_flags(OFlag::O_NONBLOCK.bits())
                    .open(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let metadata = file.metadata()?;
                ensure!(metadata.is_file(), "{} is not a plain file", path.display());
                Ok((Box::new(BufReader::new(file).take(metadata.len())), metadata.len()))
            }
            Self::Tar(file, places) => {
                let Some((start, size)) = places.get(name) else {
                    bail!("the tar holds no {name}");
                };
                let mut file = file;
                file.seek(SeekFrom::Start(*start))?;
                Ok((Box::new(BufReader::new(file).take(*size)), *size))
            }
        }
    }
}

/// A blob on its way, hashed as it goes.
pub struct Blob<'a> {
    reader: Box<dyn Read + 'a>,
    hash: Sha256,
    digest: String,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

impl Blob<'_> {
    /// Reads what is left, and insists that all of it is what its name says.
    pub fn verify(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(
            self.digest == format!("sha256:{hex}"),
            "{} is damaged: its bytes are those of sha256:{hex}",
            self.digest
        );
        Ok(())
    }
}

fn read(reader: impl Read, name: &str, size: u64) -> Result<Vec<u8>> {
    ensure!(size <= DOCUMENT, "{name} has {size} bytes; no such document has more than {DOCUMENT}");
    let mut bytes = Vec::new();
    reader.take(DOCUMENT).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == size, "{name} is cut off after {} of {size} bytes", bytes.len());
    Ok(bytes)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).with_context(|| format!("{name} is not JSON"))
}
