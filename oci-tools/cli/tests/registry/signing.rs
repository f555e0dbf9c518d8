//! Signatures of images, with cosign as the judge of ours, and ours as the judge of cosign's; and
//! compiled code beside images.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Desk, Registry, judge, sha256, stderr};
use crate::server::{Reply, Server};

impl Desk {
    /// `cosign ARGS`, of either version, without the log and the authorities of Sigstore.
    #[track_caller]
    fn cosign(&self, which: &str, args: &[&str]) -> Result<(), String> {
        let mut command = Command::new(judge(which));
        command.args(args).current_dir(self.path("."));
        let output = command.env("COSIGN_PASSWORD", "").env("HOME", self.path(".")).output();
        let output = output.unwrap();
        if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
    }

    /// Whether cosign finds that the owner of `key` has signed the image `name`; both versions must
    /// agree on it.
    #[track_caller]
    fn is_verified_by_cosign(&self, name: &str, key: &str) -> Result<(), String> {
        let [second, third] = ["cosign", "cosign3"].map(|which| {
            let verify = ["verify", "--allow-insecure-registry", "--insecure-ignore-tlog"];
            self.cosign(which, &[&verify[..], &["--key", key, name]].concat())
        });
        assert_eq!(second.is_ok(), third.is_ok(), "{second:?} {third:?}");
        second
    }

    /// Has cosign make `cosign.key` and `cosign.pub`.
    #[track_caller]
    fn has_key_of_cosign(&self) {
        self.cosign("cosign", &["generate-key-pair"]).unwrap();
    }
}

/// The words by which cosign signs with its key.
const SIGN: [&str; 6] =
    ["sign", "--yes", "--allow-insecure-registry", "--tlog-upload=false", "--key", "cosign.key"];

/// What cosign 3 wants besides, to ask nobody.
const OFFLINE: &str = "--use-signing-config=false";

/// A desk whose image is in a registry under `name`, with the pairs of keys `cosign` and `ours`; and the
/// image's name with its digest.
fn pushed(name: &str) -> (Desk, String) {
    let desk = Desk::new();
    let digest = desk.build(name, 1000);
    desk.ok(&["push", name]);
    desk.has_key_of_cosign();
    desk.ok(&["keygen", "ours"]);
    (desk, format!("{name}@{digest}"))
}

/// Signs an image as cosign 3 does, with its key.
fn signed_by_cosign(desk: &Desk, by_digest: &str) {
    desk.cosign("cosign3", &[&SIGN[..], &[OFFLINE, by_digest]].concat()).unwrap();
}

/// Has cosign 3 say with its key what was found in an image.
fn attested_by_cosign(desk: &Desk, by_digest: &str) {
    fs::write(desk.path("found"), "{}").unwrap();
    let about = ["--type", "https://example.com/scan", "--predicate", "found", OFFLINE, by_digest];
    desk.cosign("cosign3", &[&["attest"], &SIGN[1..], &about].concat()).unwrap();
}

/// The manifest of the signatures of an image.
fn manifest(name: &str, digest: &str) -> Value {
    let repository = name.rsplit_once('/').unwrap().0;
    let image = name.rsplit_once('/').unwrap().1.split(':').next().unwrap();
    let tag = format!("docker://{repository}/{image}:{}.sig", digest.replace(':', "-"));
    let output =
        Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &tag]).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

