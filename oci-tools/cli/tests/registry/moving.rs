//! Images go to the real registry and come back, and skopeo finds them the same.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Desk, OPEN, Registry, Wants, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn outcomes(report: &Value) -> Vec<&str> {
    let blobs = report["blobs"].as_array().unwrap();
    blobs.iter().map(|blob| blob["outcome"].as_str().unwrap()).collect()
}

#[test]
fn what_is_pushed_skopeo_copies_and_another_pulls() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("team/hello:1");
    let digest = desk.build(&name, 20 << 20);
    let pushed = desk.json(&["push", &name]);
    assert_eq!(pushed["digest"], digest);
    assert_eq!(outcomes(&pushed), ["moved", "moved"]);
    assert_eq!(desk.judged(&name, &OPEN), digest);

    let other = Desk::new();
    let pulled = other.json(&["pull", &name]);
    assert_eq!(
        (pulled["digest"].as_str(), pulled["platform"].as_str()),
        (Some(digest.as_str()), Some("wasi/wasm"))
    );
    assert_eq!(other.names(), [name.as_str()]);
    other.check_blobs();
    assert_eq!(outcomes(&desk.json(&["push", &name])), ["present", "present"]);
    assert_eq!(outcomes(&other.json(&["pull", &name])), ["present", "present"]);
}

#[test]
fn what_skopeo_pushes_is_pulled_in_both_forms() {
    let (desk, registry) = (Desk::new(), Registry::start());
    desk.build("hello", 1000);
    for form in ["oci", "v2s2"] {
        let name = registry.name(&format!("{form}:1"));
        let to = format!("docker://{name}");
        let flags = ["--format", form, "--dest-tls-verify=false"];
        let copy = ["copy", "--quiet", "oci-archive:hello.tar", &to];
        desk.skopeo(&[&copy[..], &flags].concat());
        let report = desk.json(&["pull", &name]);
        assert_eq!(report["digest"], desk.judged(&name, &OPEN), "{form}");
        let docker = report["mediaType"].as_str().unwrap().contains("docker");
        assert_eq!(docker, form == "v2s2");
        // And on to another repository, where it has the same digest.
        let again = registry.name(&format!("again-{form}:1"));
        desk.ok(&["tag", &name, &again]);
        desk.ok(&["push", &again]);
        assert_eq!(report["digest"], desk.judged(&again, &OPEN));
    }
    desk.check_blobs();
}

/// Whether an OCI layout has the image.
fn holds(layout: &Path, digest: &str) -> bool {
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().iter().any(|entry| entry["digest"] == digest)
}

#[test]
fn what_is_pushed_oras_and_crane_pull_with_the_same_digest() {
    let (desk, registry) = (Desk::new(), Registry::start());
    for form in ["image", "artifact", "index"] {
        let name = registry.name(&format!("{form}:1"));
        let report = desk.json(&["build", "hello.wat", "-t", &name, "--form", form]);
        desk.ok(&["push", &name]);
        let pushed = desk.json(&["pull", &name, "--all"])["digest"].as_str().unwrap().to_owned();

        let out = desk.path(&format!("oras-{form}"));
        let to = format!("{}:1", out.display());
        desk.judge("oras", &["cp", "--from-plain-http", &name, "--to-oci-layout", &to]);
        assert!(holds(&out, &pushed), "{form}");
        let described = ["manifest", "fetch", "--plain-http", "--descriptor", &name];
        let described: Value = serde_json::from_str(&desk.judge("oras", &described)).unwrap();
        assert_eq!(described["digest"], pushed, "{form}");

        assert_eq!(desk.judge("crane", &["digest", "--insecure", &name]).trim(), pushed, "{form}");
        let out = desk.path(&format!("crane-{form}"));
        let to = out.display().to_string();
        desk.judge("crane", &["pull", "--insecure", "--format", "oci", &name, &to]);
        assert!(holds(&out, &pushed), "{form}");
        if form == "image" {
            assert_eq!(report["image"]["manifest"], pushed);
            desk.judge("crane", &["validate", "--insecure", "--remote", &name]);
        }
    }
}

