//! The store itself: names, removal, engines, a full disk, several at once.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Desk, Registry, stderr};

#[test]
fn build_keeps_its_image_unless_it_is_for_a_file() {
    let desk = Desk::new();
    let digest = desk.build("hello", 10);
    let list = desk.json(&["list"]);
    assert_eq!(list[0]["name"], "docker.io/library/hello:latest");
    assert_eq!(list[0]["digest"], digest);
    assert_eq!(list[0]["platform"], "wasi/wasm");
    let table = desk.ok(&["ls"]);
    let line = table.lines().nth(1).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["docker.io/library/hello:latest", &digest[7..19], "wasi/wasm"]);

    desk.ok(&["build", "hello.wat", "-t", "file", "-o", "file.tar"]);
    assert_eq!(desk.names(), ["docker.io/library/hello:latest"]);
    let both = desk.run(&["build", "hello.wat", "-o", "f.tar", "--store", "s"]);
    assert_eq!(both.status.code(), Some(2));
    desk.ok(&["build", "hello.wat", "--store", "elsewhere"]);
    assert!(desk.ok(&["list", "--store", "elsewhere"]).contains("library/hello:latest"));
}

#[test]
fn skopeo_reads_the_store_as_the_layout_that_it_is() {
    let desk = Desk::new();
    let digest = desk.build("hello:1", 10);
    desk.skopeo(&["copy", "--quiet", "oci:store:docker.io/library/hello:1", "dir:out"]);
    let manifest = fs::read(desk.path("out/manifest.json")).unwrap();
    assert_eq!(crate::harness::sha256(&manifest), digest);
}

#[test]
fn what_several_names_share_goes_with_the_last() {
    let desk = Desk::new();
    desk.build("a", 1000);
    desk.ok(&["tag", "a", "b:2"]);
    desk.build("c", 2000);
    assert_eq!(desk.files("blobs/sha256").len(), 6);
    desk.ok(&["rm", "a"]);
    assert_eq!(desk.files("blobs/sha256").len(), 6);
    let words = desk.fail(&["rm", "c", "none"]);
    assert!(words.contains("the store has no image docker.io/library/none:latest"), "{words}");
    assert_eq!(desk.names(), ["docker.io/library/b:2", "docker.io/library/c:latest"]);
    assert!(desk.ok(&["rm", "b:2"]).contains("in 3 files"));
    assert_eq!(desk.files("blobs/sha256").len(), 3);
    // A name that comes to stand for another image lets the first one go.
    desk.build("c", 3000);
    assert_eq!(desk.files("blobs/sha256").len(), 3);
    desk.check_blobs();
}

#[test]
fn damage_is_told_with_what_to_do() {
    let desk = Desk::new();
    let name = Registry::start().name("x");
    let digest = desk.build(&name, 1000);
    fs::write(desk.path("store/blobs/sha256").join(&digest[7..]), "{}").unwrap();
    assert!(desk.ok(&["list"]).contains("damaged"));
    let words = desk.fail(&["push", &name]);
    assert!(words.contains("is damaged") && words.contains("pull or build it again"), "{words}");
    desk.ok(&["rm", &name]);
    assert!(desk.files("blobs/sha256").is_empty());
    let words = desk.fail(&["build", "hello.wat", "--store", "docker/.."]);
    assert!(words.contains("it is a folder of something else"), "{words}");
}

#[test]
fn an_image_is_piped_into_an_engine_as_a_layout_that_skopeo_reads() {
    let desk = Desk::new();
    let digest = desk.build("hello", 1000);
    desk.ok(&["tag", "hello", "second:2"]);
    let script = "#!/bin/bash\necho \"$(basename \"$0\")\" \"$@\" >args\ncat >piped.tar\n";
    desk.program("docker", script);
    desk.program("ctr", script);
    let args = |desk: &Desk| fs::read_to_string(desk.path("args")).unwrap();
    desk.ok(&["load", "hello", "second:2"]);
    assert_eq!(args(&desk), "docker load\n");
    for tag in ["latest", "2"] {
        let from = format!("oci-archive:piped.tar:{tag}");
        let to = format!("dir:{tag}");
        desk.skopeo(&["copy", "--quiet", &from, &to]);
        let manifest = fs::read(desk.path(&format!("{tag}/manifest.json"))).unwrap();
        assert_eq!(crate::harness::sha256(&manifest), digest);
    }
    desk.ok(&["load", "hello", "--into", "containerd", "-n", "k8s.io"]);
    assert_eq!(args(&desk), "ctr -n k8s.io image import --platform wasi/wasm -\n");

    desk.program("docker", "#!/bin/bash\necho no daemon >&2; exit 1");
    let output = desk.run(&["load", "hello"]);
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(words, "no daemon\nerror: docker ends with exit status: 1\n");
    assert!(desk.fail(&["load", "none"]).contains("the store has no image"));
}

#[test]
fn many_pulls_of_the_same_at_once_all_end_well() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let name = registry.name("big:1");
    let digest = desk.build(&name, 8 << 20);
    desk.ok(&["push", &name]);
    let other = Desk::new();
    let pull = |_| {
        let mut command = other.command(&["pull", &name, "--format", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let pulls: Vec<_> = (0..6).map(pull).collect();
    for pull in pulls {
        let output = pull.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(&digest));
    }
    assert_eq!(other.names(), [name.as_str()]);
    assert_eq!(other.files("blobs/sha256").len(), 3);
    other.check_blobs();
    other.ok(&["rm", &name]);
    assert!(other.files("partial").is_empty());
}

#[test]
fn a_full_disk_is_told_and_leaves_what_was_there() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let (small, big) = (registry.name("small"), registry.name("big"));
    desk.build(&small, 1 << 20);
    desk.ok(&["push", &small]);
    desk.build(&big, 8 << 20);
    desk.ok(&["push", &big]);
    let other = Desk::new();
    fs::create_dir(other.path("full")).unwrap();
    // A file system of 4 MiB that only this shell sees.
    let script = r#"
        mount -t tmpfs -o size=4m none full
        "$0" pull "$1" --store full >/dev/null
        "$0" pull "$2" --store full && exit 3
        ls full/partial/* 2>/dev/null | xargs -r cat | wc -c
        "$0" list --store full
        "$0" rm "$1" --store full >/dev/null
        "$0" pull "$1" --store full >/dev/null
        sha256sum full/blobs/sha256/* | tr -d / | sed 's/fullblobssha256//' | awk '$1 != $2'
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-ec", script, env!("CARGO_BIN_EXE_wasm-image")]);
    let output = command.args([&small, &big]).current_dir(other.path("")).output().unwrap();
    let (said, words) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(output.status.success(), "{said}{words}");
    assert!(words.contains("no space is left for the image store: free some"), "{words}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0].trim(), "0", "what was begun does not keep the disk full");
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[2].starts_with(&small) && !lines[2].contains("damaged"), "{said}");
}

#[test]
fn looking_makes_no_store() {
    let desk = Desk::new();
    let words = desk.fail(&["list", "--store", "typo"]);
    assert!(words.contains("there is no image store in typo"), "{words}");
    let empty = Desk::new();
    assert_eq!(empty.json(&["list"]), json!([]));
    for folder in [desk.path("typo"), empty.path("store")] {
        assert!(!folder.exists(), "{}", folder.display());
    }
}
