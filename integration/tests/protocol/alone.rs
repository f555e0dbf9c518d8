//! `wasm-image run` is the shim without a daemon: a guest sees the same in both, and ends the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::command::{DEADLINE, run};
use integration::mock::{Mock, Outlet};
use integration::paths::{binary, guest};
use serde_json::json;

use crate::code::{OPTIMIZED, with_options};

/// Exit code, standard output, standard error.
type End = (u32, String, String);

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container that `wasm-image run` makes, written as containerd would write it.
fn in_shim(mock: &Mock, probe: &Path, args: &[&str]) -> End {
    let name = probe.file_name().expect("a file").to_str().expect("UTF-8").to_owned();
    let entry = format!("/{name}");
    let mut bundle = mock
        .bundle(&[&[entry.as_str()], args].concat())
        .with(&name, fs::read(probe).expect("a guest"))
        .with("etc/hosts", "")
        .with("etc/hostname", "box\n")
        .with("etc/resolv.conf", "")
        .set("/process/env", json!([PATH, "HOSTNAME=box", "COLOUR=blue"]));
    for (place, mode) in [("/dev", "mode=755"), ("/dev/shm", "mode=1777")] {
        let mount = json!({
            "destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", mode]
        });
        bundle = bundle.push("/mounts", mount);
    }
    let [stdout, stderr] = ["stdout", "stderr"].map(|stream| mock.fifo(&bundle, stream));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let request = CreateTaskRequest {
        stdout: text(&stdout),
        stderr: text(&stderr),
        // Baseline code may trap an instruction away from where optimized code does.
        ..with_options(OPTIMIZED)
    };
    let (stdout, stderr) = (Outlet::of(&stdout), Outlet::of(&stderr));
    let shim =
        mock.create_with(&bundle, request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    shim.start(&bundle.id).expect("the task can be started");
    let code = shim.wait(&bundle.id).expect("it ends");
    shim.finish(mock, &bundle);
    (code, stdout.all(), stderr.all())
}

fn alone(probe: &Path, args: &[&str]) -> End {
    let mut command = Command::new(binary("wasm-image"));
    command.args(["run", "--network", "none", "--hostname", "box", "-e", "COLOUR=blue"]);
    let done = run(
        {
            command.arg(probe).args(args);
            command
        },
        b"",
        DEADLINE,
    );
    let stdout = String::from_utf8(done.stdout).expect("the probe says UTF-8");
    (done.code.unsigned_abs(), stdout, done.stderr)
}

#[test]
fn a_guest_sees_the_same_and_ends_the_same_without_a_daemon() {
    let commands: [&[&str]; 10] = [
        &["args", "--one", "two words"],
        &["env"],
        &["cwd"],
        &["ls", "/"],
        &["ls", "/dev"],
        &["cat", "/etc/hostname"],
        &["cat", "/none"],
        &["exit", "9"],
        &["both"],
        &["trap"],
    ];
    for probe in ["probe-p1.wasm", "probe-p2.wasm"].map(guest) {
        let mock = Mock::new();
        for command in commands {
            // First, so that its code is there for the other.
            let served = in_shim(&mock, &probe, command);
            assert_eq!(alone(&probe, command), served, "{command:?}");
        }
    }
}