#[test]
fn what_is_signed_is_verified_here_and_by_cosign() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("team/hello:1");
    let digest = desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    desk.ok(&["keygen", "ours"]);
    desk.ok(&["keygen", "theirs"]);
    let unsigned = desk.fail(&["verify", &name, "--key", "ours.pub"]);
    assert!(unsigned.contains("it is not signed") && unsigned.contains(&digest), "{unsigned}");
    desk.is_verified_by_cosign(&name, "ours.pub").unwrap_err();

    let signed = desk.json(&["sign", &name, "--key", "ours.key"]);
    assert_eq!((&signed["digest"], &signed["new"]), (&json!(digest), &json!(true)));
    let verified = desk.json(&["verify", &name, "--key", "theirs.pub", "--key", "ours.pub"]);
    assert_eq!(verified["key"], "ours.pub");
    desk.is_verified_by_cosign(&name, "ours.pub").unwrap();
    let stranger = desk.is_verified_by_cosign(&name, "theirs.pub").unwrap_err();
    assert!(stranger.contains("signature"), "{stranger}");
    let words = desk.fail(&["verify", &name, "--key", "theirs.pub"]);
    assert!(words.contains("none of the trusted keys"), "{words}");

    // A second one joins the first; the same is not made twice.
    assert_eq!(desk.json(&["sign", &name, "--key", "theirs.key"])["signatures"], 2);
    let again = desk.json(&["sign", &name, "--key", "ours.key"]);
    assert_eq!((&again["new"], &again["signatures"]), (&json!(false), &json!(2)));
    for key in ["ours.pub", "theirs.pub"] {
        desk.ok(&["verify", &name, "--key", key]);
        desk.is_verified_by_cosign(&name, key).unwrap();
    }
    // It is for these bytes, whatever the tag comes to mean.
    desk.build(&name, 1001);
    desk.ok(&["push", &name]);
    desk.fail(&["verify", &name, "--key", "ours.pub"]);
    desk.ok(&["verify", &format!("{name}@{digest}"), "--key", "ours.pub"]);
}

#[test]
fn what_cosign_signs_is_verified() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("hello");
    let digest = desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    desk.has_key_of_cosign();
    let by_digest = format!("{name}@{digest}");
    desk.cosign("cosign", &[&SIGN[..], &[&by_digest]].concat()).unwrap();
    assert_eq!(desk.json(&["verify", &name, "--key", "cosign.pub"])["key"], "cosign.pub");
    // Ours joins cosign's, and takes nothing from it.
    let before = manifest(&name, &digest);
    desk.ok(&["keygen", "second"]);
    assert_eq!(desk.json(&["sign", &name, "--key", "second.key"])["signatures"], 2);
    let after = manifest(&name, &digest);
    assert_eq!(after["layers"][0], before["layers"][0]);
    desk.is_verified_by_cosign(&name, "cosign.pub").unwrap();
    desk.is_verified_by_cosign(&name, "second.pub").unwrap();
    let words = desk.fail(&["sign", &name, "--key", "cosign.key"]);
    assert!(words.contains("encrypted"), "{words}");
}

#[test]
fn bundles_of_cosign_3_are_verified_and_other_statements_are_none() {
    let registry = Registry::start();
    let name = registry.name("hello");
    let (desk, by_digest) = pushed(&name);

    // What was examined is not yet signed, though the same key says so.
    attested_by_cosign(&desk, &by_digest);
    let words = desk.fail(&["verify", &name, "--key", "cosign.pub"]);
    assert!(words.contains("it is not signed"), "{words}");

    signed_by_cosign(&desk, &by_digest);
    assert_eq!(desk.json(&["verify", &name, "--key", "cosign.pub"])["key"], "cosign.pub");
    let words = desk.fail(&["verify", &name, "--key", "ours.pub"]);
    assert!(words.contains("none of the trusted keys"), "{words}");

    // Ours is beside them; code of the image is in the same list.
    assert_eq!(desk.json(&["sign", &name, "--key", "ours.key"])["signatures"], 1);
    desk.ok(&["compile", "--push", &name, "--key", "ours.key"]);
    for key in ["cosign.pub", "ours.pub"] {
        desk.ok(&["verify", &name, "--key", key]);
    }
    desk.cosign("cosign3", &["verify", "--insecure-ignore-tlog", "--key", "cosign.pub", &name])
        .unwrap();
    // Of other bytes under the name they say nothing.
    desk.build(&name, 1001);
    desk.ok(&["push", &name]);
    desk.fail(&["verify", &name, "--key", "cosign.pub"]);
}

