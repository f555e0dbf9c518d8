//! Blobs on their way into the store. They grow in `partial/`, under their digest so that the next
//! pull goes on where this one ended, and move to `blobs/` when they are whole and on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use registry::{Descriptor, Digest, Hasher};
use tempfile::TempPath;

use super::Store;

/// How much is read at once.
const PIECE: usize = 256 << 10;

/// A file that is not a blob yet.
#[derive(Debug)]
pub struct Draft {
    file: File,
    fate: Fate,
}

/// What becomes of an unfinished file.
#[derive(Debug)]
enum Fate {
    /// It stays, for the next pull. The file is locked.
    Kept(PathBuf),
    /// It goes.
    Dropped(TempPath),
}

impl Draft {
    /// For the blob of `digest`: what an interrupted pull left of it, or a new file; a file of its
    /// own when another process is filling that one.
    pub fn of(store: &Store, digest: &Digest) -> Result<Self> {
        let path = store.root.join("partial").join(digest.hex());
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create(true).open(&path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Self::nameless(store),
                Err(TryLockError::Error(error)) => {
                    return Err(error).context("cannot lock a file of the image store");
                }
            }
            // Between opening and locking, its owner may have made it a blob.
            let same = |other: fs::Metadata, own: fs::Metadata| {
                (other.dev(), other.ino()) == (own.dev(), own.ino())
            };
            if let (Ok(other), Ok(own)) = (fs::metadata(&path), file.metadata())
                && same(other, own)
            {
                return Ok(Self { file, fate: Fate::Kept(path) });
            }
        }
    }

    /// For something that is never continued.
    pub fn nameless(store: &Store) -> Result<Self> {
        let folder = store.root.join("partial");
        let made = tempfile::Builder::new().prefix("new-").tempfile_in(&folder);
        let made = made.with_context(|| format!("cannot write to {}", folder.display()))?;
        let (file, path) = made.into_parts();
        // Locked as the others are, so that no sweep takes it.
        file.lock().context("cannot lock a file of the image store")?;
        Ok(Self { file, fate: Fate::Dropped(path) })
    }

    /// How many bytes are there from before, and their hash; at most `size`, or it begins anew.
    pub fn begun(&mut self, size: u64) -> Result<(u64, Hasher)> {
        let mut hasher = Hasher::default();
        let length = self.file.metadata().context("cannot read the image store")?.len();
        if length > size {
            self.restart()?;
            return Ok((0, hasher));
        }
        let mut file = &self.file;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            match file.read(&mut piece).context("cannot read the image store")? {
                0 => return Ok((at, hasher)),
                len => {
                    hasher.update(&piece[..len]);
                    at += len as u64;
                }
            }
        }
    }

    /// Forgets all that was written.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).context("cannot write to the image store")
    }

    /// Writes what comes next.
    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        match (&self.file).write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                // What is kept for later would keep the disk full.
                let _ = self.file.set_len(0);
                bail!(
                    "no space is left for the image store: free some, `wasm-image rm` images, or give another folder with --store DIR"
                )
            }
            Err(error) => Err(error).context("cannot write to the image store"),
        }
    }

    /// The same file, for who waits for the disk meanwhile. An error of that is told once, to who
    /// asks first, so it must not be left at that.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().context("cannot write to the image store")
    }

    /// Makes it the blob of `digest`, whose content has been checked.
    pub fn publish(self, store: &Store, digest: &Digest) -> Result<()> {
        self.publish_at(&store.blob_path(digest))
    }

    pub(super) fn publish_at(self, path: &Path) -> Result<()> {
        let publish = || {
            self.file.sync_all()?;
            match self.fate {
                Fate::Kept(from) => fs::rename(from, path)?,
                Fate::Dropped(from) => from.persist(path)?,
            }
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        publish().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes it, where it would be kept.
    pub fn discard(self) {
        if let Fate::Kept(path) = &self.fate {
            // Another pull begins anew either way.
            let _ = fs::remove_file(path);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Store {
    /// Takes a blob in from `content`, which must be what `descriptor` says.
    pub fn put(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        if self.has(descriptor) {
            return Ok(());
        }
        let draft = Draft::nameless(self)?;
        let mut hasher = Hasher::default();
        let mut content = content.take(descriptor.size + 1);
        let mut piece = vec![0; PIECE];
        let mut size = 0;
        loop {
            let len = content.read(&mut piece).context("cannot read the image")?;
            if len == 0 {
                break;
            }
            hasher.update(&piece[..len]);
            size += len as u64;
            draft.write_all(&piece[..len])?;
        }
        if size != descriptor.size || hasher.digest() != descriptor.digest {
            bail!("{} is not what it is called: build the image again", descriptor.digest);
        }
        draft.publish(self, &descriptor.digest)
    }
}
