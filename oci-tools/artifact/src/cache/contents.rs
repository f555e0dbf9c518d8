//! All that a cache holds, of every engine and tier: what its owner looks at, and what is collected.

use super::seal::Seal;
use super::{BACKGROUND, Error, KEY, at, holds, trusted, trusted_dir, try_lock, try_turn};
use crate::digest::Digest;
use crate::engine::{Compatibility, Tier};
use std::any::Any;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where the last maker leaves the name of its engine.
pub(super) const CURRENT: &str = "current";

/// Entries of engines that nobody has are collected after so long without use. Not at once: beside
/// containers that an earlier version of this program runs, a later one may run others.
pub(super) const OTHERS_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Compiled code of one module.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its file.
    pub path: PathBuf,
    /// That of the wasm.
    pub digest: Digest,
    /// What it depends on; see [`Compatibility`].
    pub engine: String,
    /// Which compiler made it.
    pub tier: Tier,
    /// Of code that somebody else has compiled, the name of the key that has signed it.
    pub key: Option<String>,
    /// In bytes, with the seal.
    pub size: u64,
    /// When it was used last, to the hour.
    pub used: SystemTime,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As it was made.
    Whole,
    /// Not as it was made; says why.
    Damaged(&'static str),
    /// Of a version that sealed nothing, so nobody can tell.
    Unsealed,
}

/// What [`collect`] removes, beside what killed makers left and notes that hold no longer.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Entries of other engines than this that were not used for so long; `None` is no engine's.
    pub others: Option<(Compatibility, Duration)>,
    /// Entries that were not used for so long.
    pub unused_for: Option<Duration>,
    /// Entries used longest ago, until the rest weighs so many bytes at most. The newest stays, for
    /// somebody waits for it.
    pub max_size: Option<u64>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Compiled modules.
    pub entries: usize,
    /// What killed makers left, and notes.
    pub leftovers: usize,
    /// Of both together, in bytes.
    pub bytes: u64,
}

/// The entries of the cache at `root`, those used last first; none when there is no cache.
///
/// # Errors
/// When it cannot be read or is not this user's alone.
pub fn entries(root: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<_> = files(root)?.iter().filter_map(Found::entry).collect();
    entries.sort_by(|a, b| (b.used, &b.path).cmp(&(a.used, &a.path)));
    Ok(entries)
}

/// The engine that code was made for last in the cache at `root`; `None` when nobody knows.
pub fn current(root: &Path) -> Option<Compatibility> {
    let text = fs::read_to_string(root.join(CURRENT)).ok()?;
    Compatibility::parse(&text)
}

/// Removes from the cache at `root` what `what` says. Makers and starts go on meanwhile; containers
/// that run removed code keep it mapped.
///
/// # Errors
/// When the cache cannot be read or is not this user's alone; what cannot be removed is passed over.
pub fn collect(root: &Path, what: &Collection) -> Result<Removed, Error> {
    let (mut removed, mut entries, mut growing) = (Removed::default(), Vec::new(), 0);
    for file in files(root)? {
        let left = match file.kind() {
            Some("cwasm") => {
                entries.extend(file.entry());
                continue;
            }
            Some("note") => !holds(&file.meta) && fs::remove_file(&file.path).is_ok(),
            Some("new" | "lock") => remove_leftover(root, &file.path),
            _ => continue,
        };
        if left {
            removed.leftovers += 1;
            removed.bytes += file.meta.len();
        } else {
            growing += file.meta.len();
        }
    }
    entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    let now = SystemTime::now();
    let newest = entries.len().saturating_sub(1);
    let mut weight = growing + entries.iter().map(|entry| entry.size).sum::<u64>();
    for (place, entry) in entries.iter().enumerate() {
        let unused = now.duration_since(entry.used).unwrap_or_default();
        let others = what.others.as_ref();
        let goes = others
            .is_some_and(|(engine, most)| !engine.names(&entry.engine) && unused >= *most)
            || what.unused_for.is_some_and(|most| unused >= most)
            || what.max_size.is_some_and(|most| weight > most && place < newest);
        if !goes {
            continue;
        }
        if let Ok(was_there) = entry.remove() {
            // One that somebody else has just removed weighs nothing any more either.
            weight -= entry.size;
            removed.entries += usize::from(was_there);
            removed.bytes += if was_there { entry.size } else { 0 };
        }
    }
    Ok(removed)
}

