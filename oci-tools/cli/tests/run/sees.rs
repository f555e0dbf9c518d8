//! What a guest sees of the flags.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::harness::{Place, guest};

#[test]
fn the_environment_is_dockers_with_what_the_flags_say() {
    let place = Place::new();
    place.file("vars", "# comment\n\nA=from file\nB=2\nPASSED\nUNSET_HERE\n");
    let args = ["--env-file", "vars", "-e", "A=b=c", "--env", "EMPTY=", "--hostname", "box"];
    let mut command = place.command(&["run"]);
    command.args(args).args([&guest("probe-p2.wasm"), "env"]).env("PASSED", "on");
    let output = command.env_remove("UNSET_HERE").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("PATH=")).collect();
    assert_eq!(lines, ["A=b=c", "B=2", "EMPTY=", "HOSTNAME=box", "PASSED=on", "PWD=/"]);
    let said = place.refused(125, &["--env-file", "none", &guest("probe-p2.wasm")]);
    assert!(said.contains("cannot read none"), "{said}");
}

#[test]
fn a_variable_without_a_name_is_refused() {
    let place = Place::new();
    for word in ["", "=x"] {
        let words = place.ends(125, &["-e", word, "probe-p1.wasm"]);
        assert!(words.contains("invalid environment variable"), "{words}");
    }
}

#[test]
fn an_empty_rootfs_has_the_file_and_what_every_container_has() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    assert_eq!(place.says(&[&probe, "ls", "/"]), "dev\netc\nprobe-p1.wasm\n");
    let devices = "full\nnull\nrandom\nshm\nurandom\nzero\n";
    assert_eq!(place.says(&[&probe, "ls", "/dev"]), devices);
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(place.says(&[&probe, "cat", "/etc/hosts"]), hosts);
    let own = place.says(&["--network", "none", "--hostname", "box", &probe, "cat", "/etc/hosts"]);
    assert!(own.contains("localhost box\n"), "{own}");
}

#[test]
fn a_volume_is_the_hosts_and_one_that_is_read_only_stays_as_it_is() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    place.file("data/in", "from the host\n");
    let args = ["-v", "./data:/data", &probe];
    assert_eq!(place.says(&[&args[..], &["cat", "/data/in"]].concat()), "from the host\n");
    place.says(&[&args[..], &["write", "/data/out", "from the guest"]].concat());
    assert_eq!(fs::read_to_string(place.path("data/out")).unwrap(), "from the guest");
    let args = ["-v", "./data:/data:ro", &probe, "write", "/data/out", "again"];
    let said = place.ends(1, &args);
    assert!(said.contains("/data/out"), "{said}");
    assert_eq!(fs::read_to_string(place.path("data/out")).unwrap(), "from the guest");
    let file = ["-v", "./data/in:/one/file", &probe, "cat", "/one/file"];
    assert_eq!(place.says(&file), "from the host\n");
}

#[test]
fn what_is_written_elsewhere_is_gone_and_nothing_is_written_if_it_is_forbidden() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    place.says(&[&probe, "write", "/new", "x"]);
    assert!(!place.says(&[&probe, "ls", "/"]).contains("new"));
    place.ends(1, &["--read-only", &probe, "write", "/new", "x"]);
    place.says(&[
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m",
        &probe,
        "write",
        "/scratch/new",
        "x",
    ]);
    let said = place.refused(125, &["-v", "data:/data", &probe]);
    assert!(said.contains("say ./data"), "{said}");
}

#[test]
fn the_working_directory_and_the_user_are_those_of_the_flags() {
    let (place, probe) = (Place::new(), guest("probe-p2.wasm"));
    place.file("data/secret", "of root");
    let said = place.says(&["-w", "/srv/deep", &probe, "env"]);
    assert!(said.contains("PWD=/srv/deep\n"), "{said}");
    let chmod = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(place.path("data/secret"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let read = ["-v", "./data:/data", "-u", "1000:1000", &probe, "cat", "/data/secret"];
    assert_eq!(place.says(&read), "of root");
    chmod(0o600);
    place.ends(1, &read);
    let said = place.refused(125, &["-u", "who", &probe]);
    assert!(said.contains("no user \"who\""), "{said}");
}

#[test]
fn standard_input_is_passed_on_whole_and_only_if_that_is_asked_for() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    const LENGTH: usize = 32 << 20;
    for (flags, length) in [(&["-i"][..], LENGTH), (&[][..], 0)] {
        let mut command = place.command(&["run"]);
        command.args(flags).args([&probe, "count"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Whoever does not read it ends before it is written.
        let _ = stdin.write_all(&vec![b'x'; length]);
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{length}\n"));
    }
}

#[test]
fn output_is_the_commands_own_in_any_amount() {
    let (place, probe) = (Place::new(), guest("probe-p1.wasm"));
    assert_eq!(place.says(&[&probe, "flood", "20000000"]).len(), 20_000_000);
    let output = place.run(&[&probe, "both"]);
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"to stdout\n"[..], &b"to stderr\n"[..])
    );
    // A file is written on, not anew.
    let file = place.file("out", "before\n");
    let out = fs::OpenOptions::new().append(true).open(&file).unwrap();
    assert!(place.command(&["run", &probe, "both"]).stdout(out).status().unwrap().success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "before\nto stdout\n");
}
