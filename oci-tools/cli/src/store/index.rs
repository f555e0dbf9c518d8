//! `index.json`: which names there are, and what they stand for. Entries and fields of other tools
//! are kept as they are.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};
use artifact::media::{ANNOTATION_REF_NAME, INDEX};
use registry::Descriptor;
use serde_json::{Value, json};

use super::Store;
use super::sweep::Swept;

/// A name and what it stands for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In full, with a tag or digest.
    pub name: String,
    pub descriptor: Descriptor,
}

impl Entry {
    /// An index with nothing else in it.
    pub fn index(&self) -> Value {
        json!({ "manifests": [self.descriptor] })
    }
}

impl Store {
    /// All named images, by name.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let document = self.read_index()?;
        let mut entries = Vec::new();
        for value in manifests(&document) {
            if let Some(name) = name_of(value) {
                let descriptor = descriptor_of(value)?;
                entries.push(Entry { name: name.to_owned(), descriptor });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The image `name`, in full. One with a digest is any of its repository that has it.
    pub fn find(&self, name: &str) -> Result<Entry> {
        let entries = self.entries()?;
        let is_it = |entry: &&Entry| match name.split_once('@') {
            Some((repository, digest)) => {
                let tag = entry.name.strip_prefix(repository);
                let same = tag.is_some_and(|tag| !tag.contains('/') && tag.starts_with([':', '@']));
                same && entry.descriptor.digest.as_str() == digest
            }
            None => false,
        };
        let found = entries.iter().find(|entry| entry.name == name);
        let found = found.or_else(|| entries.iter().find(is_it)).cloned();
        found.with_context(|| {
            format!(
                "the store has no image {name}: `wasm-image list` shows what it has, `wasm-image pull` or `build` adds to it"
            )
        })
    }

    /// Has each of `names` stand for `descriptor`, whose blobs are all there, and sweeps away what
    /// they stood for before. The caller does not hold [`Store::in_use`] any more.
    pub fn name(
        &self,
        names: &[String],
        descriptor: &Descriptor,
        in_use: super::InUse,
    ) -> Result<()> {
        let mut replaced = false;
        self.change(|entries| {
            for name in names {
                let others = entries.len();
                entries.retain(|entry| name_of(entry) != Some(name));
                replaced |= entries.len() < others;
                entries.push(entry(name, descriptor)?);
            }
            Ok(())
        })?;
        drop(in_use);
        if replaced {
            self.sweep()?;
        }
        Ok(())
    }

    /// Takes `names` away, all or none, and then what none of the rest refers to.
    pub fn remove(&self, names: &[String]) -> Result<Swept> {
        self.change(|entries| {
            for name in names {
                let others = entries.len();
                entries.retain(|entry| name_of(entry) != Some(name));
                if entries.len() == others {
                    bail!("the store has no image {name}: `wasm-image list` shows what it has");
                }
            }
            Ok(())
        })?;
        self.sweep()
    }

    /// The digests of all entries, also those without a name.
    pub(super) fn roots(&self) -> Result<Vec<Descriptor>> {
        manifests(&self.read_index()?).iter().map(descriptor_of).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>) -> Result<()>) -> Result<()> {
        let lock = self.lock_file("index.lock")?;
        lock.lock().context("cannot lock the image store")?;
        let mut document = self.read_index()?;
        let mut entries = manifests(&document).to_vec();
        change(&mut entries)?;
        document["manifests"] = entries.into();
        let text = format!("{document}\n");
        self.replace(&self.root.join("index.json"), text.as_bytes())
    }

    fn read_index(&self) -> Result<Value> {
        let path = self.root.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let document: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", path.display()))?;
        if !document["manifests"].is_array() {
            bail!("{} is not the index of an OCI layout", path.display());
        }
        Ok(document)
    }
}

fn manifests(document: &Value) -> &[Value] {
    document["manifests"].as_array().map_or(&[], Vec::as_slice)
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["annotations"][ANNOTATION_REF_NAME].as_str()
}

fn descriptor_of(entry: &Value) -> Result<Descriptor> {
    let mut descriptor: Descriptor = serde_json::from_value(entry.clone())
        .context("index.json of the store has an entry that is none")?;
    descriptor.annotations = None;
    Ok(descriptor)
}

fn entry(name: &str, descriptor: &Descriptor) -> Result<Value> {
    let mut value = serde_json::to_value(descriptor)?;
    value["annotations"] = json!({ ANNOTATION_REF_NAME: name });
    Ok(value)
}
