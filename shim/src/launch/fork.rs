//! The one place where the shim forks. Its runtime has one thread and stands still here, so a child
//! is as whole as its parent; tasks that want one send a request and wait.

use crate::init::{self, Seed};
use crate::sys::fork::{PidNamespace, fork_into};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use tokio::sync::{mpsc, oneshot};

/// A child that somebody waits for.
pub struct ForkRequest {
    seed: Seed,
    namespace: Option<File>,
    new_namespace: bool,
    reply: oneshot::Sender<io::Result<Pid>>,
}

/// Where children are asked for.
#[derive(Clone)]
pub struct Forks(mpsc::Sender<ForkRequest>);

impl Forks {
    /// The two ends: where children are asked for, and where the requests arrive.
    pub fn new() -> (Self, mpsc::Receiver<ForkRequest>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    pub(super) async fn fork(
        &self,
        seed: Seed,
        namespace: Option<File>,
        new_namespace: bool,
    ) -> io::Result<Pid> {
        let (reply, forked) = oneshot::channel();
        let request = ForkRequest { seed, namespace, new_namespace, reply };
        let gone = || io::Error::other("the shim is shutting down");
        self.0.send(request).await.map_err(|_| gone())?;
        forked.await.map_err(|_| gone())?
    }
}

/// Carries out a request. To be called outside the runtime: in the child, its thread must not look
/// like one that is inside it.
pub fn fork_point(request: ForkRequest) {
    let ForkRequest { seed, namespace, new_namespace, reply } = request;
    let into = match (&namespace, new_namespace) {
        (Some(file), _) => PidNamespace::Join(file.as_fd()),
        (None, true) => PidNamespace::New,
        (None, false) => PidNamespace::Inherit,
    };
    let forked = match fork_into(into) {
        Ok(None) => {
            // Closed with all the others, under the eyes of its owner.
            std::mem::forget(namespace);
            init::run(seed)
        }
        Ok(Some(pid)) => Ok(pid),
        Err(e) => Err(e),
    };
    // Nobody waits when the request was given up meanwhile; its child then sees the closed channel.
    let _ = reply.send(forked);
}
