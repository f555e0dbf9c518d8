//! `compile`: makes entries of the code cache from the wasm on standard input.
//!
//! Two processes: this one, root's, holds the entry's lock and the unnamed entry; its child reads
//! the hostile wasm and holds nothing else.

mod background;
mod signed;
mod target;
mod worker;

use crate::launch::{BACKGROUND, UNUSABLE};
use crate::sys;
use artifact::cache::{self, Cache};
use artifact::digest::Digest;
use artifact::engine::{self, Compatibility, Engine, Tier};
use artifact::module::MAX_WASM;
use nix::fcntl::OFlag;
use std::cell::OnceCell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long it is remembered that a compiler cannot compile a module.
const REFUSED: Duration = Duration::from_secs(24 * 3600);

/// Why no entry was made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The wasm is not what it should be.
    #[error("{0}")]
    Unusable(String),
    /// The compiler says no, or its limits do.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Internal(String),
}

fn internal(error: impl Display) -> Error {
    Error::Internal(error.to_string())
}

pub fn run(order: &[&str]) -> ExitCode {
    let made = match *order {
        ["for", target] => target::make(target),
        [work, root, max_cache, digest] => make(work, root, max_cache, digest, None),
        [work, root, max_cache, digest, trusted] => {
            make(work, root, max_cache, digest, Some(trusted))
        }
        _ => Err(internal(
            "usage: compile baseline|optimized|background ROOT BYTES SHA256 [TRUSTED] <WASM | compile for TARGET <WASM >CODE",
        )),
    };
    let Err(error) = made else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error}");
    match error {
        Error::Unusable(_) | Error::Refused(_) => ExitCode::from(UNUSABLE as u8),
        Error::Cache(_) | Error::Internal(_) => ExitCode::FAILURE,
    }
}

fn make(
    work: &str,
    root: &str,
    max_cache: &str,
    digest: &str,
    trusted: Option<&str>,
) -> Result<(), Error> {
    let job = Job::new(root, max_cache, digest)?;
    let Some(tier) = Tier::parse(work) else {
        return match work {
            BACKGROUND => background::make(&job),
            other => Err(internal(format!("no work is called {other}"))),
        };
    };
    free_stdout()?;
    if let Some(trusted) = trusted {
        let trusted = serde_json::from_str(trusted).map_err(internal)?;
        if signed::take(&job, &trusted)? {
            return Ok(());
        }
    }
    job.make_now(tier)
}

/// Lets go of the pipe by which the shim sees that its container is needed.
fn free_stdout() -> Result<(), Error> {
    sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)
        .and_then(|null| sys::fd::become_standard(null.as_fd(), 1))
        .map_err(internal)
}

/// To the start of a file; a pipe has none other.
fn rewind(file: &mut File) -> io::Result<()> {
    match file.rewind() {
        Err(e) if e.kind() == io::ErrorKind::NotSeekable => Ok(()),
        done => done,
    }
}

/// What is to be made.
struct Job<'a> {
    root: &'a Path,
    /// What all entries may weigh, in bytes.
    max_cache: u64,
    digest: Digest,
    compatibility: Compatibility,
    /// What standard input gave, which may be a pipe.
    wasm: OnceCell<Vec<u8>>,
}

impl<'a> Job<'a> {
    fn new(root: &'a str, max_cache: &str, digest: &str) -> Result<Self, Error> {
        let max_cache =
            max_cache.parse().map_err(|e| internal(format!("bad size {max_cache}: {e}")))?;
        let digest =
            Digest::parse(digest).ok_or_else(|| internal(format!("bad digest {digest}")))?;
        let engine = engine::engine(Tier::Optimized).map_err(internal)?;
        let compatibility = Compatibility::of(&engine);
        Ok(Self { root: root.as_ref(), max_cache, digest, compatibility, wasm: OnceCell::new() })
    }

    fn cache(&self, tier: Tier) -> Result<Cache, cache::Error> {
        Cache::open(self.root, &self.compatibility, tier)
    }

    /// Makes code of `tier`; optimized code at once for what the baseline compiler does not know.
    fn make_now(&self, tier: Tier) -> Result<(), Error> {
        match self.make(tier) {
            Err(Error::Refused(_)) if tier == Tier::Baseline => self.make(Tier::Optimized),
            made => made,
        }
    }

    /// Makes one entry, unless it is there when its turn has come.
    fn make(&self, tier: Tier) -> Result<(), Error> {
        let cache = self.cache(tier)?;
        let lock = cache.lock(&self.digest)?;
        if cache.get(&self.digest)?.is_some() {
            return Ok(());
        }
        if let Some(why) = cache.note(&self.digest).filter(|_| tier == Tier::Baseline) {
            return Err(Error::Refused(why));
        }
        let engine = engine::engine(tier).map_err(internal)?;
        let wasm = self.wasm()?;
        let made = cache.put(&self.digest, &lock, |file| self.compile(&engine, wasm, file));
        match made {
            Ok(_) => Ok(cache.evict(self.max_cache)?),
            Err(Error::Refused(why)) if tier == Tier::Baseline => {
                cache.set_note(&self.digest, &why, REFUSED)?;
                Err(Error::Refused(why))
            }
            Err(e) => Err(e),
        }
    }

    /// The wasm of standard input.
    fn wasm(&self) -> Result<&[u8], Error> {
        if let Some(wasm) = self.wasm.get() {
            return Ok(wasm);
        }
        let wasm = self.read(File::from(sys::fd::standard(0).map_err(internal)?))?;
        Ok(self.wasm.get_or_init(|| wasm))
    }

    /// Reads the wasm into memory and checks that it is the one that is asked for: what is compiled
    /// under a name must be what has the name, even if the file changes meanwhile.
    fn read(&self, mut file: File) -> Result<Vec<u8>, Error> {
        let mut wasm = Vec::new();
        rewind(&mut file)
            .and_then(|()| file.take(MAX_WASM + 1).read_to_end(&mut wasm))
            .map_err(|e| Error::Internal(format!("cannot read it: {e}")))?;
        if wasm.len() as u64 > MAX_WASM {
            return Err(Error::Unusable("it is larger than 1 GiB".into()));
        }
        if Digest::of(&wasm) != self.digest {
            return Err(Error::Unusable("it changed while it was read".into()));
        }
        Ok(wasm)
    }

    fn compile(&self, engine: &Engine, wasm: &[u8], out: &File) -> Result<(), Error> {
        worker::compile(engine, wasm, out).map_err(|e| match e {
            Error::Internal(words) => {
                internal(format!("code cache {}: {words}", self.root.display()))
            }
            other => other,
        })
    }
}
