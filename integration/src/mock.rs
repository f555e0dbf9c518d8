//! A stand-in for containerd that drives the shim's binary: it execs `start` and `delete` in each
//! dialect, speaks ttrpc to the task service under either of its names, and records the events.
//!
//! It runs on the machine itself, in a mount namespace of the test's thread: `/run` and `/var/lib`
//! are the test's own, and its mounts can be counted.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, ForwardRequest, KillRequest, PidsRequest, PidsResponse, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    WaitRequest, WaitResponse,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{self, Message};
use containerd_shim_protos::{Events, create_events, topics};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use ttrpc::{Client, Code, Request, Server, TtrpcContext};

use crate::bundle::Bundle;
use crate::command::{self, Done};
use crate::names::unique;
use crate::{paths, wait};

const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The longest that a request or a run of the binary may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How `start` is spoken to.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// Nothing on standard input: plain ctr and docker up to containerd 2.2.
    Silent,
    /// The runtime's options on standard input: the same with options configured.
    Options(Any),
    /// `BootstrapParams`: containerd 2.3 and later.
    Bootstrap,
}

/// What a task event said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// With the pid.
    Create(String, u32),
    /// With the pid.
    Start(String, u32),
    /// With the pid and the exit status.
    Exit(String, u32, u32),
    /// With the pid and the exit status.
    Delete(String, u32, u32),
    /// Any other, by its topic.
    Other(String),
}

/// containerd, as far as a shim can see it.
pub struct Mock {
    /// The containerd namespace; nothing else on the machine bears this name.
    pub namespace: String,
    events: Arc<Mutex<Vec<Event>>>,
    server: Option<Server>,
    mounts: Vec<String>,
}

/// A connection to a shim.
pub struct Shim {
    /// The address that `start` printed.
    pub address: String,
    /// The version of the task service that `start` announced; 2 where it printed an address alone.
    pub version: i32,
    client: Client,
}

/// Why a shim refused.
#[derive(Debug)]
pub struct Refusal {
    /// The ttrpc code, where there was an answer by ttrpc.
    pub code: Option<Code>,
    /// The words.
    pub message: String,
}

type Answer<T> = Result<T, Refusal>;

