//! When the kernel kills in a control group for want of memory.
//!
//! v2 tells of every change of `memory.events`. v1 tells by an eventfd, a moment before it kills
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/memory.html#oom-control>). Either counts.

use super::{Cgroup, Error, Version, write};
use crate::sys::fd;
use crate::sys::polled::watch;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::future::{Future, pending};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// v1 takes a moment from the word to the deed, which is looked for after pauses of this length and
/// twice as long each time. What it does later is told with the next word, or with the end.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Waits for kills.
pub struct OomWatch {
    cgroup: Cgroup,
    source: Option<AsyncFd<OwnedFd>>,
    /// v1 has said that it will kill.
    announced: bool,
    /// How many kills were told of.
    told: u64,
    /// There was word, and then the group was gone before it could be asked for the count.
    unread: bool,
}

impl OomWatch {
    /// Of `cgroup`; where the kernel does not tell, only its end shows.
    pub fn new(cgroup: &Cgroup) -> Self {
        let source = match cgroup.version {
            Version::V1 => announcements(cgroup),
            Version::V2 => events(cgroup),
        };
        let source = source.inspect_err(|e| log::warn!("no word of kills for want of memory: {e}"));
        let source = source.ok().flatten();
        Self { cgroup: cgroup.clone(), source, announced: false, told: 0, unread: false }
    }

    /// Waits until the kernel has killed, once or many times, since that was last told. May be given
    /// up at any moment.
    pub async fn killed(&mut self) {
        loop {
            if !self.announced {
                self.word().await;
                self.announced = self.cgroup.version == Version::V1;
            }
            let mut pause = FIRST_LOOK;
            loop {
                if self.more() {
                    self.announced = false;
                    return;
                }
                if !self.announced || pause > LAST_LOOK {
                    break;
                }
                sleep(pause).await;
                pause *= 2;
            }
            self.announced = false;
        }
    }

    /// Waits for word from the kernel; for ever where none comes.
    async fn word(&self) {
        let interest = match self.cgroup.version {
            Version::V1 => Interest::READABLE,
            Version::V2 => Interest::PRIORITY,
        };
        let Some(source) = &self.source else { return pending().await };
        let Ok(mut word) = source.ready(interest).await else { return pending().await };
        word.clear_ready();
        if self.cgroup.version == Version::V1 {
            // Reading the counter sets it back.
            let _ = nix::unistd::read(source, &mut [0; 8]);
        }
    }

    /// Whether the kernel has killed since that was last told.
    fn more(&mut self) -> bool {
        let kills = self.cgroup.oom_kills();
        self.unread |= kills.is_none();
        let more = kills > Some(self.told);
        self.told = self.told.max(kills.unwrap_or(0));
        more
    }

    /// The same once the container's process has ended; with `killed`, by a SIGKILL that was not
    /// asked for. systemd may have removed the group by then. Where the kernel had given word that
    /// nobody has read yet, and v2 gives none of the removal, such an end was one for want of memory.
    pub fn last_look(&mut self, killed: bool) -> bool {
        if self.cgroup.oom_kills().is_some() {
            return self.more();
        }
        let word = pin!(self.word()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        killed && self.cgroup.version == Version::V2 && (word || self.unread)
    }
}

/// v1's word: an eventfd that it writes to.
fn announcements(cgroup: &Cgroup) -> Result<Option<AsyncFd<OwnedFd>>, Error> {
    let Some(dir) = cgroup.dir("memory") else { return Ok(None) };
    let path = dir.join("memory.oom_control");
    let failed = || Error::at("watch", &path);
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_flags(flags).map_err(|e| failed()(e.into()))?;
    let control = fd::open(&path, OFlag::O_RDONLY).map_err(failed())?;
    let numbers = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    write(&dir.join("cgroup.event_control"), &numbers)?;
    let event = watch(OwnedFd::from(event), Interest::READABLE).map_err(|(_, e)| failed()(e))?;
    Ok(Some(event))
}

/// v2's word: a file that is ready when it has changed.
fn events(cgroup: &Cgroup) -> Result<Option<AsyncFd<OwnedFd>>, Error> {
    let Some(dir) = cgroup.dir("memory") else { return Ok(None) };
    let path = dir.join("memory.events");
    let failed = || Error::at("watch", &path);
    let events = fd::open(&path, OFlag::O_RDONLY).map_err(failed())?;
    Ok(Some(watch(events, Interest::PRIORITY).map_err(|(_, e)| failed()(e))?))
}
