//! Compile children: the binary's role `compile`, executed.

use super::Error;
use super::child::{Child, Ended, in_role};
use super::layer::Reading;
use super::vouch::way_to_registries;
use crate::init::{Failure, Reason};
use crate::sys::polled::watch;
use artifact::digest::Digest;
use artifact::engine::Tier;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The compile child's exit code when the wasm, not the node, is at fault.
pub const UNUSABLE: i32 = 2;

/// The word for [`Work::InBackground`] on the command line.
pub const BACKGROUND: &str = "background";

/// How a line of standard error begins that is for the log alone.
pub const NOTE: &str = "note: ";

/// What a compile child is to do.
pub enum Work {
    /// Make code of this tier, or better.
    Now(Tier),
    /// Make optimized code when nobody waits for it.
    InBackground,
}

/// A compile child at work.
pub struct Compiling {
    child: Child,
    /// Ends once the child needs nothing of the container any more.
    busy: AsyncFd<OwnedFd>,
    reading: Option<Reading>,
}

impl Compiling {
    /// Has the entry called `digest` of the cache at `root`, which holds `max_cache` bytes at most,
    /// made from `wasm`, a file, or the end of a pipe that `reading` fills; or, where `trusted` says
    /// from where, from code that is signed.
    ///
    /// # Errors
    /// When there can be no child.
    pub fn start(
        work: Work,
        root: &Path,
        max_cache: u64,
        digest: &Digest,
        trusted: Option<String>,
        wasm: OwnedFd,
        reading: Option<Reading>,
    ) -> Result<Self, Error> {
        let (busy, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        let mut command = in_role("compile");
        command
            .arg(match work {
                Work::Now(tier) => tier.to_string(),
                Work::InBackground => BACKGROUND.to_owned(),
            })
            .arg(root)
            .arg(max_cache.to_string())
            .arg(digest.to_string())
            .stdin(wasm);
        if let Some(trusted) = trusted {
            command.arg(trusted).envs(way_to_registries());
        }
        let child = Child::start(&mut command, Some(theirs))?;
        let busy = watch(busy, Interest::READABLE).map_err(|(_, e)| e)?;
        Ok(Self { child, busy, reading })
    }

    /// Waits for its end. `word` is the entrypoint, for messages.
    ///
    /// # Errors
    /// When it made nothing.
    pub async fn ended(self, word: &str) -> Result<(), Error> {
        let mut ended = self.child.ended(0).await?;
        // What it notes by the way is no reason for a failure.
        let (notes, said): (Vec<_>, Vec<_>) =
            ended.said.lines().partition(|line| line.starts_with(NOTE));
        notes.iter().for_each(|note| log::info!("{word}: {}", &note[NOTE.len()..]));
        ended.said = said.join("\n");
        if ended.status.success() {
            return Ok(());
        }
        if let Some(reading) = self.reading
            && let Some(why) = reading.failed().await?
        {
            // What it was given was not the wasm, whatever it made of that.
            return Err(Failure::new(Reason::Unusable, format!("cannot run {word}: {why}")).into());
        }
        Err(failed(word, ended).into())
    }

    /// Waits until it can do without the container, and leaves it alone. It may outlive this
    /// process; until then it is collected here.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn alone(self) -> Result<(), Error> {
        self.busy.readable().await?.retain_ready();
        Ok(())
    }
}

fn failed(word: &str, ended: Ended) -> Failure {
    let Ended { status, said, .. } = ended;
    let reason = match status.code() {
        Some(UNUSABLE) => Reason::Unusable,
        _ => Reason::Internal,
    };
    match said.as_str() {
        "" => {
            Failure::new(reason, format!("cannot compile {word}: the compiler ended with {status}"))
        }
        said => Failure::new(reason, format!("cannot run {word}: {said}")),
    }
}
