//! `layer`: asks containerd for the image of a container, and for the layer of it that is wasm.
//!
//! `layer find ADDRESS NAMESPACE CONTAINER IMAGE FILE [OWN]` writes an [`Answer`] to standard output
//! (`IMAGE` is the digest that the image must have, or `any`);
//! `layer read ADDRESS NAMESPACE SHA256 SIZE` writes the layer itself. Image documents are hostile
//! input: once the process is connected it holds nothing else.

pub mod container;
mod containerd;
mod grpc;

use super::confine::confine;
use crate::image::manifest::{self, Found, Wanted};
use crate::launch::{ANY, Answer};
use artifact::digest::Digest;
use containerd::{Containerd, Error};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// (resource, the most that reading an image may take, in its unit)
const LIMITS: [(u32, u64); 4] = [
    (libc::RLIMIT_DATA, 256 << 20),
    (libc::RLIMIT_CPU, 120),
    (libc::RLIMIT_FSIZE, 1 << 20),
    (libc::RLIMIT_CORE, 0),
];

pub fn run(order: &[&str]) -> ExitCode {
    let done = match *order {
        ["find", address, namespace, container, image, file] => {
            find(address, namespace, container, image, Wanted { word: file, own: None })
        }
        ["find", address, namespace, container, image, file, own] => {
            find(address, namespace, container, image, Wanted { word: file, own: Some(own) })
        }
        ["read", address, namespace, digest, size] => match (Digest::parse(digest), size.parse()) {
            (Some(digest), Ok(size)) => read(address, namespace, &digest, size),
            _ => Err(format!("bad digest {digest} or size {size}")),
        },
        _ => Err(
            "usage: layer find ADDRESS NAMESPACE CONTAINER IMAGE FILE [OWN] | layer read ADDRESS \
                  NAMESPACE SHA256 SIZE"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn find(
    address: &str,
    namespace: &str,
    container: &str,
    only: &str,
    wanted: Wanted<'_>,
) -> Result<(), String> {
    let mut containerd = connect(address, namespace)?;
    let answer = match ask(&mut containerd, container, only, wanted) {
        Ok(answer) => answer,
        Err(e) => Answer::Nothing(Some(e.to_string())),
    };
    let json = serde_json::to_vec(&answer).map_err(|e| e.to_string())?;
    io::stdout().write_all(&json).map_err(|e| e.to_string())
}

fn ask(
    containerd: &mut Containerd,
    container: &str,
    only: &str,
    wanted: Wanted<'_>,
) -> Result<Answer, Error> {
    let (image, target) = match container::image(containerd, container) {
        Ok(image) => image,
        Err(why) => return Ok(Answer::Nothing(Some(why))),
    };
    if only != ANY && only != target.digest {
        return Ok(Answer::Unusable(format!(
            "image {image} is another one now ({}) than was checked for this container ({only}); make \
             the container anew",
            target.digest
        )));
    }
    let mut read = |blob: &manifest::Descriptor| {
        containerd.blob(&blob.digest, blob.size).map_err(|e| e.to_string())
    };
    Ok(match manifest::find(&target, wanted, &mut read) {
        Ok(Found::Layer(layer)) => {
            Answer::Layer { image, digest: layer.digest.to_string(), size: layer.size }
        }
        Ok(Found::Nothing) => Answer::Nothing(None),
        Ok(Found::Platforms(names)) => Answer::Nothing(Some(format!(
            "{image} has nothing for the platforms wasi/wasm, wasip2/wasm and wasip1/wasm, only for {names}"
        ))),
        Err(e) => Answer::Unusable(format!("cannot run image {image}: {e}")),
    })
}

/// Writes the layer to standard output, to its end or until nobody wants more of it.
fn read(address: &str, namespace: &str, digest: &Digest, size: u64) -> Result<(), String> {
    let mut containerd = connect(address, namespace)?;
    let mut out = io::stdout().lock();
    match containerd.copy(digest, size, &mut out) {
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Error::Status(status)) => Err(format!("{status}; pull the image again")),
        done => done.map_err(|e| e.to_string()),
    }
}

fn connect(address: &str, namespace: &str) -> Result<Containerd, String> {
    let connection = Connection::open(address)?;
    confine(&[connection.0.as_fd()], &LIMITS)
        .map_err(|e| format!("cannot lock the reader in: {e}"))?;
    connection.speak(namespace).map_err(|e| e.to_string())
}

/// A connection to containerd, over which nothing was said yet.
pub struct Connection(UnixStream);

impl Connection {
    /// To the socket at `address`.
    pub fn open(address: &str) -> Result<Self, String> {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        let connected = UnixStream::connect(path).map(Self);
        connected.map_err(|e| format!("containerd cannot be asked at {path:?}: {e}"))
    }

    /// Begins to speak, of what is in `namespace`.
    pub fn speak(self, namespace: &str) -> Result<Containerd, Error> {
        Containerd::connect(self.0, namespace)
    }
}
