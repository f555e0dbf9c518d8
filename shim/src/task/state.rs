//! What a container can be, and what is wrong with a call that does not fit it.

use crate::cgroup::{self, Cgroup};
use crate::launch::{self, Init, Paths};
use crate::spec;
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

/// A container's state, with what there is only in it.
pub enum State {
    /// Its process waits at the gate, or runs the program.
    Live(Phase, Box<Init>),
    /// Its process has ended.
    Stopped(Exit, Cgroup),
}

/// How far a live process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits at the gate.
    Created,
    /// Its program runs.
    Running,
    /// Its program stands still.
    Paused,
    /// It was sent SIGKILL, after which nothing but its end is to come.
    Killed,
}

impl State {
    pub fn status(&self) -> Status {
        match self {
            Self::Live(Phase::Created, _) => Status::Created,
            Self::Live(Phase::Running | Phase::Killed, _) => Status::Running,
            Self::Live(Phase::Paused, _) => Status::Paused,
            Self::Stopped(..) => Status::Stopped,
        }
    }

    /// It in a word, as errors say it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Live(Phase::Created, _) => "created",
            Self::Live(Phase::Running, _) => "running",
            Self::Live(Phase::Paused, _) => "paused",
            Self::Live(Phase::Killed, _) => "killed",
            Self::Stopped(..) => "stopped",
        }
    }

    pub fn cgroup(&self) -> &Cgroup {
        match self {
            Self::Live(_, init) => &init.cgroup,
            Self::Stopped(_, cgroup) => cgroup,
        }
    }

    /// Its process, unless that has ended.
    pub fn alive(&mut self) -> Option<&mut Init> {
        match self {
            Self::Live(_, init) => Some(init),
            Self::Stopped(..) => None,
        }
    }

    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Live(..) => None,
            Self::Stopped(exit, _) => Some(exit),
        }
    }
}

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, not started.
    Created,
    /// Started.
    Running,
    /// Standing still.
    Paused,
    /// Ended.
    Stopped,
}

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255; 128 + n when signal n killed it.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

impl Exit {
    /// Reads what the kernel says of an ended child.
    pub fn new(status: Option<WaitStatus>) -> Self {
        let code = match status {
            Some(WaitStatus::Exited(_, code)) => code as u32,
            Some(WaitStatus::Signaled(_, signal, _)) => 128 + signal as u32,
            // Somebody else collected it: that it ended is all that is known.
            _ => 255,
        };
        Self { code, at: SystemTime::now() }
    }
}

/// What a container is like at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its bundle's folder.
    pub bundle: PathBuf,
    /// Its process, once there is one.
    pub pid: Option<Pid>,
    /// Its state.
    pub status: Status,
    /// Its standard streams.
    pub streams: Paths,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// How its process ended, once it has.
    pub exit: Option<Exit>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container of this id.
    #[error("container {0:?} does not exist")]
    NotFound(String),
    /// The id is taken.
    #[error("container {0:?} already exists")]
    Exists(String),
    /// Its state does not allow it.
    #[error("cannot {call} a {is} container: {id:?}")]
    State {
        /// What was asked.
        call: &'static str,
        /// The state, in a word.
        is: &'static str,
        /// The container.
        id: String,
    },
    /// Nothing can be executed in its state.
    #[error("container {id:?}: cannot exec in a {is} state")]
    ExecIn {
        /// The container.
        id: String,
        /// The state, in words.
        is: &'static str,
    },
    /// No process of this id was executed in it.
    #[error("container {id:?}: process {exec:?} does not exist")]
    NoProcess {
        /// The container.
        id: String,
        /// The process.
        exec: String,
    },
    /// The id of a process is taken.
    #[error("container {id:?}: process {exec:?} already exists")]
    ProcessExists {
        /// The container.
        id: String,
        /// The process.
        exec: String,
    },
    /// The state of a process that was executed does not allow it.
    #[error("cannot {call} a {is} process: {exec:?} of container {id:?}")]
    ProcessState {
        /// What was asked.
        call: &'static str,
        /// The container.
        id: String,
        /// The process.
        exec: String,
        /// The state, in a word.
        is: &'static str,
    },
    /// It has ended, so there is nothing to signal.
    #[error("container {0:?}: process already finished")]
    Finished(String),
    /// It has ended, so there is nothing to measure.
    #[error("container {0:?}: its control group is gone; it has ended")]
    NoCgroup(String),
    /// A number that is no signal.
    #[error("container {id:?}: {signal} is not a signal")]
    BadSignal {
        /// The container.
        id: String,
        /// The number.
        signal: i32,
    },
    /// Its specification.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// Its process could not be made or started.
    #[error(transparent)]
    Launch(#[from] launch::Error),
    /// Its control group.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The system.
    #[error("container {id:?}: {source}")]
    Io {
        /// The container.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its actor ended early; a bug.
    #[error("the container's state was lost; see the log of containerd")]
    Lost,
}

impl Error {
    pub(super) fn kill(id: &str, signal: i32, error: Errno) -> Self {
        match error {
            Errno::ESRCH => Self::Finished(id.to_owned()),
            Errno::EINVAL => Self::BadSignal { id: id.to_owned(), signal },
            other => Self::Io { id: id.to_owned(), source: other.into() },
        }
    }
}
