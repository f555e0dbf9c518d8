//! The process that asks registries for signatures and code, whose answers are hostile.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use artifact::digest::Digest;
use integration::paths::{self, SHIM};

use crate::code::children;
use crate::compiler::is_nobody;

/// What the process says to a registry that answers `answer` to whatever it is asked.
fn said(order: &str, image: &str, answer: &[u8]) -> (bool, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it is bound").port();
    let image = format!("localhost:{port}/{image}");
    let digest = format!("sha256:{}", Digest::of(b"image"));
    let mut child = Command::new(paths::binary(SHIM))
        .args(["fetch", order, &image, &digest])
        .args((order == "code").then_some(&digest))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    listener.set_nonblocking(true).expect("it is a socket");
    let mut locked_in = false;
    loop {
        if child.try_wait().expect("it is ours").is_some() {
            break;
        }
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        stream.set_nonblocking(false).expect("it is a socket");
        let [asking] = children(child.id()).try_into().expect("one asks, the other waits");
        is_nobody(asking);
        let pids = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).expect("it asks");
        assert_ne!(pids(asking), pids(child.id()), "others cannot be signalled by it");
        locked_in = true;
        let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer));
    }
    let done = child.wait_with_output().expect("it has ended");
    assert!(locked_in, "it asked: {}", String::from_utf8_lossy(&done.stderr));
    let said = if done.status.success() { done.stdout } else { done.stderr };
    (done.status.success(), String::from_utf8(said).expect("it is text"))
}

#[test]
fn who_asks_a_registry_is_nobody_with_no_rights_and_finite_means() {
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let none = r#"{"signatures":[],"trouble":null}"#;
    for (order, nothing) in [("signatures", none), ("bundles", none), ("code", "[]")] {
        assert_eq!(said(order, "a:1", missing), (true, nothing.to_owned()), "{order}");
    }
}

#[test]
fn a_registry_that_answers_nonsense_is_no_use_and_no_harm() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot JSON!"[..],
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        let (ok, words) = said("signatures", "a:1", answer);
        let named = words.contains("localhost:") || words.contains("127.0.0.1:1");
        assert!(!ok && named && words.lines().count() == 1, "{words}");
    }
}

#[test]
fn what_is_no_name_of_a_registry_is_not_asked() {
    let digest = format!("sha256:{}", Digest::of(b"image"));
    for image in ["hello", "sha256:00", "localhost/../etc", "localhost:5000/A"] {
        let done = Command::new(paths::binary(SHIM))
            .args(["fetch", "signatures", image, &digest])
            .output()
            .expect("it was built");
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && words.contains("does not name a registry"), "{words}");
    }
}