/// Whether `path`, which a maker writes or locks, was nobody's any more and is removed.
fn remove_leftover(root: &Path, path: &Path) -> bool {
    let (Some(dir), Some(name)) = (path.parent(), path.file_stem()) else {
        return false;
    };
    // What the maker of it would hold.
    let held = if name == BACKGROUND {
        try_turn(root).map(|turn| Box::new(turn) as Box<dyn Any>)
    } else {
        try_lock(&dir.join(name).with_extension("lock")).map(|lock| Box::new(lock) as Box<dyn Any>)
    };
    // A lock's own file goes with it.
    held.is_some() && (path.extension() == Some("lock".as_ref()) || fs::remove_file(path).is_ok())
}

impl Entry {
    /// When it was made; `None` when it does not say.
    pub fn made(&self) -> Option<SystemTime> {
        let file = self.open().ok()?;
        Some(Seal::of(&file).ok()??.made)
    }

    /// Whether it is as it was made. Reads all of it.
    ///
    /// # Errors
    /// When it cannot be read; `None` when it is gone.
    pub fn check(&self) -> Result<Option<Health>, Error> {
        let file = match self.open() {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(&self.path)(e)),
        };
        let meta = file.metadata().map_err(at(&self.path))?;
        if trusted(&self.path, &meta).is_err() {
            return Ok(Some(Health::Damaged("others can have written it")));
        }
        let seal = Seal::of(&file).map_err(at(&self.path))?;
        Ok(Some(match seal {
            None if Compatibility::parse(&self.engine).is_none() => Health::Unsealed,
            None => Health::Damaged("it has no seal at its end: it is torn or cut short"),
            Some(seal) if seal.holds(&file).map_err(at(&self.path))? => Health::Whole,
            Some(_) => Health::Damaged("its content is not what was made"),
        }))
    }

    /// Removes it, and says whether it was there.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> Result<bool, Error> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(at(&self.path)(e)),
        }
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path)
    }
}

/// A file of the cache.
struct Found {
    path: PathBuf,
    meta: fs::Metadata,
}

impl Found {
    fn kind(&self) -> Option<&str> {
        self.path.extension()?.to_str()
    }

    /// What it is if it is an entry.
    fn entry(&self) -> Option<Entry> {
        let dir = self.path.parent()?.file_name()?.to_str()?;
        let (dir, key) = match dir.split_once(KEY) {
            Some((dir, key)) => (dir, Some(key.to_owned())),
            None => (dir, None),
        };
        let (engine, tier) = match dir.strip_suffix("-baseline") {
            Some(engine) => (engine, Tier::Baseline),
            None => (dir, Tier::Optimized),
        };
        let known = self.kind() == Some("cwasm") && self.meta.is_file();
        known.then_some(Entry {
            path: self.path.clone(),
            digest: Digest::parse(self.path.file_stem()?.to_str()?)?,
            engine: engine.to_owned(),
            tier,
            key,
            size: self.meta.len(),
            used: self.meta.modified().ok()?,
        })
    }
}

/// What is in the folders of all engines and tiers.
fn files(root: &Path) -> Result<Vec<Found>, Error> {
    let dirs = match fs::read_dir(root) {
        Ok(dirs) => dirs,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(at(root)(e)),
    };
    trusted_dir(root)?;
    let dirs = dirs.flatten().filter(|dir| dir.file_type().is_ok_and(|kind| kind.is_dir()));
    let files = dirs.filter_map(|dir| fs::read_dir(dir.path()).ok()).flatten().flatten();
    // One that is gone by now is none.
    let found = |file: DirEntry| Some(Found { meta: file.metadata().ok()?, path: file.path() });
    Ok(files.filter_map(found).collect())
}
