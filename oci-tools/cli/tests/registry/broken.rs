//! Connections to the real registry that break in the middle, and pulls that are killed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::harness::{Desk, OPEN, Registry};

/// Which way the bytes go that are counted.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

/// What happens, once, to the connection on which so many bytes went.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Cut,
    Stall,
}

/// Stands between a client and a registry.
struct Between {
    address: SocketAddr,
    /// What clients sent, as far as it is text.
    heads: Arc<Mutex<String>>,
    /// Told when the fault happened.
    faulted: mpsc::Receiver<()>,
    over: Arc<AtomicBool>,
}

impl Between {
    fn start(registry: SocketAddr, way: Way, after: u64, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(String::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (tell, faulted) = mpsc::channel();
        let (said, end) = (heads.clone(), over.clone());
        thread::spawn(move || {
            let done = Arc::new(AtomicBool::new(false));
            for client in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let client = client.unwrap();
                let server = TcpStream::connect(registry).unwrap();
                for pumped in [Way::Up, Way::Down] {
                    let (client, server) =
                        (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let (said, done, tell) = (said.clone(), done.clone(), tell.clone());
                    thread::spawn(move || {
                        let (mut from, mut to) = match pumped {
                            Way::Up => (&client, &server),
                            Way::Down => (&server, &client),
                        };
                        let mut count = 0;
                        let mut bytes = vec![0; 64 << 10];
                        while let Ok(len @ 1..) = from.read(&mut bytes) {
                            count += len as u64;
                            if pumped == way && count > after && !done.swap(true, Ordering::SeqCst)
                            {
                                let _ = tell.send(());
                                if fault == Fault::Stall {
                                    // Until the client goes.
                                    let _ = (&client).read(&mut bytes);
                                }
                                break;
                            }
                            if pumped == Way::Up && bytes[..len].is_ascii() {
                                *said.lock().unwrap() += str::from_utf8(&bytes[..len]).unwrap();
                            }
                            if to.write_all(&bytes[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = client.shutdown(Shutdown::Both);
                        let _ = server.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, heads, faulted, over }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn heads(&self) -> String {
        self.heads.lock().unwrap().to_lowercase()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

#[test]
fn a_pull_that_is_cut_goes_on_where_it_was() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("big");
    let digest = desk.build(&name, 20 << 20);
    desk.ok(&["push", &name]);
    let between = Between::start(registry.address(), Way::Down, 8 << 20, Fault::Cut);
    let other = Desk::new();
    assert_eq!(other.json(&["pull", &between.name("big")])["digest"], digest);
    between.faulted.recv().unwrap();
    assert!(between.heads().contains("range: bytes="), "{}", between.heads());
    other.check_blobs();
}

#[test]
fn a_pull_that_is_killed_leaves_the_store_whole_and_the_next_goes_on() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("big");
    let digest = desk.build(&name, 20 << 20);
    desk.ok(&["push", &name]);
    let between = Between::start(registry.address(), Way::Down, 8 << 20, Fault::Stall);
    let (name, other) = (between.name("big"), Desk::new());
    other.build("before", 10);
    let mut pull = other.command(&["pull", &name]).stderr(Stdio::null()).spawn().unwrap();
    between.faulted.recv().unwrap();
    assert_eq!(other.names(), ["docker.io/library/before:latest"]);
    // While it uses the store, nothing is swept away.
    let words = other.run(&["rm", "before"]);
    assert!(String::from_utf8_lossy(&words.stderr).contains("another command uses the store"));
    pull.kill().unwrap();
    pull.wait().unwrap();
    assert_eq!(other.names(), [""; 0]);
    assert_eq!(other.files("partial").len(), 1);

    assert_eq!(other.json(&["pull", &name])["digest"], digest);
    assert!(between.heads().contains("range: bytes="), "{}", between.heads());
    other.check_blobs();
    assert_eq!(other.files("partial").len(), 0);
}

#[test]
fn what_lies_spoilt_from_an_earlier_pull_is_fetched_anew() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("big");
    let digest = desk.build(&name, 3 << 20);
    let report = desk.json(&["push", &name]);
    let layer = report["blobs"].as_array().unwrap().iter().max_by_key(|b| b["size"].as_u64());
    let layer = layer.unwrap()["digest"].as_str().unwrap().replace("sha256:", "");
    for spoilt in [1 << 20, 4 << 20] {
        let other = Desk::new();
        other.build("first", 10);
        other.file(&format!("store/partial/{layer}"), vec![7; spoilt]);
        assert_eq!(other.json(&["pull", &name])["digest"], digest);
        other.check_blobs();
    }
}

#[test]
fn a_push_that_is_cut_arrives() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let between = Between::start(registry.address(), Way::Up, 20 << 20, Fault::Cut);
    let name = between.name("big");
    let digest = desk.build(&name, 40 << 20);
    desk.ok(&["push", &name]);
    between.faulted.recv().unwrap();
    assert_eq!(desk.judged(&registry.name("big"), &OPEN), digest);
}

#[test]
fn a_copy_that_is_cut_on_either_side_arrives() {
    let (desk, one, two) = (Desk::new(), Registry::start(), Registry::start());
    let name = one.name("big");
    let digest = desk.build(&name, 20 << 20);
    desk.ok(&["push", &name]);
    let source = Between::start(one.address(), Way::Down, 6 << 20, Fault::Cut);
    let target = Between::start(two.address(), Way::Up, 10 << 20, Fault::Cut);
    desk.ok(&["copy", &source.name("big"), &target.name("copy")]);
    source.faulted.recv().unwrap();
    target.faulted.recv().unwrap();
    assert_eq!(desk.judged(&two.name("copy"), &OPEN), digest);
}
