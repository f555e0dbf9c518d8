//! The node's cache of compiled code: `<root>/<compat>/<sha256>.cwasm`, `<compat>-baseline` for code of
//! that tier, and `<compat>-key-<key>` for code that somebody else has compiled, whose key it is.
//!
//! Whoever can write such a file runs native code in a container's process, so folders are 0700,
//! files are checked for owner and mode each time. A file appears under its name only when it is
//! whole, with a seal at its end, and on disk. Beside an entry that could not be made, `<sha256>.note`
//! says why, for a time.

mod contents;
mod seal;

pub use contents::{Collection, Entry, Health, Removed, collect, current, entries};

use crate::digest::Digest;
use crate::engine::{Compatibility, Tier};
use contents::{CURRENT, OTHERS_UNUSED};
use nix::fcntl::{Flock, FlockArg};
use seal::Seal;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where a node keeps its compiled code unless told otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/containerd-shim-wasmtime/code";

/// How much compiled code a node keeps unless told otherwise, in bytes.
pub const DEFAULT_MAX_SIZE: u64 = 8 << 30;

/// The most that is remembered of why an entry could not be made, in bytes and in time.
const MAX_NOTE: (u64, Duration) = (4096, Duration::from_secs(24 * 3600));

/// What stands between engine and key in the name of a folder.
const KEY: &str = "-key-";

/// What the background calls the file that it fills.
const BACKGROUND: &str = "background";

/// How exactly the time of last use is kept.
const USED_RECENTLY: Duration = Duration::from_secs(3600);

/// What is wrong with the cache: the path, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system says no.
    #[error("code cache {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could have written it, so it is not used.
    #[error(
        "code cache {}: owned by uid {uid} with mode {mode:03o}, so others could plant native \
         code in it; it must belong to uid {} and be writable by nobody else", path.display(), nix::unistd::geteuid()
    )]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permission bits.
        mode: u32,
    },
}

/// The entries that engines of one configuration and tier can use.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    dir: PathBuf,
    engine: Compatibility,
}

/// The right to make one entry; others of this node wait for it.
pub struct Lock {
    _held: Flock<File>,
    path: PathBuf,
}

/// A module's place in the queue of those that are compiled in the background.
pub struct Ticket(#[expect(dead_code, reason = "a lock is held")] Flock<File>);

/// The right to compile in the background; there is one on a node.
pub struct Turn(#[expect(dead_code, reason = "a lock is held")] Flock<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        // The next one to lock sees, under the lock, that its file is gone from the folder.
        let _ = fs::remove_file(&self.path);
    }
}

impl Cache {
    /// Opens the cache for code of one engine and tier, making the folders that are missing.
    ///
    /// # Errors
    /// When a folder cannot be made or is not this user's alone.
    pub fn open(root: &Path, engine: &Compatibility, tier: Tier) -> Result<Self, Error> {
        Self::in_folder(
            root,
            engine,
            match tier {
                Tier::Optimized => engine.to_string(),
                Tier::Baseline => format!("{engine}-{tier}"),
            },
        )
    }

