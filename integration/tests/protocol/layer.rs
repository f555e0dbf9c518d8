//! The process that reads what images say of themselves, and a containerd that does not answer it as
//! it should. What the real ones answer, `core/images.rs` tells.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::command::{DEADLINE, Running};
use integration::paths::{self, SHIM};
use tempfile::TempDir;

use crate::compiler::confined;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A containerd's socket.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    _folder: TempDir,
}

impl Socket {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("containerd.sock");
        let listener = UnixListener::bind(&path).expect("the path is short");
        Self { listener, path, _folder: folder }
    }

    /// The connection of a reader that is about to ask, and has let go of all else.
    fn asked(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().expect("somebody connects");
        let mut first = [0; PREFACE.len()];
        stream.read_exact(&mut first).expect("it speaks first");
        assert_eq!(first, PREFACE);
        stream
    }
}

fn reader(address: &Path) -> Command {
    let mut command = Command::new(paths::binary(SHIM));
    command.args(["layer", "find"]).arg(address).args(["default", "container", "any", "/app.wasm"]);
    command
}

#[test]
fn the_reader_of_images_is_nobody_with_no_rights_no_network_and_finite_means() {
    let socket = Socket::new();
    let running = Running::spawn(reader(&socket.path));
    let stream = socket.asked();
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
    confined(peer.expect("the socket has a peer").pid().cast_unsigned());
    drop(stream);
    let done = running.finish(DEADLINE).ok();
    assert!(done.text().contains("containerd does not answer"), "{done}");
}

#[test]
fn a_containerd_that_hangs_up_or_speaks_another_language_is_told_of() {
    for answer in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 4096]] {
        let socket = Socket::new();
        let running = Running::spawn(reader(&socket.path));
        let mut stream = socket.asked();
        stream.write_all(answer).expect("the reader is there");
        drop(stream);
        let done = running.finish(DEADLINE);
        let told = format!("{}{}", done.text(), done.stderr);
        assert!(told.contains("containerd does not answer as it should"), "{done}");
    }
}

#[test]
fn a_containerd_that_is_not_there_is_told_of_by_its_address() {
    let socket = Socket::new();
    let nowhere = socket.path.with_extension("gone");
    let running = Running::spawn(reader(&nowhere));
    running.finish(DEADLINE).fails().complains_of(&[&nowhere.display().to_string()]);
}
