//! Guests that answer HTTP requests, `wasi:http` of 0.2 and 0.3.

use integration::command::{DEADLINE, Done};
use integration::docker::{Container, Docker};
use integration::images::{Image, PROBE_P2, WEB, WEB_P3};
use integration::wait;

use crate::docker;

#[track_caller]
fn curl(docker: &Docker, words: &[&str]) -> Done {
    docker.0.exec(&[&["curl", "-sS", "--max-time", "20"], words].concat())
}

/// A container that serves, and the URL of its root without the last slash.
#[track_caller]
fn server(docker: &Docker, flags: &[&str], image: &Image) -> (Container, String) {
    let container = docker.start(flags, image, &[]);
    let url = format!("http://{}:8080", container.address());
    (container, url)
}

#[test]
fn a_proxy_of_0_2_is_granted_what_a_command_is() {
    let (docker, _turn) = docker();
    let (container, url) = server(&docker, &["-e", "COLOUR=blue"], &WEB);
    let get = |path: &str| curl(&docker, &[&format!("{url}{path}")]).ok().text();
    assert_eq!(get("/"), "hello from wasi:http 0.2");
    assert_eq!(get("/env/COLOUR"), "blue");
    assert_eq!(get("/file/etc/greeting"), "good morning");
    let status = ["-o", "/dev/null", "-w", "%{http_code}", &format!("{url}/nothing")];
    assert_eq!(curl(&docker, &status).ok().text(), "404");
    container.says("asked for /env/COLOUR");
}

#[test]
fn a_published_port_reaches_a_service_of_0_3() {
    let (docker, _turn) = docker();
    let _container = docker.start(&["-p", "18090:8080"], &WEB_P3, &[]);
    assert_eq!(curl(&docker, &["127.0.0.1:18090/"]).ok().text(), "hello from wasi:http 0.3");
    let body = "x".repeat(100_000);
    docker.0.sh(&format!("printf %s {body} >/share/body-of-0-3"));
    let echo = ["--data-binary", "@/share/body-of-0-3", "127.0.0.1:18090/echo"];
    assert_eq!(curl(&docker, &echo).ok().text(), body);
}

#[test]
fn each_request_has_an_instance_of_its_own_and_many_are_answered_at_once() {
    let (docker, _turn) = docker();
    let (_container, url) = server(&docker, &[], &WEB);
    let many = ["--parallel", "--parallel-max", "50", &format!("{url}/count/[1-300]")];
    assert_eq!(curl(&docker, &many).ok().text(), "1".repeat(300));
}

#[test]
fn http_2_is_spoken_with_a_client_that_begins_with_it() {
    let (docker, _turn) = docker();
    let (_container, url) = server(&docker, &[], &WEB);
    let words = ["--http2-prior-knowledge", "-w", "%{http_version}", &format!("{url}/")];
    assert_eq!(curl(&docker, &words).ok().lines(), ["hello from wasi:http 0.2", "2"]);
}

#[test]
fn a_request_without_a_host_is_refused() {
    let (docker, _turn) = docker();
    for image in [&WEB, &WEB_P3] {
        let (_container, url) = server(&docker, &[], image);
        let words = ["--http1.0", "-H", "Host:", "-w", "%{http_code}", &format!("{url}/")];
        assert_eq!(curl(&docker, &words).ok().text(), "400");
    }
}

#[test]
fn a_trap_is_answered_with_500_and_the_next_request_is_served() {
    let (docker, _turn) = docker();
    for image in [&WEB, &WEB_P3] {
        let (container, url) = server(&docker, &[], image);
        let words = ["-o", "/dev/null", "-w", "%{http_code}", &format!("{url}/trap")];
        assert_eq!(curl(&docker, &words).ok().text(), "500");
        container.says("wasm trap: wasm `unreachable` instruction executed");
        container.says("wasm backtrace");
        assert!(curl(&docker, &[&format!("{url}/")]).ok().text().starts_with("hello"));
    }
}

#[test]
fn a_guest_asks_others() {
    let (docker, _turn) = docker();
    let other = docker.start(&[], &PROBE_P2, &["serve-http", "7010"]);
    other.says("listening on 7010");
    let (_container, url) = server(&docker, &[], &WEB);
    let there = format!("{url}/get/{}:7010/", other.address());
    assert_eq!(curl(&docker, &[&there]).ok().text(), "hello from wasm");
    let nowhere = format!("{url}/get/{}:1/", other.address());
    let status = ["-o", "/dev/null", "-w", "%{http_code}", &nowhere];
    assert_eq!(curl(&docker, &status).ok().text(), "502");
}

#[test]
fn stop_lets_what_is_being_answered_be_answered_and_takes_nothing_new() {
    let (docker, _turn) = docker();
    for image in [&WEB, &WEB_P3] {
        let (container, url) = server(&docker, &[], image);
        let mut client = docker.0.spawn(&["busybox", "nc", &container.address(), "8080"]);
        client.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.write(b"7\r\nbefore\n\r\n");
        client.says("before\n");
        let stop = docker.0.spawn(&["docker", "stop", "-t", "60", &container.name]);
        wait::until("that nothing new is taken", || curl(&docker, &[&url]).code == 7);
        client.write(b"6\r\nafter\n\r\n0\r\n\r\n");
        client.says("before\n\r\n6\r\nafter\n\r\n0\r\n\r\n");
        client.finish(DEADLINE).ok();
        stop.finish(DEADLINE).ok();
        assert_eq!(container.inspect("{{.State.ExitCode}}"), "0");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_an_answer() {
    let (docker, _turn) = docker();
    let (container, url) = server(&docker, &[], &WEB);
    let client = docker.0.spawn(&["curl", "-s", "--max-time", "60", &format!("{url}/spin")]);
    container.says("asked for /spin");
    container.cli(&["kill", "-s", "TERM"]).ok();
    wait::until("that nothing new is taken", || curl(&docker, &[&url]).code == 7);
    assert!(container.runs());
    container.cli(&["kill", "-s", "INT"]).ok();
    assert_eq!(container.wait(), 130);
    client.finish(DEADLINE).fails();
}

#[test]
fn where_it_listens_can_be_said_and_a_taken_address_is_named() {
    let (docker, _turn) = docker();
    let there = ["--network", "host", "-e", "WASMTIME_HTTP_PROXY_SOCKET_ADDR=127.0.0.1:7011"];
    let _first = docker.start(&there, &WEB, &[]);
    assert_eq!(curl(&docker, &["127.0.0.1:7011/"]).ok().text(), "hello from wasi:http 0.2");
    let taken = ["cannot listen on 127.0.0.1:7011", "Address already in use"];
    docker.run(&there, &WEB, &[]).fails().complains_of(&taken);
    let nonsense = ["-e", "WASMTIME_HTTP_PROXY_SOCKET_ADDR=here"];
    docker.run(&nonsense, &WEB, &[]).fails().complains_of(&["cannot listen on here", "IP:PORT"]);
}

#[test]
fn it_serves_with_as_little_as_one_process() {
    let (docker, _turn) = docker();
    let (_container, url) = server(&docker, &["--pids-limit", "1"], &WEB);
    assert_eq!(curl(&docker, &[&format!("{url}/")]).ok().text(), "hello from wasi:http 0.2");
}
