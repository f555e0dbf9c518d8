//! Pushes to registries that forget, stop half-way or lie about it.

use std::sync::Mutex;

use crate::harness::{Desk, sha256};
use crate::server::{Reply, Request, Server};

/// Larger than one chunk of an upload, in bytes, and how it is sent.
const BIG: usize = 40 << 20;
const IN_CHUNKS: [&str; 2] = ["--chunk-size", "16MiB"];

/// A registry that takes everything, but for what `lie` answers otherwise.
fn taker(lie: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let at = Mutex::new(0);
    Server::start(move |request, _| {
        if let Some(reply) = lie(request) {
            return reply;
        }
        let accepted = |at: usize| {
            let range = format!("Range: 0-{}", at.max(1) - 1);
            Reply::status(202).with("Location: /v2/upload?state=1").with(&range)
        };
        let mut at = at.lock().unwrap();
        match request.method() {
            "HEAD" => Reply::status(404),
            "POST" => accepted(0),
            "PATCH" => {
                *at += request.body.len();
                accepted(*at)
            }
            "GET" => accepted(*at),
            _ => Reply::status(201),
        }
    })
}

#[test]
fn an_upload_goes_on_where_the_registry_says_that_it_broke_off() {
    let desk = Desk::new();
    let got = std::sync::Arc::new(Mutex::new((Vec::new(), 0)));
    let state = got.clone();
    let server = taker(move |request| {
        let mut state = state.lock().unwrap();
        let (bytes, patches) = &mut *state;
        match request.method() {
            "PATCH" => {
                *patches += 1;
                assert!(
                    request
                        .header("content-range")
                        .unwrap()
                        .starts_with(&format!("{}-", bytes.len()))
                );
                if *patches == 2 {
                    // It took a part, and says that something went wrong.
                    bytes.extend(&request.body[..1 << 20]);
                    return Some(Reply::status(500));
                }
                bytes.extend(&request.body);
            }
            "GET" => {}
            "PUT" if request.path().contains("digest=") && request.body.len() < 1 << 20 => {
                return None;
            }
            _ => return None,
        }
        let range = format!("Range: 0-{}", bytes.len() - 1);
        let status = if request.method() == "GET" { 204 } else { 202 };
        Some(Reply::status(status).with("Location: /v2/upload?state=2").with(&range))
    });
    let name = server.name("x");
    desk.build(&name, BIG);
    let report = desk.json(&["push", &name, IN_CHUNKS[0], IN_CHUNKS[1]]);
    let layer = report["blobs"].as_array().unwrap().iter().max_by_key(|b| b["size"].as_u64());
    assert_eq!(sha256(&got.lock().unwrap().0), layer.unwrap()["digest"].as_str().unwrap());
}

#[test]
fn a_registry_that_forgets_an_upload_gets_it_anew() {
    let desk = Desk::new();
    let broke = Mutex::new(false);
    let server = taker(move |request| {
        let mut broke = broke.lock().unwrap();
        let sent = request.header("content-range").is_some_and(|range| !range.starts_with("0-"));
        match request.method() {
            "PATCH" if sent && !*broke => {
                *broke = true;
                Some(Reply::status(500))
            }
            "GET" => Some(Reply::status(404)),
            "PATCH" => {
                let end = request.header("content-range").unwrap().split('-').nth(1).unwrap();
                let range = format!("Range: 0-{end}");
                Some(Reply::status(202).with("Location: /v2/upload").with(&range))
            }
            _ => None,
        }
    });
    let name = server.name("x");
    desk.build(&name, BIG);
    desk.ok(&["push", &name, IN_CHUNKS[0], IN_CHUNKS[1]]);
    let begun = server.requests().iter().filter(|r| r.method() == "POST").count();
    assert_eq!(begun, 3, "the configuration once, the layer twice");
}

#[test]
fn a_registry_without_chunks_gets_a_blob_whole() {
    let desk = Desk::new();
    let server = taker(|request| (request.method() == "PATCH").then(|| Reply::status(405)));
    let name = server.name("x");
    desk.build(&name, BIG);
    desk.ok(&["push", &name, IN_CHUNKS[0], IN_CHUNKS[1]]);
    let requests = server.requests();
    let longest = requests.iter().filter(|r| r.method() == "PUT").map(|r| r.body.len()).max();
    assert!(longest.unwrap() > BIG);
}

#[test]
fn behind_a_proxy_that_takes_short_requests_a_blob_goes_in_short_chunks() {
    let desk = Desk::new();
    let long = |request: &Request| request.body.len() > 1 << 20;
    let server = taker(move |request| long(request).then(|| Reply::status(413)));
    let name = server.name("x");
    desk.build(&name, 3 << 20);
    let said = desk.fail(&["push", &name]);
    assert!(said.contains("status 413") && said.contains("--chunk-size"), "{said}");
    desk.ok(&["push", &name, "--chunk-size", "1MiB"]);
}

#[test]
fn lies_about_uploads_are_told_as_such() {
    let other = format!("Docker-Content-Digest: {}", sha256(b"other"));
    type Lie = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;
    let lies: [(Lie, &str); 6] = [
        (
            Box::new(|r| (r.method() == "POST").then(|| Reply::status(202))),
            "the answer with status 202 has no Location",
        ),
        (
            Box::new(|r| {
                let to = "Location: http://192.0.2.1/upload";
                (r.method() == "POST").then(|| Reply::status(202).with(to))
            }),
            "sends to http://192.0.2.1/upload: that is another host, without TLS",
        ),
        (
            Box::new(|r| (r.method() == "POST").then(|| Reply::status(200))),
            "it answers with status 200 to an upload",
        ),
        (
            Box::new(move |r| (r.method() == "PUT").then(|| Reply::status(201).with(&other))),
            "it says that it took sha256:",
        ),
        (
            Box::new(|r| {
                let to = "Location: http://127.0.0.1:1/";
                (r.method() == "PUT").then(|| Reply::status(307).with(to))
            }),
            "an upload is not sent a second time to elsewhere",
        ),
        (
            Box::new(|r| (r.path().contains("/manifests/")).then(|| Reply::status(413))),
            "answers with status 413",
        ),
    ];
    for (lie, words) in lies {
        let desk = Desk::new();
        let server = taker(lie);
        let name = server.name("x:1");
        desk.build(&name, 1000);
        let said = desk.fail(&["push", &name, "--retries", "0", "--timeout", "2"]);
        assert!(said.contains(words), "{said}");
        assert_eq!(desk.names(), [name.as_str()]);
    }
}

#[test]
fn a_registry_that_has_more_than_it_was_sent_is_not_believed() {
    let server = taker(|request| {
        let far = "Range: 0-99999999999";
        let reply = || Reply::status(202).with("Location: /v2/upload").with(far);
        (request.method() == "PATCH").then(reply)
    });
    let desk = Desk::new();
    let name = server.name("x");
    desk.build(&name, BIG);
    let said = desk.fail(&["push", &name, IN_CHUNKS[0], IN_CHUNKS[1]]);
    assert!(said.contains("it says that it has 100000000000 bytes of 16777216 sent"), "{said}");
}
