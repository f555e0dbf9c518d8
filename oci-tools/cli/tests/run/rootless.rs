//! The same for a user without rights.

use std::fs;

use crate::harness::Place;

const PROBE: &str = "./probe-p1.wasm";

#[test]
fn nobody_runs_a_file() {
    let place = Place::of_nobody();
    assert_eq!(place.says(&[PROBE]), "hello from wasm\n");
    assert_eq!(place.ends(7, &[PROBE, "exit", "7"]), "");
    assert!(place.ends(134, &[PROBE, "trap"]).contains("trap_c"));
    assert_eq!(place.says(&[PROBE, "ls", "/dev"]), "full\nnull\nrandom\nshm\nurandom\nzero\n");
    assert_eq!(place.says(&[PROBE, "cat", "/dev/null"]), "");
    place.says(&[PROBE, "write", "/dev/null", "x"]);
    place.ends(1, &["--read-only", PROBE, "write", "/new", "x"]);
    assert_eq!(place.says(&["--network", "none", PROBE]), "hello from wasm\n");
}

#[test]
fn nobody_builds_and_runs_an_image_and_removes_it() {
    let place = Place::of_nobody();
    place.file("site/index.html", "hello\n");
    let tar = place.path("home/probe.tar");
    let build = ["-o", tar.to_str().unwrap(), "--add", "site:/srv"];
    place.build("probe-p2.wasm", &build);
    let tar = "home/probe.tar";
    assert_eq!(place.says(&[tar, "cat", "/srv/index.html"]), "hello\n");
    place.says(&[tar, "write", "/srv/new", "x"]);
    place.says(&[tar, "rm", "/srv/index.html"]);
    assert_eq!(place.says(&[tar, "ls", "/srv"]), "index.html\n");
    for user in ["0", "1000:1000"] {
        assert_eq!(place.says(&["-u", user, tar]), "hello from wasm\n");
    }
}

#[test]
fn nobody_reaches_no_more_than_before() {
    let place = Place::of_nobody();
    place.file("root/secret", "of root");
    use std::os::unix::fs::PermissionsExt;
    let secret = place.path("root/secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let read = ["-v", "./root:/root", PROBE, "cat", "/root/secret"];
    place.ends(1, &read);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(place.says(&read), "of root");
    place.ends(1, &["-v", "./root:/root", PROBE, "write", "/root/new", "x"]);
    place.says(&["-v", "./home:/home", PROBE, "write", "/home/new", "x"]);
    assert_eq!(fs::read_to_string(place.path("home/new")).unwrap(), "x");
}

#[test]
fn nobody_has_a_ceiling_for_memory_and_no_other_limits() {
    let place = Place::of_nobody();
    assert_eq!(place.says(&["--memory", "64m", PROBE, "alloc", "16"]), "allocated 16\n");
    let said = place.ends(1, &["--memory", "8m", PROBE, "alloc", "16"]);
    assert!(said.contains("memory allocation failed"), "{said}");
    for flag in ["--cpus", "--pids-limit"] {
        let said = place.refused(125, &[flag, "1", PROBE]);
        assert!(said.contains(flag) && said.contains("run it as root"), "{said}");
    }
}

#[test]
fn nobodys_guests_end_by_signals() {
    let place = Place::of_nobody();
    let running = place.start(&[PROBE, "spin"], "spinning");
    running.signal("TERM");
    assert_eq!(running.end().0, Some(143));
}