#[test]
fn what_oras_and_crane_push_is_pulled_with_the_same_digest() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let digest = desk.build("hello", 3 << 20);
    fs::create_dir(desk.path("layout")).unwrap();
    let unpacked = std::process::Command::new("tar")
        .args(["-xf", "hello.tar", "-C", "layout"])
        .current_dir(desk.path(""))
        .status();
    assert!(unpacked.unwrap().success());
    let layout = desk.path("layout").display().to_string();

    let name = registry.name("by-oras:1");
    let from = format!("{layout}:latest");
    desk.judge("oras", &["cp", "--from-oci-layout", &from, "--to-plain-http", &name]);
    assert_eq!(Desk::new().json(&["pull", &name])["digest"], digest);

    let name = registry.name("by-crane:1");
    desk.judge("crane", &["push", "--insecure", &layout, &name]);
    assert_eq!(Desk::new().json(&["pull", &name])["digest"], digest);

    // A file that oras makes an artifact of.
    let name = registry.name("artifact:1");
    desk.file("app.wasm", b"\0asm\x01\0\0\0");
    desk.judge("oras", &["push", "--plain-http", &name, "app.wasm:application/wasm"]);
    let described = ["manifest", "fetch", "--plain-http", "--descriptor", &name];
    let described: Value = serde_json::from_str(&desk.judge("oras", &described)).unwrap();
    let other = Desk::new();
    assert_eq!(other.json(&["pull", &name])["digest"], described["digest"]);
    let copy = registry.name("artifact:copy");
    other.ok(&["tag", &name, &copy]);
    other.ok(&["push", &copy]);
    assert_eq!(
        desk.judge("crane", &["digest", "--insecure", &copy]).trim(),
        described["digest"].as_str().unwrap()
    );
}

#[test]
fn a_list_of_what_is_in_an_image_goes_along_with_its_index() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("listed:1");
    let flags = ["--form", "index", "--sbom", "cyclonedx"];
    desk.ok(&[&["build", "hello.wat", "-t", &name], &flags[..]].concat());
    desk.ok(&["push", &name]);
    let other = Desk::new();
    other.ok(&["pull", "--all", &name]);
    other.check_blobs();
    let list = fs::read(desk.path("hello.cyclonedx.json")).unwrap();
    let digest = sha256(&list);
    let kept = other.path("store/blobs/sha256").join(&digest["sha256:".len()..]);
    assert!(fs::read(kept).unwrap() == list);
    // Who asks for wasi/wasm gets the image alone.
    let third = Desk::new();
    assert_eq!(third.json(&["pull", &name])["platform"], "wasi/wasm");
    assert_eq!(outcomes(&third.json(&["pull", &name])), ["present", "present"]);
}