#[test]
fn keys_of_openssl_do_as_well() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("hello");
    desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    for args in ["genpkey -algorithm ed25519 -out ed.key", "pkey -in ed.key -pubout -out ed.pub"] {
        let done =
            Command::new("openssl").args(args.split(' ')).current_dir(desk.path(".")).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
    }
    desk.ok(&["sign", &name, "--key", "ed.key"]);
    desk.ok(&["verify", &name, "--key", "ed.pub"]);
}

#[test]
fn keys_are_not_written_over_and_the_private_one_is_nobody_elses() {
    let desk = Desk::new();
    desk.ok(&["keygen", "ours"]);
    let mode = fs::metadata(desk.path("ours.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(desk.path("ours.key")).unwrap();
    let words = desk.fail(&["keygen", "ours"]);
    assert!(words.contains("ours.key") && words.contains("exists"), "{words}");
    assert_eq!(fs::read(desk.path("ours.key")).unwrap(), before);
    // A private key beside the public one of another pair would sign for nobody.
    fs::remove_file(desk.path("ours.key")).unwrap();
    let words = desk.fail(&["keygen", "ours"]);
    assert!(words.contains("ours.pub") && words.contains("exists"), "{words}");
    assert!(!desk.path("ours.key").exists());
}

#[test]
fn what_cannot_be_signed_or_is_no_key_is_told() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("nothing");
    desk.ok(&["keygen", "ours"]);
    for (args, word) in [
        (["sign", &name, "--key", "ours.key"], "not found"),
        (["sign", &name, "--key", "ours.pub"], "public one of a pair"),
        (["sign", &name, "--key", "nowhere"], "nowhere"),
        (["verify", &name, "--key", "ours.key"], "BEGIN PUBLIC KEY"),
    ] {
        let words = desk.fail(&args);
        assert!(words.contains(word), "{args:?}: {words}");
    }
}

#[test]
fn compiled_code_is_kept_beside_the_image_and_more_of_it_joins() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("team/hello:1");
    let digest = desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    desk.ok(&["keygen", "ours"]);
    let compile = ["compile", "--push", &name, "--key", "ours.key"];
    let report = desk.json(&compile);
    assert_eq!(report["digest"], digest);
    let code = report["code"].as_array().unwrap();
    let targets: Vec<_> = code.iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["x86_64-v3", "x86_64-v2"]);
    assert_ne!(code[0]["engine"], code[1]["engine"]);
    // The same again is nothing new; another target is another artifact.
    let more = ["--target", "x86_64-v1", "--target", "x86_64-v2"];
    let one = desk.json(&[&compile[..], &more].concat());
    assert_ne!(one["artifact"], report["artifact"]);
    assert_eq!((&one["code"][0]["target"], &one["present"]), (&json!("x86_64-v1"), &json!(1)));

    // This registry keeps no list of what refers to an image, so it lies under a tag.
    let tag = format!("{}:{}", registry.name("team/hello"), digest.replace(':', "-"));
    let list = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{tag}")])
        .output()
        .unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let entries = list["manifests"].as_array().unwrap();
    let digests: Vec<_> = entries.iter().map(|entry| &entry["digest"]).collect();
    assert_eq!(digests, [&report["artifact"], &one["artifact"]]);
    for entry in entries {
        assert_eq!(entry["artifactType"], "application/vnd.containerd.wasmtime.code.v1");
    }
}

#[test]
fn a_target_that_nobody_knows_is_answered_with_those_that_are_known() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("hello");
    desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    desk.ok(&["keygen", "ours"]);
    let words = desk.run(&["compile", "--push", &name, "--key", "ours.key", "--target", "z80"]);
    assert_eq!(words.status.code(), Some(2));
    assert!(stderr(&words).contains("x86_64-v1, x86_64-v2, x86_64-v3"), "{}", stderr(&words));
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A list of what refers to an image.
fn list(entries: &[Value]) -> Reply {
    Reply::ok(INDEX, json!({ "schemaVersion": 2, "manifests": entries }).to_string())
}

