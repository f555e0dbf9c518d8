//! The containers of this shim: for each an actor that alone owns its state, and a handle to it.
//!
//! ```text
//!            create          start             exit
//!   (none) ─────────> Created ─────> Running ────────> Stopped ──delete──> (none)
//!                        │       pause │ ^ resume         ^
//!                        │             v │                │
//!                        │            Paused              │
//!                        │ SIGKILL       │ SIGKILL        │ exit
//!                        └──────────> Killed ─────────────┘
//! ```
//! SIGKILL leads from everywhere to Killed, which others see as Running: nothing starts it or has it
//! stand still any more. An exit leads from everywhere to Stopped.
//!
//! Processes that are executed in a container have actors of their own, with the same states and
//! calls, as long as the container has its.
//!
//! A call that a state does not allow is answered with an error that says which state it is. Events
//! are sent by the actor between two calls, so a container's are in order: an exit is not told
//! before its start.

mod actor;
mod exec;
mod state;

pub use state::{Error, Exit, Snapshot, Status};

use crate::cgroup::{Stats, Version};
use crate::launch::{Choice, Launcher, Paths};
use crate::spec::RootfsPart;
use crate::sys::pty::Size;
use actor::{Actor, Call};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use trust::policy::Rule;

/// What happened to a container.
#[derive(Debug, Clone)]
pub enum Event {
    /// It was made.
    Created {
        /// What was asked for.
        request: Request,
        /// Its process.
        pid: Pid,
    },
    /// Its program was started.
    Started {
        /// The container.
        id: String,
        /// Its process.
        pid: Pid,
    },
    /// It stands still.
    Paused {
        /// The container.
        id: String,
    },
    /// It goes on.
    Resumed {
        /// The container.
        id: String,
    },
    /// The kernel killed in it for want of memory.
    OutOfMemory {
        /// The container.
        id: String,
    },
    /// Another process shall be executed in it.
    ExecAdded {
        /// The container.
        id: String,
        /// The process.
        exec: String,
    },
    /// That process was started.
    ExecStarted {
        /// The container.
        id: String,
        /// The process.
        exec: String,
        /// The same, as the host knows it.
        pid: Pid,
    },
    /// A process of it ended.
    Exited {
        /// The container.
        id: String,
        /// Which one was executed in it; nothing for its own.
        exec: Option<String>,
        /// The same, as the host knows it.
        pid: Pid,
        /// How it ended.
        exit: Exit,
        /// What is closed once this is told.
        outputs: Held,
    },
    /// It is gone.
    Deleted {
        /// The container.
        id: String,
        /// Its process, as it was.
        pid: Pid,
        /// How that ended.
        exit: Exit,
    },
}

/// Descriptors that are open as long as somebody has this.
#[derive(Debug, Clone, Default)]
pub struct Held(#[expect(dead_code, reason = "it is only held")] Arc<Vec<OwnedFd>>);

/// A process of a container, and the exec that it is.
pub type Listed = (Pid, Option<String>);

/// A container to be made.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id, unique within this shim.
    pub id: String,
    /// Its bundle's folder.
    pub bundle: PathBuf,
    /// What its rootfs is mounted from.
    pub rootfs: Vec<RootfsPart>,
    /// Its standard streams.
    pub streams: Paths,
    /// Whether it shall have a terminal.
    pub terminal: bool,
    /// Whether it gets control groups of its own.
    pub cgroup: bool,
    /// Whether its `cgroupsPath` must be of systemd's form.
    pub systemd_cgroup: bool,
    /// The highest ceiling of its guest's memory, in bytes.
    pub max_guest_memory: Option<u64>,
    /// Which code runs in it.
    pub code: Choice,
    /// Who must have signed its image: by each of these sets of rules.
    pub signed_images: Vec<Vec<Rule>>,
    /// Whether the built-in commands may be executed in it.
    pub built_ins: bool,
}

/// A process to be executed in a container.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Its id, unique within the container.
    pub id: String,
    /// What it is, as the specification's `process` in JSON.
    pub process: Vec<u8>,
    /// Its standard streams.
    pub streams: Paths,
    /// Whether it shall have a terminal.
    pub terminal: bool,
}

type Handles = HashMap<String, Option<Handle>>;

/// All containers of this shim.
#[derive(Clone)]
pub struct Tasks {
    launcher: Launcher,
    events: mpsc::UnboundedSender<Event>,
    /// None for one that is being made.
    handles: Arc<Mutex<Handles>>,
}

impl Tasks {
    /// None yet. They are made by `launcher`, and tell what happens to `events`.
    pub fn new(launcher: Launcher, events: mpsc::UnboundedSender<Event>) -> Self {
        Self { launcher, events, handles: Arc::default() }
    }

    /// Makes a container and gives its process.
    ///
    /// # Errors
    /// When there is one of this id, or it cannot be made; then nothing is left of it.
    pub async fn create(&self, request: Request) -> Result<Pid, Error> {
        let id = request.id.clone();
        match self.lock().entry(id.clone()) {
            Entry::Occupied(_) => return Err(Error::Exists(id)),
            Entry::Vacant(place) => drop(place.insert(None)),
        }
        let (ready, created) = oneshot::channel();
        let tasks = self.clone();
        // On its own, so that a caller that gives up does not leave half a container.
        tokio::spawn(async move {
            let _ = ready.send(tasks.begin(request).await);
        });
        created.await.unwrap_or(Err(Error::Lost))
    }

