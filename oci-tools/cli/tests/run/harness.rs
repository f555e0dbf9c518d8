//! A place to run guests in, and guests.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::sha256;

/// `nobody` of every distribution.
const NOBODY: u32 = 65534;

/// How long something may take that takes a moment.
const DEADLINE: Duration = Duration::from_secs(60);

/// A guest built from `integration/guests`, by file name.
pub fn guest(name: &str) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let path = target.join("guests").join(name);
    assert!(path.exists(), "{} is not there: build it with `scripts/guests`", path.display());
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A folder with an image store, which is where commands are run, by root or by nobody.
pub struct Place {
    dir: TempDir,
    nobody: bool,
}

impl Place {
    /// Root's.
    pub fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), nobody: false }
    }

    /// One of a user without any rights, with the binary and the probe in it, for that user may not
    /// be let into the project's folder.
    pub fn of_nobody() -> Self {
        let place = Self { dir: TempDir::new().unwrap(), nobody: true };
        fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_wasm-image"), place.path("wasm-image")).unwrap();
        for probe in ["probe-p1.wasm", "probe-p2.wasm"] {
            fs::copy(guest(probe), place.path(probe)).unwrap();
        }
        fs::create_dir(place.path("home")).unwrap();
        chown(place.path("home"), Some(NOBODY), Some(NOBODY)).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder of its image store.
    pub fn store(&self) -> String {
        let name = if self.nobody { "home/store" } else { "store" };
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// `wasm-image ARGS`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = if self.nobody {
            let mut command = Command::new("setpriv");
            let (uid, gid) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&uid, &gid, "--clear-groups"]).arg(self.path("wasm-image"));
            command.env("HOME", self.path("home")).env_remove("XDG_CACHE_HOME");
            command.env("WASM_IMAGE_STORE", self.path("home/store"));
            command
        } else {
            let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
            command.env("WASM_IMAGE_STORE", self.path("store"));
            command
        };
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// `wasm-image run ARGS`, to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(&["run"]).args(args).output().unwrap()
    }

    /// Runs what must end with 0, and gives its output.
    #[track_caller]
    pub fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}: {}", output.status, stderr(&output));
        stdout(&output)
    }

    /// Runs what must end with `code`, and gives what it says on standard error.
    #[track_caller]
    pub fn ends(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let words = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        words
    }

    /// Runs what must not come to be run.
    #[track_caller]
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let words = self.ends(code, args);
        assert!(words.starts_with("error: "), "{words}");
        words
    }

    /// Begins to run what says `word` first.
    #[track_caller]
    pub fn start(&self, args: &[&str], word: &str) -> Running {
        let mut command = self.command(&["run"]);
        command.args(args).stdout(Stdio::piped());
        Running::start(command, word)
    }

    /// Builds an image, with the module `module`.
    #[track_caller]
    pub fn build(&self, module: &str, args: &[&str]) {
        let output = self.command(&["build", module]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    }
}

/// A guest that runs.
pub struct Running {
    pub child: Child,
    pub output: BufReader<ChildStdout>,
}

impl Running {
    /// Begins what says `word` first.
    #[track_caller]
    pub fn start(mut command: Command, word: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word);
        Self { child, output }
    }

    /// The pid of `wasm-image`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to `wasm-image`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit code, and all that it said since.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "it never came: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// All processes that came of one.
pub fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// A layer of an image: its media type and its bytes.
pub type Layer = (&'static str, Vec<u8>);

/// Makes an OCI layout of an image for wasi/wasm in the folder `folder`.
pub fn layout(folder: &Path, config: &Value, layers: &[Layer]) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(folder.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let config = json!({ "os": "wasi", "architecture": "wasm", "config": config });
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(|(kind, bytes)| put(kind, bytes)).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest =
        put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A layer of files.
pub fn tar(fill: impl FnOnce(&mut Tar)) -> Layer {
    let mut tar = Tar(tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast())));
    fill(&mut tar);
    let bytes = tar.0.into_inner().unwrap().finish().unwrap();
    ("application/vnd.oci.image.layer.v1.tar+gzip", bytes)
}

/// A tar that takes everything that it is told.
pub struct Tar(tar::Builder<GzEncoder<Vec<u8>>>);

impl Tar {
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, tar::EntryType::Regular, "", content, content.len() as u64);
    }

    pub fn folder(&mut self, path: &str) {
        self.entry(path, tar::EntryType::Directory, "", b"", 0);
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, tar::EntryType::Symlink, target, b"", 0);
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, tar::EntryType::Link, target, b"", 0);
    }

    /// With a header that says whatever it says.
    pub fn entry(
        &mut self,
        path: &str,
        kind: tar::EntryType,
        target: &str,
        content: &[u8],
        size: u64,
    ) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        ustar.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
    }
}

/// The probe of preview 1.
pub fn probe() -> Vec<u8> {
    fs::read(guest("probe-p1.wasm")).unwrap()
}

/// A stream in zstd's form whose blocks are what they hold, in many frames (RFC 8878, 3.1.1).
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for piece in bytes.chunks(255) {
        let length = piece.len() as u8;
        let block = (u32::from(length) << 3 | 1).to_le_bytes();
        stream.extend([0x28, 0xb5, 0x2f, 0xfd, 0x20, length]);
        stream.write_all(&block[..3]).unwrap();
        stream.write_all(piece).unwrap();
    }
    stream
}