/// A registry in memory that keeps the list of what refers to an image itself, as newer ones do.
fn listing() -> Server {
    answering(|_, entries| list(&entries))
}

/// The same, which answers with what `twist` makes of the path and of the entries of the list.
fn answering(twist: impl Fn(&str, Vec<Value>) -> Reply + Send + Sync + 'static) -> Server {
    type Blobs = Mutex<HashMap<String, (String, Vec<u8>)>>;
    let blobs: Arc<Blobs> = Arc::default();
    Server::start(move |request, address| {
        let mut blobs = blobs.lock().unwrap();
        let (path, query) = request.path().split_once('?').unwrap_or((request.path(), ""));
        let name = path.rsplit('/').next().unwrap().to_owned();
        let put = |blobs: &mut HashMap<_, _>, name: &str, media_type: &str| {
            blobs.insert(name.to_owned(), (media_type.to_owned(), request.body.clone()));
        };
        match request.method() {
            "POST" => {
                let upload = format!("upload-{}", blobs.len());
                put(&mut blobs, &upload, "");
                Reply::status(202).with(&format!("Location: http://{address}/v2/a/{upload}"))
            }
            "PATCH" => {
                put(&mut blobs, &name, "");
                Reply::status(202).with(&format!("Location: http://{address}/v2/a/{name}"))
            }
            "PUT" if path.contains("/manifests/") => {
                let media_type = request.header("content-type").unwrap();
                put(&mut blobs, &name, media_type);
                put(&mut blobs, &sha256(&request.body), media_type);
                let document: Value = serde_json::from_slice(&request.body).unwrap();
                let reply = Reply::status(201);
                match document["subject"]["digest"].as_str() {
                    Some(subject) => reply.with(&format!("OCI-Subject: {subject}")),
                    None => reply,
                }
            }
            "PUT" => {
                let digest = query.split_once("digest=").unwrap().1.replace("%3A", ":");
                // All at once, or what came before.
                let (_, before) = blobs.get(&name).unwrap().clone();
                let body = if request.body.is_empty() { before } else { request.body.clone() };
                blobs.insert(digest, ("application/octet-stream".to_owned(), body));
                Reply::status(201)
            }
            _ if path.contains("/referrers/") => {
                let refers = blobs.iter().filter(|(key, (_, bytes))| {
                    let document = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
                    key.starts_with("sha256:") && document["subject"]["digest"] == name.as_str()
                });
                let entries = refers.map(|(digest, (media_type, bytes))| {
                    let document: Value = serde_json::from_slice(bytes).unwrap();
                    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len(),
                            "artifactType": document["artifactType"] })
                });
                let entries: Vec<_> = entries.collect();
                twist(request.path(), entries)
            }
            _ if path == "/v2/" => Reply::status(200),
            _ => match blobs.get(&name) {
                Some((media_type, bytes)) => Reply::ok(media_type, bytes.clone())
                    .with(&format!("Docker-Content-Digest: {}", sha256(bytes))),
                None => Reply::status(404),
            },
        }
    })
}

#[test]
fn a_registry_that_lists_what_refers_to_an_image_is_left_to_it() {
    let (desk, server) = (Desk::new(), listing());
    let name = server.name("a:1");
    let digest = desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    desk.ok(&["keygen", "ours"]);
    let report = desk.json(&["compile", "--push", &name, "--key", "ours.key"]);
    let requests = server.requests();
    let put = |path: &str| {
        let puts = requests.iter().filter(|request| request.method() == "PUT");
        puts.filter(|request| request.path().contains(path)).count()
    };
    assert_eq!(put(&format!("manifests/{}", report["artifact"].as_str().unwrap())), 1);
    assert_eq!(put(&digest.replace(':', "-")), 0, "no tag stands in for the list");
    let again = desk.json(&["compile", "--push", &name, "--key", "ours.key"]);
    assert_eq!((&again["artifact"], &again["present"]), (&json!(null), &json!(2)));
}

