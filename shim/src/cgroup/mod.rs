//! A container's control groups, v1 or v2: made with its limits, joined, measured, emptied, removed.

mod freezer;
mod location;
mod oom;
mod resources;
mod stats;
mod systemd;

pub use location::{Location, Version};
pub use oom::OomWatch;
pub use stats::{Amount, Cpu, IoEntry, Memory, Pids, Stats};

use crate::sys::pidfd::PidFd;
use location::Hierarchy;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What went wrong with which file of a control group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the control group file system refused.
    #[error("cgroup: cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: String,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No control group file system is mounted.
    #[error("cgroup: no cgroup file system is mounted; mount one on /sys/fs/cgroup")]
    NotMounted,
    /// A limit was asked for that this system cannot keep.
    #[error("cgroup: {limit} cannot be kept: the {controller} controller is not available here")]
    NoController {
        /// The limit's name in the specification.
        limit: &'static str,
        /// The controller that would keep it.
        controller: &'static str,
    },
    /// A limit that contradicts another one, or what is in use.
    #[error("cgroup: {limit}: {why}")]
    Limit {
        /// The limit's name in the specification.
        limit: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Processes of somebody else are in it.
    #[error("cgroup: {} is not empty: process {pid} is in it; two containers cannot have one cgroupsPath", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of them.
        pid: Pid,
    },
    /// Processes that do not stand still.
    #[error("cgroup: {} does not freeze all processes in time; they go on", .0.display())]
    NotFrozen(PathBuf),
    /// A path that is not of the form asked for.
    #[error(
        "cgroup: expected linux.cgroupsPath to be of format slice:prefix:name for systemd cgroups, got {0:?} instead"
    )]
    NotSystemd(String),
}

impl Error {
    fn at(what: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let (what, path) = (what.into(), path.to_owned());
        move |source| Self::Io { what, path, source }
    }
}

/// How long a killed process may take to be gone; one that waits for a dead disk takes longer.
const SOON: Duration = Duration::from_secs(2);

/// The control groups of one container: one folder under v2, one per controller under v1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup {
    version: Version,
    dirs: Vec<Dir>,
    /// The unit that systemd made it as.
    scope: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Dir {
    controllers: Vec<String>,
    path: PathBuf,
}

impl Cgroup {
    /// None at all: nothing limits, counts or gathers the processes.
    pub fn none() -> Self {
        Self { version: Version::V2, dirs: Vec::new(), scope: None }
    }

    /// Makes the groups at `location` for the process `pid` and sets the limits. The process moves in
    /// itself, by [`Self::join`].
    ///
    /// # Errors
    /// See [`Error`]; what was made is removed again.
    pub fn create(
        location: &Location,
        resources: &LinuxResources,
        pid: Pid,
    ) -> Result<Self, Error> {
        let hierarchies = location::hierarchies()?;
        let version = hierarchies[0].version;
        let mut cgroup = Self { version, dirs: Vec::new(), scope: None };
        hierarchies.iter().try_for_each(|hierarchy| location.check_empty(hierarchy))?;
        let made = cgroup
            .start_scope(location, resources, pid)
            .and_then(|()| {
                hierarchies.iter().try_for_each(|hierarchy| cgroup.make(hierarchy, location))
            })
            .and_then(|()| resources::apply(&cgroup, &cgroup.settings(version, resources)?));
        if let Err(error) = made {
            let _ = cgroup.delete();
            return Err(error);
        }
        Ok(cgroup)
    }

    fn start_scope(
        &mut self,
        location: &Location,
        resources: &LinuxResources,
        pid: Pid,
    ) -> Result<(), Error> {
        if let Some(scope) = location.scope().filter(|_| systemd::is_running()) {
            systemd::start(scope, pid, &self.settings(Version::V2, resources)?)?;
            self.scope = Some(scope.unit.clone());
        }
        Ok(())
    }

