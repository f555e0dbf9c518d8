//! A folder in which `wasm-image` is run, and what it leaves there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;

/// A module that says nothing and ends.
pub const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;

/// A folder that is the current one of every command run in it, and one for the image store.
pub struct Desk(TempDir, TempDir);

impl Desk {
    /// With `files`, of which those called `.wasm` are given as wat.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(TempDir::new().unwrap(), TempDir::new().unwrap());
        for (name, content) in files {
            if name.ends_with(".wasm") {
                desk.file(name, wat::parse_str(content).unwrap());
            } else {
                desk.file(name, content);
            }
        }
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
        command.args(args).current_dir(self.0.path()).env_remove("SOURCE_DATE_EPOCH");
        command.env("WASM_IMAGE_STORE", self.1.path()).output().unwrap()
    }

    /// `wasm-image build`, which must work, and what it wrote to `out.tar`.
    #[track_caller]
    pub fn build(&self, args: &[&str]) -> Layout {
        let output = self.run(&[&["build", "--output", "out.tar"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        Layout::open(&self.path("out.tar"))
    }

    /// The same, which must fail with `code` and leave no image, and the complaint.
    #[track_caller]
    pub fn fail(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(&[&["build", "--output", "failed.tar"], args].concat());
        let words = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.starts_with("error: "), "{words}");
        assert!(!self.path("failed.tar").exists(), "{args:?}");
        words
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A guest of a real toolchain, by its file's name.
#[track_caller]
pub fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let path = target.join("guests").join(name);
    assert!(path.exists(), "{} is not there: build it with `scripts/guests`", path.display());
    path
}

/// An OCI layout, and the first image in it.
pub struct Layout {
    pub bytes: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    pub fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let files = untar(File::open(path).unwrap());
        Self { bytes, files }
    }

    pub fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &self.files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    pub fn document(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    /// What the first name stands for.
    pub fn top(&self) -> Value {
        let index: Value = serde_json::from_slice(&self.files["index.json"]).unwrap();
        index["manifests"][0].clone()
    }

    /// The configuration of the process.
    pub fn config(&self) -> Value {
        let manifest = self.document(&self.top());
        self.document(&manifest["config"])["config"].clone()
    }

    /// The files of the layer.
    pub fn rootfs(&self) -> BTreeMap<String, Vec<u8>> {
        untar(self.layer())
    }

    fn layer(&self) -> impl Read {
        let manifest = self.document(&self.top());
        GzDecoder::new(self.blob(&manifest["layers"][0]))
    }

    /// `path mode owner [-> target]`, one entry a line.
    pub fn listing(&self) -> Vec<String> {
        let line = |entry: tar::Entry<'_, _>| {
            let (header, path) = (entry.header(), entry.path().unwrap());
            let target = header.link_name().unwrap();
            let target = target.map_or(String::new(), |t| format!(" -> {}", t.display()));
            let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
            format!("{} {:o} {uid}:{gid}{target}", path.display(), header.mode().unwrap())
        };
        let mut archive = tar::Archive::new(self.layer());
        archive.entries().unwrap().map(|entry| line(entry.unwrap())).collect()
    }
}

fn untar(file: impl Read) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    files
}
