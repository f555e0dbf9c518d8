//! The container's standard streams, as containerd names them: paths of fifos, mostly; or those of
//! this process itself.
//!
//! Fifos of output are opened for reading too, so that a reader that goes away and comes back (a
//! daemon's restart) is not the end of the stream.

use super::Error;
use super::terminal::Terminal;
use crate::spec::Process;
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

/// The standard streams of this process, by names of their own.
const OWN: [&str; 3] = ["fd://0", "fd://1", "fd://2"];

impl Paths {
    /// Those of this process, of which standard input is left out unless `stdin` says otherwise.
    pub fn own(stdin: bool) -> Self {
        let [own, stdout, stderr] = OWN.map(str::to_owned);
        Self { stdin: if stdin { own } else { String::new() }, stdout, stderr }
    }
}

/// The streams, open.
pub struct Streams {
    /// What the container's process takes along.
    pub inherited: [OwnedFd; 3],
    /// A writer of its standard input.
    pub stdin: Option<OwnedFd>,
    /// The terminal that all three are, if they are one.
    pub terminal: Option<Terminal>,
}

impl Streams {
    /// Opens what `paths` name, for `process`. Never waits for the other end of a fifo.
    ///
    /// # Errors
    /// When a path cannot be opened, or the system gives no terminal.
    pub fn open(paths: &Paths, process: &Process) -> Result<Self, Error> {
        let (reader, writer) = input(&paths.stdin)?;
        let stdout = output("stdout", &paths.stdout)?;
        if process.terminal {
            // Both outputs of a terminal are one.
            let (terminal, program) =
                Terminal::open(process.console_size, reader, stdout).map_err(Error::Terminal)?;
            let inherited = [program.try_clone()?, program.try_clone()?, program];
            return Ok(Self { inherited, stdin: writer, terminal: Some(terminal) });
        }
        let stdin = reader.map_or_else(null, Ok)?;
        let inherited = [stdin, stdout, output("stderr", &paths.stderr)?];
        Ok(Self { inherited, stdin: writer, terminal: None })
    }
}

impl Streams {
    /// Other names of where the output goes: as long as they are open it does not end.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn outputs(&self) -> io::Result<Vec<OwnedFd>> {
        match &self.terminal {
            Some(terminal) => Ok(vec![terminal.output()?]),
            None => self.inherited[1..].iter().map(OwnedFd::try_clone).collect(),
        }
    }
}

/// The two ends of the fifo of standard input, if there is one.
fn input(path: &str) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Error> {
    if path.is_empty() {
        return Ok((None, None));
    }
    if path == OWN[0] {
        // It ends when its writers say so.
        return Ok((Some(sys::fd::standard_anew(0)?), None));
    }
    let open = |flag| open("stdin", path, flag | OFlag::O_NONBLOCK);
    Ok((Some(open(OFlag::O_RDONLY)?), Some(open(OFlag::O_WRONLY)?)))
}

fn output(name: &'static str, path: &str) -> Result<OwnedFd, Error> {
    match path.split_once("://") {
        None if path.is_empty() => Ok(null()?),
        _ if path == OWN[1] => Ok(sys::fd::standard_anew(1)?),
        _ if path == OWN[2] => Ok(sys::fd::standard_anew(2)?),
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
