//! How a process is executed in a container that is there already: made like the container's own,
//! and led into what that one has.

use super::fork::{Newborn, Wanted};
use super::streams::{Paths, Streams};
use super::talk::Talk;
use super::terminal::Terminal;
use super::{Choice, Error, Launcher, end, is_gone, open_gate};
use crate::cgroup::Cgroup;
use crate::init::{Failure, Order, Reason, ToInit};
use crate::spec::{Plan, Process};
use crate::sys::pidfd::PidFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// As many of a container's processes as one message tells of.
const LISTED: usize = 1000;

/// The container that a process is executed in.
pub struct Target {
    /// The container.
    pub plan: Plan,
    /// Its own process's pid on the host.
    pub init: Pid,
    /// The same, held.
    pub held: OwnedFd,
    /// Its control group.
    pub cgroup: Cgroup,
    /// Whether the built-in commands may be executed in it.
    pub built_ins: bool,
    /// Which code runs in it.
    pub code: Choice,
}

impl Target {
    /// Why a process was not executed in it: whatever fails in a container that ends fails for that.
    fn why(&self, error: Error) -> Error {
        // A process that has begun to end has no root folder any more.
        let ends = fs::read_link(format!("/proc/{}/root", self.init)).is_err();
        if ends || is_gone(&error) { killed() } else { error }
    }
}

/// A process that runs in a container beside the container's own.
pub struct Exec {
    /// Its pid on the host.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: AsyncFd<PidFd>,
    /// A writer of its standard input.
    pub stdin: Option<OwnedFd>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Where its output goes, so that it ends when the process's end is told and not before: docker
    /// takes the end of the output for that of the process, and asks for the exit code.
    pub outputs: Vec<OwnedFd>,
}

impl Launcher {
    /// Executes a process, given as the JSON of the specification's `process` and as what that was
    /// understood to mean, in the container `target`.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left of the process then.
    pub async fn exec(
        &self,
        target: &Target,
        json: &[u8],
        process: &Process,
        paths: &Paths,
    ) -> Result<Exec, Error> {
        let streams = Streams::open(paths, process)?;
        let outputs = streams.outputs()?;
        let Streams { inherited, stdin, terminal } = streams;
        let mut file =
            File::from(memfd_create(c"process", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        file.write_all(json)?;
        // A process that is held stands for its namespaces.
        let namespace = Wanted::Join(File::from(target.held.try_clone()?));
        let newborn = self.forks.take(namespace).await;
        let Newborn { pid, pidfd, talk } = newborn.map_err(|e| target.why(e.into()))?;
        let exec = Exec { pid, pidfd, stdin, terminal, outputs };
        let [input, output, error] = inherited.each_ref().map(|stream| stream.as_fd());
        let fds = [input, output, error, file.as_fd()];
        let led = tokio::select! {
            // What it said before its end comes first.
            biased;
            led = self.lead_in(target, process, pid, &talk, &fds) => led,
            // The container's end is its end, whatever it was about.
            _ = exec.pidfd.readable() => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        };
        drop(inherited);
        match led {
            Ok(()) => {
                exec.terminal.iter().for_each(Terminal::started);
                Ok(exec)
            }
            Err(error) => {
                end(&exec.pidfd).await;
                Err(target.why(error))
            }
        }
    }

    async fn lead_in(
        &self,
        target: &Target,
        process: &Process,
        pid: Pid,
        talk: &Talk,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let order = Order {
            id: target.plan.id.clone(),
            bundle: target.plan.bundle.clone(),
            init: target.init.as_raw(),
            max_guest_memory: target.plan.max_guest_memory,
            built_ins: target.built_ins,
            processes: match target.built_ins && process.entry.word.starts_with('@') {
                true => target.cgroup.pids()?.into_iter().map(Pid::as_raw).take(LISTED).collect(),
                false => Vec::new(),
            },
        };
        talk.tell(&ToInit::Exec(order), fds).await?;
        let go = ToInit::Go { pid: pid.as_raw(), cgroup: target.cgroup.clone() };
        talk.tell(&go, &[target.held.as_fd()]).await?;
        self.answer(&target.plan, pid, talk, target.code).await?;
        open_gate(talk, pid).await
    }
}

fn killed() -> Error {
    let words = "the process was killed before its program could run: its container ended, or has \
                 too little memory for another process";
    Failure::new(Reason::Internal, words).into()
}
