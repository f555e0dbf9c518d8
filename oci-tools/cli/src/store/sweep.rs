//! Removing what no name refers to.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

use super::Store;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many files went.
    pub blobs: usize,
    /// How many bytes they had.
    pub bytes: u64,
    /// Nothing was removed, because somebody uses the store; the next sweep will.
    pub postponed: bool,
}

impl Store {
    /// Removes blobs that no entry of the index refers to, and what interrupted pulls left; nothing
    /// at all while anybody uses the store.
    pub fn sweep(&self) -> Result<Swept> {
        let lock = self.lock_file("use.lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Swept { postponed: true, ..Swept::default() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("cannot lock the image store");
            }
        }
        let mut used = HashSet::new();
        for root in self.roots()? {
            match self.parts(&root) {
                Ok(parts) => {
                    used.extend(parts.iter().map(|p| p.descriptor.digest.hex().to_owned()))
                }
                // A damaged image: what of it cannot be known to be used is pulled again with it.
                Err(_) => drop(used.insert(root.digest.hex().to_owned())),
            }
        }
        let mut swept = Swept::default();
        each(&self.root.join("blobs/sha256"), |path, name| {
            if used.contains(name) { Ok(()) } else { swept.remove(path) }
        })?;
        if let Some(folder) = Some(self.unpacked_folder()).filter(|folder| folder.is_dir()) {
            each(&folder, |path, name| match used.contains(name) {
                true => Ok(()),
                false => fs::remove_dir_all(path)
                    .with_context(|| format!("cannot remove {}", path.display())),
            })?;
        }
        each(&self.root.join("partial"), |path, _| {
            let free = File::open(path).is_ok_and(|file| file.try_lock().is_ok());
            if free { swept.remove(path) } else { Ok(()) }
        })?;
        Ok(swept)
    }
}

impl Swept {
    fn remove(&mut self, path: &Path) -> Result<()> {
        let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        self.blobs += 1;
        self.bytes += size;
        Ok(())
    }
}

fn each(folder: &Path, mut visit: impl FnMut(&Path, &str) -> Result<()>) -> Result<()> {
    let unreadable = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        visit(&entry.path(), &entry.file_name().to_string_lossy())?;
    }
    Ok(())
}
