//! Processes that are executed in a container: for each an actor that owns its state, as the
//! container's own owns its. Its process is made at Start, so that its states are Created without a
//! process, Running, and Stopped.

use super::actor::{Call, Gone};
use super::state::{Error, Exit, Snapshot, Status};
use super::{Event, ExecRequest, Handle, Held};
use crate::launch::{Exec, Launcher, Target, Terminal};
use crate::spec::{self, Process};
use crate::sys::pty::Size;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::future::pending;
use std::mem;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The processes that are or were executed in one container.
pub struct Execs {
    container: String,
    launcher: Launcher,
    events: mpsc::UnboundedSender<Event>,
    all: HashMap<String, (Handle, watch::Receiver<Life>)>,
    /// In which state of the container nothing is started, while it is in one.
    bar: watch::Sender<Option<&'static str>>,
}

/// Whether there is a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    None,
    Starting,
    Running(Pid),
}

impl Execs {
    pub fn new(
        container: String,
        launcher: Launcher,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let bar = watch::Sender::new(None);
        Self { container, launcher, events, all: HashMap::new(), bar }
    }

    /// Prepares one.
    pub fn add(&mut self, target: Target, request: ExecRequest) -> Result<(), Error> {
        self.all.retain(|_, (handle, _)| !handle.calls.is_closed());
        let (id, exec) = (self.container.clone(), request.id.clone());
        if self.all.contains_key(&exec) {
            return Err(Error::ProcessExists { id, exec });
        }
        let mut process = spec::process(&request.process)?;
        process.terminal = request.terminal;
        let (calls, inbox) = mpsc::channel(64);
        let (exit, exited) = watch::channel(None);
        let (life, lives) = watch::channel(Life::None);
        let actor = Actor {
            container: id.clone(),
            request,
            process,
            target,
            launcher: self.launcher.clone(),
            state: State::Created,
            stdin_closed: false,
            terminal: None,
            bar: self.bar.subscribe(),
            events: self.events.clone(),
            exit,
            life,
        };
        actor.tell(Event::ExecAdded { id: id.clone(), exec: exec.clone() });
        tokio::spawn(actor.live(inbox));
        let handle = Handle { id, exec: Some(exec.clone()), calls, exited };
        self.all.insert(exec, (handle, lives));
        Ok(())
    }

    pub fn get(&self, exec: &str) -> Result<Handle, Error> {
        let found = self.all.get(exec).filter(|(handle, _)| !handle.calls.is_closed());
        found
            .map(|(handle, _)| handle.clone())
            .ok_or_else(|| Error::NoProcess { id: self.container.clone(), exec: exec.to_owned() })
    }

    /// Under which id the process `pid` was executed.
    pub fn name(&self, pid: Pid) -> Option<String> {
        let mut all = self.all.iter();
        let found = all.find(|(_, (_, life))| *life.borrow() == Life::Running(pid));
        found.map(|(exec, _)| exec.clone())
    }

    /// Has nothing be started in a container that is in this state.
    pub fn bar(&self, is: Option<&'static str>) {
        self.bar.send_replace(is);
    }

    /// Lets nothing be started any more, and waits until all that runs has ended and is told. All of
    /// it has been killed.
    pub async fn end(&mut self) {
        self.bar(Some("stopped"));
        for (_, life) in self.all.values_mut() {
            // One without an actor has none.
            let _ = life.wait_for(|life| *life == Life::None).await;
        }
    }
}

enum State {
    Created,
    Running(Box<Exec>),
    Stopped(Pid, Exit),
}

struct Actor {
    container: String,
    request: ExecRequest,
    process: Process,
    target: Target,
    launcher: Launcher,
    state: State,
    /// It was said before there was a process.
    stdin_closed: bool,
    terminal: Option<Terminal>,
    bar: watch::Receiver<Option<&'static str>>,
    events: mpsc::UnboundedSender<Event>,
    exit: watch::Sender<Option<Exit>>,
    life: watch::Sender<Life>,
}

