//! The images of this machine: an OCI image layout in a folder.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>. `index.json` names
//! images by their full names; the folder holds a few things more: `partial/`, where blobs grow,
//! `unpacked/`, what `run` made of images, and two files to lock. Whoever adds or reads blobs holds
//! [`Store::in_use`]; what no name refers to is removed only when nobody does. Every change is a rename, so a store that was left in the
//! middle of something is a store all the same.

mod archive;
mod blobs;
mod index;
mod sweep;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use registry::{Descriptor, Digest, Document, MAX_DOCUMENT};

pub use blobs::Draft;
pub use index::Entry;

/// Environment variable: the folder of the store.
const VARIABLE: &str = "WASM_IMAGE_STORE";

/// The folders in it.
const OWN_FOLDERS: [&str; 2] = ["blobs", "partial"];

/// How deep an index may lie in another.
const MAX_DEPTH: usize = 3;

/// A store that exists.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// A blob of a store is not what its name says; `how`, after a blank, as far as that is known.
pub fn damaged(path: &Path, how: &str) -> anyhow::Error {
    anyhow!(
        "{} is damaged{how}: `wasm-image rm` the image and pull or build it again",
        path.display()
    )
}

/// Keeps the blobs of the store from being swept away.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "it is held for its lock")] File);

/// A document of an image, or a blob that one names.
#[derive(Clone, Debug)]
pub struct Part {
    pub descriptor: Descriptor,
    /// What it says, if it is a document.
    pub document: Option<Document>,
}

impl Store {
    /// The store in `folder`, or where the environment says, or in this user's place; made if it is
    /// not there.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => place()?,
        };
        let store = Self { root };
        store.make().with_context(|| {
            format!(
                "cannot use the image store {}: give a folder with --store DIR or {VARIABLE}",
                store.root.display()
            )
        })?;
        Ok(store)
    }

    /// The same to look at: nothing is made, and a store that is not there is none.
    ///
    /// # Errors
    /// When `folder` is said and not one.
    pub fn there(folder: Option<&Path>) -> Result<Option<Self>> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => place()?,
        };
        match (root.join("oci-layout").exists(), folder) {
            (true, _) => Ok(Some(Self { root })),
            (false, None) => Ok(None),
            (false, Some(folder)) => bail!("there is no image store in {}", folder.display()),
        }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn make(&self) -> Result<()> {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(0o700);
        let layout = self.root.join("oci-layout");
        // Asked again at the end: another process may be making the store too.
        if !layout.exists() && self.is_foreign() && !layout.exists() {
            bail!("it is a folder of something else");
        }
        folders.create(self.root.join("blobs/sha256"))?;
        folders.create(self.root.join("partial"))?;
        if !layout.exists() {
            self.replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(())
    }

    fn is_foreign(&self) -> bool {
        let own = |name: &OsStr| OWN_FOLDERS.iter().any(|own| name == *own);
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| !own(&entry.file_name()))
    }

    /// Puts `content` at `path`, whole or not at all.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let draft = Draft::nameless(self)?;
        draft.write_all(content)?;
        draft.publish_at(path)
    }

    /// While the result lives, no blob goes away.
    pub fn in_use(&self) -> Result<InUse> {
        let lock = self.lock_file("use.lock")?;
        lock.lock_shared().context("cannot lock the image store")?;
        Ok(InUse(lock))
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        options.open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// Where the blob is or will be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Where images that were run are unpacked, each in a folder that is called as its manifest is.
    pub fn unpacked_folder(&self) -> PathBuf {
        self.root.join("unpacked")
    }

    /// Whether the blob is there in its full length.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        let metadata = fs::metadata(self.blob_path(&descriptor.digest));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    /// Opens a blob.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<File> {
        let path = self.blob_path(&descriptor.digest);
        let file = File::open(&path).map_err(|error| damaged(&path, &format!(" ({error})")))?;
        let length = file.metadata().context("cannot read the image store")?.len();
        if length != descriptor.size {
            let how = format!(" ({length} of {} bytes)", descriptor.size);
            return Err(damaged(&path, &how));
        }
        Ok(file)
    }

    /// The bytes of a document or configuration, checked against its digest.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_DOCUMENT {
            bail!("{} is longer than a document can be", descriptor.digest);
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut self.blob(descriptor)?, &mut bytes)
            .with_context(|| format!("cannot read {}", descriptor.digest))?;
        if Digest::of(&bytes) != descriptor.digest {
            return Err(damaged(&self.blob_path(&descriptor.digest), ""));
        }
        Ok(bytes)
    }

    /// What `descriptor`, of a document, says.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let bytes = self.read(descriptor)?;
        let (document, _) = Document::parse(&bytes, Some(&descriptor.media_type))
            .with_context(|| format!("cannot use {}", descriptor.digest))?;
        Ok(document)
    }

    /// Everything that `descriptor` stands for, each digest once: documents after what they name,
    /// in the order in which a registry takes them.
    pub fn parts(&self, descriptor: &Descriptor) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        self.gather(descriptor, 0, &mut HashSet::new(), &mut parts)?;
        Ok(parts)
    }

    fn gather(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        seen: &mut HashSet<Digest>,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        if !seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let mut document = None;
        if descriptor.is_document() {
            if depth > MAX_DEPTH {
                bail!("{} lies in more than {MAX_DEPTH} indexes", descriptor.digest);
            }
            let read = self.document(descriptor)?;
            let named: Vec<_> = match &read {
                Document::Index(manifests) => manifests.iter().collect(),
                Document::Manifest(manifest) => manifest.blobs().collect(),
            };
            for descriptor in named {
                self.gather(descriptor, depth + 1, seen, parts)?;
            }
            document = Some(read);
        }
        parts.push(Part { descriptor: descriptor.clone(), document });
        Ok(())
    }
}

/// Root's images are the machine's, anybody else's are their own.
fn place() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = set(VARIABLE) {
        return Ok(folder.into());
    }
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/wasm-image".into());
    }
    // A relative one is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
    let data = set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().filter(|home| home.is_absolute());
    let data = data.or_else(|| Some(home()?.join(".local/share")));
    let data = data.ok_or_else(|| {
        anyhow!(
            "there is no home folder for the image store: give one with --store DIR or {VARIABLE}"
        )
    })?;
    Ok(data.join("wasm-image"))
}
