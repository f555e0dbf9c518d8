//! The container's standard streams, as containerd names them: paths of fifos, mostly.
//!
//! Fifos of output are opened for reading too, so that a reader that goes away and comes back (a
//! daemon's restart) is not the end of the stream.

use super::Error;
use crate::sys;
use nix::fcntl::OFlag;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The streams as a request names them; empty for none.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The streams, open.
pub struct Streams {
    /// What the container's process takes along.
    pub inherited: [OwnedFd; 3],
    /// A writer of its standard input.
    pub stdin: Option<OwnedFd>,
}

impl Streams {
    /// Opens what `paths` name. Never waits for the other end of a fifo.
    ///
    /// # Errors
    /// When a path cannot be opened.
    pub fn open(paths: &Paths) -> Result<Self, Error> {
        let (reader, writer) = match paths.stdin.as_str() {
            "" => (null()?, None),
            path => {
                let open = |flag| open("stdin", path, flag | OFlag::O_NONBLOCK);
                (open(OFlag::O_RDONLY)?, Some(open(OFlag::O_WRONLY)?))
            }
        };
        let inherited =
            [reader, output("stdout", &paths.stdout)?, output("stderr", &paths.stderr)?];
        Ok(Self { inherited, stdin: writer })
    }
}

fn output(name: &'static str, path: &str) -> Result<OwnedFd, Error> {
    match path.split_once("://") {
        None if path.is_empty() => Ok(null()?),
        None => open(name, path, OFlag::O_RDWR | OFlag::O_NONBLOCK),
        Some(("fifo", path)) => open(name, path, OFlag::O_RDWR | OFlag::O_NONBLOCK),
        Some(("file", path)) => {
            open(name, path, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT)
        }
        Some(_) => Err(Error::NotYet("log drivers (binary://)")),
    }
}

fn open(name: &'static str, path: &str, flags: OFlag) -> Result<OwnedFd, Error> {
    sys::fd::open(Path::new(path), flags).map_err(|source| Error::Stream {
        name,
        path: path.to_owned(),
        source,
    })
}

fn null() -> io::Result<OwnedFd> {
    sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)
}
