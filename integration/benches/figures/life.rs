//! A container's life as containerd leads it, with the time of each step.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, KillRequest, ShutdownRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use integration::bundle::Bundle;
use integration::mock::raw::{Frame, Raw};
use integration::mock::{Answer, Mock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::world::{EVENTS, Peer, Runs};

/// When the steps were done, from the exec of `start`, or from Create in a shim that runs.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// `start` has ended.
    pub started: Duration,
    /// Create was answered.
    pub created: Duration,
    /// The first byte came.
    pub first: Duration,
    /// Wait was answered.
    pub ended: Duration,
    /// Delete was answered.
    pub deleted: Duration,
}

/// A container that is ready to be run, with every request written.
pub struct Container {
    pub bundle: Bundle,
    stdout: File,
    /// The other fifos that containerd reads; some shims wait until somebody does.
    read: [File; 2],
    create: Frame,
    start: Frame,
    wait: Frame,
    kill: Frame,
    delete: Frame,
    shutdown: Frame,
}

impl Container {
    pub fn new(mock: &Mock, peer: &Peer, bundle: Bundle) -> Self {
        Self::with(mock, peer, bundle, CreateTaskRequest::new())
    }

    /// With a Create that holds more than usual.
    pub fn with(mock: &Mock, peer: &Peer, bundle: Bundle, more: CreateTaskRequest) -> Self {
        let (stdout, stderr) = (mock.fifo(&bundle, "stdout"), mock.fifo(&bundle, "stderr"));
        let outlet = |fifo: &Path| {
            let mut how = OpenOptions::new();
            how.read(true).custom_flags(libc::O_NONBLOCK).open(fifo).expect("a fifo")
        };
        let id = bundle.id.clone();
        let version = match peer.runs {
            Runs::Linux(_) => 3,
            _ => 2,
        };
        let create = CreateTaskRequest {
            id: id.clone(),
            bundle: bundle.path.display().to_string(),
            stdout: stdout.display().to_string(),
            stderr: stderr.display().to_string(),
            options: match peer.runs {
                Runs::Linux(runtime) => Some(runc_options(runtime)).into(),
                _ => more.options.clone(),
            },
            ..more
        };
        let start = StartRequest { id: id.clone(), ..Default::default() };
        let wait = WaitRequest { id: id.clone(), ..Default::default() };
        let kill = KillRequest { id: id.clone(), signal: 9, all: true, ..Default::default() };
        let delete = DeleteRequest { id: id.clone(), ..Default::default() };
        let shutdown = ShutdownRequest { id, ..Default::default() };
        Self {
            stdout: outlet(&stdout),
            read: [outlet(&stderr), outlet(&bundle.path.join("log"))],
            bundle,
            create: Frame::task(version, "Create", &create),
            start: Frame::task(version, "Start", &start),
            wait: Frame::task(version, "Wait", &wait),
            kill: Frame::task(version, "Kill", &kill),
            delete: Frame::task(version, "Delete", &delete),
            shutdown: Frame::task(version, "Shutdown", &shutdown),
        }
    }

    /// Runs to its end in a shim of its own.
    pub fn alone(mut self, mock: &Mock, peer: &Peer) -> Moments {
        let begin = Instant::now();
        let mut shim = connect(mock, peer, &self.bundle);
        let started = begin.elapsed();
        let moments = self.through(&mut shim, begin, started);
        self.bury(Some(shim));
        moments
    }

    /// Runs to its end in a shim that runs.
    pub fn member(mut self, shim: &mut Raw) -> Moments {
        let moments = self.through(shim, Instant::now(), Duration::ZERO);
        self.bury(None);
        moments
    }

    /// The time to Start's answer and to the first byte, of one that takes its time, in a shim of its
    /// own.
    pub fn slowly(mut self, mock: &Mock, peer: &Peer) -> Answer<(Duration, Duration)> {
        let begin = Instant::now();
        let mut shim = connect(mock, peer, &self.bundle);
        let times = shim.call(&mut self.create).and_then(|_| {
            shim.call(&mut self.start)?;
            let running = begin.elapsed();
            self.first_byte();
            let times = (running, begin.elapsed());
            shim.call(&mut self.wait)?;
            shim.call(&mut self.delete)?;
            Ok(times)
        });
        self.bury(Some(shim));
        times
    }

    /// What one says, in a shim of its own.
    pub fn says(mut self, mock: &Mock, peer: &Peer) -> String {
        let mut shim = connect(mock, peer, &self.bundle);
        must(shim.call(&mut self.create), "Create");
        must(shim.call(&mut self.start), "Start");
        must(shim.call(&mut self.wait), "Wait");
        let mut said = String::new();
        // The shim may still hold the fifo, which then has no end.
        let _ = self.stdout.read_to_string(&mut said);
        must(shim.call(&mut self.delete), "Delete");
        self.bury(Some(shim));
        said
    }

