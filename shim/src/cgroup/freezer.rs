//! Standing still: the freezer of either interface
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html>, `cgroup.freeze` of v2).

use super::{Cgroup, Error, Version, write};
use crate::sys::fd;
use crate::sys::polled::watch;
use nix::fcntl::OFlag;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::{sleep, timeout};

/// How long processes may take to stand still; one that waits for a dead disk never does.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Has all processes stand still, and waits until they do. Where they do not, none does.
    ///
    /// # Errors
    /// When there is no freezer, or one of them does not stop in time.
    pub async fn freeze(&self) -> Result<(), Error> {
        let file = self.freezer()?;
        let frozen = async {
            match self.version {
                Version::V1 => freeze_v1(&file).await,
                Version::V2 => freeze_v2(&file).await,
            }
        };
        let frozen = match timeout(PATIENCE, frozen).await {
            Ok(frozen) => frozen,
            Err(_) => Err(Error::NotFrozen(file)),
        };
        frozen.inspect_err(|_| drop(self.thaw()))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When the freezer refuses.
    pub fn thaw(&self) -> Result<(), Error> {
        let go = match self.version {
            Version::V1 => "THAWED",
            Version::V2 => "0",
        };
        write(&self.freezer()?, go)
    }

    fn freezer(&self) -> Result<PathBuf, Error> {
        let none = Error::NoController { limit: "pause", controller: "freezer" };
        match self.version {
            Version::V1 => self.dir("freezer").map(|dir| dir.join("freezer.state")),
            Version::V2 => self.dirs.first().map(|dir| dir.path.join("cgroup.freeze")),
        }
        .ok_or(none)
    }
}

/// v1 tells nobody when it is done, and forgets those who fork meanwhile: so it is asked again.
async fn freeze_v1(file: &Path) -> Result<(), Error> {
    let mut pause = Duration::from_millis(1);
    loop {
        write(file, "FROZEN")?;
        let state = fs::read_to_string(file).map_err(Error::at("read", file))?;
        if state.trim_end() == "FROZEN" {
            return Ok(());
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

async fn freeze_v2(file: &Path) -> Result<(), Error> {
    let path = file.with_file_name("cgroup.events");
    let failed = || Error::at("watch", &path);
    let events = fd::open(&path, OFlag::O_RDONLY).map_err(failed())?;
    let events = watch(events, Interest::PRIORITY).map_err(|(_, e)| failed()(e))?;
    write(file, "1")?;
    loop {
        // What happens after this look is told.
        let text = fd::read_from_start(&events).map_err(failed())?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        events.ready(Interest::PRIORITY).await.map_err(failed())?.clear_ready();
    }
}
