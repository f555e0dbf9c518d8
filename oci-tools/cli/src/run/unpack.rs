//! Layers of an image, unpacked on each other into a folder
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>).
//!
//! Whoever made the image wrote them. Every path is looked up within the folder, whatever links lie
//! there by now; nothing is made that only root can make, but owners of files where root unpacks;
//! and what is too much is refused.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use shim::sandbox::paths::make_dir;
use shim::sys::fd::open_in_root;
use tar::EntryType;

use crate::inspect::layer::{Item, inside, walk};

/// As much as an image may unpack to, and one file of it, in bytes.
const UNPACKED: u64 = 8 << 30;
const FILE: u64 = 2 << 30;

/// As many entries as all its layers may hold.
const ENTRIES: u64 = 500_000;

/// What begins the name of a file that takes another one away.
const WHITEOUT: &[u8] = b".wh.";

/// The one that takes all away that lower layers have in its folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A folder that layers are unpacked into.
pub struct Tree {
    root: OwnedFd,
    /// Whether files get the owners that the layers say, or all are this user's.
    owners: bool,
    bytes: u64,
    entries: u64,
    layers: usize,
}

impl Tree {
    /// In `folder`, which is empty and nobody else's.
    pub fn new(folder: &Path, owners: bool) -> Result<Self> {
        let root =
            File::open(folder).with_context(|| format!("cannot use {}", folder.display()))?;
        Ok(Self { root: root.into(), owners, bytes: 0, entries: 0, layers: 0 })
    }

