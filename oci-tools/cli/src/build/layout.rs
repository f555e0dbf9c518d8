//! The image as an OCI layout in a tar: what `docker load` and `ctr image import` take.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>. JSON objects are
//! written with sorted keys, so equal images are equal bytes.

use std::io::{self, Read, Write};

use artifact::media;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::layer::{Layer, digest};
use super::recipe::{Config, Epoch};
use crate::name::Name;

/// The documents of an image around its layer.
pub struct Image {
    pub config: Blob,
    pub manifest: Blob,
    index: Vec<u8>,
    layer: Layer,
    mtime: u64,
}

/// Bytes with the name they have in a layout.
pub struct Blob {
    pub bytes: Vec<u8>,
    /// `sha256:…`
    pub digest: String,
}

impl Blob {
    fn new(document: &Value) -> Self {
        let bytes = document.to_string().into_bytes();
        let digest = digest(Sha256::new_with_prefix(&bytes));
        Self { bytes, digest }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

impl Image {
    /// Describes `layer` as an image under each of `names`.
    pub fn new(config: &Config, names: &[Name], epoch: &Epoch, layer: Layer) -> Self {
        let config = Blob::new(&config_document(config, epoch, &layer.diff_id));
        let manifest = Blob::new(&json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": config.descriptor(media::CONFIG),
            "layers": [{
                "mediaType": media::LAYER_TAR_GZIP,
                "digest": layer.digest,
                "size": layer.size,
            }],
        }));
        let index = index_document(&manifest, names).to_string().into_bytes();
        Self { config, manifest, index, layer, mtime: epoch.seconds }
    }

    /// The layer that the manifest names.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Writes the layout and gives its length in bytes. The layer's content is used up.
    pub fn write(&mut self, out: impl Write) -> io::Result<u64> {
        let mut tar = Builder::new(Counting { inner: out, size: 0 });
        let mtime = self.mtime;
        let mut file = |path: &str, size: u64, content: &mut dyn Read| {
            let mut header = header(EntryType::Regular, 0o644, size, mtime);
            tar.append_data(&mut header, path, content)
        };
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        file("oci-layout", version.len() as u64, &mut version.as_bytes())?;
        file("index.json", self.index.len() as u64, &mut self.index.as_slice())?;
        for blob in [&self.config, &self.manifest] {
            file(&blob_path(&blob.digest), blob.bytes.len() as u64, &mut blob.bytes.as_slice())?;
        }
        file(&blob_path(&self.layer.digest), self.layer.size, &mut self.layer.content)?;
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

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md>
fn config_document(config: &Config, epoch: &Epoch, diff_id: &str) -> Value {
    let mut process = Map::new();
    process.insert("Entrypoint".into(), json!(config.entrypoint));
    let mut set = |key: &str, value: Value, given: bool| {
        if given {
            process.insert(key.into(), value);
        }
    };
    let ports: Map<_, _> = config.expose.iter().map(|port| (port.clone(), json!({}))).collect();
    set("Cmd", json!(config.cmd), !config.cmd.is_empty());
    set("Env", json!(config.env), !config.env.is_empty());
    set("WorkingDir", json!(config.workdir), config.workdir.is_some());
    set("User", json!(config.user), config.user.is_some());
    set("Labels", json!(config.labels), !config.labels.is_empty());
    set("ExposedPorts", ports.into(), !config.expose.is_empty());
    set("StopSignal", json!(config.stop_signal), config.stop_signal.is_some());
    json!({
        "architecture": media::ARCHITECTURE,
        "os": media::OS,
        "created": epoch.text,
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": epoch.text, "created_by": "wasm-image build" }],
    })
}

/// One entry per name, as `docker save` writes it: docker and containerd read the whole name, other
/// tools the tag. The platform is given again because importers choose by it.
fn index_document(manifest: &Blob, names: &[Name]) -> Value {
    let entry = |name: &Name| {
        let mut descriptor = manifest.descriptor(media::MANIFEST);
        descriptor["platform"] = json!({ "os": media::OS, "architecture": media::ARCHITECTURE });
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
