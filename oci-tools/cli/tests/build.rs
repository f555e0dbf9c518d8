//! `wasm-image build` as a person meets it: the binary is run, its words and its files are read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;

/// A folder that is the current one of every command run in it, and one for the image store.
struct Desk(TempDir, TempDir);

impl Desk {
    /// With the module `hello.wat`.
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap(), TempDir::new().unwrap());
        desk.file("hello.wat", HELLO);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
        command.arg("build").args(args).current_dir(self.0.path()).env_remove("SOURCE_DATE_EPOCH");
        command.env("WASM_IMAGE_STORE", self.1.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Builds, which must work, and gives what was printed.
    fn build(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Builds, which must fail with `code` and leave no new file, and gives the complaint.
    fn fail(&self, code: i32, args: &[&str]) -> String {
        let before = self.names();
        let output = self.run(args);
        let words = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.starts_with("error: "), "{words}");
        assert_eq!(self.names(), before, "{args:?} left something behind");
        words
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An OCI layout, taken apart and checked: every blob has the digest and size it is named by.
struct Layout {
    index: ImageIndex,
    manifest: ImageManifest,
    config: ImageConfiguration,
    /// The tar of the layer.
    layer: Vec<u8>,
}

impl Layout {
    fn open(path: &Path) -> Self {
        let files = untar(File::open(path).unwrap());
        let blob = |descriptor: &Descriptor| {
            let path = format!("blobs/{}", descriptor.digest().to_string().replace(':', "/"));
            let bytes = files.get(&path).unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(sha256(bytes), descriptor.digest().to_string());
            assert_eq!(bytes.len() as u64, descriptor.size());
            bytes.as_slice()
        };
        assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = ImageIndex::from_reader(files["index.json"].as_slice()).unwrap();
        let manifest = ImageManifest::from_reader(blob(&index.manifests()[0])).unwrap();
        let config = ImageConfiguration::from_reader(blob(manifest.config())).unwrap();
        let mut layer = Vec::new();
        GzDecoder::new(blob(&manifest.layers()[0])).read_to_end(&mut layer).unwrap();
        assert_eq!(config.rootfs().diff_ids(), &[sha256(&layer)]);
        assert_eq!(files.len(), 5, "no blob but those that are named");
        Self { index, manifest, config, layer }
    }

    /// `path mode owner mtime [-> target]`, one entry a line.
    fn listing(&self) -> Vec<String> {
        let mut archive = tar::Archive::new(self.layer.as_slice());
        let line = |entry: tar::Entry<'_, &[u8]>| {
            let (header, path) = (entry.header(), entry.path().unwrap());
            let target = header.link_name().unwrap();
            let target = target.map_or(String::new(), |t| format!(" -> {}", t.display()));
            let (mode, time) = (header.mode().unwrap(), header.mtime().unwrap());
            let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
            format!("{} {mode:o} {uid}:{gid} {time}{target}", path.display())
        };
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

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[test]
fn a_module_alone_becomes_an_image_with_a_report_of_what_it_is_and_what_to_do_next() {
    let desk = Desk::new();
    let report = desk.build(&["hello.wat"]);
    let layout = Layout::open(&desk.path("hello.tar"));
    assert_eq!(layout.listing(), ["hello.wasm 755 0:0 0"]);
    assert_eq!(untar(layout.layer.as_slice())["hello.wasm"], wat::parse_str(HELLO).unwrap());
    let digest = layout.index.manifests()[0].digest();
    let size = fs::metadata(desk.path("hello.tar")).unwrap().len() as f64 / 1024.0;
    let layer = layout.manifest.layers()[0].size();
    let module = wat::parse_str(HELLO).unwrap().len();
    let store = desk.1.path().display();
    let expected = format!(
        "hello.wat: core module, WASI preview 1 command
  imports    wasi_snapshot_preview1 (1)
  exports    memory, _start

image docker.io/library/hello:latest
  entrypoint [\"/hello.wasm\"]
  manifest   {digest}
  layer      1 file, {module} B, compressed {layer} B
  written to hello.tar, {size:.1} KiB
  stored in  {store}

next
  docker load -i hello.tar
  docker run --rm --runtime io.containerd.wasmtime.v1 --platform wasi/wasm hello
"
    );
    assert_eq!(report, expected);
}

#[test]
fn the_configuration_says_what_the_options_said() {
    let desk = Desk::new();
    desk.build(&[
        "hello.wat",
        "--entrypoint",
        r#"["/hello.wasm","-v"]"#,
        "--cmd",
        "-x",
        "-e",
        "A=1",
        "-e",
        "B=",
        "-w",
        "/work",
        "-u",
        "1000:1000",
        "-l",
        "b=2",
        "-l",
        "a=1",
        "--expose",
        "80",
        "--expose",
        "53/udp",
        "--stop-signal",
        "int",
    ]);
    let layout = Layout::open(&desk.path("hello.tar"));
    assert_eq!(layout.config.os().to_string(), "wasi");
    assert_eq!(layout.config.architecture().to_string(), "wasm");
    assert_eq!(layout.config.created().as_deref(), Some("1970-01-01T00:00:00Z"));
    let config = serde_json::to_value(layout.config.config()).unwrap();
    let expected = serde_json::json!({
        "Entrypoint": ["/hello.wasm", "-v"], "Cmd": ["-x"], "Env": ["A=1", "B="],
        "WorkingDir": "/work", "User": "1000:1000", "Labels": { "a": "1", "b": "2" },
        "StopSignal": "SIGINT",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&config[key], value, "{key}");
    }
    let mut ports = layout.config.config().as_ref().unwrap().exposed_ports().clone().unwrap();
    ports.sort();
    assert_eq!(ports, ["53/udp", "80/tcp"]);
    assert_eq!(layout.listing(), ["hello.wasm 755 0:0 0", "work 755 0:0 0"]);
}

#[test]
fn every_name_is_in_the_index_in_words_for_docker_and_for_oci() {
    let desk = Desk::new();
    desk.build(&[
        "hello.wat",
        "-t",
        "a",
        "-t",
        "localhost:5000/b/c:1",
        "-t",
        "docker.io/library/a",
    ]);
    let layout = Layout::open(&desk.path("hello.tar"));
    let names: Vec<_> = layout
        .index
        .manifests()
        .iter()
        .map(|entry| {
            let platform = entry.platform().clone().unwrap();
            assert_eq!(
                (platform.os().to_string(), platform.architecture().to_string()),
                ("wasi".into(), "wasm".into())
            );
            let notes = entry.annotations().clone().unwrap();
            (
                notes["io.containerd.image.name"].clone(),
                notes["org.opencontainers.image.ref.name"].clone(),
            )
        })
        .collect();
    let pair = |name: &str, tag: &str| (name.to_owned(), tag.to_owned());
    assert_eq!(
        names,
        [pair("docker.io/library/a:latest", "latest"), pair("localhost:5000/b/c:1", "1")]
    );
}

#[test]
fn added_files_keep_their_shape_and_nothing_else_of_this_machine() {
    let desk = Desk::new();
    desk.file("data/z/run.sh", "#!");
    desk.file("data/b", "b");
    desk.file("one", "1");
    fs::create_dir(desk.path("data/empty")).unwrap();
    fs::set_permissions(desk.path("data/z/run.sh"), fs::Permissions::from_mode(0o4710)).unwrap();
    fs::set_permissions(desk.path("data/b"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../b", desk.path("data/z/link")).unwrap();
    desk.build(&[
        "hello.wat",
        "--add",
        "data:/srv/data",
        "--add",
        "one:/etc/",
        "--add",
        "one:/two",
    ]);
    let expected = [
        "etc 755 0:0 0",
        "etc/one 644 0:0 0",
        "hello.wasm 755 0:0 0",
        "srv 755 0:0 0",
        "srv/data 755 0:0 0",
        "srv/data/b 644 0:0 0",
        "srv/data/empty 755 0:0 0",
        "srv/data/z 755 0:0 0",
        "srv/data/z/link 777 0:0 0 -> ../b",
        "srv/data/z/run.sh 755 0:0 0",
        "two 644 0:0 0",
    ];
    assert_eq!(Layout::open(&desk.path("hello.tar")).listing(), expected);
}

#[test]
fn a_path_longer_than_a_tar_header_holds_arrives_whole() {
    let desk = Desk::new();
    let long = format!("d/{}/{}", "x".repeat(120), "y".repeat(120));
    desk.file(&long, "far");
    desk.build(&["hello.wat", "--add", "d:/d"]);
    let layout = Layout::open(&desk.path("hello.tar"));
    assert_eq!(untar(layout.layer.as_slice())[&long], b"far");
}

#[test]
fn the_same_inputs_give_the_same_bytes_whenever_and_wherever_they_are() {
    let build = || {
        let desk = Desk::new();
        for name in ["data/c", "data/a", "data/b/d"] {
            desk.file(name, name);
        }
        desk.build(&[
            "hello.wat",
            "-l",
            "x=1",
            "-l",
            "y=2",
            "-l",
            "z=3",
            "--expose",
            "1",
            "--expose",
            "2",
            "--add",
            "data:/",
        ]);
        fs::read(desk.path("hello.tar")).unwrap()
    };
    let first = build();
    // Past the full second in which file times are kept in a tar.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(first == build());
}

#[test]
fn source_date_epoch_is_every_time_in_the_image() {
    let desk = Desk::new();
    let output =
        desk.command(&["hello.wat"]).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(output.status.success());
    let layout = Layout::open(&desk.path("hello.tar"));
    assert_eq!(layout.config.created().as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(layout.listing(), ["hello.wasm 755 0:0 1700000000"]);
    let output = desk.command(&["hello.wat"]).env("SOURCE_DATE_EPOCH", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bad SOURCE_DATE_EPOCH `soon`"));
}

#[test]
fn an_image_on_stdout_is_the_same_and_the_report_steps_aside() {
    let desk = Desk::new();
    desk.build(&["hello.wat"]);
    let output = desk.run(&["hello.wat", "-o", "-"]);
    assert!(output.status.success());
    assert!(output.stdout == fs::read(desk.path("hello.tar")).unwrap());
    let words = stderr(&output);
    assert!(words.contains("written to stdout") && !words.contains("docker load"), "{words}");
}

#[test]
fn the_report_for_programs_is_one_json_object() {
    let desk = Desk::new();
    let report = desk.build(&["hello.wat", "--format", "json", "-o", "out.tar"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let layout = Layout::open(&desk.path("out.tar"));
    assert_eq!(report["image"]["manifest"], layout.index.manifests()[0].digest().to_string());
    assert_eq!(report["module"]["world"], "command");
    assert_eq!(report["module"]["imports"][0]["members"][0], "fd_write");
    assert_eq!(report["output"]["size"], fs::metadata(desk.path("out.tar")).unwrap().len());
}

#[test]
fn a_module_that_cannot_run_is_built_with_a_warning() {
    let desk = Desk::new();
    desk.file("lib.wat", r#"(module (import "env" "log" (func)) (func (export "add")))"#);
    let output = desk.run(&["lib.wat", "--entrypoint", "/other.wasm", "--user", "me"]);
    let words = stderr(&output);
    assert!(output.status.success(), "{words}");
    for warning in [
        "warning: lib.wat cannot be run: it exports no function `_start`",
        "warning: lib.wat will not start: it imports env, which nobody here offers",
        "warning: the entrypoint `/other.wasm` is no file in the image; the module is at /lib.wasm",
        "warning: the user `me` cannot be looked up",
    ] {
        assert!(words.contains(warning), "{words}");
    }
}

#[test]
fn a_module_that_is_none_is_refused_in_words_about_that_file() {
    let desk = Desk::new();
    let whole = wat::parse_str(HELLO).unwrap();
    desk.file("cut.wasm", &whole[..whole.len() - 1]);
    desk.file("native", b"\x7fELF\x02\x01\x01");
    desk.file("empty.wasm", "");
    desk.file("bad.wat", "(module\n  (funk))");
    desk.file("wrong.wat", "(module (func (result i32)))");
    desk.file("folder/x", "");
    for (module, words) in [
        ("none.wasm", "cannot read none.wasm: No such file or directory"),
        ("native", "cannot use native: it is not WebAssembly: it is an ELF file"),
        (
            "empty.wasm",
            "cannot use empty.wasm: it is not WebAssembly: it is empty; compile for wasm32-wasip1",
        ),
        ("cut.wasm", "cannot use cut.wasm: it is cut off: unexpected end"),
        ("bad.wat", "bad.wat:2:4"),
        ("wrong.wat", "cannot use wrong.wat: it is not valid WebAssembly: type mismatch"),
    ] {
        let said = desk.fail(1, &[module]);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_add_that_cannot_be_done_is_refused_in_words_about_that_file() {
    let desk = Desk::new();
    desk.file("data/a", "");
    desk.file("links/a", "");
    symlink("/etc/passwd", desk.path("links/out")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(desk.path("socket")).unwrap();
    for (code, add, words) in [
        (1, "none:/x", "cannot add none: No such file or directory"),
        (1, "links:/x", "cannot add links/out: it is a link to /etc/passwd, outside links"),
        (1, "socket:/x", "cannot add socket: it is a socket"),
        (1, "data/a:/hello.wasm", "two different things would be at /hello.wasm"),
        (1, "data/a:/hello.wasm/a", "/hello.wasm is not a folder"),
        (2, "data:../x", "bad --add `data:../x`: DEST must not contain `..`"),
        (2, "data:/a/../../x", "DEST must not contain `..`"),
        (2, "data", "bad --add `data`: it must be SRC:DEST"),
    ] {
        let said = desk.fail(code, &["hello.wat", "--add", add]);
        assert!(said.contains(words), "{said}");
    }
    drop(socket);
}

#[test]
fn an_option_that_makes_no_sense_is_a_usage_error() {
    let desk = Desk::new();
    for (option, value, words) in [
        ("--env", "A", "bad --env `A`: it must be KEY=VALUE"),
        ("--label", "=x", "bad --label `=x`: it must be KEY=VALUE"),
        ("--tag", "Hello", "bad --tag `Hello`: the repository must be in lower case; try `hello`"),
        ("--tag", "a:-b", "bad --tag `a:-b`: `-b` is not a tag"),
        ("--workdir", "a", "bad --workdir `a`: it must be an absolute path"),
        ("--expose", "0", "bad --expose `0`: it must be a port"),
        ("--user", "a b", "bad --user `a b`"),
        ("--stop-signal", "NOPE", "bad --stop-signal `NOPE`"),
        ("--entrypoint", "[", "bad --entrypoint `[`: not a JSON array"),
    ] {
        let said = desk.fail(2, &["hello.wat", option, value]);
        assert!(said.contains(words) && said.contains("try 'wasm-image build --help'"), "{said}");
    }
}

#[test]
fn an_input_is_never_overwritten() {
    let desk = Desk::new();
    desk.file("data/a", "a");
    symlink("hello.wat", desk.path("alias")).unwrap();
    for args in [
        &["hello.wat", "-o", "hello.wat"][..],
        &["hello.wat", "-o", "alias"],
        &["hello.wat", "--add", "data/a:/a", "-o", "data/a"],
        &["hello.wat", "--add", "data:/", "-o", "data/new.tar"],
        &["hello.wat", "--add", ".:/"],
        &["hello.wat", "-o", "data"],
        &["hello.wat", "-o", "/dev/null"],
        &["hello.wat", "-o", "none/hello.tar"],
    ] {
        let said = desk.fail(1, args);
        assert!(said.starts_with("error: cannot write "), "{said}");
    }
    assert_eq!(fs::read_to_string(desk.path("hello.wat")).unwrap(), HELLO);
    assert_eq!(fs::read_to_string(desk.path("data/a")).unwrap(), "a");
}

#[test]
fn a_full_disk_leaves_the_old_image_and_nothing_new() {
    let desk = Desk::new();
    let old = desk.file("hello.tar", "old");
    desk.file("big", noise(4 << 20));
    // A limit on the size of files stands for the disk; its signal is ignored so that writes fail.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" build hello.wat --add big:/big";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_wasm-image")])
        .current_dir(desk.0.path())
        .env("WASM_IMAGE_STORE", desk.1.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: cannot write"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(old).unwrap(), "old");
    assert_eq!(desk.names(), ["big", "hello.tar", "hello.wat"]);
}

#[test]
fn an_interrupt_leaves_the_old_image_and_nothing_new() {
    let desk = Desk::new();
    let old = desk.file("hello.tar", "old");
    desk.file("big", noise(64 << 20));
    let mut build =
        desk.command(&["hello.wat", "--add", "big:/big"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(150));
    build.kill().unwrap();
    assert!(!build.wait().unwrap().success(), "it was done before it could be interrupted");
    assert_eq!(fs::read_to_string(old).unwrap(), "old");
    assert_eq!(desk.names(), ["big", "hello.tar", "hello.wat"]);
}

#[test]
fn a_reader_that_goes_away_is_an_error_not_a_crash() {
    let desk = Desk::new();
    desk.file("big", noise(1 << 20));
    let mut build = desk
        .command(&["hello.wat", "--add", "big:/big", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(build.stdout.take());
    let output = build.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write to stdout: Broken pipe"), "{}", stderr(&output));
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut block = Sha256::digest(b"seed");
    while bytes.len() < len {
        bytes.write_all(&block).unwrap();
        block = Sha256::digest(block);
    }
    bytes
}

#[test]
fn a_device_is_no_module() {
    let words = stderr(&Desk::new().run(&["/dev/zero"]));
    assert!(words.contains("cannot read /dev/zero: it is not a plain file"), "{words}");
}

#[test]
fn warnings_are_about_what_the_runtime_does() {
    let desk = Desk::new();
    let add = r#"(func (export "add"))"#;
    for (name, text, warning) in [
        ("lib", &format!("(module {add})"), Some("cannot be run")),
        ("old", &HELLO.replace("wasi_snapshot_preview1", "wasi_unstable"), None),
        ("odd", &HELLO.replace("fd_write", "fd_wrote"), Some("preview 1 has no fd_wrote")),
        ("threads", &format!("(module (memory 1 1 shared) {add})"), Some("shared between threads")),
    ] {
        let file = format!("{name}.wat");
        desk.file(&file, text);
        let words = stderr(&desk.run(&[&file]));
        match warning {
            Some(warning) => assert!(words.contains(warning), "{name}: {words}"),
            None => assert!(!words.contains("warning"), "{name}: {words}"),
        }
    }
    let by_name = desk.run(&["lib.wat", "--entrypoint", "/lib.wasm#add"]);
    assert!(!stderr(&by_name).contains("warning"), "{}", stderr(&by_name));
}