impl Mock {
    /// A containerd without containers, alone in its mount namespace.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("the tests run as root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("propagation can be cut");
        for folder in ["/run", "/var/lib"] {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), none)
                .expect("a tmpfs can be mounted");
        }
        fs::create_dir_all("/run/containerd/fifo").expect("/run is the test's own");
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorder = Arc::new(Recorder(Arc::clone(&events)));
        let mut server = Server::new()
            .bind(&format!("unix://{CONTAINERD}.ttrpc"))
            .expect("the socket can be bound")
            .register_service(create_events(recorder));
        server.start().expect("the event service can be started");
        let namespace = format!("{}-{}", unique("mock"), std::process::id());
        Self {
            namespace,
            events,
            server: Some(server),
            mounts: mounts(),
        }
    }

    /// A bundle in this containerd's folder, under an id of its own.
    pub fn bundle(&self, command: &[&str]) -> Bundle {
        let folder =
            Path::new("/run/containerd/io.containerd.runtime.v2.task").join(&self.namespace);
        Bundle::new(
            &folder,
            &format!("{}-{}", self.namespace, unique("c")),
            command,
        )
    }

    /// Execs the binary as containerd does, with `stdin` as its input.
    pub fn exec(&self, bundle: &Bundle, verb: &[&str], stdin: &[u8]) -> Done {
        let mut command = Command::new(paths::binary(paths::SHIM));
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("TTRPC_ADDRESS", format!("{CONTAINERD}.ttrpc"))
            .env("GRPC_ADDRESS", CONTAINERD)
            .env("NAMESPACE", &self.namespace)
            .env("MAX_SHIM_VERSION", "2")
            .current_dir(&bundle.path)
            .args(["-namespace", &self.namespace, "-address", CONTAINERD])
            .args(["-publish-binary", "/bin/false", "-id", &bundle.id])
            .args(verb);
        command::run(command, stdin, DEADLINE)
    }

    /// Starts a shim for a bundle, which must have its `config.json`.
    ///
    /// # Errors
    /// What `start` wrote to standard error.
    pub fn start(&self, bundle: &Bundle, dialect: &Dialect) -> Answer<Shim> {
        let stdin = match dialect {
            Dialect::Silent => Vec::new(),
            Dialect::Options(options) => {
                options.write_to_bytes().expect("a message can be written")
            }
            Dialect::Bootstrap => self
                .params(bundle)
                .write_to_bytes()
                .expect("a message can be written"),
        };
        drain(&bundle.path.join("log"));
        let done = self.exec(bundle, &["start"], &stdin);
        if done.code != 0 {
            return Err(Refusal {
                code: None,
                message: done.stderr,
            });
        }
        assert!(
            done.stderr.is_empty(),
            "`start` wrote to standard error, which old daemons read\n{done}"
        );
        let (address, version) = match dialect {
            Dialect::Silent | Dialect::Options(_) => (done.text(), 2),
            Dialect::Bootstrap => {
                let result = BootstrapResult::parse_from_bytes(&done.stdout)
                    .unwrap_or_else(|error| panic!("not a BootstrapResult: {error}\n{done}"));
                assert_eq!(result.protocol, "ttrpc");
                (result.address, result.version)
            }
        };
        assert!(
            address.starts_with("unix://"),
            "not an address: {address:?}\n{done}"
        );
        let client = Client::connect(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        Ok(Shim {
            address,
            version,
            client,
        })
    }

    /// Writes the bundle's `config.json`, starts a shim, and creates the task without any stdio.
    ///
    /// # Errors
    /// The refusal of either step.
    pub fn create(&self, bundle: &Bundle) -> Answer<Shim> {
        self.create_with(bundle, CreateTaskRequest::new())
    }

    /// [`Mock::create`] with a request that is complete but for the id and the bundle.
    ///
    /// # Errors
    /// The refusal of either step; after it, `delete` has been run, as containerd does.
    pub fn create_with(&self, bundle: &Bundle, request: CreateTaskRequest) -> Answer<Shim> {
        bundle.write();
        let shim = self.start(bundle, &Dialect::Silent);
        let created = shim.and_then(|shim| {
            shim.create_with(bundle, request)
                .map(|_| ())
                .inspect_err(|_| {
                    // An error here is no news: the shim may leave at once when nothing is in it.
                    let _ = shim.shutdown(&bundle.id);
                })?;
            Ok(shim)
        });
        created.inspect_err(|_| {
            self.delete(bundle);
        })
    }

    /// Insists that the bundle is refused, cleans up as containerd does, and that nothing is left.
    #[track_caller]
    pub fn refused(&self, bundle: &Bundle) -> Refusal {
        match self.create(bundle) {
            Ok(_) => panic!("the bundle was accepted"),
            Err(refusal) => {
                self.nothing_left(bundle);
                refusal
            }
        }
    }

    /// Runs the binary's `delete`, and returns its answer.
    #[track_caller]
    pub fn delete(&self, bundle: &Bundle) -> DeleteResponse {
        let path = bundle.path.to_str().expect("a path of ours");
        let done = self.exec(bundle, &["-bundle", path, "delete"], b"").ok();
        DeleteResponse::parse_from_bytes(&done.stdout)
            .unwrap_or_else(|error| panic!("not a DeleteResponse: {error}\n{done}"))
    }

    /// A fifo for a stream of a task; nobody has it open.
    pub fn fifo(&self, bundle: &Bundle, stream: &str) -> PathBuf {
        let path = Path::new("/run/containerd/fifo").join(format!("{}-{stream}", bundle.id));
        mkfifo(&path, Mode::S_IRWXU).expect("a new fifo");
        path
    }

    /// The events of a container so far, in order.
    pub fn events(&self, id: &str) -> Vec<Event> {
        let events = self.events.lock().expect("the recorder does not panic");
        events
            .iter()
            .filter(|event| event.container().is_none_or(|container| container == id))
            .cloned()
            .collect()
    }

    /// Waits until `count` events of a container have come, and returns them.
    #[track_caller]
    pub fn await_events(&self, id: &str, count: usize) -> Vec<Event> {
        wait::some(
            &format!("{count} events of {id}; so far {:?}", self.events(id)),
            || Some(self.events(id)).filter(|events| events.len() >= count),
        )
    }

    /// Insists that no process, mount, cgroup or socket of a bundle is left.
    #[track_caller]
    pub fn nothing_left(&self, bundle: &Bundle) {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.left(bundle);
            if left.is_empty() {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "left behind:\n{}",
                left.join("\n")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn left(&self, bundle: &Bundle) -> Vec<String> {
        let processes = processes(&self.namespace)
            .into_iter()
            .map(|(pid, words)| format!("process {pid}: {words}"));
        let mounts = mounts()
            .into_iter()
            .filter(|line| !self.mounts.contains(line))
            .map(|line| format!("mount: {line}"));
        let cgroups = cgroups(&bundle.id)
            .into_iter()
            .map(|path| format!("cgroup: {}", path.display()));
        let sockets = sockets(Path::new("/run"))
            .into_iter()
            .map(|path| format!("socket: {}", path.display()));
        processes
            .chain(mounts)
            .chain(cgroups)
            .chain(sockets)
            .collect()
    }

    fn params(&self, bundle: &Bundle) -> BootstrapParams {
        BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: self.namespace.clone(),
            containerd_version: "v2.3.0".to_owned(),
            containerd_ttrpc_address: format!("{CONTAINERD}.ttrpc"),
            containerd_grpc_address: CONTAINERD.to_owned(),
            containerd_binary: "/bin/false".to_owned(),
            ..Default::default()
        }
    }
}

impl Default for Mock {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        for (pid, _) in processes(&self.namespace) {
            // It may end by itself in between.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        for group in cgroups(&self.namespace).into_iter().rev() {
            let _ = fs::remove_dir(group);
        }
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}

impl Shim {
    /// Calls a method of the task service, under the name that `start` announced.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn call<T: Message>(&self, method: &str, request: &impl Message) -> Answer<T> {
        self.call_version(self.version, method, request)
    }

    /// Calls a method of the task service of a version.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn call_version<T: Message>(
        &self,
        version: i32,
        method: &str,
        request: &impl Message,
    ) -> Answer<T> {
        let request = Request {
            service: format!("containerd.task.v{version}.Task"),
            method: method.to_owned(),
            timeout_nano: i64::try_from(DEADLINE.as_nanos()).expect("a short time"),
            payload: request.write_to_bytes().expect("a message can be written"),
            ..Default::default()
        };
        match self.client.request(request) {
            Ok(response) => {
                Ok(T::parse_from_bytes(&response.payload).expect("the answer has the right type"))
            }
            Err(ttrpc::Error::RpcStatus(status)) => Err(Refusal {
                code: status.code.enum_value().ok(),
                message: status.message,
            }),
            Err(error) => Err(Refusal {
                code: None,
                message: error.to_string(),
            }),
        }
    }

    /// Create, without stdio.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn create(&self, bundle: &Bundle) -> Answer<u32> {
        self.create_with(bundle, CreateTaskRequest::new())
    }

    /// Create, with a request that is complete but for the id and the bundle.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn create_with(&self, bundle: &Bundle, mut request: CreateTaskRequest) -> Answer<u32> {
        request.id.clone_from(&bundle.id);
        request.bundle = bundle.path.to_string_lossy().into_owned();
        self.call::<CreateTaskResponse>("Create", &request)
            .map(|response| response.pid)
    }

    /// Start.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn start(&self, id: &str) -> Answer<u32> {
        let request = StartRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call::<StartResponse>("Start", &request)
            .map(|response| response.pid)
    }

    /// State.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn state(&self, id: &str) -> Answer<StateResponse> {
        self.call(
            "State",
            &StateRequest {
                id: id.to_owned(),
                ..Default::default()
            },
        )
    }

    /// Connect.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn connect(&self, id: &str) -> Answer<ConnectResponse> {
        self.call(
            "Connect",
            &ConnectRequest {
                id: id.to_owned(),
                ..Default::default()
            },
        )
    }

    /// Pids.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn pids(&self, id: &str) -> Answer<Vec<u32>> {
        let request = PidsRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let response: PidsResponse = self.call("Pids", &request)?;
        Ok(response
            .processes
            .into_iter()
            .map(|process| process.pid)
            .collect())
    }

    /// Kill.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn kill(&self, id: &str, signal: Signal) -> Answer<()> {
        let signal = (signal as i32).cast_unsigned();
        let request = KillRequest {
            id: id.to_owned(),
            signal,
            ..Default::default()
        };
        self.call::<Empty>("Kill", &request).map(|_| ())
    }

    /// Wait: the exit status.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn wait(&self, id: &str) -> Answer<u32> {
        let request = WaitRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let response: WaitResponse = self.call("Wait", &request)?;
        assert!(
            response.exited_at.seconds > 1_500_000_000,
            "no time of exit: {response:?}"
        );
        Ok(response.exit_status)
    }

    /// Delete.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn delete(&self, id: &str) -> Answer<DeleteResponse> {
        self.call(
            "Delete",
            &DeleteRequest {
                id: id.to_owned(),
                ..Default::default()
            },
        )
    }

    /// Stats.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn stats(&self, id: &str) -> Answer<Any> {
        let request = StatsRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call::<StatsResponse>("Stats", &request)
            .map(|response| response.stats.unwrap_or_default())
    }

    /// Shutdown.
    ///
    /// # Errors
    /// What the shim answered, or that it left without an answer.
    pub fn shutdown(&self, id: &str) -> Answer<()> {
        let request = ShutdownRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.call::<Empty>("Shutdown", &request).map(|_| ())
    }

    /// Delete and Shutdown, and then containerd's run of `delete`; nothing may be left.
    #[track_caller]
    pub fn finish(self, mock: &Mock, bundle: &Bundle) -> DeleteResponse {
        let deleted = self
            .delete(&bundle.id)
            .expect("a stopped task can be deleted");
        // The shim may be gone before its answer is.
        let _ = self.shutdown(&bundle.id);
        mock.delete(bundle);
        mock.nothing_left(bundle);
        deleted
    }
}

