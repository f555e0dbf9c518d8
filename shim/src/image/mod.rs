//! Where a container's wasm is: here, which file of the rootfs its entrypoint means.

use crate::spec::Entry;
use crate::sys;
use artifact::compile::MAX_WASM;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Why an entrypoint means no file. The words before the colon are those that Docker turns into
/// exit code 127 or 126 of `docker run`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bare name that is in no folder of PATH.
    #[error(
        "exec: {0:?}: executable file not found in $PATH of the image, nor in the working directory; ENTRYPOINT must name a .wasm file of the image"
    )]
    NotFound(String),
    /// A path that is not there.
    #[error(
        "exec: {0:?}: no such file or directory in the image; ENTRYPOINT must name a .wasm file of the image"
    )]
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
            _ => Err(Error::NotAFile(word())),
        };
    }
    Err(match entry.candidates.len() {
        1 => Error::NoSuchFile(word()),
        _ => Error::NotFound(word()),
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
