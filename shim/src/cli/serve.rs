//! The process that serves: a fork of `start`, one for a group of containers, with one thread.

use super::{Error, logger};
use crate::launch::{Code, Forks, Launcher, fork_point};
use crate::service::{Publisher, Service};
use crate::sys;
use crate::task::Tasks;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use nix::fcntl::OFlag;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long the last events and answers may take at the end.
const GOODBYE: Duration = Duration::from_secs(5);

/// What `start` has found out and made.
pub struct Settings {
    pub listener: UnixListener,
    pub socket: PathBuf,
    pub bundle: PathBuf,
    pub namespace: String,
    pub ttrpc_address: String,
    pub debug: bool,
}

/// Serves until containerd says `Shutdown`; never returns. For the child of a fork.
pub fn run(settings: Settings) -> ! {
    let code = match detach(&settings).map_err(Error::from).and_then(|()| serve(settings)) {
        Ok(()) => 0,
        Err(e) => {
            log::error!("cannot serve: {e}");
            1
        }
    };
    sys::process::exit_now(code)
}

/// Lets go of what belongs to `start`: its session, its streams (containerd reads them to their
/// end), its folder.
fn detach(settings: &Settings) -> io::Result<()> {
    nix::unistd::setsid()?;
    let null = sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)?;
    for standard in 0..=2 {
        sys::fd::become_standard(null.as_fd(), standard)?;
    }
    drop(null);
    sys::fd::close_all_but(&[settings.listener.as_fd()])?;
    logger::init(&settings.bundle.join("log"), settings.debug);
    protect_from_oom();
    std::env::set_current_dir("/")
}

/// The shim shall outlive its containers when memory runs out, but not containerd, whose score it
/// has inherited.
fn protect_from_oom() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(score) = score
        && let Err(e) = fs::write(FILE, (score + 1).min(1000).to_string())
    {
        log::warn!("{FILE}: {e}");
    }
}

fn serve(settings: Settings) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (forks, mut requests) = Forks::new();
    let (events, published) = mpsc::unbounded_channel();
    let shutdown = Arc::new(Notify::new());
    let code = Code::new(PathBuf::from(artifact::cache::DEFAULT_ROOT));
    let tasks = Tasks::new(Launcher::new(forks, code), events);
    let service = Service::new(tasks, shutdown.clone());
    let mut server = Server::new().register_service(service.methods());
    let publisher = runtime.block_on(async {
        settings.listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(settings.listener)?;
        server = std::mem::take(&mut server).add_listener(Listener::from(listener));
        server.start().await?;
        let publisher = Publisher::new(&settings.ttrpc_address, &settings.namespace);
        Ok::<_, Error>(tokio::spawn(publisher.run(published)))
    })?;
    // Forking happens here, between two turns of the runtime: a child is not inside of it.
    while let Some(request) = runtime.block_on(async {
        tokio::select! {
            request = requests.recv() => request,
            () = shutdown.notified() => None,
        }
    }) {
        fork_point(request);
    }
    // First of all: from here on a `start` makes a new shim, whose socket has the same name.
    let _ = fs::remove_file(&settings.socket);
    runtime.block_on(async {
        server.shutdown().await?;
        drop(server);
        let _ = tokio::time::timeout(GOODBYE, publisher).await;
        Ok(())
    })
}
