//! Ports of the host that are forwarded to those of a guest, in the host's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::options::Forward;

/// How long to wait for descriptors or memory before taking the next connection.
const SHORT_OF: Duration = Duration::from_millis(50);

/// A port that is listened on.
pub struct Listening {
    listener: TcpListener,
    to: u16,
}

impl Listening {
    /// Listens for `forward`.
    pub fn at(forward: &Forward) -> Result<Self> {
        let listener = TcpListener::bind(forward.from)
            .with_context(|| format!("cannot publish a port: cannot listen on {}", forward.from))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, to: forward.to })
    }

    /// Forwards connections for as long as it is polled.
    pub async fn forward(self) {
        let Ok(listener) = tokio::net::TcpListener::from_std(self.listener) else { return };
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(serve(client, self.to))),
                Err(_) => tokio::time::sleep(SHORT_OF).await,
            }
        }
    }
}

/// What goes wrong on a connection is told by its end.
async fn serve(mut client: TcpStream, port: u16) {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for ip in loopback {
        if let Ok(mut guest) = TcpStream::connect(SocketAddr::new(ip, port)).await {
            let _ = copy_bidirectional(&mut client, &mut guest).await;
            return;
        }
    }
}
