//! A stand-in for containerd that drives the shim's binary: it execs `start` and `delete` in each
//! dialect, speaks ttrpc to the task service under either of its names, and records the events.
//!
//! It runs on the machine itself, in a mount namespace of the test's thread: `/run` and `/var/lib`
//! are the test's own, and its mounts can be counted.

mod events;
mod fifo;
mod holdings;
mod process;
pub mod raw;
mod remains;
mod task;

pub use events::Event;
pub use fifo::{Outlet, inlet};
pub use holdings::Holdings;
pub use process::Process;
pub use remains::{cgroups, group_file, processes};
pub use task::{Answer, Refusal, Shim};

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{CreateTaskRequest, DeleteResponse};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim_async::create_events;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tokio::runtime::{Builder, Runtime};
use ttrpc::asynchronous::Server;

use crate::bundle::Bundle;
use crate::command::{self, Done};
use crate::names::unique;
use crate::{paths, wait};
use events::Recorder;
use remains::{mounts, sockets};

const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The longest that a request or a run of the binary may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A shim may still be on its way out when its last answer has come.
const GRACE: Duration = Duration::from_secs(10);

/// How `start` is spoken to.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// Nothing on standard input: plain ctr and docker up to containerd 2.2.
    Silent,
    /// The runtime's options on standard input: the same with options configured.
    Options(Any),
    /// `BootstrapParams`: containerd 2.3 and later.
    Bootstrap {
        /// Where the shim's socket shall be: containerd 2.4 and later.
        socket_dir: Option<String>,
    },
}

/// containerd, as far as a shim can see it.
pub struct Mock {
    /// The containerd namespace; nothing else on the machine bears this name.
    pub namespace: String,
    events: Arc<Mutex<Vec<Event>>>,
    /// What takes events, while it is there.
    server: Option<Runtime>,
    mounts: Vec<String>,
}

impl Mock {
    /// A containerd without containers, alone in its mount namespace.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("the tests run as root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("propagation can be cut");
        // A test may want to fill the first.
        for (folder, options) in [("/run", Some("size=128m")), ("/var/lib", None)] {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), options)
                .expect("a tmpfs can be mounted");
        }
        fs::create_dir_all("/run/containerd/fifo").expect("/run is the test's own");
        let namespace = format!("{}-{}", unique("mock"), std::process::id());
        let mut mock = Self { namespace, events: Arc::default(), server: None, mounts: Vec::new() };
        mock.come_back();
        mock.mounts = mounts();
        mock
    }

    /// containerd is not there any more, as if it had been killed: nobody takes events, and every
    /// connection to it is cut.
    pub fn go_away(&mut self) {
        drop(self.server.take());
        let _ = fs::remove_file(format!("{CONTAINERD}.ttrpc"));
    }

    /// containerd is there again, with what it knew.
    pub fn come_back(&mut self) {
        let recorder = Arc::new(Recorder(Arc::clone(&self.events)));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(async {
            let mut server = Server::new()
                .bind(&format!("unix://{CONTAINERD}.ttrpc"))
                .expect("the socket can be bound")
                .register_service(create_events(recorder));
            server.start().await.expect("the event service can be started");
            // It stops when it is dropped, which it is with the runtime.
            tokio::spawn(async move {
                let _server = server;
                pending::<()>().await;
            });
        });
        self.server = Some(runtime);
    }

    /// A bundle in this containerd's folder, under an id of its own.
    pub fn bundle(&self, command: &[&str]) -> Bundle {
        let folder =
            Path::new("/run/containerd/io.containerd.runtime.v2.task").join(&self.namespace);
        Bundle::new(&folder, &format!("{}-{}", self.namespace, unique("c")), command)
    }

    /// Execs the binary as containerd does, with `stdin` as its input.
    pub fn exec(&self, bundle: &Bundle, verb: &[&str], stdin: &[u8]) -> Done {
        let mut command = Command::new(paths::binary(paths::SHIM));
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
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
            Dialect::Bootstrap { socket_dir } => self
                .params(bundle, socket_dir.clone())
                .write_to_bytes()
                .expect("a message can be written"),
        };
        fifo::drain(&bundle.path.join("log"));
        let done = self.exec(bundle, &["start"], &stdin);
        if done.code != 0 {
            return Err(Refusal { code: None, message: done.stderr });
        }
        assert!(
            done.stderr.is_empty(),
            "`start` wrote to standard error, which old daemons read\n{done}"
        );
        let (address, version) = match dialect {
            Dialect::Silent | Dialect::Options(_) => (done.text(), 2),
            Dialect::Bootstrap { .. } => {
                let result = BootstrapResult::parse_from_bytes(&done.stdout)
                    .unwrap_or_else(|error| panic!("not a BootstrapResult: {error}\n{done}"));
                assert_eq!(result.protocol, "ttrpc");
                (result.address, result.version)
            }
        };
        assert!(address.starts_with("unix://"), "not an address: {address:?}\n{done}");
        Ok(Shim::at(address, version))
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
            shim.create_with(bundle, request).map(|_| ()).inspect_err(|_| {
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
        wait::some(&format!("{count} events of {id}; so far {:?}", self.events(id)), || {
            Some(self.events(id)).filter(|events| events.len() >= count)
        })
    }

    /// Insists that no process, mount, cgroup or socket of a bundle is left.
    #[track_caller]
    pub fn nothing_left(&self, bundle: &Bundle) {
        let deadline = Instant::now() + GRACE;
        loop {
            let left = self.left(bundle);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind:\n{}", left.join("\n"));
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
        let cgroups =
            cgroups(&bundle.id).into_iter().map(|path| format!("cgroup: {}", path.display()));
        let sockets = sockets(Path::new("/run"))
            .into_iter()
            .map(|path| format!("socket: {}", path.display()));
        processes.chain(mounts).chain(cgroups).chain(sockets).collect()
    }

    fn params(&self, bundle: &Bundle, socket_dir: Option<String>) -> BootstrapParams {
        BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: self.namespace.clone(),
            containerd_version: "v2.3.0".to_owned(),
            containerd_ttrpc_address: format!("{CONTAINERD}.ttrpc"),
            containerd_grpc_address: CONTAINERD.to_owned(),
            containerd_binary: "/bin/false".to_owned(),
            socket_dir,
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
        let deadline = Instant::now() + GRACE;
        loop {
            let left = processes(&self.namespace);
            if left.is_empty() || Instant::now() > deadline {
                break;
            }
            for (pid, _) in left {
                // It may end by itself in between.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
        for group in cgroups(&self.namespace).into_iter().rev() {
            // A test that ended well has none left.
            let _ = fs::remove_dir(group);
        }
        self.go_away();
    }
}
