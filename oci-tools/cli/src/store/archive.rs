//! Images as OCI layouts in a tar: into the store from `build`, out of it for `load`.

use std::collections::HashSet;
use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use artifact::media::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, INDEX};
use registry::{Descriptor, Digest, MAX_DOCUMENT};
use serde::Deserialize;
use serde_json::json;
use tar::{Archive, Builder, EntryType, Header};

use super::{Entry, Store};

impl Store {
    /// Takes in the image of `archive`, under all the names that it has there.
    pub fn import(&self, archive: impl Read) -> Result<()> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let in_use = self.in_use()?;
        let mut images = Vec::new();
        for entry in Archive::new(archive).entries().context("cannot read the image")? {
            let mut entry = entry.context("cannot read the image")?;
            let path = entry.path().context("cannot read the image")?.display().to_string();
            if path == "index.json" {
                let mut bytes = Vec::new();
                (&mut entry).take(MAX_DOCUMENT).read_to_end(&mut bytes)?;
                images = serde_json::from_slice::<Index>(&bytes)?.manifests;
            } else if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let digest: Digest = format!("sha256:{hex}").parse()?;
                let size = entry.size();
                let media_type = String::new();
                let blob =
                    Descriptor { media_type, digest, size, platform: None, annotations: None };
                self.put(&blob, &mut entry)?;
            }
        }
        let mut names = Vec::new();
        for image in &images {
            self.parts(image)?;
            let notes = image.annotations.as_ref();
            let Some(name) = notes.and_then(|notes| notes.get(ANNOTATION_IMAGE_NAME)) else {
                bail!("the image {} has no name", image.digest);
            };
            names.push(name.clone());
        }
        // The names of one build stand for one image.
        let Some(image) = images.into_iter().next() else {
            return Ok(());
        };
        self.name(&names, &Descriptor { annotations: None, ..image }, in_use)
    }

    /// Writes `entries` with all that they stand for to `out`.
    pub fn export(&self, entries: &[Entry], out: impl Write) -> Result<()> {
        let mut manifests = Vec::new();
        let (mut seen, mut blobs) = (HashSet::new(), Vec::new());
        for entry in entries {
            let mut descriptor = serde_json::to_value(&entry.descriptor)?;
            let mut notes = json!({ ANNOTATION_IMAGE_NAME: entry.name });
            // Of a name with a digest there is no tag.
            if let Some((_, tag)) =
                entry.name.rsplit_once(':').filter(|_| !entry.name.contains('@'))
            {
                notes[ANNOTATION_REF_NAME] = tag.into();
            }
            descriptor["annotations"] = notes;
            manifests.push(descriptor);
            for part in self.parts(&entry.descriptor)? {
                if seen.insert(part.descriptor.digest.clone()) {
                    blobs.push(part.descriptor);
                }
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let mut tar = Builder::new(out);
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        for (path, text) in [("oci-layout", version), ("index.json", index.to_string())] {
            tar.append_data(&mut header(text.len() as u64), path, text.as_bytes())?;
        }
        for blob in &blobs {
            let path = format!("blobs/sha256/{}", blob.digest.hex());
            let content = self.blob(blob)?.take(blob.size);
            tar.append_data(&mut header(blob.size), path, content)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}
