//! What it takes to undo a container when its shim is gone, kept in its bundle.

use super::Init;
use crate::cgroup::Cgroup;
use crate::sys::pidfd::start_time;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The process and its control group, as they were made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The process's pid on the host.
    pub pid: i32,
    /// When it was started ([`start_time`]): with the pid, which process it was.
    started: Option<u64>,
    cgroup: Cgroup,
}

fn path(bundle: &Path) -> PathBuf {
    bundle.join("shim.json")
}

impl Saved {
    /// Writes what undoes `init` into `bundle`.
    ///
    /// # Errors
    /// When the bundle cannot be written.
    pub fn write(bundle: &Path, init: &Init) -> io::Result<()> {
        let saved = Self {
            pid: init.pid.as_raw(),
            started: start_time(init.pid),
            cgroup: init.cgroup.clone(),
        };
        let path = path(bundle);
        fs::write(&path, serde_json::to_vec(&saved)?)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    }

    /// Reads it back; `None` when there is nothing left to undo.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(bundle)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Forgets it.
    pub fn remove(bundle: &Path) {
        let _ = fs::remove_file(path(bundle));
    }

    /// Ends all processes of the container, waits until they are gone, and removes its control
    /// group. Goes on after a failure and gives all of them.
    pub fn undo(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let pid = Pid::from_raw(self.pid);
        if self.started.is_some() && start_time(pid) == self.started {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
        }
        failures.extend(self.cgroup.end_all().err().map(|e| e.to_string()));
        failures.extend(self.cgroup.delete().err().map(|e| e.to_string()));
        failures
    }
}