    /// The same for optimized code that the owner of a key has signed; `key` names it, in hex. So a key
    /// that is trusted no more takes its code along.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn signed(root: &Path, engine: &Compatibility, key: &str) -> Result<Self, Error> {
        Self::in_folder(root, engine, format!("{engine}{KEY}{key}"))
    }

    fn in_folder(root: &Path, engine: &Compatibility, name: String) -> Result<Self, Error> {
        let dir = root.join(name);
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        }
        trusted_dir(root)?;
        trusted_dir(&dir)?;
        Ok(Self { root: root.to_owned(), dir, engine: engine.clone() })
    }

    /// The code compiled from the wasm called `digest`, or `None` when it has yet to be made. An entry
    /// that others could have written, or that is not what its maker wrote as far as that shows at
    /// once, is removed, and so has to be made again.
    ///
    /// # Errors
    /// When an entry is there but cannot be read.
    pub fn get(&self, digest: &Digest) -> Result<Option<File>, Error> {
        let path = self.entry(digest);
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(&path)(e)),
        };
        let meta = file.metadata().map_err(at(&path))?;
        let whole = match Seal::of(&file).map_err(at(&path))? {
            Some(seal) => seal.holds_for_start(&file).map_err(at(&path))?,
            None => false,
        };
        if !whole || trusted(&path, &meta).is_err() {
            self.remove(digest)?;
            return Ok(None);
        }
        // The modification time is the time of last use, which eviction goes by: to the hour, not to
        // write to the disk at every start. A read-only file system does not remember it at all.
        let used = meta.modified().ok().and_then(|used| used.elapsed().ok());
        if used.is_none_or(|ago| ago > USED_RECENTLY) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(file))
    }

    /// Waits until nobody else makes this entry. Blocks.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub fn lock(&self, digest: &Digest) -> Result<Lock, Error> {
        let path = self.dir.join(format!("{digest}.lock"));
        let lock = lock(&path, FlockArg::LockExclusive).map_err(at(&path))?;
        Ok(lock.expect("it waits for the others"))
    }

    /// Makes an entry: `write` fills a file that takes its name only when it is whole and on disk.
    ///
    /// # Errors
    /// What `write` fails with, or the file system; then no entry and no temporary file is left.
    pub fn put<E: From<Error>>(
        &self,
        digest: &Digest,
        _lock: &Lock,
        write: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<File, E> {
        self.make(digest, &self.dir.join(format!("{digest}.new")), write)
    }

    /// The same in the background: those who make the entry for a container that waits for it have
    /// its lock to themselves.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_in_turn<E: From<Error>>(
        &self,
        digest: &Digest,
        _turn: &Turn,
        write: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<File, E> {
        self.make(digest, &self.dir.join(format!("{BACKGROUND}.new")), write)
    }

    fn make<E: From<Error>>(
        &self,
        digest: &Digest,
        temporary: &Path,
        write: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<File, E> {
        let made = fill(temporary, &self.entry(digest), write);
        match &made {
            Ok(_) => {
                let _ = fs::remove_file(self.note_file(digest));
                // Only those who look after the cache want to know.
                let _ = self.set_current();
            }
            Err(_) => drop(fs::remove_file(temporary)),
        }
        made
    }

    /// A place in the queue of the background for the module of this entry; `None` when it has one,
    /// or the entry is gone.
    ///
    /// # Errors
    /// When the entry is there but cannot be read.
    pub fn ticket(&self, digest: &Digest) -> Result<Option<Ticket>, Error> {
        let Some(entry) = self.get(digest)? else {
            return Ok(None);
        };
        match Flock::lock(entry, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Some(Ticket(held))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(at(&self.entry(digest))(e.into())),
        }
    }

    /// Waits for this node's turn of the background. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn turn(&self) -> Result<Turn, Error> {
        let root = File::open(&self.root).map_err(at(&self.root))?;
        Flock::lock(root, FlockArg::LockExclusive)
            .map(Turn)
            .map_err(|(_, e)| at(&self.root)(e.into()))
    }

    /// A file without a name on the cache's file system, gone when it is closed.
    ///
    /// # Errors
    /// When the file system has no such files, or is full.
    pub fn spool(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
        options.open(&self.dir).map_err(at(&self.dir))
    }

    /// Remembers for a time, a day at most, why an entry could not be made.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn set_note(&self, digest: &Digest, why: &str, holds: Duration) -> Result<(), Error> {
        let path = self.note_file(digest);
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        file.write_all(why.as_bytes()).map_err(at(&path))?;
        // The modification time of a note is the time until which it holds.
        file.set_modified(SystemTime::now() + holds.min(MAX_NOTE.1)).map_err(at(&path))
    }

    /// Why an entry could not be made, as long as that is remembered.
    pub fn note(&self, digest: &Digest) -> Option<String> {
        let path = self.note_file(digest);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
        let meta = file.metadata().ok()?;
        trusted(&path, &meta).ok()?;
        if !holds(&meta) {
            return None;
        }
        let mut why = String::new();
        file.take(MAX_NOTE.0).read_to_string(&mut why).ok()?;
        Some(why)
    }

    /// Forgets an entry that turned out to be unusable.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let path = self.entry(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes the entries used longest ago until the rest weighs at most `max_size` bytes, those of
    /// all engines and tiers together; the newest stays. Removes too what killed makers left, notes
    /// that hold no longer, and what other engines have not used for 30 days.
    ///
    /// # Errors
    /// When the folder cannot be read; an entry that cannot be removed is passed over.
    pub fn evict(&self, max_size: u64) -> Result<(), Error> {
        let others = Some((self.engine.clone(), OTHERS_UNUSED));
        let what = Collection { others, unused_for: None, max_size: Some(max_size) };
        collect(&self.root, &what).map(drop)
    }

    /// Leaves the name of its engine for those who look after the cache.
    fn set_current(&self) -> io::Result<()> {
        let path = self.root.join(CURRENT);
        let name = self.engine.to_string();
        if fs::read_to_string(&path).is_ok_and(|current| current == name) {
            return Ok(());
        }
        fs::write(path, name)
    }

    fn entry(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.cwasm"))
    }

    fn note_file(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.note"))
    }
}

