//! Where a container's wasm is: here, which file of the rootfs its entrypoint means; in [`manifest`],
//! which layer of the image, where that has no such file.

pub mod manifest;

use crate::spec::Entry;
use crate::sys;
use artifact::module::MAX_WASM;
use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why an entrypoint means no file. The words before the colon are those that Docker turns into
/// exit code 127 or 126 of `docker run`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bare name that is in no folder of PATH.
    #[error(
        "exec: {0:?}: executable file not found in $PATH of the image, nor in the working directory"
    )]
    NotFound(String),
    /// A path that is not there.
    #[error("exec: {0:?}: no such file or directory in the image")]
    NoSuchFile(String),
    /// A folder, a device or the like.
    #[error("exec: {0:?}: permission denied: it is not a regular file")]
    NotAFile(String),
    /// More than anybody would compile.
    #[error(
        "exec: {0:?}: it is larger than 1 GiB, which is no WebAssembly module that this runtime takes"
    )]
    TooLarge(String),
    /// It is there and cannot be opened.
    #[error("exec: {word:?}: cannot open {}: {source}", path.display())]
    Unreadable {
        /// The entrypoint.
        word: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether the rootfs has nothing of that name, which then may be a layer's.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NoSuchFile(_))
    }
}

/// Opens the file that `entry` means in the rootfs `root`.
///
/// # Errors
/// See [`Error`].
pub fn open(root: BorrowedFd<'_>, entry: &Entry) -> Result<File, Error> {
    let word = || entry.word.clone();
    for path in &entry.candidates {
        // Not to wait for the other end of a fifo that an image might hold.
        let file = match sys::fd::open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => File::from(fd),
            Err(e) if is_absent(&e) => continue,
            Err(source) => {
                return Err(Error::Unreadable { word: word(), path: path.clone(), source });
            }
        };
        return match file.metadata() {
            Ok(meta) if meta.is_file() && meta.len() > MAX_WASM => Err(Error::TooLarge(word())),
            Ok(meta) if meta.is_file() => Ok(file),
            // The name that is given where an image has nothing that needs one.
            _ if path == Path::new("/") => Err(Error::NoSuchFile(word())),
            _ => Err(Error::NotAFile(word())),
        };
    }
    Err(match entry.candidates.len() {
        1 => Error::NoSuchFile(word()),
        _ => Error::NotFound(word()),
    })
}

/// How far [`modules`] looks: entries of folders, and folders below folders.
const LOOKED_AT: usize = 4096;
const DEEP: usize = 8;

/// Paths within the rootfs `root` of files that are called `.wasm`: one more than `most` when there
/// are more. A large image is not looked at to its end.
pub fn modules(root: BorrowedFd<'_>, most: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = LOOKED_AT;
    let mut folders = VecDeque::from([PathBuf::new()]);
    while let Some(folder) = folders.pop_front() {
        for (name, is_folder) in entries(root, &folder, left) {
            left -= 1;
            let path = folder.join(name);
            if is_folder && path.components().count() < DEEP {
                folders.push_back(path);
            } else if !is_folder && path.extension().is_some_and(|ext| ext == "wasm") {
                found.push(path);
            }
            if found.len() > most {
                return found;
            }
        }
    }
    found
}

/// The first entries of a folder by name, and which are folders.
fn entries(root: BorrowedFd<'_>, folder: &Path, most: usize) -> Vec<(OsString, bool)> {
    let at = Path::new(".").join(folder);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let opened = sys::fd::open_in_root(root, &at, flags).ok();
    let Some(mut dir) = opened.and_then(|fd| Dir::from_fd(fd).ok()) else {
        return Vec::new();
    };
    let mut entries: Vec<_> = dir
        .iter()
        .flatten()
        .filter(|entry| ![c".", c".."].contains(&entry.file_name()))
        .map(|entry| {
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            (name, entry.file_type() == Some(Type::Directory))
        })
        .take(most)
        .collect();
    entries.sort();
    entries
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::modules;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    #[test]
    fn modules_are_found_wherever_they_are_but_not_outside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        for file in ["app.wasm", "usr/bin/tool.wasm", "usr/bin/note.txt"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("host")).unwrap();
        let root = File::open(dir.path()).unwrap();
        let all = modules(root.as_fd(), 9);
        assert_eq!(all, [Path::new("app.wasm"), Path::new("usr/bin/tool.wasm")]);
        assert_eq!(modules(root.as_fd(), 0), [Path::new("app.wasm")]);
    }
}