#[test]
fn a_bundle_is_found_by_the_list_of_the_registry_whatever_else_is_in_it() {
    // A digest of another kind, what is not there any more, what is none, and one of another type.
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let odd = move |digest: String, kind: &str| json!({ "mediaType": manifest, "digest": digest, "size": 10, "artifactType": kind });
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let server = answering(move |_, right| {
        let mut entries = vec![odd(format!("sha512:{}", "0".repeat(128)), bundle), json!(7)];
        entries.extend(right);
        entries.push(odd(format!("sha256:{}", "0".repeat(64)), bundle));
        entries.push(odd(format!("sha256:{}", "1".repeat(64)), "text/plain"));
        list(&entries)
    });
    let name = server.name("team/hello");
    let (desk, by_digest) = pushed(&name);
    signed_by_cosign(&desk, &by_digest);
    assert_eq!(desk.json(&["verify", &name, "--key", "cosign.pub"])["key"], "cosign.pub");
    let words = desk.fail(&["verify", &name, "--key", "ours.pub"]);
    assert!(words.contains("none of the trusted keys, as far as can be seen: "), "{words}");
    assert!(words.contains(&"0".repeat(64)) && words.contains("not found"), "{words}");
}

#[test]
fn a_signature_under_the_tag_needs_no_list() {
    for status in [400, 401, 403, 404, 405, 406, 500] {
        let server = answering(move |_, _| Reply::status(status));
        let name = server.name("team/hello");
        let (desk, by_digest) = pushed(&name);
        let quick = ["--retries", "0"];
        desk.ok(&[&["sign", &name, "--key", "ours.key"], &quick[..]].concat());
        desk.ok(&[&["verify", &name, "--key", "ours.pub"], &quick[..]].concat());
        assert!(server.requests().iter().all(|request| !request.path().contains("referrers")));
        let theirs = [&["verify", &name, "--key", "cosign.pub"], &quick[..]].concat();
        let words = desk.fail(&theirs);
        assert!(words.contains("none of the trusted keys"), "{status}: {words}");
        if [401, 403, 500].contains(&status) {
            assert!(words.contains("as far as can be seen"), "{status}: {words}");
        } else if [400, 404].contains(&status) {
            // There cosign keeps a list of its own under a tag, which is read.
            signed_by_cosign(&desk, &by_digest);
            desk.ok(&theirs);
        }
    }
}

#[test]
fn a_list_of_many_pages_is_read_to_its_end_and_not_elsewhere() {
    let server = answering(|path, right| {
        if path.contains("page=2") {
            return list(&right);
        }
        list(&[]).with(&format!("Link: <{path}&page=2>; rel=\"next\""))
    });
    let name = server.name("team/hello");
    let (desk, by_digest) = pushed(&name);
    signed_by_cosign(&desk, &by_digest);
    desk.ok(&["verify", &name, "--key", "cosign.pub"]);

    let server =
        answering(|_, right| list(&right).with("Link: <https://example.com/2>; rel=\"next\""));
    let name = server.name("team/hello");
    let (desk, _) = pushed(&name);
    let words = desk.fail(&["verify", &name, "--key", "cosign.pub"]);
    assert!(words.contains("the rest of its list is not in this registry"), "{words}");
}

#[test]
fn a_signature_is_found_among_many_attestations() {
    let registry = Registry::start();
    let name = registry.name("hello");
    let (desk, by_digest) = pushed(&name);
    signed_by_cosign(&desk, &by_digest);
    for _ in 0..34 {
        attested_by_cosign(&desk, &by_digest);
    }
    assert_eq!(desk.json(&["verify", &name, "--key", "cosign.pub"])["key"], "cosign.pub");
}
