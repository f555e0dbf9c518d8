//! The shim's own share of a container's life, with the mock containerd: nothing of containerd, of a
//! client or of a snapshotter is in these figures.
//!
//! `cargo bench --workspace --bench launch [RUNS]` (as root; the release binary must be built)

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::CreateTaskRequest;
use integration::bundle::Bundle;
use integration::mock::{Dialect, Mock, Shim};
use integration::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

/// Prints one byte and ends.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\01\00\00\00!")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

fn main() {
    let runs = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(40);
    let p1 = wat::parse_str(HELLO).expect("well-formed");
    let p2 = fs::read(paths::guest("probe-p2.wasm"));
    let mock = Mock::new();
    fs::create_dir_all("/run/containerd/s").expect("/run is ours");
    processes(&mock, runs);
    guest(&mock, runs, "p1", &p1);
    if let Ok(p2) = p2 {
        guest(&mock, runs, "p2", &p2);
    }
    throughput(&mock, &p1);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1e3;
    let n = times.len();
    println!(
        "{what:<34} median {:7.2} ms   p10 {:7.2}   p90 {:7.2}",
        ms(n / 2),
        ms(n / 10),
        ms(n * 9 / 10)
    );
}

/// Whole processes: what each exec of the binary costs, beside one that does nothing.
fn processes(mock: &Mock, runs: usize) {
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    bundle.write();
    let shim = paths::binary(paths::SHIM);
    let time = |what: &str, program: &Path, args: &[&str]| {
        let once = || {
            let start = Instant::now();
            let done = Command::new(program)
                .args(
                    ["-namespace", &mock.namespace, "-id", &bundle.id][..]
                        .iter()
                        .filter(|_| !args.is_empty()),
                )
                .args(args)
                .current_dir(&bundle.path)
                .stdin(Stdio::null())
                .output()
                .expect("it runs");
            assert!(done.status.success(), "{done:?}");
            start.elapsed()
        };
        report(what, (0..runs).map(|_| once()).collect());
    };
    time("/bin/true", Path::new("/bin/true"), &[]);
    time("-info", &shim, &["-info"]);
    time("delete", &shim, &["delete"]);
}

fn member(mock: &Mock, group: Option<&str>, wasm: &[u8]) -> Bundle {
    let mut bundle = mock.bundle(&["/app.wasm"]).with("app.wasm", wasm);
    if let Some(group) = group {
        bundle = bundle.set("/annotations", json!({ "io.containerd.runc.v2.group": group }));
    }
    bundle.write();
    bundle
}

/// From exec of `start`, or from Create in a shim that runs, to the guest's first output.
fn guest(mock: &Mock, runs: usize, kind: &str, wasm: &[u8]) {
    life(mock, &member(mock, None, wasm), None); // compiled
    let own = (0..runs).map(|_| life(mock, &member(mock, None, wasm), None));
    let own: Vec<_> = own.collect();
    report(&format!("{kind}: start, to first output"), own.iter().map(|t| t.0).collect());
    report(&format!("{kind}: of which exec of start"), own.iter().map(|t| t.1).collect());
    let group = format!("{}-{kind}", mock.namespace);
    let holder = member(mock, Some(&group), wasm);
    let shim = mock.start(&holder, &Dialect::Silent).expect("the shim starts");
    shim.create(&holder).expect("created");
    let grouped = (0..runs).map(|_| life(mock, &member(mock, Some(&group), wasm), Some(&shim)).0);
    report(&format!("{kind}: grouped, to first output"), grouped.collect());
    shim.kill(&holder.id, nix::sys::signal::SIGKILL).expect("killed");
    shim.wait(&holder.id).expect("ended");
    shim.finish(mock, &holder);
}

/// One container from beginning to end; the time to its first output, and that of `start`.
fn life(mock: &Mock, bundle: &Bundle, shim: Option<&Shim>) -> (Duration, Duration) {
    let stdout = mock.fifo(bundle, "stdout");
    let mut reader =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&stdout).expect("a fifo");
    let request = CreateTaskRequest { stdout: stdout.display().to_string(), ..Default::default() };
    let begin = Instant::now();
    let (own, started) = match shim {
        Some(_) => (None, Duration::ZERO),
        None => {
            let own = start(mock, bundle);
            (Some(own), begin.elapsed())
        }
    };
    let shim = shim.or(own.as_ref()).expect("one of them");
    shim.create_with(bundle, request).expect("created");
    shim.start(&bundle.id).expect("started");
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).expect("a byte comes");
    let first = begin.elapsed();
    let _ = reader.read(&mut [0; 64]);
    shim.wait(&bundle.id).expect("ended");
    shim.delete(&bundle.id).expect("deleted");
    if let Some(own) = own {
        let _ = own.shutdown(&bundle.id);
    }
    (first, started)
}

fn start(mock: &Mock, bundle: &Bundle) -> Shim {
    let done = Command::new(paths::binary(paths::SHIM))
        .args(["-namespace", &mock.namespace, "-address", "/run/containerd/containerd.sock"])
        .args(["-publish-binary", "/bin/false", "-id", &bundle.id, "start"])
        .env("TTRPC_ADDRESS", "/run/containerd/containerd.sock.ttrpc")
        .current_dir(&bundle.path)
        .stdin(Stdio::null())
        .output()
        .expect("start runs");
    assert!(done.status.success(), "{done:?}");
    Shim::at(String::from_utf8(done.stdout).expect("an address"), 2)
}

/// Containers a second in one group, four at a time.
fn throughput(mock: &Mock, wasm: &[u8]) {
    const EACH: usize = 150;
    let group = format!("{}-many", mock.namespace);
    let holder = member(mock, Some(&group), wasm);
    let shim = mock.start(&holder, &Dialect::Silent).expect("the shim starts");
    shim.create(&holder).expect("created");
    let bundles: Vec<Vec<Bundle>> =
        (0..4).map(|_| (0..EACH).map(|_| member(mock, Some(&group), wasm)).collect()).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for bundles in &bundles {
            let address = shim.address.clone();
            scope.spawn(move || {
                let shim = Shim::at(address, 2);
                for bundle in bundles {
                    shim.create(bundle).expect("created");
                    shim.start(&bundle.id).expect("started");
                    shim.wait(&bundle.id).expect("ended");
                    shim.delete(&bundle.id).expect("deleted");
                }
            });
        }
    });
    let rate = (4 * EACH) as f64 / begin.elapsed().as_secs_f64();
    println!("{:<34} {rate:7.0} containers a second", "one group, four at a time");
    shim.kill(&holder.id, nix::sys::signal::SIGKILL).expect("killed");
    shim.wait(&holder.id).expect("ended");
    shim.finish(mock, &holder);
}
