//! Beds: throwaway test hosts with real daemons, made and run by `scripts/bed`.
//!
//! A test binary has one bed of a kind, started by the first test that asks and shared by all. A
//! keeper process holds one end of a pipe whose other end is this process: whichever way this
//! process ends, the keeper then stops the bed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::command::{self, DEADLINE, Done, Running};
use crate::paths::{self, SHIM};

/// Unpacking a Debian suite, over a slow line.
const MAKING: Duration = Duration::from_secs(900);

/// A Debian suite, and with it the versions of the daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// containerd 1.6; its docker knows no shim runtimes.
    Bookworm,
    /// containerd 1.7 and docker 26, which sets up networks by a prestart hook.
    Trixie,
    /// containerd 2.1 and docker 28, which sets up networks between Create and Start.
    Forky,
}

/// The cgroup layout of a bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cgroup {
    /// All controllers, each in a hierarchy of its own.
    V1,
    /// The unified hierarchy alone.
    V2,
    /// The same, owned by a systemd that is process 1 and whose services the daemons are.
    Systemd,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        }
    }
}

/// A running bed.
pub struct Bed {
    name: String,
    cgroup: Cgroup,
    share: PathBuf,
    quiet: RwLock<()>,
    /// Ends the bed when its standard input ends, that is with this process.
    _keeper: Child,
}

type Started = Arc<OnceLock<Bed>>;

/// The bed of this test binary for a suite and cgroup layout; started at the first call.
#[track_caller]
pub fn bed(suite: Suite, cgroup: Cgroup) -> &'static Bed {
    static BEDS: Mutex<Option<HashMap<(Suite, Cgroup), &'static Started>>> = Mutex::new(None);
    let started = *BEDS
        .lock()
        .expect("nothing panics while it holds this lock")
        .get_or_insert_default()
        .entry((suite, cgroup))
        .or_insert_with(|| Box::leak(Box::default()));
    started.get_or_init(|| Bed::start(suite, cgroup))
}

impl Bed {
    fn start(suite: Suite, cgroup: Cgroup) -> Self {
        let layout = match cgroup {
            Cgroup::V1 => "v1",
            Cgroup::V2 => "v2",
            Cgroup::Systemd => "systemd",
        };
        let name = format!("{}-{layout}-{}", suite.name(), std::process::id());
        let share = paths::target().join("beds").join(&name);
        stock(&share);
        script(&["make", suite.name()], &share, MAKING).ok();
        let bed =
            Self { _keeper: keeper(&name, &share), name, cgroup, share, quiet: RwLock::new(()) };
        bed.script(&["start", &bed.name, layout], DEADLINE).ok();
        bed.up();
        bed
    }

    /// Starts those daemons that do not run, and waits until all answer.
    #[track_caller]
    pub fn up(&self) {
        self.script(&["up", &self.name], DEADLINE).ok();
    }

    #[track_caller]
    fn script(&self, arguments: &[&str], deadline: Duration) -> Done {
        script(arguments, &self.share, deadline)
    }

    /// A command that will run inside.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(paths::script("bed"));
        command.args(["exec", &self.name]).args(words);
        command
    }

    /// Runs a command inside, without input.
    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> Done {
        self.exec_with(words, b"")
    }

    /// Runs a command inside with `stdin` as its input.
    #[track_caller]
    pub fn exec_with(&self, words: &[&str], stdin: &[u8]) -> Done {
        command::run(self.command(words), stdin, DEADLINE)
    }

    /// Starts a command inside and leaves it running.
    #[track_caller]
    pub fn spawn(&self, words: &[&str]) -> Running {
        Running::spawn(self.command(words))
    }

    /// Runs a line of shell inside, where it must succeed, and returns what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["sh", "-ec", script]).ok().text()
    }

    /// Whether a line of shell succeeds inside.
    #[track_caller]
    pub fn test(&self, script: &str) -> bool {
        self.exec(&["sh", "-c", script]).code == 0
    }

    /// The cgroup layout.
    pub fn cgroup(&self) -> Cgroup {
        self.cgroup
    }

    /// A folder of the machine that is `/share` inside.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// A new folder in the share for one test, as the bed sees it.
    pub fn folder(&self, name: &str) -> String {
        let inside = format!("/share/{}", crate::names::unique(name));
        self.sh(&format!("mkdir -m 777 {inside}"));
        inside
    }

    /// Held by a test that others may run beside.
    pub fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.quiet.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Held by a test that looks at the bed as a whole: no other runs in it meanwhile.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.quiet.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[track_caller]
fn script(arguments: &[&str], share: &Path, deadline: Duration) -> Done {
    let mut command = Command::new(paths::script("bed"));
    command.args(arguments).env("BED_SHARE", share);
    command::run(command, b"", deadline)
}

/// Starts the process that stops the bed when this one has ended, which it notices by the end of
/// its standard input.
fn keeper(name: &str, share: &Path) -> Child {
    let keep = r#"read -r _; "$0" stop "$1"; rm -rf "$2""#;
    Command::new("setsid")
        .args(["bash", "-c", keep])
        .arg(paths::script("bed"))
        .arg(name)
        .arg(share)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash and setsid are there")
}

/// Puts what is under test where the bed's PATH begins.
fn stock(share: &Path) {
    let bin = share.join("bin");
    std::fs::create_dir_all(&bin).expect("the target folder is writable");
    for name in [SHIM, "wasm-image"] {
        let binary = paths::binary(name);
        std::fs::copy(&binary, bin.join(name)).expect("a binary can be copied");
    }
}
