//! One container without a daemon, for a program that links this library: the same launcher, the same
//! process, the same states as in the shim, with the program in the place of all that calls it.
//!
//! The program answers the roles in which its binary is executed, by [`is_role`] and [`super::run`],
//! before it does anything else.

use super::Error;
use crate::init::Reason;
use crate::launch::{
    self, Choice, Code, Compiler, Forks, Launcher, Paths, ROLE, Saved, fork_zygote,
};
use crate::spec::RootfsPart;
use crate::sys;
use crate::sys::channel::Channel;
use crate::sys::polled::watch;
use crate::sys::pty::Size;
use crate::task::{self, Event, Handle, Request, Tasks};
use artifact::cache::DEFAULT_MAX_SIZE;
use log::{LevelFilter, Log, Metadata, Record};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Those that are passed on. SIGWINCH tells of the terminal.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// A container to be run, whose bundle is made.
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// What its rootfs is mounted from; empty when the bundle's folder is it.
    pub rootfs: Vec<RootfsPart>,
    /// Whether it has this process's standard input, or none.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Whether it gets control groups, which its limits need.
    pub cgroup: bool,
    /// The ceiling of its guest's memory, in bytes.
    pub max_guest_memory: Option<u64>,
}

/// Why a container did not run.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    /// The exit code that `docker run` has for it: 127 when there is no such program, 126 when it is
    /// none, else 125.
    pub code: u8,
    words: String,
}

impl From<task::Error> for Failure {
    fn from(error: task::Error) -> Self {
        let code = match &error {
            task::Error::Launch(launch::Error::Failed(failure)) => match failure.reason {
                Reason::NotFound => 127,
                Reason::Unusable => 126,
                Reason::Forbidden | Reason::Internal => 125,
            },
            _ => 125,
        };
        Self { code, words: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { code: 125, words: error.to_string() }
    }
}

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// The kernel killed in it for want of memory.
    pub out_of_memory: bool,
}

/// Whether this process was executed in a role of the library.
pub fn is_role(argv: &[OsString]) -> bool {
    argv.first().is_some_and(|name| name == ROLE)
}

/// What runs a container; the process for that is on its way.
pub struct Runner {
    runtime: Runtime,
    launcher: Launcher,
    /// As long as it is open, nobody undoes anything.
    _life: Option<Channel>,
}

impl Runner {
    /// Gets ready, with code of the cache at `code`. With a bundle to `guard`, what is left of its
    /// container is undone even when this process is killed. To be called while this process has one
    /// thread.
    ///
    /// # Errors
    /// When a process cannot be forked.
    pub fn new(code: PathBuf, guard: Option<&Path>) -> Result<Self, Error> {
        if log::set_logger(&Complaints).is_ok() {
            log::set_max_level(LevelFilter::Warn);
        }
        let life = guard.map(fork_guard).transpose()?;
        let zygote = fork_zygote()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let forks = runtime.block_on(async {
            let command = [ROLE, "zygote"].map(str::to_owned).to_vec();
            let forks = Forks::new(zygote, false, command)?;
            forks.prepare_now().await;
            Ok::<_, io::Error>(forks)
        })?;
        let launcher = Launcher::new(forks, Code::new(code, None));
        Ok(Self { runtime, launcher, _life: life })
    }

    /// Has `work` done beside the container, until that ends.
    pub fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Runs `container` to its end and leaves nothing of it. Signals are its.
    ///
    /// # Errors
    /// Why it did not run.
    pub fn run(self, container: Container) -> Result<Ended, Failure> {
        let Self { runtime, launcher, _life } = self;
        let ended = runtime.block_on(run(launcher, container));
        // A connection that is open still is nobody's any more.
        runtime.shutdown_background();
        ended
    }
}

