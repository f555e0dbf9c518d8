//! The modules and components of an image: layers that are some, and files of other layers.

use std::collections::HashSet;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use artifact::media;
use artifact::module::MAX_WASM;
use artifact::module::kind;
use flate2::read::MultiGzDecoder;
use registry::{Descriptor, Digest, Document};
use tar::Archive;

use crate::store::Store;

/// As many modules as an image may have.
const MODULES: usize = 64;

/// As much as a layer may unpack to, in bytes.
const UNPACKED: u64 = 8 << 30;

/// A module or component.
pub struct Module {
    /// The file's or layer's name.
    pub name: String,
    /// It.
    pub bytes: Vec<u8>,
}

/// Those of the image `root`, whose blobs are in the store.
pub fn of(store: &Store, root: &Descriptor) -> Result<Vec<Module>> {
    let mut modules = Modules::default();
    for part in store.parts(root)? {
        let Some(Document::Manifest(manifest)) = part.document else {
            continue;
        };
        for layer in &manifest.layers {
            let media_type = layer.media_type.split(';').next().unwrap_or_default();
            let blob = store.blob(layer)?;
            let failed = || format!("layer {}", layer.digest);
            if media::is_wasm_layer(media_type) {
                let title = layer.annotations.as_ref();
                let title = title.and_then(|notes| notes.get(media::ANNOTATION_TITLE));
                let name = title.map_or(layer.digest.as_str(), String::as_str);
                modules.add(name, blob, layer.size).with_context(failed)?;
            } else if media_type.ends_with("gzip") {
                modules.files(MultiGzDecoder::new(blob)).with_context(failed)?;
            } else if media_type.ends_with("tar") {
                modules.files(blob).with_context(failed)?;
            } else if media_type.contains("tar") {
                bail!("layer {}: its media type {media_type:?} is not known here", layer.digest);
            }
        }
    }
    Ok(modules.found)
}

#[derive(Default)]
struct Modules {
    found: Vec<Module>,
    seen: HashSet<Digest>,
}

impl Modules {
    /// Takes `content` in if its first bytes say that it is WebAssembly.
    fn add(&mut self, name: &str, mut content: impl Read, size: u64) -> Result<()> {
        let mut bytes = Vec::new();
        content.by_ref().take(8).read_to_end(&mut bytes)?;
        if kind(&bytes).is_none() {
            return Ok(());
        }
        let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
        ensure!(size <= MAX_WASM, "{name} is larger than {MAX_WASM} bytes");
        content.take(MAX_WASM).read_to_end(&mut bytes)?;
        if self.seen.insert(Digest::of(&bytes)) {
            ensure!(self.found.len() < MODULES, "it holds more than {MODULES} modules");
            self.found.push(Module { name, bytes });
        }
        Ok(())
    }

    /// Takes in what there is of it in a tar.
    fn files(&mut self, tar: impl Read) -> Result<()> {
        // Raw: entries that only give others longer names are none of our matter.
        for entry in Archive::new(tar.take(UNPACKED)).entries()?.raw(true) {
            let entry = entry.context("the tar in it is damaged or cut off")?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let size = entry.size();
            self.add(&name, entry, size)?;
        }
        Ok(())
    }
}
