//! Registries that lie: each lie is told as what it is, costs little, and leaves the store as it was.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Desk, noise, sha256};
use crate::server::{End, Reply, Request, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &[u8] = br#"{"os":"wasi","architecture":"wasm"}"#;

fn descriptor(bytes: &[u8]) -> Value {
    json!({ "mediaType": "x/y", "digest": sha256(bytes), "size": bytes.len() })
}

fn manifest(layer: &[u8]) -> String {
    let (config, layers) = (descriptor(CONFIG), [descriptor(layer)]);
    json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string()
}

/// A registry with one image, whose layer is as `lie` answers.
fn liar(layer: Vec<u8>, lie: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    let (config, digest) = (sha256(CONFIG), sha256(&layer));
    Server::start(move |request, _| {
        let path = request.path();
        if path.contains("/manifests/") {
            Reply::ok(MANIFEST, manifest(&layer))
        } else if path.ends_with(&config) {
            Reply::ok("x/y", CONFIG)
        } else if path.ends_with(&digest) {
            lie(request, &layer)
        } else {
            Reply::status(404)
        }
    })
}

/// Pulls what must fail, into a store with an image that must survive; `partial` says how many
/// layers stay unfinished for a later pull.
#[track_caller]
fn refused(server: &Server, partial: usize, words: &str) {
    let desk = Desk::new();
    desk.build("before", 10);
    let blobs = desk.files("blobs/sha256").len();
    let args = ["pull", &server.name("x"), "--timeout", "0.5", "--retries", "1"];
    let said = desk.fail(&args);
    assert!(said.contains(words), "{said}");
    assert_eq!(desk.names(), ["docker.io/library/before:latest"]);
    // The configuration, on its way beside the layer, may have come.
    assert!(desk.files("blobs/sha256").len() <= blobs + 1);
    let config = sha256(CONFIG).replace("sha256:", "");
    let left = desk.files("partial").into_iter().filter(|path| !path.ends_with(&config));
    assert_eq!(left.count(), partial);
    desk.check_blobs();
    // The next that is removed takes what is left of it away.
    desk.ok(&["rm", "before"]);
    assert!(desk.files("blobs/sha256").is_empty() && desk.files("partial").is_empty());
}

#[test]
fn other_bytes_than_the_digest_says_are_not_kept() {
    let server = liar(noise(100_000), |_, layer| {
        let mut other = layer.to_vec();
        other[70_000] ^= 1;
        Reply::ok("x/y", other)
    });
    refused(&server, 0, "sends other bytes, of digest sha256:");
}

#[test]
fn a_body_of_another_length_is_refused_before_it_is_read() {
    let server = liar(noise(1000), |_, layer| Reply::ok("x/y", [layer, b"!"].concat()));
    refused(&server, 0, "sends 1001, but the manifest says 1000 bytes");
}

#[test]
fn a_body_without_end_is_cut_at_its_size() {
    let server = liar(noise(10_000), |_, _| Reply::status(200).raw(noise(65536), End::Again));
    refused(&server, 0, "sends more, but the manifest says 10000 bytes");
    // Also when what comes first is right.
    let server = liar(noise(10_000), |_, layer| Reply::status(200).raw(layer, End::Again));
    refused(&server, 0, "sends more, but the manifest says 10000 bytes");
}

#[test]
fn a_body_that_stalls_or_trickles_is_given_up_and_kept_for_later() {
    let stalled = |end: fn() -> End| {
        liar(noise(10_000), move |_, layer| {
            let reply = Reply::status(200).with("Content-Length: 10000");
            reply.raw(&layer[..5000], end())
        })
    };
    refused(&stalled(|| End::Stall), 1, "nothing moved for 0.5 s; try again, or wait longer");
    let server = liar(noise(10_000), |_, _| {
        Reply::status(200).with("Content-Length: 10000").raw(noise(1), End::Trickle)
    });
    refused(&server, 1, "nothing moved for 0.5 s");
}

#[test]
fn a_body_that_always_breaks_off_is_given_up() {
    let server = liar(noise(10_000), |_, layer| {
        Reply::status(200).with("Content-Length: 10000").raw(&layer[..5000], End::Cut)
    });
    refused(&server, 1, "the connection broke");
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let server = liar(noise(10_000), |request, layer| match request.header("range") {
        None => Reply::status(200).with("Content-Length: 10000").raw(&layer[..5000], End::Cut),
        Some(_) => {
            let reply = Reply::status(206).with("Content-Range: bytes 0-4999/10000");
            reply.with("Content-Length: 5000").raw(&layer[..5000], End::Cut)
        }
    });
    refused(&server, 1, "it sends another part than asked for");
}

#[test]
fn a_registry_that_ignores_ranges_gets_there_all_the_same() {
    let server = liar(noise(10_000), |request, layer| match request.header("range") {
        None => Reply::status(200).with("Content-Length: 10000").raw(&layer[..5000], End::Cut),
        Some(_) => Reply::ok("x/y", layer),
    });
    let desk = Desk::new();
    desk.ok(&["pull", &server.name("x")]);
    desk.check_blobs();
}

#[test]
fn absurd_documents_are_told_apart() {
    let layers = vec![descriptor(b"l"); 5000];
    let many = json!({ "schemaVersion": 2, "config": descriptor(CONFIG), "layers": layers });
    let web = "<!DOCTYPE html><title>Sign in</title>";
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let two = json!({ "schemaVersion": 2, "config": descriptor(CONFIG), "layers": [],
        "manifests": [] });
    let path = json!({ "schemaVersion": 2, "layers": [], "config":
        { "digest": "sha256:../../../../etc/passwd", "size": 1 } });
    for (media_type, body, words) in [
        (MANIFEST, many.to_string(), "it has 5000 layers; more than 1000 are refused"),
        ("text/html", web.to_owned(), "it sends `text/html` and no manifest; is 127.0.0.1:"),
        (schema1, "{\"schemaVersion\":1}".to_owned(), "schema 1 of Docker's is no more"),
        (MANIFEST, two.to_string(), "both that it is a manifest and that it is an index"),
        (MANIFEST, path.to_string(), "is no digest"),
        (MANIFEST, format!("{{{}", " ".repeat(5 << 20)), "more than the 4 MiB"),
        (MANIFEST, "[".repeat(1 << 20), "it sends `application/vnd.oci"),
        (MANIFEST, format!("{{\"layers\":{}", "[".repeat(1 << 20)), "it is not a manifest"),
    ] {
        let server = Server::start(move |_, _| Reply::ok(media_type, body.clone()));
        refused(&server, 0, words);
    }
    let endless = Server::start(|_, _| {
        Reply::status(200).with("Content-Type: x/y").raw(noise(65536), End::Again)
    });
    refused(&endless, 0, "more than the 4 MiB");
}

#[test]
fn a_document_that_is_not_the_one_asked_for_is_refused() {
    let server = Server::start(|_, _| {
        let other = format!("Docker-Content-Digest: {}", sha256(b"other"));
        Reply::ok(MANIFEST, manifest(b"l")).with(&other)
    });
    refused(&server, 0, "sends other bytes, of digest");
    let desk = Desk::new();
    let name = server.name(&format!("x@{}", sha256(b"another")));
    assert!(desk.fail(&["pull", &name]).contains("sends other bytes, of digest"));
}

/// A registry of indexes, one in the other: that of depth 0 holds no image, the others one index.
fn nested(depth: usize, size: fn(usize) -> usize) -> (Server, String) {
    let mut documents = vec![r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()];
    for inner in 0..depth {
        let bytes = documents[inner].as_bytes();
        let entry =
            json!({ "mediaType": INDEX, "digest": sha256(bytes), "size": size(bytes.len()) });
        documents.push(json!({ "schemaVersion": 2, "manifests": [entry] }).to_string());
    }
    let outermost = sha256(documents[depth].as_bytes());
    let server = Server::start(move |request, _| {
        let named = |document: &&String| request.path().ends_with(&sha256(document.as_bytes()));
        documents.iter().find(named).map_or(Reply::status(404), |d| Reply::ok(INDEX, d.clone()))
    });
    (server, outermost)
}

#[test]
fn indexes_in_indexes_come_to_an_end() {
    let desk = Desk::new();
    let pull = |server: &Server, digest: &str| {
        desk.fail(&["pull", "--all", &server.name(&format!("x@{digest}"))])
    };
    let (server, digest) = nested(20, |size| size);
    assert!(pull(&server, &digest).contains("names more than an image can consist of"));
    assert!(server.requests().len() < 7);
    let (server, digest) = nested(1, |size| size + 1);
    assert!(pull(&server, &digest).contains("the index says something else of sha256:"));
    assert!(desk.names().is_empty());
}

#[test]
fn redirects_lead_somewhere_or_end() {
    let round =
        Server::start(|_, host| Reply::status(302).with(&format!("Location: http://{host}/round")));
    refused(&round, 0, "after too many redirects before");
    assert!(round.requests().len() <= 6);
    for (header, words) in [
        ("X: y", "the answer with status 307 has no Location"),
        ("Location: ftp://192.0.2.1/", "has a Location that is no URL of HTTP"),
        ("Location: http://[", "has a Location that is no URL"),
    ] {
        let server = Server::start(move |_, _| Reply::status(307).with(header));
        refused(&server, 0, words);
    }
}

#[test]
fn a_registry_that_never_has_enough_credentials_is_left() {
    let server = Server::start(|request, host| {
        if request.path().starts_with("/token") {
            return Reply::ok("application/json", r#"{"access_token":"t"}"#);
        }
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"");
        Reply::status(401).with(&challenge)
    });
    refused(&server, 0, "refuses access without credentials: `wasm-image login");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_token_service_that_lies_is_told_as_such() {
    for (body, words) in [
        ("<html>".to_owned(), "the token service sends no token"),
        ("{\"token\":\"a\\nb: c\"}".to_owned(), "the token service sends no token"),
        ("x".repeat(2 << 20), "the token service sends more than a token"),
    ] {
        let server = Server::start(move |request, host| {
            if request.path().starts_with("/token") {
                return Reply::ok("application/json", body.clone());
            }
            let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"");
            Reply::status(401).with(&challenge)
        });
        refused(&server, 0, words);
    }
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says_unless_that_is_long() {
    let asked = AtomicUsize::new(0);
    let server = liar(noise(10), move |_, layer| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(429).with("Retry-After: 0"),
        1 => Reply::status(503),
        _ => Reply::ok("x/y", layer),
    });
    Desk::new().ok(&["pull", &server.name("x")]);

    let busy = Server::start(|_, _| Reply::status(429).with("Retry-After: 3600"));
    refused(&busy, 0, "too many requests for 127.0.0.1");
    assert_eq!(busy.requests().len(), 1);
    let broken = Server::start(|_, _| Reply::status(500));
    refused(&broken, 0, "answers with status 500");
    assert_eq!(broken.requests().len(), 2);
}

#[test]
fn what_a_registry_says_does_not_reach_the_terminal_as_it_is() {
    let server = Server::start(|_, _| {
        let body = json!({ "errors": [{ "code": "X", "message": "\u{1b}]0;gotcha\u{7}\nroot#" }] });
        Reply::ok("application/json", body.to_string()).with("X: y").answering(400)
    });
    let words = Desk::new().fail(&["pull", &server.name("x")]);
    assert!(words.contains("]0;gotcha  root#") && !words.contains('\u{1b}'), "{words:?}");
}