    async fn begin(self, request: Request) -> Result<Pid, Error> {
        let id = request.id.clone();
        let (calls, inbox) = mpsc::channel(64);
        let (exit, exited) = watch::channel(None);
        let made = Actor::create(request, &self.launcher, self.events.clone(), exit).await;
        let actor = match made {
            Ok(actor) => actor,
            Err(error) => {
                self.lock().remove(&id);
                return Err(error);
            }
        };
        self.lock().insert(id.clone(), Some(Handle { id: id.clone(), exec: None, calls, exited }));
        let (pid, cgroup) = (actor.pid(), actor.cgroup());
        tokio::spawn(async move {
            let lived = tokio::spawn(actor.live(inbox)).await;
            if let Err(panic) = lived {
                log::error!("{id}: lost by a bug, so it is ended: {panic}");
                let _ = cgroup.end_all();
                let exit = Exit::new(nix::sys::wait::waitpid(pid, None).ok());
                let _ = self.events.send(Event::Exited {
                    id: id.clone(),
                    exec: None,
                    pid,
                    exit,
                    outputs: Held::default(),
                });
            }
            self.lock().remove(&id);
        });
        Ok(pid)
    }

    /// The container of this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: &str) -> Result<Handle, Error> {
        // One that is being made is not there yet.
        self.lock().get(id).cloned().flatten().ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way to the actor of a container, or of a process that is executed in one.
#[derive(Clone)]
pub struct Handle {
    /// The container's id.
    id: String,
    /// The process's, of one that is executed.
    exec: Option<String>,
    calls: mpsc::Sender<Call>,
    exited: watch::Receiver<Option<Exit>>,
}

impl Handle {
    /// Runs its program; gives its process.
    ///
    /// # Errors
    /// When it is not in the state for it, or a hook fails.
    pub async fn start(&self) -> Result<Pid, Error> {
        self.ask(Call::Start).await?
    }

    /// Has it stand still, with all its processes.
    ///
    /// # Errors
    /// When it does not run, or cannot be frozen.
    pub async fn pause(&self) -> Result<(), Error> {
        self.ask(Call::Pause).await?
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not stand still.
    pub async fn resume(&self) -> Result<(), Error> {
        self.ask(Call::Resume).await?
    }

    /// Sets other limits for it, all that are named or none.
    ///
    /// # Errors
    /// When it has ended, or one of them cannot be kept.
    pub async fn update(&self, resources: LinuxResources) -> Result<(), Error> {
        self.ask(|reply| Call::Update(Box::new(resources), reply)).await?
    }

    /// What it is like now.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.ask(Call::Snapshot).await
    }

    /// Sends signal number `signal` to its process, or with `all` to all of its processes.
    ///
    /// # Errors
    /// When it has ended, or there is no such signal.
    pub async fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        self.ask(|reply| Call::Kill { signal, all, reply }).await?
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn close_stdin(&self) -> Result<(), Error> {
        self.ask(Call::CloseStdin).await
    }

    /// Sets the size of its terminal, if it has one.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn resize(&self, size: Size) -> Result<(), Error> {
        self.ask(|reply| Call::Resize { size, reply }).await?
    }

    /// Prepares another process of this container.
    ///
    /// # Errors
    /// When it is not in the state for it, has one of this id, or the process is none.
    pub async fn exec(&self, request: ExecRequest) -> Result<(), Error> {
        self.ask(|reply| Call::Exec { request, reply }).await?
    }

    /// The process that was executed under this id in this container.
    ///
    /// # Errors
    /// When there is none.
    pub async fn executed(&self, exec: String) -> Result<Self, Error> {
        self.ask(|reply| Call::Executed { exec, reply }).await?
    }

    /// Its processes, and under which id each was executed.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pids(&self) -> Result<Vec<Listed>, Error> {
        self.ask(Call::Pids).await?
    }

    /// What it uses, and by which version of control groups that was measured.
    ///
    /// # Errors
    /// When it is gone, or its control group is.
    pub async fn stats(&self) -> Result<(Version, Stats), Error> {
        self.ask(Call::Stats).await?
    }

    /// Waits for the end of its process.
    ///
    /// # Errors
    /// When it is gone without an end.
    pub async fn wait(self) -> Result<Exit, Error> {
        let gone = self.gone();
        let Self { mut exited, calls, .. } = self;
        // Who waits does not keep what is waited for: without its container it will not end.
        drop(calls);
        let exit = exited.wait_for(Option::is_some).await.map_err(|_| gone)?;
        exit.clone().ok_or(Error::Lost)
    }

    /// Removes what is left of it. A process that was never executed has none and no end.
    ///
    /// # Errors
    /// When its program still runs.
    pub async fn delete(&self) -> Result<(Option<Pid>, Option<Exit>), Error> {
        self.ask(Call::Delete).await?
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(call(reply)).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())
    }

    fn gone(&self) -> Error {
        let id = self.id.clone();
        match self.exec.clone() {
            Some(exec) => Error::NoProcess { id, exec },
            None => Error::NotFound(id),
        }
    }
}
