//! One container's owner: takes calls one after the other, and between them sees its process end.

use super::exec::Execs;
use super::state::{Error, Exit, Phase, Snapshot, State};
use super::{Event, ExecRequest, Handle, Held, Listed, Request};
use crate::cgroup::{Cgroup, Location, OomWatch, Stats, Version};
use crate::launch::{self, Launcher, Saved, Target, Terminal, run_hooks};
use crate::sandbox::hooks;
use crate::spec::{self, Plan};
use crate::sys::pidfd::PidFd;
use crate::sys::pty::Size;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use std::future::pending;
use std::os::fd::AsFd;
use tokio::sync::{mpsc, oneshot, watch};

/// The exit code of a process that SIGKILL has ended.
const KILLED: u32 = 128 + libc::SIGKILL as u32;

/// What a container can be asked; each with where the answer goes.
pub enum Call {
    Start(oneshot::Sender<Result<Pid, Error>>),
    Pause(oneshot::Sender<Result<(), Error>>),
    Resume(oneshot::Sender<Result<(), Error>>),
    Update(Box<LinuxResources>, oneshot::Sender<Result<(), Error>>),
    Snapshot(oneshot::Sender<Snapshot>),
    Kill { signal: i32, all: bool, reply: oneshot::Sender<Result<(), Error>> },
    CloseStdin(oneshot::Sender<()>),
    Resize { size: Size, reply: oneshot::Sender<Result<(), Error>> },
    Exec { request: ExecRequest, reply: oneshot::Sender<Result<(), Error>> },
    Executed { exec: String, reply: oneshot::Sender<Result<Handle, Error>> },
    Pids(oneshot::Sender<Result<Vec<Listed>, Error>>),
    Stats(oneshot::Sender<Result<(Version, Stats), Error>>),
    Delete(oneshot::Sender<Result<Gone, Error>>),
}

/// A process that is deleted, and how it ended, for those that ever were.
pub type Gone = (Option<Pid>, Option<Exit>);

pub struct Actor {
    request: Request,
    plan: Plan,
    pid: Pid,
    state: State,
    oom: OomWatch,
    terminal: Option<Terminal>,
    execs: Execs,
    events: mpsc::UnboundedSender<Event>,
    exit: watch::Sender<Option<Exit>>,
}