#[test]
fn of_an_index_one_platform_is_taken_or_all() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let mut manifests = Vec::new();
    for (tag, platform) in [("a", "wasi/wasm"), ("b", "linux/amd64")] {
        let name = registry.name(&format!("many:{tag}"));
        let digest = desk.build(&name, 1000 + tag.len() * usize::from(tag.as_bytes()[0]));
        desk.ok(&["push", &name]);
        let size = desk.path("store/blobs/sha256").join(&digest["sha256:".len()..]);
        let size = fs::metadata(size).unwrap().len();
        let (os, architecture) = platform.split_once('/').unwrap();
        manifests.push(json!({ "mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": { "os": os, "architecture": architecture } }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = index.to_string();
    registry.put_manifest("many/manifests/all", INDEX, index.as_bytes());
    let name = registry.name("many:all");

    let other = Desk::new();
    assert_eq!(other.json(&["pull", &name])["digest"], manifests[0]["digest"]);
    let linux = other.json(&["pull", &name, "--platform", "linux/amd64"]);
    assert_eq!(linux["digest"], manifests[1]["digest"]);
    let words = other.fail(&["pull", &name, "--platform", "linux/arm64"]);
    assert!(words.contains("not for linux/arm64, but for wasi/wasm, linux/amd64"), "{words}");

    let all = other.json(&["pull", &name, "--all"]);
    assert_eq!(all["digest"], sha256(index.as_bytes()));
    assert_eq!(all["blobs"].as_array().unwrap().len(), 4);
    // The one that stood for the name before is gone with nothing else.
    assert_eq!(other.files("blobs/sha256").len(), 4 + 2 + 1);
    let copy = registry.name("copies/many:all");
    other.ok(&["tag", &name, &copy]);
    other.ok(&["push", &copy]);
    assert_eq!(other.judged(&copy, &["--all", "--src-tls-verify=false"]), all["digest"]);

    let elsewhere = Registry::start();
    let copy = elsewhere.name("many:all");
    assert_eq!(other.json(&["copy", &name, &copy])["digest"], all["digest"]);
    assert_eq!(other.judged(&copy, &["--all", "--src-tls-verify=false"]), all["digest"]);
    let chosen = elsewhere.name("many:wasm");
    let report = other.json(&["copy", &name, &chosen, "--platform", "wasi/wasm"]);
    assert_eq!(report["digest"], manifests[0]["digest"]);
    assert_eq!(other.judged(&chosen, &OPEN), manifests[0]["digest"]);

    let by_digest = registry.name(&format!("many@{}", all["digest"].as_str().unwrap()));
    assert_eq!(other.json(&["pull", &by_digest, "--all"])["digest"], all["digest"]);
    assert!(other.names().contains(&by_digest));
}

#[test]
fn a_blob_that_another_repository_has_is_not_sent_again() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let (one, two, three) = (registry.name("one"), registry.name("two"), registry.name("three"));
    let digest = desk.build(&one, 1 << 20);
    desk.ok(&["push", &one]);
    desk.ok(&["tag", &one, &two]);
    assert_eq!(outcomes(&desk.json(&["push", &two])), ["mounted", "mounted"]);
    assert_eq!(outcomes(&desk.json(&["copy", &two, &three])), ["mounted", "mounted"]);
    assert_eq!(desk.judged(&three, &OPEN), digest);
}

#[test]
fn a_copy_goes_between_registries_and_the_store() {
    let (desk, one, two) = (Desk::new(), Registry::start(), Registry::start());
    let (name, copy) = (one.name("a:1"), two.name("b:2"));
    let digest = desk.build(&name, 9 << 20);
    desk.ok(&["push", &name]);

    let relay = Desk::new();
    let report = relay.json(&["copy", &name, &copy]);
    assert_eq!(
        (report["name"].as_str(), &report["digest"]),
        (Some(&*copy), &digest.clone().into())
    );
    assert!(!relay.path("store").exists(), "nothing passes through the store");
    assert_eq!(relay.judged(&copy, &OPEN), digest);

    relay.ok(&["copy", &copy, "store:mine"]);
    assert_eq!(relay.names(), ["docker.io/library/mine:latest"]);
    let back = one.name("back:3");
    relay.ok(&["copy", "store:mine", &back]);
    assert_eq!(relay.judged(&back, &OPEN), digest);
    let words = relay.fail(&["copy", "store:mine", "store:yours"]);
    assert!(words.contains("use `wasm-image tag`"), "{words}");
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let desk = Desk::new();
    let registry = Registry::with(Wants { tls: true, password: false });
    let (name, ca) = (registry.name("safe"), registry.ca());
    let digest = desk.build(&name, 3 << 20);
    assert_eq!(desk.json(&["push", &name, "--ca", &ca])["digest"], digest);
    assert_eq!(Desk::new().json(&["pull", &name, "--ca", &ca])["digest"], digest);

    let other = Desk::new();
    let wrong = Registry::with(Wants { tls: true, password: false });
    let words = other.fail(&["pull", &name, "--ca", &wrong.ca()]);
    assert!(words.contains("name it with --ca FILE"), "{words}");
    let words = other.fail(&["pull", &name]);
    assert!(
        words.contains("HTTP request to an HTTPS server") || words.contains("status 400"),
        "{words}"
    );
    let words = other.fail(&["pull", &name, "--ca", "hello.wat"]);
    assert!(words.contains("hello.wat: it holds no certificate"), "{words}");
    let open = Registry::start();
    let words = other.fail(&["pull", &open.name("a"), "--ca", &ca]);
    assert!(words.contains("use --plain-http"), "{words}");
}

#[test]
fn what_is_not_there_is_answered_with_what_to_do() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let none = registry.name("none");
    let words = desk.fail(&["pull", &none]);
    assert!(words.contains("not found; check the name, and `wasm-image login"), "{words}");
    let words = desk.fail(&["push", &none]);
    assert!(
        words.contains("the store has no image") && words.contains("wasm-image list"),
        "{words}"
    );
    let nobody = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("{}/a", port.local_addr().unwrap())
    };
    let words = desk.fail(&["pull", &nobody, "--retries", "1"]);
    assert!(words.contains("cannot reach 127.0.0.1:") && words.contains("refused"), "{words}");
    let output = desk.run(&["pull", "Upper"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_index_that_is_named_twice_goes_before_both_that_name_it() {
    let (desk, one, two) = (Desk::new(), Registry::start(), Registry::start());
    let name = one.name("deep:leaf");
    let leaf = desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    let leaf_size = fs::metadata(desk.path("store/blobs/sha256").join(&leaf[7..])).unwrap().len();
    let leaf = json!({ "mediaType": MANIFEST, "digest": leaf, "size": leaf_size });
    let index = |entries: &[&Value]| {
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string()
    };
    let inner = index(&[&leaf]);
    let digest = sha256(inner.as_bytes());
    one.put_manifest(&format!("deep/manifests/{digest}"), INDEX, inner.as_bytes());
    let inner = json!({ "mediaType": INDEX, "digest": digest, "size": inner.len() });
    for (tag, entries) in [("a", [&inner, &leaf]), ("b", [&leaf, &inner])] {
        let outer = index(&entries);
        one.put_manifest(&format!("deep/manifests/{tag}"), INDEX, outer.as_bytes());
        let (from, to) = (one.name(&format!("deep:{tag}")), two.name(&format!("{tag}:copy")));
        // The registry refuses what names something that is not there yet.
        let copied = desk.json(&["copy", &from, &to]);
        assert_eq!(copied["digest"], sha256(outer.as_bytes()));
        desk.ok(&["pull", "--all", &from]);
        let stored = two.name(&format!("{tag}:stored"));
        desk.ok(&["copy", &format!("store:{from}"), &stored]);
        assert_eq!(desk.json(&["pull", "--all", &stored])["digest"], copied["digest"]);
    }
}

#[test]
fn an_image_for_another_platform_than_the_one_that_is_said_is_not_moved() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let (name, copy) = (registry.name("one:1"), registry.name("copy:1"));
    desk.build(&name, 1000);
    desk.ok(&["push", &name]);
    let stored = format!("store:{name}");
    for args in [
        &["pull", "--platform", "linux/amd64", &name][..],
        &["copy", "--platform", "linux/amd64", &name, &copy],
        &["copy", "--platform", "linux/amd64", &name, "store:copy"],
        &["copy", "--platform", "linux/amd64", &stored, &copy],
    ] {
        let words = desk.fail(args);
        let wanted = "the image is not for linux/amd64, but for wasi/wasm";
        assert!(words.contains(wanted), "{args:?}: {words}");
    }
    desk.fail(&["pull", &copy]);
    desk.ok(&["copy", "--platform", "wasi/wasm", &name, &copy]);
    desk.ok(&["pull", &copy]);
}
