//! Compiled code for a container: from the node's cache, or from a compile child when it is not
//! there yet. The shim itself never compiles.

use super::Error;
use crate::init::{Failure, Need, Reason};
use crate::sys::pidfd::PidFd;
use crate::sys::polled::watch;
use artifact::cache::{self, Cache};
use artifact::digest::Digest;
use artifact::engine::Compatibility;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use tokio::io::Interest;

/// The compile child's exit code when the wasm, not the node, is at fault.
pub const UNUSABLE: i32 = 2;

/// Where code comes from.
#[derive(Clone)]
pub struct Code {
    root: PathBuf,
}

impl Code {
    /// From the cache at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The code that `need` asks for, compiled from `wasm`; made now if it has to be. Concurrent
    /// calls on this node compile once.
    pub(super) async fn get(&self, id: &str, need: &Need, wasm: OwnedFd) -> Result<File, Error> {
        let Need { engine, digest, word, again } = need;
        let internal = |words: String| Error::from(Failure::new(Reason::Internal, words));
        let name = Digest::parse(digest).ok_or_else(|| internal(format!("bad digest {digest}")))?;
        let engine =
            Compatibility::parse(engine).ok_or_else(|| internal(format!("bad engine {engine}")))?;
        let cache = Cache::open(&self.root, &engine).map_err(broken)?;
        if *again {
            log::warn!("{id}: the compiled code of {word} is damaged, compiling it anew");
            cache.remove(&name).map_err(broken)?;
        }
        if let Some(code) = cache.get(&name).map_err(broken)? {
            log::info!("{id}: code of {word} (sha256:{digest}) taken from the cache");
            return Ok(code);
        }
        log::info!("{id}: compiling {word} (sha256:{digest})");
        self.compile(digest, word, wasm).await?;
        cache
            .get(&name)
            .map_err(broken)?
            .ok_or_else(|| internal(format!("the code of {word} left the cache as it was made")))
    }

    async fn compile(&self, digest: &str, word: &str, wasm: OwnedFd) -> Result<(), Error> {
        let mut stderr =
            File::from(memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        let mut child = Command::new("/proc/self/exe")
            .arg("compile")
            .arg(&self.root)
            .arg(digest)
            .env_clear()
            .current_dir("/")
            .stdin(wasm)
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?)
            .spawn()?;
        let pidfd = PidFd::open(Pid::from_raw(child.id() as i32))?;
        let ended = watch(pidfd.as_fd(), Interest::READABLE).map_err(|(_, e)| e)?;
        ended.readable().await?.retain_ready();
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        stderr.rewind()?;
        stderr.take(8192).read_to_string(&mut said)?;
        Err(failed(word, status, said.trim()).into())
    }
}

fn failed(word: &str, status: ExitStatus, said: &str) -> Failure {
    let reason = match status.code() {
        Some(UNUSABLE) => Reason::Unusable,
        _ => Reason::Internal,
    };
    match said {
        "" => {
            Failure::new(reason, format!("cannot compile {word}: the compiler ended with {status}"))
        }
        said => Failure::new(reason, format!("cannot run {word}: {said}")),
    }
}

fn broken(error: cache::Error) -> Failure {
    Failure::new(Reason::Internal, error.to_string())
}
