//! Taking calls, also where no descriptor is left for one more connection: the server would try again
//! and again, and have the processor to itself.

use super::Error;
use crate::sys;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

/// How often it is looked for a descriptor while there is none.
const PAUSE: Duration = Duration::from_millis(100);

/// Has `server` listen, but not while it could not take a call; `listener` is another descriptor of
/// its socket.
///
/// # Errors
/// When it cannot listen any more.
pub async fn keep(server: &mut Server, listener: &AsyncFd<OwnedFd>) -> Result<Infallible, Error> {
    loop {
        listener.readable().await?.clear_ready();
        if one_left() {
            continue;
        }
        log::warn!("no descriptor is left for a connection (RLIMIT_NOFILE); callers wait for one");
        server.stop_listen().await;
        while !one_left() {
            sleep(PAUSE).await;
        }
        server.start().await?;
    }
}

fn one_left() -> bool {
    sys::fd::standard(0).is_ok()
}
