//! Compile children: the binary's role `compile`, executed.

use super::Error;
use crate::init::{Failure, Reason};
use crate::sys::pidfd::PidFd;
use crate::sys::polled::watch;
use artifact::digest::Digest;
use artifact::engine::Tier;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, pipe2};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The compile child's exit code when the wasm, not the node, is at fault.
pub const UNUSABLE: i32 = 2;

/// The word for [`Work::InBackground`] on the command line.
pub const BACKGROUND: &str = "background";

/// What a compile child is to do.
pub enum Work {
    /// Make code of this tier, or better.
    Now(Tier),
    /// Make optimized code when nobody waits for it.
    InBackground,
}

/// A compile child at work.
pub struct Compiling {
    process: AsyncFd<PidFd>,
    /// Ends once the child needs nothing of the container any more.
    busy: AsyncFd<OwnedFd>,
    child: std::process::Child,
    stderr: File,
}

impl Compiling {
    /// Has the entry called `digest` of the cache at `root` made from `wasm`.
    ///
    /// # Errors
    /// When there can be no child.
    pub fn start(work: Work, root: &Path, digest: &Digest, wasm: OwnedFd) -> Result<Self, Error> {
        let stderr =
            File::from(memfd_create(c"stderr", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        let (busy, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        let child = Command::new("/proc/self/exe")
            .arg("compile")
            .arg(match work {
                Work::Now(tier) => tier.to_string(),
                Work::InBackground => BACKGROUND.to_owned(),
            })
            .arg(root)
            .arg(digest.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(wasm)
            .stdout(theirs)
            .stderr(stderr.try_clone()?)
            .spawn()?;
        let pidfd = PidFd::open(Pid::from_raw(child.id() as i32))?;
        let process = watch(pidfd, Interest::READABLE).map_err(|(_, e)| e)?;
        let busy = watch(busy, Interest::READABLE).map_err(|(_, e)| e)?;
        Ok(Self { process, busy, child, stderr })
    }

    /// Waits for its end. `word` is the entrypoint, for messages.
    ///
    /// # Errors
    /// When it made nothing.
    pub async fn ended(mut self, word: &str) -> Result<(), Error> {
        self.process.readable().await?.retain_ready();
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        self.stderr.rewind()?;
        self.stderr.take(8192).read_to_string(&mut said)?;
        Err(failed(word, status, said.trim()).into())
    }

    /// Waits until it can do without the container, and leaves it alone. It may outlive this
    /// process; until then it is collected here.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn alone(self) -> Result<(), Error> {
        let Self { process, busy, mut child, .. } = self;
        busy.readable().await?.retain_ready();
        tokio::spawn(async move {
            if process.readable().await.is_ok() {
                let _ = child.wait();
            }
        });
        Ok(())
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