impl Actor {
    pub async fn create(
        mut request: Request,
        launcher: &Launcher,
        events: mpsc::UnboundedSender<Event>,
        exit: watch::Sender<Option<Exit>>,
    ) -> Result<Self, Error> {
        let mut plan = spec::read(&request.bundle, &request.id)?;
        plan.process.terminal = request.terminal;
        let ceilings = [plan.max_guest_memory, request.max_guest_memory];
        plan.max_guest_memory = ceilings.into_iter().flatten().min();
        let path = plan.cgroups_path.as_deref();
        let location = || Location::parse(path, &request.id, request.systemd_cgroup);
        let location = request.cgroup.then(location).transpose()?;
        request.code.image = launcher.vouched(&request.id, &request.signed_images).await?;
        let rootfs = request.rootfs.clone();
        let (streams, code) = (&request.streams, &request.code);
        let mut init = launcher.create(&plan, location.as_ref(), rootfs, streams, code).await?;
        let pid = init.pid;
        let created = Event::Created { request: request.clone(), pid };
        let oom = OomWatch::new(&init.cgroup);
        let actor = Self {
            execs: Execs::new(request.id.clone(), launcher.clone(), events.clone()),
            request,
            plan,
            pid,
            terminal: init.terminal.take(),
            state: State::Live(Phase::Created, Box::new(init)),
            oom,
            events,
            exit,
        };
        actor.tell(created);
        Ok(actor)
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn cgroup(&self) -> Cgroup {
        self.state.cgroup().clone()
    }

    /// Serves calls until the container is deleted.
    pub async fn live(mut self, mut inbox: mpsc::Receiver<Call>) {
        loop {
            let call = tokio::select! {
                call = inbox.recv() => call,
                () = ended(&self.state) => {
                    self.stopped().await;
                    continue;
                }
                () = self.oom.killed(), if self.state.exit().is_none() => {
                    self.tell(Event::OutOfMemory { id: self.request.id.clone() });
                    continue;
                }
            };
            match call {
                Some(Call::Delete(reply)) => match self.delete().await {
                    Ok(exit) => {
                        let _ = reply.send(Ok((Some(self.pid), Some(exit))));
                        return;
                    }
                    Err(error) => drop(reply.send(Err(error))),
                },
                Some(call) => self.answer(call).await,
                None => return,
            }
        }
    }

    async fn answer(&mut self, call: Call) {
        // An answer that nobody waits for any more is no matter.
        match call {
            Call::Start(reply) => drop(reply.send(self.start().await)),
            Call::Pause(reply) => drop(reply.send(self.pause().await)),
            Call::Resume(reply) => drop(reply.send(self.resume())),
            Call::Update(resources, reply) => drop(reply.send(self.update(&resources))),
            Call::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Call::Kill { signal, all, reply } => drop(reply.send(self.kill(signal, all))),
            Call::CloseStdin(reply) => {
                if let Some(init) = self.state.alive() {
                    init.stdin = None;
                }
                let _ = reply.send(());
            }
            Call::Resize { size, reply } => drop(reply.send(self.resize(size))),
            Call::Exec { request, reply } => drop(reply.send(self.exec(request))),
            Call::Executed { exec, reply } => drop(reply.send(self.execs.get(&exec))),
            Call::Pids(reply) => drop(reply.send(self.pids())),
            Call::Stats(reply) => drop(reply.send(self.stats())),
            Call::Delete(reply) => drop(reply.send(Err(Error::Lost))),
        }
    }

    async fn start(&mut self) -> Result<Pid, Error> {
        match &mut self.state {
            State::Live(phase @ Phase::Created, init) => {
                let started = init.start().await;
                if started.as_ref().is_err_and(launch::is_gone) {
                    return Err(self.stopped_before("start").await);
                }
                started?;
                self.terminal.iter().for_each(Terminal::started);
                *phase = Phase::Running;
            }
            _ => return Err(self.wrong("start")),
        }
        self.tell(Event::Started { id: self.request.id.clone(), pid: self.pid });
        let state = hooks::state(&self.plan, "running", Some(self.pid));
        if let Err(e) = run_hooks(&self.plan.hooks.poststart, &state).await {
            log::warn!("{}: poststart: {e}", self.request.id);
        }
        Ok(self.pid)
    }

    async fn pause(&mut self) -> Result<(), Error> {
        match &mut self.state {
            State::Live(phase @ Phase::Running, init) => {
                let frozen = init.cgroup.freeze().await;
                if init.pidfd.get_ref().has_ended() {
                    let _ = init.cgroup.thaw();
                    return Err(self.stopped_before("pause").await);
                }
                frozen?;
                *phase = Phase::Paused;
                self.execs.bar(Some("paused"));
            }
            _ => return Err(self.wrong("pause")),
        }
        self.tell(Event::Paused { id: self.request.id.clone() });
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        match &mut self.state {
            State::Live(phase @ Phase::Paused, init) => {
                init.cgroup.thaw()?;
                *phase = Phase::Running;
                self.execs.bar(None);
            }
            _ => return Err(self.wrong("resume")),
        }
        self.tell(Event::Resumed { id: self.request.id.clone() });
        Ok(())
    }

    fn update(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        match &self.state {
            State::Live(Phase::Created | Phase::Running | Phase::Paused, init) => {
                Ok(init.cgroup.update(resources)?)
            }
            _ => Err(self.wrong("update")),
        }
    }

    /// A signal to a paused container waits until that goes on, but SIGKILL ends it as it is.
    fn kill(&mut self, signal: i32, all: bool) -> Result<(), Error> {
        let id = &self.request.id;
        let State::Live(phase, init) = &mut self.state else {
            return Err(Error::Finished(id.clone()));
        };
        if signal == libc::SIGKILL && (all || *phase == Phase::Paused) {
            init.cgroup.kill_all()?;
        } else {
            if all {
                for pid in init.cgroup.pids()?.into_iter().filter(|pid| *pid != init.pid) {
                    // By descriptor, which takes real-time signals too.
                    let _ = PidFd::open(pid).map(|process| process.kill(signal));
                }
            }
            init.pidfd.get_ref().kill(signal).map_err(|e| Error::kill(id, signal, e))?;
        }
        if signal == libc::SIGKILL {
            *phase = Phase::Killed;
            self.execs.bar(Some("killed"));
        }
        Ok(())
    }

    fn resize(&mut self, size: Size) -> Result<(), Error> {
        if self.state.alive().is_none() {
            return Err(self.wrong("resize"));
        }
        let id = &self.request.id;
        let resized = self.terminal.as_ref().map_or(Ok(()), |terminal| terminal.resize(size));
        resized.map_err(|source| Error::Io { id: id.clone(), source })
    }

    fn exec(&mut self, request: ExecRequest) -> Result<(), Error> {
        let id = &self.request.id;
        let State::Live(Phase::Created | Phase::Running, init) = &self.state else {
            return Err(Error::ExecIn { id: id.clone(), is: self.state.word() });
        };
        let held = init.pidfd.get_ref().as_fd().try_clone_to_owned();
        let target = Target {
            plan: self.plan.clone(),
            init: init.pid,
            held: held.map_err(|source| Error::Io { id: id.clone(), source })?,
            cgroup: init.cgroup.clone(),
            built_ins: self.request.built_ins,
            code: self.request.code.clone(),
        };
        self.execs.add(target, request)
    }

    fn pids(&mut self) -> Result<Vec<Listed>, Error> {
        let Some(init) = self.state.alive() else {
            return Err(Error::Finished(self.request.id.clone()));
        };
        let pids = init.cgroup.pids()?;
        Ok(pids.into_iter().map(|pid| (pid, self.execs.name(pid))).collect())
    }

    fn stats(&self) -> Result<(Version, Stats), Error> {
        let cgroup = self.state.cgroup();
        let stats = cgroup.stats().ok_or_else(|| Error::NoCgroup(self.request.id.clone()))?;
        Ok((cgroup.version(), stats))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            bundle: self.request.bundle.clone(),
            pid: Some(self.pid),
            status: self.state.status(),
            streams: self.request.streams.clone(),
            terminal: self.request.terminal,
            exit: self.state.exit().cloned(),
        }
    }

