//! What is measured, and in what surroundings: shims, what they run, bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{CreateTaskRequest, Mount};
use integration::bundle::Bundle;
use integration::mock::{Mock, raw};
use integration::paths;
use serde_json::{Value, json};

/// Where shims shall send their events; nobody there makes anything of them.
pub const EVENTS: &str = "/run/containerd/figures.sock";

/// The name of ours.
pub const US: &str = "wasmtime";

/// The big module: yosys.
const BIG: &str = "yosys.wasm";

/// A shim that is put beside others.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub shim: PathBuf,
    pub runs: Runs,
}

/// What a shim can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Wasm,
    /// By an OCI runtime of that name.
    Linux(&'static str),
    /// Whatever it is asked to: it does nothing.
    Nothing,
}

/// What a container does. All print a line first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A module of preview 1.
    P1,
    /// The same as a component of 0.2.
    P2,
    /// Preview 1, and sleeps on.
    Sleeper,
    /// Preview 1, of 26 MB.
    Big,
    /// Prints the milliseconds that it computed for.
    Sha256,
    /// The same with floating point.
    Nbody,
}

impl Peer {
    /// Ours.
    pub fn own() -> Self {
        Self { name: US.into(), shim: paths::binary(paths::SHIM), runs: Runs::Wasm }
    }

    /// The shim that does nothing.
    pub fn floor() -> Option<Self> {
        let shim = find("containerd-shim-floor-v1")?;
        Some(Self { name: "floor".into(), shim, runs: Runs::Nothing })
    }

    /// The shim of Linux containers, once for each OCI runtime that is there.
    pub fn linux() -> Vec<Self> {
        let of = |runtime| {
            let shim = find("containerd-shim-runc-v2")?;
            find(runtime).map(|_| Self { name: runtime.into(), shim, runs: Runs::Linux(runtime) })
        };
        ["runc", "crun"].into_iter().filter_map(of).collect()
    }

    /// Its runtime, as daemons name it.
    pub fn runtime(&self) -> String {
        let file = self.shim.file_name().unwrap_or_default().to_string_lossy();
        let name = file.trim_start_matches("containerd-shim-").replace('-', ".");
        format!("io.containerd.{name}")
    }

    /// Another one, of Wasm containers.
    pub fn other(shim: &Path) -> Self {
        let file = shim.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = file.trim_start_matches("containerd-shim-").to_owned();
        Self { name, shim: shim.to_owned(), runs: Runs::Wasm }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists())
}

const SLEEPING: &[&str] = &["sh", "-c", "echo sleeping; exec /busybox sleep 100000"];

/// What `ctr run` has mounted in every container.
fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({ "destination": destination, "type": kind, "source": kind, "options": options })
    };
    json!([
        mount("/proc", "proc", "nosuid,noexec,nodev"),
        mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
        mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
        mount("/run", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ])
}

/// A mock containerd that costs as little as can be, and the files of containers.
pub struct World {
    pub mock: Mock,
}

impl World {
    /// In a mount namespace of the calling thread.
    pub fn new() -> Self {
        let mock = Mock::new();
        fs::create_dir_all("/run/containerd/s").expect("/run is ours");
        fs::create_dir_all("/run/files").expect("/run is ours");
        for guest in fs::read_dir(paths::target().join("guests")).expect("guests").flatten() {
            let to = Path::new("/run/files").join(guest.file_name());
            fs::copy(guest.path(), to).expect("a copy");
        }
        if let Some(busybox) = find("busybox") {
            fs::copy(busybox, "/run/files/busybox").expect("a copy");
        }
        raw::swallow_events(Path::new(EVENTS)).expect("/run is ours");
        Self { mock }
    }

    /// A bundle that is ready.
    pub fn bundle(&self, peer: &Peer, program: Program, group: Option<&str>) -> Bundle {
        let bundle = self.unwritten(peer, program, group);
        bundle.write();
        bundle
    }

    /// A bundle whose `config.json` can still be changed.
    pub fn unwritten(&self, peer: &Peer, program: Program, group: Option<&str>) -> Bundle {
        let (file, args): (_, &[&str]) = match (peer.runs, program) {
            (Runs::Linux(_), Program::Sleeper) => ("busybox", SLEEPING),
            (Runs::Linux(_), _) => ("busybox", &["echo", "hello from Linux"]),
            (_, Program::Sleeper) => ("probe-p1.wasm", &["sleep", "100000"]),
            (_, Program::P1) => ("probe-p1.wasm", &[]),
            (_, Program::P2) => ("probe-p2.wasm", &[]),
            (_, Program::Big) => (BIG, &["-V"]),
            (_, Program::Sha256) => ("sha256.wasm", &[]),
            (_, Program::Nbody) => ("nbody.wasm", &[]),
        };
        let entry = format!("/{file}");
        let command: Vec<&str> =
            std::iter::once(entry.as_str()).chain(args.iter().copied()).collect();
        let bundle = self.mock.bundle(&command).set("/mounts", mounts());
        // One file, as in a snapshot that many containers stand on.
        if program != Program::Big {
            let to = bundle.path.join("rootfs").join(file);
            fs::hard_link(Path::new("/run/files").join(file), to).expect("one file system");
        }
        match group {
            Some(group) => {
                bundle.set("/annotations", json!({ "io.containerd.runc.v2.group": group }))
            }
            None => bundle,
        }
    }

    pub fn has_big_module(&self) -> bool {
        Path::new("/run/files").join(BIG).exists()
    }

    /// A Create with a rootfs that is an overlay of the guests' folder, as a snapshotter makes it.
    pub fn layered(&self, bundle: &Bundle) -> CreateTaskRequest {
        let folder = |name: &str| {
            let folder = bundle.path.join(name);
            fs::create_dir_all(&folder).expect("the bundle is writable");
            folder.display().to_string()
        };
        let mount = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("workdir={}", folder("overlay-work")),
                format!("upperdir={}", folder("upper")),
                "lowerdir=/run/files".into(),
            ],
            ..Default::default()
        };
        CreateTaskRequest { rootfs: vec![mount], ..Default::default() }
    }

    /// A name for a group of a shim.
    pub fn group(&self, peer: &Peer, what: &str) -> String {
        format!("{}-{}-{what}", self.mock.namespace, peer.name)
    }
}

/// Waits until nobody compiles in the background any more.
pub fn quiet() {
    let deadline = Instant::now() + Duration::from_secs(300);
    while compiles() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn compiles() -> bool {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(|words| {
        // It is executed by another name of its own binary.
        words.split(|byte| *byte == 0).skip(1).take(2).eq([b"compile".as_slice(), b"background"])
    })
}
