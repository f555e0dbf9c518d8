//! Layers that were made to get out, to get in, or to be too much.

use std::fs;
use std::path::Path;

use serde_json::json;
use tar::EntryType;

use crate::harness::{Layer, Place, Tar, layout, probe, tar};

/// Runs the probe in an image with `layers` above its own.
fn image(layers: Vec<Layer>) -> Place {
    let place = Place::new();
    let own = tar(|tar| tar.file("probe.wasm", &probe()));
    let all: Vec<_> = [own].into_iter().chain(layers).collect();
    layout(&place.path("layout"), &json!({ "Entrypoint": ["/probe.wasm"] }), &all);
    place
}

#[track_caller]
fn refused(words: &str, fill: impl FnOnce(&mut Tar)) {
    let place = image(vec![tar(fill)]);
    let said = place.refused(125, &["./layout"]);
    assert!(said.contains(words), "{words:?} is not in {said}");
    let left = fs::read_dir(place.path("store/unpacked")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of it");
}

#[test]
fn entries_that_lead_out_are_refused_by_name() {
    refused("\"../out\"", |tar| tar.file("../out", b"x"));
    refused("\"/a/../../out\"", |tar| tar.file("/a/../../out", b"x"));
    refused("\"../../etc/passwd\"", |tar| tar.link("in", "../../etc/passwd"));
    refused("\"in\"", |tar| tar.link("in", "/etc/passwd"));
    refused("is not there", |tar| tar.link("self", "self"));
}

#[test]
fn links_lead_within_the_image_whatever_they_say() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("../../../../../../../..{target}");
    let place = image(vec![
        tar(|tar| {
            tar.symlink("absolute", target);
            tar.symlink("upwards", &up);
            tar.symlink("root", "/");
            tar.folder(target.trim_start_matches('/'));
        }),
        tar(|tar| {
            tar.file("absolute/one", b"1");
            tar.file("upwards/two", b"2");
            tar.file("root/three", b"3");
            tar.link("four", "absolute/one");
        }),
    ]);
    assert_eq!(place.says(&["./layout", "ls", target]), "one\ntwo\n");
    assert_eq!(place.says(&["./layout", "cat", "/three"]), "3");
    assert_eq!(place.says(&["./layout", "cat", "/four"]), "1");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!Path::new("/three").exists());
}

#[test]
fn device_nodes_and_fifos_are_left_out() {
    let place = image(vec![tar(|tar| {
        tar.entry("null", EntryType::Char, "", b"", 0);
        tar.entry("disk", EntryType::Block, "", b"", 0);
        tar.entry("fifo", EntryType::Fifo, "", b"", 0);
    })]);
    assert_eq!(place.says(&["./layout", "ls", "/"]), "dev\netc\nprobe.wasm\n");
}

#[test]
fn layers_take_away_what_is_below_them_and_nothing_of_their_own() {
    let place = image(vec![
        tar(|tar| {
            tar.folder("a");
            tar.file("a/x", b"");
            tar.file("a/deep/y", b"");
            tar.file("b", b"");
            tar.symlink("c", "/a");
        }),
        tar(|tar| {
            tar.file("a/z", b"new");
            tar.file("a/.wh..wh..opq", b"");
            tar.file(".wh.b", b"");
            tar.file(".wh.c", b"");
            tar.file(".wh.none", b"");
        }),
    ]);
    assert_eq!(place.says(&["./layout", "ls", "/a"]), "z\n");
    assert_eq!(place.says(&["./layout", "ls", "/"]), "a\ndev\netc\nprobe.wasm\n");
    refused(".wh...", |tar| tar.file(".wh...", b""));
    refused("takes nothing away", |tar| tar.file("a/.wh.", b""));
}

#[test]
fn the_later_of_two_entries_counts_whatever_they_are() {
    let place = image(vec![
        tar(|tar| {
            tar.file("file", b"1");
            tar.file("file", b"2");
            tar.file("folder", b"");
            tar.folder("folder");
            tar.file("folder/in", b"3");
            tar.folder("was");
            tar.file("was/in", b"");
        }),
        tar(|tar| tar.file("was", b"4")),
    ]);
    for (file, content) in [("/file", "2"), ("/folder/in", "3"), ("/was", "4")] {
        assert_eq!(place.says(&["./layout", "cat", file]), content);
    }
    refused("\"file/in\"", |tar| {
        tar.file("file", b"");
        tar.file("file/in", b"");
    });
}

#[test]
fn what_is_too_much_is_refused_before_it_is_written() {
    refused("\"bomb\"", |tar| tar.entry("bomb", EntryType::Regular, "", b"", 3 << 30));
    refused("2 GiB", |tar| tar.entry("bomb", EntryType::Regular, "", b"", 3 << 30));
    refused("damaged or cut off", |tar| {
        tar.entry("short", EntryType::Regular, "", b"abc", 100_000)
    });
    refused("kind that images do not have", |tar| {
        tar.entry("odd", EntryType::new(b'Z'), "", b"", 0);
    });
}

#[test]
fn a_layer_that_is_not_what_its_name_says_is_refused() {
    let place = image(vec![]);
    let blobs = fs::read_dir(place.path("layout/blobs/sha256")).unwrap();
    let layer = blobs.map(|blob| blob.unwrap().path());
    let layer = layer.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let said = place.refused(125, &["./layout"]);
    assert!(said.contains("is damaged"), "{said}");
}

#[test]
fn no_file_of_a_layer_lends_rights() {
    let place = image(vec![tar(|tar| tar.entry("su", EntryType::Regular, "", b"", 0))]);
    place.says(&["./layout"]);
    let unpacked = fs::read_dir(place.path("store/unpacked")).unwrap().next().unwrap().unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(unpacked.path().join("su")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    let folder = fs::metadata(place.path("store/unpacked")).unwrap().permissions().mode();
    assert_eq!(folder & 0o777, 0o700);
}
