//! A person's desk, and registries to work with.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The user of registries that want one, and `htpasswd -nbB` of both.
pub const USER: (&str, &str) = ("ali", "open sesame");
const HTPASSWD: &str = "ali:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

/// How long a registry may take to listen, of which it takes a moment.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder with an image store, a configuration of Docker's, and programs first in PATH.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        fs::create_dir(desk.path("docker")).unwrap();
        fs::create_dir(desk.path("bin")).unwrap();
        desk.file("hello.wat", "(module (memory 1) (func (export \"_start\")))");
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A program that is found first in PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.file(&format!("bin/{name}"), script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `wasm-image ARGS` with this desk's store, no proxies, and little memory.
    pub fn command(&self, args: &[&str]) -> Command {
        let limited = "ulimit -v 500000; exec \"$0\" \"$@\"";
        let mut command = Command::new("bash");
        command.args(["-c", limited, env!("CARGO_BIN_EXE_wasm-image")]).args(args);
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap();
        command
            .current_dir(self.0.path())
            .env("WASM_IMAGE_STORE", self.path("store"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what must work, and gives what it said on stdout.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must work, and gives its report.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().chain(&["--format", "json"]).copied().collect();
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// Runs what must fail without a crash, and gives its words.
    #[track_caller]
    pub fn fail(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let words = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {words}");
        assert!(words.starts_with("error: ") && words.lines().count() == 1, "{words}");
        words
    }

    /// Builds an image `name` with `noise` incompressible bytes, and gives its digest.
    #[track_caller]
    pub fn build(&self, name: &str, bytes: usize) -> String {
        self.file("noise", noise(bytes));
        let report = self.json(&["build", "hello.wat", "-t", name, "--add", "noise:/noise"]);
        report["image"]["manifest"].as_str().unwrap().to_owned()
    }

    /// The names in the store.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let list = self.json(&["list"]);
        let names = list.as_array().unwrap().iter().map(|image| {
            assert!(image["size"].is_u64(), "an image is damaged: {image}");
            image["name"].as_str().unwrap().to_owned()
        });
        names.collect()
    }

    /// The files of a folder of the store.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("store").join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Every blob of the store is what it is called.
    #[track_caller]
    pub fn check_blobs(&self) {
        for path in self.files("blobs/sha256") {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(sha256(&fs::read(&path).unwrap()), format!("sha256:{name}"));
        }
    }

    /// Runs `skopeo` for the platform wasi/wasm.
    #[track_caller]
    pub fn skopeo(&self, args: &[&str]) -> Output {
        let mut command = Command::new("skopeo");
        command.args(["--override-os", "wasi", "--override-arch", "wasm"]).args(args);
        self.surround(&mut command);
        let output = command.output().expect("skopeo is installed: scripts/setup build");
        assert!(output.status.success(), "skopeo {args:?}: {}", stderr(&output));
        output
    }

    /// Runs `oras` or `crane` of scripts/judges, and gives what it said on stdout.
    #[track_caller]
    pub fn judge(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(judge(name));
        command.args(args);
        self.surround(&mut command);
        let output = command.env("HOME", self.0.path()).output().unwrap();
        assert!(output.status.success(), "{name} {args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The digest of the image `name` as skopeo copies it out of the registry.
    #[track_caller]
    pub fn judged(&self, name: &str, flags: &[&str]) -> String {
        let folder = TempDir::new_in(self.0.path()).unwrap();
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", folder.path().display()));
        let mut args = vec!["copy", "--quiet", &from, &to];
        args.extend(flags);
        self.skopeo(&args);
        sha256(&fs::read(folder.path().join("manifest.json")).unwrap())
    }
}

/// A tool that scripts/judges fetches: `oras`, `crane`, or of cosign the last of its second version,
/// `cosign`, and `cosign3`.
#[track_caller]
pub fn judge(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let program = if name == "cosign3" { "cosign" } else { name };
    let path = target.join("judges").join(name).join("usr/bin").join(program);
    assert!(path.exists(), "{} is not there: fetch it with `scripts/judges`", path.display());
    path.canonicalize().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes that do not compress.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut block = Sha256::digest(len.to_string());
    while bytes.len() < len {
        bytes.write_all(&block).unwrap();
        block = Sha256::digest(block);
    }
    bytes.truncate(len);
    bytes
}

/// How skopeo reaches a registry without TLS.
pub const OPEN: [&str; 1] = ["--src-tls-verify=false"];

/// A `docker-registry` of its own.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// What a registry wants.
#[derive(Clone, Copy, Default)]
pub struct Wants {
    pub password: bool,
    pub tls: bool,
}

impl Registry {
    pub fn start() -> Self {
        Self::with(Wants::default())
    }

    pub fn with(wants: Wants) -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n",
            path("data").display()
        );
        if wants.password {
            fs::write(path("htpasswd"), HTPASSWD).unwrap();
            let file = path("htpasswd");
            config += &format!("auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n", file.display());
        }
        config += "http:\n  addr: 127.0.0.1:0\n  secret: s\n";
        if wants.tls {
            certificates(folder.path());
            let (certificate, key) = (path("server.pem"), path("server.key"));
            let (certificate, key) = (certificate.display(), key.display());
            config += &format!("  tls: {{ certificate: {certificate}, key: {key} }}\n");
        }
        fs::write(path("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .env_remove("OTEL_TRACES_EXPORTER")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed: scripts/setup build");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = mpsc::channel();
        // Read to its end, so that the registry can always write.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                    let _ = tell.send(rest[..end.unwrap_or(rest.len())].to_owned());
                }
            }
        });
        let address = told.recv_timeout(DEADLINE).expect("the registry says where it listens");
        Self { child, address: address.parse().unwrap(), folder }
    }

    /// `HOST:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Puts a manifest as it is.
    pub fn put_manifest(&self, path: &str, media_type: &str, bytes: &[u8]) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let (address, length) = (self.address, bytes.len());
        let head = format!(
            "PUT /v2/{path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of our own, and what it certifies for this machine.
fn certificates(folder: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj '/CN=our own' -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=registry' \
            -keyout server.key -out server.csr
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
            -extfile <(echo 'subjectAltName=IP:127.0.0.1,DNS:localhost') -out server.pem";
    let output = Command::new("bash").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}
