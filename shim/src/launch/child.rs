//! Children that are this binary, executed in a role of its own: what they are given to read is
//! hostile, so the shim does not read it.

use crate::sys::pidfd::PidFd;
use crate::sys::polled::watch;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitStatus, Stdio};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// The name by which a program of which this library is a part is executed in a role: what else it
/// does by its own name is no matter then.
pub const ROLE: &str = "wasm-child";

/// The most that is kept of what a child says on standard error, in bytes.
const MAX_SAID: u64 = 8192;

/// A child at work. One that is dropped goes on, and is collected at its end.
pub struct Child {
    running: Option<Running>,
    output: Option<File>,
    stderr: File,
}

struct Running {
    pidfd: AsyncFd<PidFd>,
    process: process::Child,
}

/// A child's end.
pub struct Ended {
    pub status: ExitStatus,
    /// What it wrote to standard output, if that was nobody else's.
    pub output: String,
    /// What it wrote to standard error.
    pub said: String,
}

/// The binary in the role `role`, without input.
pub fn in_role(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(ROLE).arg(role).env_clear().current_dir("/").stdin(Stdio::null());
    command
}

impl Child {
    /// Executes `command`; its standard output is `stdout`, or kept.
    ///
    /// # Errors
    /// When there can be no child.
    pub fn start(command: &mut Command, stdout: Option<OwnedFd>) -> io::Result<Self> {
        let memory = |name| memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from);
        let stderr = memory(c"stderr")?;
        let (stdout, output) = match stdout {
            Some(stdout) => (stdout, None),
            None => {
                let output = memory(c"stdout")?;
                (output.try_clone()?.into(), Some(output))
            }
        };
        let process = command.stdout(stdout).stderr(stderr.try_clone()?).spawn()?;
        let pidfd = PidFd::open(Pid::from_raw(process.id() as i32))?;
        let pidfd = watch(pidfd, Interest::READABLE).map_err(|(_, e)| e)?;
        Ok(Self { running: Some(Running { pidfd, process }), output, stderr })
    }

    /// Waits for its end. No more than `most` bytes of its standard output are kept.
    ///
    /// # Errors
    /// When it cannot be watched or collected.
    pub async fn ended(mut self, most: u64) -> io::Result<Ended> {
        let Some(running) = &mut self.running else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        running.pidfd.readable().await?.retain_ready();
        let status = running.process.wait()?;
        self.running = None;
        let output = self.output.take().map_or(Ok(String::new()), |file| text(file, most))?;
        let said = text(self.stderr.try_clone()?, MAX_SAID)?;
        Ok(Ended { status, output, said })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let (Some(mut running), Ok(runtime)) = (self.running.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if running.pidfd.readable().await.is_ok() {
                    let _ = running.process.wait();
                }
            });
        }
    }
}

impl Ended {
    /// Why it did not do what it should.
    pub fn why(self) -> String {
        match self.said {
            said if said.is_empty() => format!("its reader ended with {}", self.status),
            said => said,
        }
    }
}

fn text(mut file: File, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