impl Actor {
    /// Serves calls until the process is deleted, or its container is.
    async fn live(mut self, mut inbox: mpsc::Receiver<Call>) {
        loop {
            let call = tokio::select! {
                call = inbox.recv() => call,
                () = ended(&self.state) => {
                    self.stopped();
                    continue;
                }
            };
            match call {
                Some(Call::Delete(reply)) => match self.delete().await {
                    Ok(gone) => {
                        // From here on its id is free.
                        drop(inbox);
                        let _ = reply.send(Ok(gone));
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
            Call::Snapshot(reply) => drop(reply.send(self.snapshot())),
            Call::Kill { signal, reply, .. } => drop(reply.send(self.kill(signal))),
            Call::CloseStdin(reply) => {
                self.stdin_closed = true;
                if let State::Running(exec) = &mut self.state {
                    exec.stdin = None;
                }
                let _ = reply.send(());
            }
            Call::Resize { size, reply } => drop(reply.send(self.resize(size))),
            // The others are about a container; nobody asks a process.
            _ => {}
        }
    }

    async fn start(&mut self) -> Result<Pid, Error> {
        if !matches!(self.state, State::Created) {
            return Err(self.wrong("start"));
        }
        if let Some(is) = *self.bar.borrow() {
            return Err(Error::ExecIn { id: self.container.clone(), is });
        }
        self.life.send_replace(Life::Starting);
        let (json, streams) = (&self.request.process, &self.request.streams);
        let made = self.launcher.exec(&self.target, json, &self.process, streams).await;
        if made.is_err() {
            self.life.send_replace(Life::None);
        }
        let mut exec = made?;
        let pid = exec.pid;
        if self.stdin_closed {
            exec.stdin = None;
        }
        self.terminal = exec.terminal.take();
        self.state = State::Running(Box::new(exec));
        self.life.send_replace(Life::Running(pid));
        let (id, exec) = (self.container.clone(), self.request.id.clone());
        self.tell(Event::ExecStarted { id, exec, pid });
        Ok(pid)
    }

    fn snapshot(&self) -> Snapshot {
        let (pid, status, exit) = match &self.state {
            State::Created => (None, Status::Created, None),
            State::Running(exec) => (Some(exec.pid), Status::Running, None),
            State::Stopped(pid, exit) => (Some(*pid), Status::Stopped, Some(exit.clone())),
        };
        Snapshot {
            bundle: self.target.plan.bundle.clone(),
            pid,
            status,
            streams: self.request.streams.clone(),
            terminal: self.request.terminal,
            exit,
        }
    }

    fn kill(&self, signal: i32) -> Result<(), Error> {
        let name = || format!("{}/{}", self.container, self.request.id);
        match &self.state {
            State::Created => Err(self.wrong("kill")),
            State::Running(exec) => {
                exec.pidfd.get_ref().kill(signal).map_err(|e| Error::kill(&name(), signal, e))
            }
            State::Stopped(..) => Err(Error::Finished(name())),
        }
    }

    fn resize(&self, size: Size) -> Result<(), Error> {
        if matches!(self.state, State::Stopped(..)) {
            return Err(self.wrong("resize"));
        }
        let resized = self.terminal.as_ref().map_or(Ok(()), |terminal| terminal.resize(size));
        resized.map_err(|source| Error::Io { id: self.container.clone(), source })
    }

    /// The process has ended: collects it, tells the world.
    fn stopped(&mut self) {
        let State::Running(process) = &mut self.state else { return };
        let pid = process.pid;
        let outputs = Held(Arc::new(mem::take(&mut process.outputs)));
        let exit = Exit::new(process.pidfd.get_ref().try_wait().ok().flatten());
        self.state = State::Stopped(pid, exit.clone());
        let (id, exec) = (self.container.clone(), Some(self.request.id.clone()));
        self.tell(Event::Exited { id, exec, pid, exit: exit.clone(), outputs });
        self.life.send_replace(Life::None);
        self.exit.send_replace(Some(exit));
    }

    async fn delete(&mut self) -> Result<Gone, Error> {
        let gone = match &self.state {
            State::Created => (None, None),
            State::Running(_) => return Err(self.wrong("delete")),
            State::Stopped(pid, exit) => (Some(*pid), Some(exit.clone())),
        };
        if let Some(terminal) = self.terminal.take() {
            terminal.finish().await;
        }
        Ok(gone)
    }

    fn tell(&self, event: Event) {
        // The publisher outlives the containers; without it nobody listens any more.
        let _ = self.events.send(event);
    }

    fn wrong(&self, call: &'static str) -> Error {
        let is = match self.state {
            State::Created => "created",
            State::Running(_) => "running",
            State::Stopped(..) => "stopped",
        };
        let (id, exec) = (self.container.clone(), self.request.id.clone());
        Error::ProcessState { call, id, exec, is }
    }
}

/// Waits for the end of the process; for ever when there is none.
async fn ended(state: &State) {
    match state {
        State::Running(exec) => {
            let _ = exec.pidfd.readable().await;
        }
        State::Created | State::Stopped(..) => pending().await,
    }
}