    /// The process has ended: collects it, ends what it left behind, tells the world. What was
    /// executed beside it has ended then, and was told before.
    async fn stopped(&mut self) {
        let asked = matches!(self.state, State::Live(Phase::Killed, _));
        let Some(init) = self.state.alive() else { return };
        let exit = Exit::new(init.pidfd.get_ref().try_wait().ok().flatten());
        let cgroup = init.cgroup.clone();
        if let Err(e) = cgroup.end_all() {
            log::warn!("{}: {e}", self.request.id);
        }
        self.execs.end().await;
        let id = self.request.id.clone();
        if self.oom.last_look(exit.code == KILLED && !asked) {
            self.tell(Event::OutOfMemory { id: id.clone() });
        }
        self.state = State::Stopped(exit.clone(), cgroup);
        let outputs = Held::default();
        self.tell(Event::Exited { id, exec: None, pid: self.pid, exit: exit.clone(), outputs });
        self.exit.send_replace(Some(exit));
    }

    async fn delete(&mut self) -> Result<Exit, Error> {
        match &self.state {
            State::Live(Phase::Running | Phase::Paused, _) => return Err(self.wrong("delete")),
            State::Live(Phase::Created | Phase::Killed, _) => {
                let _ = self.kill(libc::SIGKILL, false);
                ended(&self.state).await;
                self.stopped().await;
            }
            State::Stopped(..) => {}
        }
        let State::Stopped(exit, cgroup) = &self.state else {
            return Err(Error::Lost);
        };
        let exit = exit.clone();
        if let Some(terminal) = self.terminal.take() {
            terminal.finish().await;
        }
        if let Err(e) = cgroup.delete() {
            log::warn!("{}: {e}", self.request.id);
        }
        Saved::remove(&self.request.bundle);
        let state = hooks::state(&self.plan, "stopped", None);
        if let Err(e) = run_hooks(&self.plan.hooks.poststop, &state).await {
            log::warn!("{}: poststop: {e}", self.request.id);
        }
        let id = self.request.id.clone();
        self.tell(Event::Deleted { id, pid: self.pid, exit: exit.clone() });
        Ok(exit)
    }

    fn tell(&self, event: Event) {
        // The publisher outlives the containers; without it nobody listens any more.
        let _ = self.events.send(event);
    }

    /// Of a process that ended so lately that the state does not say so yet; from here on it does.
    async fn stopped_before(&mut self, call: &'static str) -> Error {
        ended(&self.state).await;
        self.stopped().await;
        self.wrong(call)
    }

    fn wrong(&self, call: &'static str) -> Error {
        Error::State { call, is: self.state.word(), id: self.request.id.clone() }
    }
}

/// Waits for the end of the process; for ever when it has ended already.
async fn ended(state: &State) {
    match state {
        State::Live(_, init) => {
            let _ = init.pidfd.readable().await;
        }
        State::Stopped(..) => pending().await,
    }
}
