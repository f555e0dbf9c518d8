//! Images of 100 MB to a registry on this machine and back, beside the tools of the field.
//!
//! All of them read and write OCI layouts, and speak to one registry without TLS. It is a new one for
//! each push, so that nobody finds a layer there already.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use artifact::digest::Digest;
use integration::paths;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use crate::sample::{Figure, milliseconds};

/// The word by which this program runs another one and says what that took.
pub const MEASURED: &str = "--measured";

pub const OWN: &str = "wasm-image";

/// In bytes, all layers together.
const SIZE: usize = 100_000_000;

const LAYERS: [(usize, &str); 2] = [(1, "one layer"), (8, "8 layers")];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Runs a program, and says on stdout how many nanoseconds it took and how many kilobytes it had in
/// memory at most, its children included.
pub fn measured(words: &[String]) {
    let (program, args) = words.split_first().expect("a program");
    let begin = Instant::now();
    let status = Command::new(program).args(args).stdout(Stdio::null()).status();
    let took = begin.elapsed();
    let status = status.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(status.success(), "{words:?} ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("there was a child");
    println!("{} {}", took.as_nanos(), usage.max_rss());
}

pub fn measure(runs: usize) -> Vec<Figure> {
    let mut times = Figure::new("registry", "ms");
    let mut memory = Figure::new("registry-memory", "MB");
    let desk = Desk::new();
    for (layers, words) in LAYERS {
        desk.make_image(layers);
        let mut samples: Vec<_> =
            TOOLS.iter().map(|tool| (tool, [const { Vec::new() }; 2])).collect();
        // The first round fills the page cache and counts for nothing.
        for round in 0..=runs {
            for (tool, both) in &mut samples {
                let registry = Registry::start(&desk.0);
                let name = format!("{}/image:t", registry.address);
                (tool.prepare)(&desk, &name);
                for (verb, samples) in [tool.push, tool.pull].into_iter().zip(both) {
                    let sample = desk.run(&verb(&desk, &name));
                    if round > 0 {
                        samples.push(sample);
                    }
                }
                let _ = fs::remove_dir_all(desk.out());
            }
        }
        for (place, verb) in ["push", "pull"].into_iter().enumerate() {
            for (tool, both) in &samples {
                let of = |part: fn(&(f64, f64)) -> f64| both[place].iter().map(part).collect();
                times.add(&format!("{verb}, {words}"), tool.name, of(|sample| sample.0));
                memory.add(&format!("{verb}, {words}"), tool.name, of(|sample| sample.1));
            }
        }
    }
    vec![times, memory]
}

/// A tool: how it sends the image of a desk under a name, and how it fetches it.
struct Tool {
    name: &'static str,
    /// What need not be measured.
    prepare: fn(&Desk, &str),
    push: fn(&Desk, &str) -> Vec<String>,
    pull: fn(&Desk, &str) -> Vec<String>,
}

const TOOLS: [Tool; 4] = [
    Tool {
        name: OWN,
        // Its store is a layout with full names.
        prepare: |desk, name| {
            fs::remove_dir_all(desk.store()).ok();
            desk.link_layout(&desk.store(), name);
        },
        push: |desk, name| words(&own(), &["push", "--store", &text(&desk.store()), name]),
        pull: |desk, name| words(&own(), &["pull", "--store", &text(&desk.out()), name]),
    },
    Tool {
        name: "oras",
        prepare: |_, _| {},
        push: |desk, name| {
            let from = format!("{}:t", text(&desk.layout()));
            words(&judge("oras"), &["cp", "--from-oci-layout", "--to-plain-http", &from, name])
        },
        pull: |desk, name| {
            let to = format!("{}:t", text(&desk.out()));
            words(&judge("oras"), &["cp", "--from-plain-http", "--to-oci-layout", name, &to])
        },
    },
    Tool {
        name: "skopeo",
        prepare: |_, _| {},
        push: |desk, name| {
            let (from, to) =
                (format!("oci:{}:t", text(&desk.layout())), format!("docker://{name}"));
            words("skopeo".as_ref(), &["copy", "--quiet", "--dest-tls-verify=false", &from, &to])
        },
        pull: |desk, name| {
            let (from, to) = (format!("docker://{name}"), format!("oci:{}:t", text(&desk.out())));
            let platform = ["--override-os", "wasi", "--override-arch", "wasm"];
            let copy = ["copy", "--quiet", "--src-tls-verify=false", &from, &to];
            words("skopeo".as_ref(), &[&platform[..], &copy].concat())
        },
    },
    Tool {
        name: "crane",
        prepare: |_, _| {},
        push: |desk, name| {
            words(&judge("crane"), &["push", "--insecure", &text(&desk.layout()), name])
        },
        pull: |desk, name| {
            let how = ["pull", "--insecure", "--format", "oci", "--platform", "wasi/wasm"];
            words(&judge("crane"), &[&how[..], &[name, &text(&desk.out())]].concat())
        },
    },
];

fn own() -> PathBuf {
    paths::binary(OWN)
}

fn judge(name: &str) -> PathBuf {
    paths::judge(&format!("{name}/usr/bin/{name}"))
}

fn words(program: &Path, args: &[&str]) -> Vec<String> {
    std::iter::once(text(program)).chain(args.iter().map(|&arg| arg.to_owned())).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A folder with an image.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let folder = paths::target().join("bench");
        fs::create_dir_all(&folder).expect("the target folder is writable");
        Self(tempfile::tempdir_in(folder).expect("the target folder is writable"))
    }

    fn layout(&self) -> PathBuf {
        self.0.path().join("layout")
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    /// A layout with an image of so many layers that do not compress.
    fn make_image(&self, layers: usize) {
        fs::remove_dir_all(self.layout()).ok();
        fs::create_dir_all(self.layout().join("blobs/sha256")).expect("ours");
        let mut noise = Noise(layers as u64);
        let layers: Vec<_> = (0..layers)
            .map(|_| {
                self.blob("application/vnd.oci.image.layer.v1.tar", &noise.bytes(SIZE / layers))
            })
            .collect();
        let diffs: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        let config = json!({
            "os": "wasi", "architecture": "wasm", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        let manifest = self.blob(MANIFEST, manifest.to_string().as_bytes());
        fs::write(self.layout().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("ours");
        self.name(&self.layout(), manifest, "t");
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let hex = Digest::of(bytes).to_string();
        fs::write(self.layout().join("blobs/sha256").join(&hex), bytes).expect("room");
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }

    fn name(&self, layout: &Path, mut manifest: serde_json::Value, name: &str) {
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifest["platform"] = json!({ "os": "wasi", "architecture": "wasm" });
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        fs::write(layout.join("index.json"), index.to_string()).expect("ours");
    }

    /// The same blobs under another name.
    fn link_layout(&self, to: &Path, name: &str) {
        fs::create_dir_all(to.join("blobs/sha256")).expect("ours");
        fs::copy(self.layout().join("oci-layout"), to.join("oci-layout")).expect("ours");
        for blob in fs::read_dir(self.layout().join("blobs/sha256")).expect("ours").flatten() {
            let link = to.join("blobs/sha256").join(blob.file_name());
            fs::hard_link(blob.path(), link).expect("one file system");
        }
        let index = fs::read(self.layout().join("index.json")).expect("ours");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("ours");
        self.name(to, index["manifests"][0].clone(), name);
    }

    /// Milliseconds and megabytes.
    fn run(&self, words: &[String]) -> (f64, f64) {
        // What others wrote is not to be waited for.
        nix::unistd::sync();
        let mut command = Command::new(std::env::current_exe().expect("this program is a file"));
        command.arg(MEASURED).args(words).current_dir(self.0.path());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        // Credentials and caches of the machine's user are no matter here.
        command.env("HOME", self.0.path()).env_remove("XDG_DATA_HOME");
        let output = command.output().expect("this program");
        let (said, words) = (String::from_utf8_lossy(&output.stdout), words.join(" "));
        let failed = || format!("{words}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}", failed());
        let (took, memory) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{}", failed()));
        let number = |text: &str| text.parse::<u64>().expect("a number of ours");
        let took = std::time::Duration::from_nanos(number(took));
        (milliseconds(took), number(memory) as f64 / 1000.0)
    }
}

/// Bytes that do not compress (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(self.0.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// An empty `docker-registry`, which goes with its content.
struct Registry {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(beside: &tempfile::TempDir) -> Self {
        let folder = tempfile::tempdir_in(beside.path()).expect("ours");
        let file = folder.path().join("config.yml");
        let config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: '127.0.0.1:0', secret: s }}\n",
            folder.path().join("data").display()
        );
        fs::write(&file, config).expect("ours");
        let mut child = Command::new("docker-registry")
            .args([OsStr::new("serve"), file.as_os_str()])
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed: scripts/setup build");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let line = log
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("listening on "))
            .expect("the registry says where it listens");
        let (_, rest) = line.split_once("listening on ").expect("it was found by that");
        let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
        let address = rest[..end.unwrap_or(rest.len())].to_owned();
        // Read to its end, so that the registry can always write.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
