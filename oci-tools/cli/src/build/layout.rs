//! An OCI layout in a tar: what `docker load` and `ctr image import` take.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>. JSON objects are
//! written with sorted keys, so equal images are equal bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};

use artifact::media;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::layer::digest;
use super::linux::Part;
use crate::name::Name;

/// Bytes with the name they have in a layout.
pub struct Blob {
    /// `sha256:…`
    pub digest: String,
    /// In bytes.
    pub size: u64,
    pub content: Content,
}

/// Where the bytes of a blob are.
pub enum Content {
    Bytes(Vec<u8>),
    /// Positioned at the start.
    File(File),
    /// In another layout.
    Part(Part),
}

impl Blob {
    /// A document as it is written.
    pub fn document(document: &Value) -> Self {
        Self::bytes(document.to_string().into_bytes())
    }

    /// Any bytes.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        let digest = digest(Sha256::new_with_prefix(&bytes));
        Self { digest, size: bytes.len() as u64, content: Content::Bytes(bytes) }
    }

    /// What others say of this blob.
    pub fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}

/// A layout that is ready to be written.
pub struct Layout {
    index: Vec<u8>,
    blobs: Vec<Blob>,
    mtime: u64,
}

impl Layout {
    /// Holds `blobs`, of which `top` describes the one that each of `names` stands for. `mtime` is in
    /// seconds since 1970.
    pub fn new(top: &Value, names: &[Name], mut blobs: Vec<Blob>, mtime: u64) -> Self {
        // Images share layers; in a tar, each has its place once.
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.digest.clone()));
        Self { index: index_document(top, names).to_string().into_bytes(), blobs, mtime }
    }

    /// Writes the layout and gives its length in bytes. What files hold is used up.
    ///
    /// # Errors
    /// When it cannot be written, or a part of another layout cannot be read or is not what it is
    /// called.
    pub fn write(self, out: impl Write) -> io::Result<u64> {
        let mut tar = Builder::new(Counting { inner: out, size: 0 });
        let mtime = self.mtime;
        let mut file = |path: &str, size: u64, content: &mut dyn Read| {
            let mut header = header(EntryType::Regular, 0o644, size, mtime);
            tar.append_data(&mut header, path, content)
        };
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        file("oci-layout", version.len() as u64, &mut version.as_bytes())?;
        file("index.json", self.index.len() as u64, &mut self.index.as_slice())?;
        for blob in self.blobs {
            let path = format!("blobs/{}", blob.digest.replace(':', "/"));
            match blob.content {
                Content::Bytes(bytes) => file(&path, blob.size, &mut bytes.as_slice())?,
                Content::File(mut content) => file(&path, blob.size, &mut content)?,
                Content::Part(part) => {
                    let mut content = part.open()?;
                    file(&path, blob.size, &mut content)?;
                    content.finish()?;
                }
            }
        }
        let mut out = tar.into_inner()?;
        out.flush()?;
        Ok(out.size)
    }
}

fn header(kind: EntryType, mode: u32, size: u64, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(mtime);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// One entry per name, as `docker save` writes it: docker and containerd read the whole name, other
/// tools the tag.
fn index_document(top: &Value, names: &[Name]) -> Value {
    let entry = |name: &Name| {
        let mut descriptor = top.clone();
        descriptor["annotations"] = json!({
            media::ANNOTATION_IMAGE_NAME: name.to_string(),
            media::ANNOTATION_REF_NAME: name.tag(),
        });
        descriptor
    };
    let manifests: Vec<_> = names.iter().map(entry).collect();
    json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests })
}

struct Counting<W> {
    inner: W,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