async fn run(launcher: Launcher, container: Container) -> Result<Ended, Failure> {
    let Container { id, bundle, stdin, terminal, .. } = container;
    let request = Request {
        id: id.clone(),
        bundle: bundle.clone(),
        rootfs: container.rootfs,
        streams: Paths::own(stdin),
        terminal,
        cgroup: container.cgroup,
        systemd_cgroup: false,
        max_guest_memory: container.max_guest_memory,
        code: Choice {
            compiler: Compiler::default(),
            max_cache: DEFAULT_MAX_SIZE,
            keys: Vec::new(),
            image: None,
        },
        signed_images: Vec::new(),
        built_ins: false,
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let tasks = Tasks::new(launcher, events);
    let signals = Signals::new()?;
    let created = tokio::select! {
        created = tasks.create(request) => created,
        signal = signals.end() => {
            undo(&bundle);
            return Ok(Ended { code: 128 + signal as u8, out_of_memory: false });
        }
    };
    created?;
    let container = tasks.get(&id)?;
    let ended = live(&container, &signals).await;
    let deleted = container.delete().await;
    let code = ended?;
    deleted?;
    let mut out_of_memory = false;
    while let Ok(event) = told.try_recv() {
        out_of_memory |= matches!(event, Event::OutOfMemory { .. });
    }
    Ok(Ended { code, out_of_memory })
}

/// Runs the guest, and gives its exit code.
async fn live(container: &Handle, signals: &Signals) -> Result<u8, task::Error> {
    container.start().await?;
    let mut end = Box::pin(container.clone().wait());
    loop {
        let signal = tokio::select! {
            exit = &mut end => return exit.map(|exit| exit.code as u8),
            signal = signals.next() => signal,
        };
        if signal == Signal::SIGWINCH as i32 {
            if let Some(size) = terminal_size() {
                let _ = container.resize(size).await;
            }
        } else {
            // One that has ended meanwhile says so next.
            let _ = container.kill(signal, false).await;
        }
    }
}

/// The size of the terminal that this process has, if it has one.
pub fn terminal_size() -> Option<Size> {
    let of = |number| sys::pty::size(sys::fd::standard(number).ok()?).ok();
    [1, 0, 2].into_iter().find_map(of)
}

/// Signals to this process, in their order.
struct Signals(AsyncFd<SignalFd>);

impl Signals {
    fn new() -> io::Result<Self> {
        let queue = sys::signal::queue(&PASSED_ON)?;
        Ok(Self(watch(queue, Interest::READABLE).map_err(|(_, e)| e)?))
    }

    async fn next(&self) -> i32 {
        let read = |queue: &SignalFd| queue.read_signal()?.ok_or(ErrorKind::WouldBlock.into());
        match self.0.async_io(Interest::READABLE, read).await {
            Ok(signal) => signal.ssi_signo as i32,
            Err(_) => std::future::pending().await,
        }
    }

    /// The first one that ends a program which has not begun.
    async fn end(&self) -> i32 {
        loop {
            let signal = self.next().await;
            if signal != Signal::SIGWINCH as i32 {
                return signal;
            }
        }
    }
}

/// Removes what is left of a container whose bundle still says what that is.
fn undo(bundle: &Path) {
    if let Ok(Some(saved)) = Saved::read(bundle) {
        for failure in saved.undo() {
            log::warn!("{failure}");
        }
        Saved::remove(bundle);
    }
}

/// Forks a process that undoes the container in `bundle` if this one ends before it has.
fn fork_guard(bundle: &Path) -> io::Result<Channel> {
    let (ours, theirs) = Channel::pair()?;
    if sys::fork::fork()?.is_none() {
        let code = keep_guard(&theirs, bundle).map_or(1, |()| 0);
        sys::process::exit_now(code);
    }
    Ok(ours)
}

fn keep_guard(life: &Channel, bundle: &Path) -> io::Result<()> {
    nix::unistd::setsid()?;
    let null = sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)?;
    (0..=2).try_for_each(|standard| sys::fd::become_standard(null.as_fd(), standard))?;
    sys::fd::close_all_but(&[life.as_fd()])?;
    // Nothing is ever said; this is how it ends.
    let _ = life.receive();
    undo(bundle);
    Ok(())
}

/// What the launcher warns of, on standard error.
struct Complaints;

impl Log for Complaints {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("shim")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("warning: {}", record.args());
        }
    }

    fn flush(&self) {}
}