impl Refusal {
    /// Insists on words that the message must hold.
    #[track_caller]
    pub fn names(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(
                self.message.contains(word),
                "nothing about {word:?} in: {}",
                self.message
            );
        }
        self
    }
}

impl Event {
    fn container(&self) -> Option<&str> {
        match self {
            Self::Create(id, ..)
            | Self::Start(id, ..)
            | Self::Exit(id, ..)
            | Self::Delete(id, ..) => Some(id),
            Self::Other(_) => None,
        }
    }

    fn read(topic: &str, body: &[u8]) -> protobuf::Result<Self> {
        Ok(match topic {
            topics::TASK_CREATE_EVENT_TOPIC => {
                let event = TaskCreate::parse_from_bytes(body)?;
                Self::Create(event.container_id, event.pid)
            }
            topics::TASK_START_EVENT_TOPIC => {
                let event = TaskStart::parse_from_bytes(body)?;
                Self::Start(event.container_id, event.pid)
            }
            topics::TASK_EXIT_EVENT_TOPIC => {
                let event = TaskExit::parse_from_bytes(body)?;
                assert!(
                    event.exited_at.seconds > 1_500_000_000,
                    "no time of exit: {event:?}"
                );
                Self::Exit(event.container_id, event.pid, event.exit_status)
            }
            topics::TASK_DELETE_EVENT_TOPIC => {
                let event = TaskDelete::parse_from_bytes(body)?;
                Self::Delete(event.container_id, event.pid, event.exit_status)
            }
            other => Self::Other(other.to_owned()),
        })
    }
}

struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Events for Recorder {
    fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        let event = Event::read(&envelope.topic, &envelope.event.value)
            .expect("an event of the topic's type");
        self.0
            .lock()
            .expect("the recorder does not panic")
            .push(event);
        Ok(Empty::new())
    }
}

/// What comes out of a fifo, read as containerd reads: opened before there is a writer.
pub struct Outlet(Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>);

impl Outlet {
    /// Begins to read.
    pub fn of(fifo: &Path) -> Self {
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(fifo)
            .expect("the fifo is there");
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let thread = thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            let mut begun = false;
            loop {
                match reader.read(&mut chunk) {
                    // Before the first writer comes a fifo is at its end, too.
                    Ok(0) if begun => break,
                    Ok(0) => begun = hung_up(&reader),
                    Ok(length) => {
                        begun = true;
                        keep.lock()
                            .expect("nobody panics with it")
                            .extend_from_slice(&chunk[..length]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        begun = true;
                        readable(&reader);
                    }
                    Err(error) => panic!("a fifo cannot be read: {error}"),
                }
            }
        });
        Self(kept, thread)
    }

    /// What came so far.
    pub fn so_far(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    /// Waits until `text` has come.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait::until(&format!("{text:?} from a fifo"), || {
            String::from_utf8_lossy(&self.so_far()).contains(text)
        });
    }

    /// Waits for the end, and returns everything as text.
    #[track_caller]
    pub fn all(self) -> String {
        wait::until("the end of a fifo", || self.1.is_finished());
        String::from_utf8_lossy(&self.so_far()).into_owned()
    }
}