    fn through(&mut self, shim: &mut Raw, begin: Instant, started: Duration) -> Moments {
        must(shim.call(&mut self.create), "Create");
        let created = begin.elapsed();
        shim.send(&mut self.start).expect("the shim is there");
        self.first_byte();
        let first = begin.elapsed();
        must(shim.answer(), "Start");
        must(shim.call(&mut self.wait), "Wait");
        let ended = begin.elapsed();
        must(shim.call(&mut self.delete), "Delete");
        Moments { started, created, first, ended, deleted: begin.elapsed() }
    }

    /// Runs to its end without a look at what it says, in a shim that runs; to be buried later.
    pub fn lives(mut self, shim: &mut Raw) -> Self {
        must(shim.call(&mut self.create), "Create");
        must(shim.call(&mut self.start), "Start");
        must(shim.call(&mut self.wait), "Wait");
        must(shim.call(&mut self.delete), "Delete");
        self
    }

    /// Runs until it has said something, and stays.
    pub fn stay(&mut self, shim: &mut Raw) {
        must(shim.call(&mut self.create), "Create");
        must(shim.call(&mut self.start), "Start");
        self.first_byte();
    }

    /// Ends one that stayed.
    pub fn end(&mut self, shim: &mut Raw) {
        must(shim.call(&mut self.kill), "Kill");
        must(shim.call(&mut self.wait), "Wait");
        must(shim.call(&mut self.delete), "Delete");
    }

    fn first_byte(&mut self) {
        let mut fds = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        // Nobody measures what takes longer than half a minute.
        let came = poll(&mut fds, PollTimeout::from(30_000u16)).expect("a fifo can be waited for");
        let bytes = self.stdout.read(&mut [0; 64]).unwrap_or(0);
        if came != 1 || bytes == 0 {
            let mut words = String::new();
            for fifo in &mut self.read {
                // What is there; the writers may stay.
                let _ = fifo.read_to_string(&mut words);
            }
            panic!("{} said nothing on standard output. {words}", self.bundle.id);
        }
    }

    /// Tells the shim to leave, if it is the container's own, waits until it has, and removes the
    /// bundle, so that the next container does not meet what is left of this one.
    pub fn bury(mut self, shim: Option<Raw>) {
        if let Some(mut shim) = shim {
            // It may be gone before its answer is.
            let _ = shim.call(&mut self.shutdown);
            shim.hung_up();
        }
        let _ = fs::remove_dir_all(&self.bundle.path);
    }
}

fn must<T>(answer: Answer<T>, what: &str) -> T {
    answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// Execs `start` and connects to what it answers, as containerd does: not before it has ended.
pub fn connect(mock: &Mock, peer: &Peer, bundle: &Bundle) -> Raw {
    let (mut said, stdout) = std::io::pipe().expect("a pipe");
    let stderr = stdout.try_clone().expect("a pipe");
    let mut command = verb(mock, peer, bundle, &["start"]);
    let mut child = command.stdout(stdout).stderr(stderr).spawn().expect("the shim can be run");
    drop(command);
    let mut words = String::new();
    said.read_to_string(&mut words).expect("a pipe can be read");
    let status = child.wait().expect("a child of ours");
    assert!(status.success(), "{}: start: {words}", peer.name);
    let address = match serde_json::from_str::<Value>(&words) {
        Ok(told) => told["address"].as_str().expect("an address").to_owned(),
        Err(_) => words,
    };
    Raw::connect(address.trim()).expect("the shim listens")
}

/// A run of the shim's binary for a bundle.
pub fn verb(mock: &Mock, peer: &Peer, bundle: &Bundle, words: &[&str]) -> Command {
    let mut command = Command::new(&peer.shim);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TTRPC_ADDRESS", EVENTS)
        .env("GRPC_ADDRESS", "/run/containerd/containerd.sock")
        .env("NAMESPACE", &mock.namespace)
        .env("MAX_SHIM_VERSION", "2")
        .current_dir(&bundle.path)
        .stdin(Stdio::null())
        .args(["-namespace", &mock.namespace, "-address", "/run/containerd/containerd.sock"])
        .args(["-publish-binary", "/bin/false", "-id", &bundle.id])
        .args(words);
    command
}

/// `containerd.runc.v1.Options` with the OCI runtime's name, which is field 6.
fn runc_options(runtime: &str) -> Any {
    let value = [&[6 << 3 | 2, runtime.len() as u8], runtime.as_bytes()].concat();
    Any { type_url: "containerd.runc.v1.Options".to_owned(), value, ..Default::default() }
}