/// Locks the file at `path`, which is there as long as it is locked; `None` if that would mean to wait
/// and `how` does not.
fn lock(path: &Path, how: FlockArg) -> io::Result<Option<Lock>> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let held = match Flock::lock(file, how) {
            Ok(held) => held,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(e.into()),
        };
        let ours = held.metadata()?;
        // Whoever held it before removed the file: a lock on a removed file locks nobody out.
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(Some(Lock { _held: held, path: path.to_owned() }));
            }
            _ => continue,
        }
    }
}

/// The lock at `path` if nobody has it.
fn try_lock(path: &Path) -> Option<Lock> {
    lock(path, FlockArg::LockExclusiveNonblock).ok()?
}

/// The turn of the background if nobody has it.
fn try_turn(root: &Path) -> Option<Turn> {
    Flock::lock(File::open(root).ok()?, FlockArg::LockExclusiveNonblock).map(Turn).ok()
}

/// Has `write` fill a file under another name, and gives it that of the entry once it is on disk.
fn fill<E: From<Error>>(
    temporary: &Path,
    entry: &Path,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<File, E> {
    // Left behind by a maker that was killed: we hold the lock, so nobody writes it now.
    let _ = fs::remove_file(temporary);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(at(temporary))?;
    write(&file)?;
    Seal::put(&file).map_err(at(temporary))?;
    // The code is on disk before it has its name. The name itself need not be: after a power loss
    // the entry is there whole, or has to be made again.
    file.sync_all().map_err(at(temporary))?;
    fs::rename(temporary, entry).map_err(at(entry))?;
    Ok(file)
}

/// Whether what a note says holds still; one from far in the future comes of a clock that was wrong.
fn holds(note: &fs::Metadata) -> bool {
    let left = note.modified().ok().and_then(|until| until.duration_since(SystemTime::now()).ok());
    left.is_some_and(|left| left <= MAX_NOTE.1)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

fn trusted_dir(path: &Path) -> Result<(), Error> {
    trusted(path, &fs::symlink_metadata(path).map_err(at(path))?)
}

/// Whether only this user can have written it.
pub(crate) fn trusted(path: &Path, meta: &fs::Metadata) -> Result<(), Error> {
    let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
    if uid == nix::unistd::geteuid().as_raw() && mode & 0o022 == 0 && !meta.is_symlink() {
        return Ok(());
    }
    Err(Error::Untrusted { path: path.to_owned(), uid, mode })
}

#[cfg(test)]
mod tests;
