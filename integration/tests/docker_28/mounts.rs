//! What of the host a guest can see and change.

use integration::images::{PROBE, PROBE_P2};

use crate::docker;

#[test]
fn a_volume_can_be_read_and_written() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let folder = docker.0.folder("volume");
        docker.0.sh(&format!("echo from the host >{folder}/in"));
        let mount = format!("{folder}:/data");
        assert_eq!(
            docker.run(&["-v", &mount], image, &["cat", "/data/in"]).ok().text(),
            "from the host"
        );
        docker.run(&["-v", &mount], image, &["write", "/data/out", "from the guest"]).ok();
        assert_eq!(docker.0.sh(&format!("cat {folder}/out")), "from the guest");
        docker.run(&["-v", &mount], image, &["append", "/data/out", ", twice"]).ok();
        assert_eq!(docker.0.sh(&format!("cat {folder}/out")), "from the guest, twice");
        docker.run(&["-v", &mount], image, &["mkdir", "/data/sub"]).ok();
        docker.run(&["-v", &mount], image, &["rm", "/data/out"]).ok();
        assert_eq!(
            docker.run(&["-v", &mount], image, &["ls", "/data"]).ok().lines(),
            ["in", "sub"]
        );
    }
}

#[test]
fn a_read_only_volume_can_only_be_read() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        let folder = docker.0.folder("volume");
        docker.0.sh(&format!("echo from the host >{folder}/in"));
        let mount = format!("{folder}:/data:ro");
        assert_eq!(
            docker.run(&["-v", &mount], image, &["cat", "/data/in"]).ok().text(),
            "from the host"
        );
        for attempt in [
            &["write", "/data/in", "x"][..],
            &["write", "/data/new", "x"],
            &["rm", "/data/in"],
            &["mkdir", "/data/sub"],
        ] {
            docker.run(&["-v", &mount], image, attempt).exits(1);
        }
        assert_eq!(docker.0.sh(&format!("ls {folder}; cat {folder}/in")), "in\nfrom the host");
    }
}

#[test]
fn a_read_only_mount_below_a_writable_one_stays_read_only() {
    let (docker, _turn) = docker();
    let (outer, inner) = (docker.0.folder("outer"), docker.0.folder("inner"));
    docker.0.sh(&format!("mkdir {outer}/sub; echo kept >{inner}/file"));
    let mounts = [format!("{outer}:/data"), format!("{inner}:/data/sub:ro")];
    let flags = ["-v", &mounts[0], "-v", &mounts[1]];
    docker.run(&flags, &PROBE, &["write", "/data/file", "text"]).ok();
    assert_eq!(docker.run(&flags, &PROBE, &["cat", "/data/sub/file"]).ok().text(), "kept");
    docker.run(&flags, &PROBE, &["write", "/data/sub/file", "text"]).exits(1);
}

#[test]
fn a_single_file_can_be_mounted() {
    let (docker, _turn) = docker();
    let folder = docker.0.folder("file");
    docker.0.sh(&format!("echo one >{folder}/file"));
    let mount = format!("{folder}/file:/etc/one");
    assert_eq!(docker.run(&["-v", &mount], &PROBE, &["cat", "/etc/one"]).ok().text(), "one");
    assert_eq!(
        docker.run(&["-v", &mount], &PROBE, &["cat", "/etc/greeting"]).ok().text(),
        "good morning"
    );
}

#[test]
fn a_named_volume_and_a_tmpfs_can_be_written() {
    let (docker, _turn) = docker();
    let volume = integration::names::unique("volume");
    let mount = format!("{volume}:/kept");
    docker
        .run(&["-v", &mount, "--tmpfs", "/scratch"], &PROBE, &["write", "/scratch/file", "gone"])
        .ok();
    docker.run(&["-v", &mount], &PROBE, &["write", "/kept/file", "kept"]).ok();
    assert_eq!(docker.run(&["-v", &mount], &PROBE, &["cat", "/kept/file"]).ok().text(), "kept");
    docker.cli(&["volume", "rm", &volume]).ok();
}

#[test]
fn the_rootfs_can_be_written_and_is_thrown_away() {
    let (docker, _turn) = docker();
    let container = docker.start(&[], &PROBE, &["write", "/etc/greeting", "good night"]);
    assert_eq!(container.wait(), 0);
    assert_eq!(
        docker
            .cli(&["diff", &container.name])
            .ok()
            .lines()
            .iter()
            .filter(|line| line.contains("/etc/greeting"))
            .count(),
        1
    );
    assert_eq!(docker.run(&[], &PROBE, &["cat", "/etc/greeting"]).ok().text(), "good morning");
}

#[test]
fn a_read_only_rootfs_cannot_be_written() {
    let (docker, _turn) = docker();
    for image in [&PROBE, &PROBE_P2] {
        docker.run(&["--read-only"], image, &["write", "/new", "text"]).exits(1);
        docker.run(&["--read-only", "--tmpfs", "/tmp"], image, &["write", "/tmp/new", "text"]).ok();
    }
}

#[test]
fn the_guest_sees_the_images_files_and_not_the_hosts() {
    let (docker, _turn) = docker();
    let done = docker.run(&[], &PROBE, &["ls", "/"]).ok();
    let names = done.lines();
    assert!(names.iter().any(|name| name == "probe-p1.wasm"), "{done}");
    for name in ["share", "var", "root", "home"] {
        assert!(!names.iter().any(|seen| seen == name), "{name} is the host's\n{done}");
    }
    let done = docker.run(&[], &PROBE, &["ls", "/.."]);
    assert!(!done.lines().iter().any(|name| name == "share"), "{done}");
}
