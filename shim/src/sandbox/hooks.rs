//! Programs that others hang onto a container's making and end
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks>).

use crate::spec::Plan;
use crate::sys::pidfd::PidFd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How much of what a failed hook wrote is told, in bytes.
const TOLD: u64 = 4096;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be run at all.
    #[error("hook {path}: {source}")]
    Run {
        /// The hook's program.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("hook {path}: not done after {}s, so it was killed", timeout.as_secs())]
    Timeout {
        /// The hook's program.
        path: String,
        /// Its time.
        timeout: Duration,
    },
    /// It ended with an error.
    #[error("hook {path}: {status}{said}")]
    Failed {
        /// The hook's program.
        path: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        said: String,
    },
}

/// The state that hooks read from their standard input
/// (<https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state>).
pub fn state(plan: &Plan, status: &str, pid: Option<Pid>) -> String {
    let mut state = json!({
        "ociVersion": plan.oci_version,
        "id": plan.id,
        "status": status,
        "bundle": plan.bundle,
        "annotations": plan.annotations,
    });
    if let Some(pid) = pid {
        state["pid"] = json!(pid.as_raw());
    }
    state.to_string()
}

/// A hook that runs.
pub struct Running {
    path: String,
    child: Child,
    output: File,
    /// Readable once it has ended.
    pub pidfd: PidFd,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

impl Running {
    /// Starts `hook` with `state` on its standard input. Both streams are memory files, so neither
    /// side ever waits for the other.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn start(hook: &Hook, state: &str) -> Result<Self, Error> {
        let path = hook.path().display().to_string();
        let failed = |source| Error::Run { path: path.clone(), source };
        let (child, output) = spawn(hook, state).map_err(failed)?;
        let pidfd = PidFd::open(Pid::from_raw(child.id() as i32)).map_err(failed)?;
        let timeout = hook.timeout().map(|s| Duration::from_secs(s.max(0).unsigned_abs()));
        Ok(Self { path, child, output, pidfd, timeout })
    }

    /// Collects it after [`Self::pidfd`] became readable.
    ///
    /// # Errors
    /// When it ended with an error.
    pub fn finish(mut self) -> Result<(), Error> {
        let path = self.path;
        let status =
            self.child.wait().map_err(|source| Error::Run { path: path.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let _ = self.output.rewind();
        let _ = self.output.take(TOLD).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        Err(Error::Failed { path, status, said })
    }

    /// Kills it because its time is over.
    pub fn give_up(mut self) -> Error {
        let _ = self.child.kill();
        let _ = self.child.wait();
        Error::Timeout { path: self.path, timeout: self.timeout.unwrap_or_default() }
    }
}

fn spawn(hook: &Hook, state: &str) -> io::Result<(Child, File)> {
    let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
    let mut stdin = memory(c"state")?;
    stdin.write_all(state.as_bytes())?;
    stdin.rewind()?;
    let output = memory(c"output")?;
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    let env = hook.env().as_deref().unwrap_or_default();
    command
        .env_clear()
        .envs(env.iter().filter_map(|pair| pair.split_once('=')))
        .stdin(stdin)
        // Not /dev/null, which a container need not have.
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    Ok((command.spawn()?, output))
}

/// Runs hooks one after the other, waiting for each.
///
/// # Errors
/// The first that fails; those after it are not run.
pub fn run_all(hooks: &[Hook], state: &str) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| {
        let running = Running::start(hook, state)?;
        if ended_in_time(&running) { running.finish() } else { Err(running.give_up()) }
    })
}

fn ended_in_time(running: &Running) -> bool {
    let deadline = running.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            Some(left) => PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = [PollFd::new(running.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) => {}
        }
    }
}
