//! Components that answer HTTP, and ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::harness::{Place, Running, guest, until};

/// A port that is free.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

fn serve(place: &Place, args: &[&str], port: u16) -> Running {
    let address = format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:{port}");
    let mut command = place.command(&["run", "--env", &address]);
    command.args(args).arg(guest("web2.wasm")).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    Running { child, output }
}

#[test]
fn a_component_that_answers_is_reached_by_its_port_and_by_another() {
    let (place, own, other) = (Place::new(), port(), port());
    let publish = format!("127.0.0.1:{other}:{own}");
    let running = serve(&place, &["--publish", &publish], own);
    until("the guest listens", || TcpStream::connect(("127.0.0.1", own)).is_ok());
    for port in [own, other] {
        let answer = get(port).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("hello from wasi:http 0.2"), "{answer}");
    }
    running.signal("TERM");
    assert_eq!(running.end().0, Some(0), "what is told to end has nothing left to answer");
}

#[test]
fn ports_that_cannot_be_had_are_refused() {
    let (place, web) = (Place::new(), guest("web2.wasm"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = place.refused(125, &["-p", &format!("{address}:8080"), &web]);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    let variable = format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR={address}");
    let said = place.refused(125, &["-e", &variable, &web]);
    assert!(said.contains("Address already in use"), "{said}");
    let said = place.refused(125, &["--network", "none", "-p", "1:2", &web]);
    assert!(said.contains("--publish needs the host's network"), "{said}");
    let said = place.refused(125, &["-p", "127.0.0.1:80:80", &web]);
    assert!(said.contains("WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:80"), "{said}");
}

#[test]
fn the_network_is_the_hosts_or_none() {
    let (place, probe) = (Place::new(), guest("probe-p2.wasm"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = [0; 4];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(b"hello guest\n").unwrap();
    });
    place.ends(1, &["--network", "none", &probe, "connect", "127.0.0.1", &port, "you"]);
    assert_eq!(place.says(&[&probe, "connect", "127.0.0.1", &port, "you"]), "hello guest\n");
    server.join().unwrap();
}
