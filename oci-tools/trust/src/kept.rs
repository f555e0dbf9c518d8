//! Signatures that a node keeps, so that it need not ask a registry each time. They are checked each
//! time all the same, so what lies there is believed nothing.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use registry::Digest;

use crate::image::Signature;

/// The longest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A folder of signatures.
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    /// What is kept in `dir`.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The signatures of the image `digest`; none where they cannot be read.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Vec<Signature> {
        let mut bytes = Vec::new();
        let read = fs::File::open(self.file(digest))
            .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps the signatures of the image `digest`, in place of those that were kept.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, digest: &Digest, signatures: &[Signature]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.dir)?;
        // Two that write the same file at the same time have names of their own.
        let temporary = self.dir.join(format!("{}.{}", digest.hex(), std::process::id()));
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&serde_json::to_vec(signatures)?))
            .and_then(|()| fs::rename(&temporary, self.file(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.json", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn what_is_kept_is_there_and_what_is_damaged_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(&dir.path().join("signatures"));
        let digest = Digest::of(b"image");
        assert!(kept.get(&digest).is_empty());
        let key = PrivateKey::generate().unwrap();
        let key = PrivateKey::parse("key", key.as_bytes()).unwrap();
        let signatures = [Signature::new(&key, "a", &digest).unwrap()];
        kept.put(&digest, &signatures).unwrap();
        assert_eq!(kept.get(&digest), signatures);
        assert_eq!(fs::read_dir(&kept.dir).unwrap().count(), 1);
        fs::write(kept.file(&digest), "[{").unwrap();
        assert!(kept.get(&digest).is_empty());
    }
}
