//! The process that serves: a fork of `start`, one for a group of containers, with one thread.

use super::{Error, accept, logger};
use crate::launch::{Code, Containerd, First, Forks, Launcher, Wanted, fork_zygote};
use crate::service::{Publisher, Service};
use crate::sys;
use crate::sys::polled::watch;
use crate::task::Tasks;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use nix::fcntl::OFlag;
use std::fs;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{Notify, mpsc};

/// How long the last events may take at the end: a containerd that starts removes what has ended
/// without it, and takes events only after that.
const GOODBYE: Duration = Duration::from_secs(30);

/// How often a shim that no container has come to looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// What `start` has found out and made.
pub struct Settings {
    pub listener: UnixListener,
    pub socket: PathBuf,
    pub bundle: PathBuf,
    /// The program's name.
    pub name: String,
    /// The container that it was started for.
    pub id: String,
    pub containerd: Containerd,
    pub ttrpc_address: String,
    /// Whether other containers will follow.
    pub grouped: bool,
    /// What the first one wants.
    pub first: Wanted,
    pub debug: bool,
}

/// Serves until containerd says `Shutdown`, or has given it up; never returns. For the child of a fork.
pub fn run(settings: Settings) -> ! {
    let code = match detach(&settings).map_err(Error::from).and_then(|z| serve(settings, z)) {
        Ok(()) => 0,
        Err(e) => {
            log::error!("cannot serve: {e}");
            1
        }
    };
    sys::process::exit_now(code)
}

/// Lets go of what belongs to `start`: its session, its streams (containerd reads them to their
/// end), its folder. Gives the zygote, forked while there is nothing yet that it could know.
fn detach(settings: &Settings) -> io::Result<First> {
    nix::unistd::setsid()?;
    let null = sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)?;
    for standard in 0..=2 {
        sys::fd::become_standard(null.as_fd(), standard)?;
    }
    drop(null);
    sys::fd::close_all_but(&[settings.listener.as_fd()])?;
    logger::init(&settings.bundle.join("log"), settings.debug);
    protect_from_oom();
    std::env::set_current_dir("/")?;
    fork_zygote()
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

fn serve(settings: Settings, zygote: First) -> Result<(), Error> {
    let Settings { listener, socket, bundle, name, id, containerd, ttrpc_address, .. } = settings;
    let (grouped, first) = (settings.grouped, settings.first);
    let namespace = containerd.namespace.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (events, published) = mpsc::unbounded_channel();
    let shutdown = Arc::new(Notify::new());
    let (mut server, publisher) = runtime.block_on(async {
        let command = [&name, "-namespace", &namespace, "-id", &id, "zygote"].map(str::to_owned);
        let forks = Forks::new(zygote, grouped, command.to_vec())?;
        forks.prepare(&first);
        let code = Code::new(PathBuf::from(artifact::cache::DEFAULT_ROOT), Some(containerd));
        let tasks = Tasks::new(Launcher::new(forks, code), events);
        let service = Service::new(tasks.clone(), shutdown.clone());
        listener.set_nonblocking(true)?;
        let calls = watch(OwnedFd::from(listener.try_clone()?), Interest::READABLE);
        let calls = calls.map_err(|(_, e)| e)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let server = Server::new().register_service(service.methods());
        let mut server = server.add_listener(Listener::from(listener));
        server.start().await?;
        let publisher = Publisher::new(&ttrpc_address, &namespace);
        let publisher = tokio::spawn(publisher.run(published));
        tokio::select! {
            () = shutdown.notified() => {}
            () = given_up(&bundle, &tasks) => log::warn!("nobody has use for this shim"),
            Err(e) = accept::keep(&mut server, &calls) => return Err(e),
        }
        Ok::<_, Error>((server, publisher))
    })?;
    // First of all: from here on a `start` makes a new shim, whose socket has the same name.
    let _ = fs::remove_file(&socket);
    runtime.block_on(async {
        server.shutdown().await?;
        drop(server);
        let _ = tokio::time::timeout(GOODBYE, publisher).await;
        Ok(())
    })
}

/// Waits until the bundle is gone before any container was made, which is all that a shim hears of a
/// containerd that could not note where it serves: that one leaves it to itself.
async fn given_up(bundle: &Path, tasks: &Tasks) {
    while tasks.is_empty() {
        if !bundle.exists() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    pending().await
}
