//! The digests of big files that were hashed before, so that not every start hashes them again.
//!
//! A file is known by its device, inode, size and times. The time of its last change (`ctime`) is the
//! kernel's: whoever writes to a file sets it to now, and cannot set it back. One that changed a
//! moment ago may change again within the same tick, so it is not remembered yet.

use crate::cache::trusted;
use crate::digest::Digest;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a node keeps what it remembers.
pub const DEFAULT_DIR: &str = "/var/lib/containerd-shim-wasmtime/digests";

/// From how many bytes on it is worth it.
const BIG: u64 = 1 << 20;

/// How long a file must have been as it is.
const SETTLED: Duration = Duration::from_secs(60);

/// With more than this many remembered, all are forgotten.
const MOST: usize = 4096;

/// What a node remembers.
pub struct Known {
    dir: PathBuf,
    settled: Duration,
}

/// What tells a file with its present content from every other.
#[derive(PartialEq, Eq)]
struct Identity {
    name: String,
    changed: SystemTime,
}

impl Known {
    /// What is remembered in `dir`.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), settled: SETTLED }
    }

    /// The digest of `file`, remembered or computed. A memory that cannot be read or written is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest_of(&self, file: &File) -> io::Result<Digest> {
        let before = identity(file)?;
        if let Some(digest) = before.as_ref().and_then(|identity| self.recall(identity)) {
            return Ok(digest);
        }
        let digest = Digest::of_reader(file)?;
        if let Some(before) = before
            && identity(file)?.as_ref() == Some(&before)
            && before.changed.elapsed().is_ok_and(|ago| ago >= self.settled)
        {
            let _ = self.remember(&before, &digest);
        }
        Ok(digest)
    }

    fn recall(&self, identity: &Identity) -> Option<Digest> {
        trusted(&self.dir, &fs::symlink_metadata(&self.dir).ok()?).ok()?;
        let path = self.dir.join(&identity.name);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
        trusted(&path, &file.metadata().ok()?).ok()?;
        let mut text = String::new();
        file.take(128).read_to_string(&mut text).ok()?;
        Digest::parse(&text)
    }

    fn remember(&self, identity: &Identity, digest: &Digest) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        if fs::read_dir(&self.dir)?.count() >= MOST {
            fs::remove_dir_all(&self.dir)?;
            DirBuilder::new().mode(0o700).create(&self.dir)?;
        }
        // Two that hash one file at the same time write the same.
        let temporary = self.dir.join(format!("{}.new", identity.name));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(digest.to_string().as_bytes()))
            .and_then(|()| fs::rename(&temporary, self.dir.join(&identity.name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Nothing for a file that is hashed as fast as it is looked up.
fn identity(file: &File) -> io::Result<Option<Identity>> {
    let meta = file.metadata()?;
    if meta.len() < BIG {
        return Ok(None);
    }
    // Each container's overlay is another device, though the file below, whose inode it shows, is one.
    // A copy made for writing keeps the inode, but has times of its own.
    let overlay = fstatfs(file)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC;
    let device = if overlay { "overlay".to_owned() } else { meta.dev().to_string() };
    let (ino, size) = (meta.ino(), meta.len());
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    let name = Digest::of(format!("{device} {ino} {size} {times:?}").as_bytes()).to_string();
    let since = Duration::new(meta.ctime().max(0).unsigned_abs(), meta.ctime_nsec() as u32);
    Ok(Some(Identity { name, changed: UNIX_EPOCH + since }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(dir: &Path) -> Known {
        Known { dir: dir.join("digests"), settled: Duration::ZERO }
    }

    fn big(dir: &Path, fill: u8) -> PathBuf {
        let path = dir.join("big");
        fs::write(&path, vec![fill; BIG as usize]).unwrap();
        path
    }

    fn remembered(known: &Known) -> Vec<PathBuf> {
        let files = fs::read_dir(&known.dir).into_iter().flatten().flatten();
        files.map(|file| file.path()).collect()
    }

    #[test]
    fn a_big_file_is_hashed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (known, path) = (known(dir.path()), big(dir.path(), 1));
        let digest = known.digest_of(&File::open(&path).unwrap()).unwrap();
        assert_eq!(digest, Digest::of(&fs::read(&path).unwrap()));
        let [entry] = remembered(&known).try_into().unwrap();
        // What is remembered is what is answered.
        fs::write(entry, Digest::of(b"other").to_string()).unwrap();
        assert_eq!(known.digest_of(&File::open(&path).unwrap()).unwrap(), Digest::of(b"other"));
    }

    #[test]
    fn a_file_that_was_written_to_is_hashed_again_though_its_size_and_mtime_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (known, path) = (known(dir.path()), big(dir.path(), 1));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let one = known.digest_of(&File::open(&path).unwrap()).unwrap();
        big(dir.path(), 2);
        File::open(&path).unwrap().set_modified(modified).unwrap();
        let two = known.digest_of(&File::open(&path).unwrap()).unwrap();
        assert_ne!(one, two);
        assert_eq!(two, Digest::of(&fs::read(&path).unwrap()));
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_and_a_small_one_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = big(dir.path(), 1);
        let careful = Known::at(&dir.path().join("digests"));
        careful.digest_of(&File::open(&path).unwrap()).unwrap();
        assert!(remembered(&careful).is_empty());
        fs::write(&path, b"small").unwrap();
        let known = known(dir.path());
        known.digest_of(&File::open(&path).unwrap()).unwrap();
        assert!(remembered(&known).is_empty());
    }

    #[test]
    fn a_memory_that_others_could_write_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (known, path) = (known(dir.path()), big(dir.path(), 1));
        let digest = known.digest_of(&File::open(&path).unwrap()).unwrap();
        let [entry] = remembered(&known).try_into().unwrap();
        fs::write(&entry, Digest::of(b"other").to_string()).unwrap();
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(known.digest_of(&File::open(&path).unwrap()).unwrap(), digest);
    }
}