/// Opens a fifo for writing as soon as it has a reader.
#[track_caller]
pub fn inlet(fifo: &Path) -> impl Write {
    wait::some("a reader of the fifo", || {
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(fifo)
            .ok()
    })
}

fn readable(file: &fs::File) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    // An interruption only means to look again.
    let _ = poll(
        &mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)],
        PollTimeout::from(100u8),
    );
}

/// Waits a little for a writer, and says whether one came and left again without a word.
fn hung_up(file: &fs::File) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100u8));
    fds[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Reads the shim's log to nowhere, as long as the test binary runs.
fn drain(fifo: &Path) {
    let mut log = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fifo)
        .expect("the bundle has a log fifo");
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = log.read(&mut chunk) {
            // libtest shows it where the test fails; a broken stderr is none of the test's business.
            let _ = std::io::stderr().write_all(&chunk[..length]);
        }
    });
}

/// The processes that carry a word in their command line or their environment.
pub fn processes(word: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Whatever cannot be read has just ended.
        let read = |file| {
            String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default())
                .replace('\0', " ")
        };
        let (words, environment, groups) = (read("cmdline"), read("environ"), read("cgroup"));
        let alive = !read("stat")
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'));
        if alive
            && [&words, &environment, &groups]
                .into_iter()
                .any(|text| text.contains(word))
        {
            found.push((pid, words));
        }
    }
    found
}

/// The cgroups whose path carries a word.
pub fn cgroups(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = pending.pop() {
        // A cgroup that cannot be listed has just been removed.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if path.to_string_lossy().contains(word) {
                    found.push(path.clone());
                }
                pending.push(path);
            }
        }
    }
    found
}

/// The sockets below a folder, but for the mock's own.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(sockets(&entry.path()));
        } else if kind.is_socket()
            && !entry
                .path()
                .starts_with("/run/containerd/containerd.sock.ttrpc")
        {
            found.push(entry.path());
        }
    }
    found
}

/// The mounts of this thread's namespace: where, and what.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("/proc is mounted");
    table
        .lines()
        .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
        .collect()
}