    /// Sets every limit that `resources` names, or none where one cannot be kept.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let settings = self.settings(self.version, resources)?;
        let before: Vec<Option<String>> = settings.iter().map(|s| self.before(s)).collect();
        let mut done = resources::apply(self, &settings);
        if let Some(unit) = &self.scope {
            // Told by the words of v2, and of what the kernel has taken; but it rounds what it sets.
            done = done
                .and_then(|()| systemd::set(unit, &self.settings(Version::V2, resources)?))
                .and_then(|()| resources::apply(self, &settings));
        }
        done.inspect_err(|_| resources::restore(self, &settings, &before))
    }

    fn settings(
        &self,
        version: Version,
        resources: &LinuxResources,
    ) -> Result<Vec<resources::Setting>, Error> {
        resources::settings(version, resources, &|controller, file| self.text(controller, file))
    }

    fn make(&mut self, hierarchy: &Hierarchy, location: &Location) -> Result<(), Error> {
        let path = location.within(hierarchy)?;
        // Of an earlier container of this path, with its limits and its count of OOM kills.
        let _ = fs::remove_dir(&path);
        let controllers = match self.version {
            Version::V1 => {
                location::make_v1(hierarchy, &path)?;
                hierarchy.controllers.clone()
            }
            Version::V2 => location::make_v2(hierarchy, &path)?,
        };
        self.dirs.push(Dir { controllers, path });
        Ok(())
    }

    /// Moves the calling process, of one thread, into the groups.
    ///
    /// Under v1 by its thread: the kernel need not keep all forks and exits of the machine away while
    /// a process moves its own only thread, for which it would wait milliseconds.
    ///
    /// # Errors
    /// When a group does not take it.
    pub fn join(&self) -> Result<(), Error> {
        let list = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        self.dirs.iter().try_for_each(|dir| write(&dir.path.join(list), "0"))
    }

    /// Which of the two interfaces it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The processes in it; none when it is gone, as systemd sees to once the last has ended.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let Some(dir) = self.dirs.first() else {
            return Ok(Vec::new());
        };
        let path = dir.path.join("cgroup.procs");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(Error::at("read", &path))?,
        };
        Ok(text.lines().filter_map(|l| l.parse().ok()).map(Pid::from_raw).collect())
    }

    /// Kills all that is in it, standing still or not. What forks while it is killed is met in the
    /// next round, and each round has at least one process less that could.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn kill_all(&self) -> Result<(), Error> {
        let whole = self.dirs.first().map(|dir| dir.path.join("cgroup.kill"));
        if whole.is_some_and(|path| fs::write(path, "1").is_ok()) {
            return Ok(());
        }
        let mut killed = Vec::new();
        loop {
            let new: Vec<Pid> =
                self.pids()?.into_iter().filter(|pid| !killed.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
                killed.push(pid);
            }
        }
        // v1's freezer holds even those who are killed.
        match self.version {
            Version::V1 if !killed.is_empty() && self.dir("freezer").is_some() => self.thaw(),
            _ => Ok(()),
        }
    }

    /// Kills all that is in it and waits until they are gone, as long as that is bound to be soon.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn end_all(&self) -> Result<(), Error> {
        let held: Vec<PidFd> =
            self.pids()?.into_iter().filter_map(|pid| PidFd::open(pid).ok()).collect();
        self.kill_all()?;
        held.iter().for_each(|process| process.wait(SOON));
        Ok(())
    }

    /// How often the kernel has killed in it for want of memory; nothing when it is gone.
    pub fn oom_kills(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.keyed("memory", file, "oom_kill")
    }

    /// What it uses now; nothing when it is gone.
    pub fn stats(&self) -> Option<Stats> {
        let there = self.dirs.first().is_some_and(|dir| dir.path.is_dir());
        there.then(|| stats::read(self))
    }

    /// Removes the groups; those already gone are fine.
    ///
    /// # Errors
    /// The first folder that cannot be removed; the others are removed all the same.
    pub fn delete(&self) -> Result<(), Error> {
        let mut result = self.scope.as_deref().map_or(Ok(()), systemd::stop);
        for dir in &self.dirs {
            match fs::remove_dir(&dir.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    result = result.and(Err(Error::at("remove", &dir.path)(e)));
                }
                _ => {}
            }
        }
        result
    }

    /// The folder in which `controller` keeps its files.
    fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs
            .iter()
            .find(|dir| dir.controllers.iter().any(|c| c == controller))
            .map(|dir| dir.path.as_path())
    }

    fn text(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.dir(controller)?.join(file)).ok()
    }

    /// The number behind `key` in a file of `key value` lines.
    fn keyed(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = self.text(controller, file)?;
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(Error::at(format!("write {value:?} to"), path))
}