    /// Unpacks the next layer. `open` gives its tar, from the beginning each time.
    pub fn add<'a>(&mut self, open: impl Fn() -> Result<Box<dyn Read + 'a>>) -> Result<()> {
        // What a layer takes away is of the layers below, wherever in it that is said.
        if self.layers > 0 {
            walk(open()?, |item, _| {
                self.take_away(item).with_context(|| format!("cannot unpack {:?}", item.path))
            })?;
        }
        self.layers += 1;
        walk(open()?, |item, content| {
            self.unpack(item, content).with_context(|| format!("cannot unpack {:?}", item.path))
        })
    }

    fn take_away(&self, item: &Item) -> Result<()> {
        check_size(item)?;
        let Some(name) = item.path.file_name().filter(|name| is_whiteout(name)) else {
            return Ok(());
        };
        let other = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
        ensure!(!other.is_empty() && other != "." && other != "..", "it takes nothing away");
        let folder = item.path.parent().unwrap_or(Path::new(""));
        let Some(folder) = self.existing(folder)? else { return Ok(()) };
        if name.as_bytes() == OPAQUE {
            let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            for entry in fs::read_dir(path)? {
                remove(folder.as_fd(), &entry?.file_name())?;
            }
        } else if !is_whiteout(other) {
            remove(folder.as_fd(), other)?;
        }
        Ok(())
    }

    fn unpack(&mut self, item: &Item, content: &mut dyn Read) -> Result<()> {
        self.entries += 1;
        self.bytes += item.size;
        ensure!(self.entries <= ENTRIES, "the image holds more than {ENTRIES} files");
        check_size(item)?;
        ensure!(self.bytes <= UNPACKED, "the image unpacks to more than {} GiB", UNPACKED >> 30);
        let Some(name) = item.path.file_name() else {
            return self.dress_root(item);
        };
        if is_whiteout(name) {
            return Ok(());
        }
        let parent = item.path.parent().unwrap_or(Path::new(""));
        let parent = make_dir(self.root.as_fd(), &Path::new("/").join(parent))?;
        let parent = parent.as_fd();
        match item.kind {
            EntryType::Directory => self.folder(item, parent, name),
            EntryType::Regular | EntryType::Continuous => self.file(item, parent, name, content),
            EntryType::Symlink => {
                let target = item.target.as_deref().context("it leads nowhere")?;
                remove(parent, name)?;
                symlinkat(target, parent, name)?;
                match self.owner(item)? {
                    Some((uid, gid)) => Ok(fchownat(
                        parent,
                        name,
                        Some(uid),
                        Some(gid),
                        AtFlags::AT_SYMLINK_NOFOLLOW,
                    )?),
                    None => Ok(()),
                }
            }
            EntryType::Link => self.link(item, parent, name),
            // No guest can open one.
            EntryType::Char | EntryType::Block | EntryType::Fifo => Ok(()),
            other => bail!("it is of a kind that images do not have: {other:?}"),
        }
    }

    fn dress_root(&self, item: &Item) -> Result<()> {
        ensure!(item.kind.is_dir(), "the root of the image is no folder in it");
        fchmod(&self.root, self.mode(item)?)?;
        if let Some((uid, gid)) = self.owner(item)? {
            fchown(&self.root, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn folder(&self, item: &Item, parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        if kind(parent, name)? != Some(SFlag::S_IFDIR) {
            remove(parent, name)?;
            mkdirat(parent, name, Mode::S_IRWXU)?;
        }
        if let Some((uid, gid)) = self.owner(item)? {
            fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        Ok(fchmodat(parent, name, self.mode(item)?, FchmodatFlags::FollowSymlink)?)
    }

    fn file(
        &self,
        item: &Item,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        content: &mut dyn Read,
    ) -> Result<()> {
        remove(parent, name)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(file);
        let copied = io::copy(content, &mut file)?;
        ensure!(copied == item.size, "it is cut off after {copied} of {} bytes", item.size);
        if let Some((uid, gid)) = self.owner(item)? {
            fchown(&file, Some(uid), Some(gid))?;
        }
        fchmod(&file, self.mode(item)?)?;
        let modified = UNIX_EPOCH + Duration::from_secs(item.header.mtime().unwrap_or(0));
        // A time that the file system does not know is no reason not to run it.
        let _ = file.set_modified(modified);
        Ok(())
    }

    fn link(&self, item: &Item, parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let target = inside(item.target.as_deref().context("it leads nowhere")?)?;
        let missing = || anyhow!("it is a link to {target:?}, which is not there");
        let folder =
            self.existing(target.parent().unwrap_or(Path::new("")))?.ok_or_else(missing)?;
        let file = target.file_name().ok_or_else(missing)?;
        match kind(folder.as_fd(), file)? {
            None => return Err(missing()),
            Some(SFlag::S_IFDIR) => bail!("it is a link to {target:?}, which is a folder"),
            Some(_) => {}
        }
        remove(parent, name)?;
        match linkat(folder.as_fd(), file, parent, name, AtFlags::empty()) {
            // It was a link to itself.
            Err(Errno::ENOENT) => Err(missing()),
            linked => Ok(linked?),
        }
    }

    /// A folder of the tree, if it is there.
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let path = Path::new("/").join(path);
        match open_in_root(self.root.as_fd(), &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(error) if is_absence(&error) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    /// Its permissions. Nothing of an image is executed by a system that heeds the rest.
    fn mode(&self, item: &Item) -> Result<Mode> {
        let mut mode = item.header.mode().context("its permissions cannot be read")? & 0o1777;
        if item.kind.is_dir() && !self.owners {
            // Or its owner could not remove what is in it.
            mode |= 0o700;
        }
        Ok(Mode::from_bits_truncate(mode))
    }

    fn owner(&self, item: &Item) -> Result<Option<(Uid, Gid)>> {
        if !self.owners {
            return Ok(None);
        }
        let (uid, gid) = (item.header.uid()?, item.header.gid()?);
        let id = |id: u64| u32::try_from(id).context("its owner is no user of Linux");
        Ok(Some((Uid::from_raw(id(uid)?), Gid::from_raw(id(gid)?))))
    }
}

fn check_size(item: &Item) -> Result<()> {
    ensure!(item.size <= FILE, "it is a file of more than {} GiB", FILE >> 30);
    Ok(())
}

fn is_whiteout(name: &OsStr) -> bool {
    name.as_bytes().starts_with(WHITEOUT)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What is called `name`, links not followed; nothing if nothing is.
fn kind(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Option<SFlag>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is called `name`, with all that is in it.
fn remove(folder: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match kind(folder, name)? {
        None => {}
        Some(SFlag::S_IFDIR) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            fs::remove_dir_all(path.join(name))?;
        }
        Some(_) => unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    /// All below `folder`, links not followed.
    fn all(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = fs::symlink_metadata(&path).unwrap().is_dir();
            found.push(path.clone());
            if is_folder {
                all(&path, found);
            }
        }
    }

    #[test]
    fn layers_that_an_attacker_wrote_stay_in_their_folder_and_make_no_devices() {
        let (taken, made) = (Cell::new(0), Cell::new(0));
        let layer = || hostile::tars("app.wasm", b"content");
        hostile::check("pairs of layers", 6000, (layer(), layer()), |(lower, upper)| {
            let outside = tempfile::tempdir().unwrap();
            fs::write(outside.path().join("app.wasm"), "canary").unwrap();
            let folder = outside.path().join("rootfs");
            fs::create_dir(&folder).unwrap();
            let mut tree = Tree::new(&folder, true).unwrap();
            let whole = [&lower, &upper]
                .into_iter()
                .all(|tar| tree.add(|| Ok(Box::new(tar.as_slice()))).is_ok());
            taken.set(taken.get() + u32::from(whole));
            let mut beside = fs::read_dir(outside.path()).unwrap().count();
            assert_eq!(fs::read(outside.path().join("app.wasm")).unwrap(), b"canary");
            beside -= 2;
            assert_eq!(beside, 0, "something was made beside the folder");
            let mut found = Vec::new();
            all(&folder, &mut found);
            for path in &found {
                let meta = fs::symlink_metadata(path).unwrap();
                let kind = meta.file_type();
                assert!(!kind.is_block_device() && !kind.is_char_device(), "{}", path.display());
                assert_eq!(meta.mode() & 0o6000, 0, "{} lends rights", path.display());
            }
            made.set(made.get() + found.len());
        });
        assert!(taken.get() > 50 && made.get() > 2000, "{} {}", taken.get(), made.get());
    }
}
