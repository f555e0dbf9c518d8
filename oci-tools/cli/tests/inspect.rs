//! `wasm-image inspect` and `explain` as a person meets them: the binary is run and its words are
//! read, over modules, images, and archives that were made to do harm.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType, Header};
use tempfile::TempDir;

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 16)
    (@custom "note" "hi")
    (@producers (language "wat" "1"))
    (func (export "_start")))"#;

/// As much address space as the tool may have over a hostile archive, in KiB. What they would unpack
/// to is more.
const MEMORY: u32 = 512 << 10;

/// A folder that is the current one of every command run in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new("sh")
            .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_wasm-image"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap()
    }

    /// What is printed, digests left out.
    fn says(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        without_digests(&String::from_utf8(output.stdout).unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--format", "json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The complaint about what cannot be inspected.
    fn refuses(&self, subject: &str) -> String {
        let output = self.run(&["inspect", subject]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{subject}: {stderr}");
        assert!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{stderr}");
        stderr
    }

    /// [`HELLO`] as an image, built by the tool.
    fn image(&self) -> String {
        self.file("hello.wat", HELLO);
        let output =
            self.run(&["build", "--expose", "80", "--user", "7", "-o", "hello.tar", "hello.wat"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        "hello.tar".to_owned()
    }

    /// An archive of files, in this order.
    fn archive(&self, name: &str, files: &[(&str, &[u8])]) {
        fs::write(self.path(name), tar(files.iter().map(|(path, bytes)| entry(path, bytes))))
            .unwrap();
    }

    /// The archive of an image with these layers, and its entrypoint.
    fn layers(&self, name: &str, layers: &[Vec<u8>], entrypoint: &str) {
        let mut blobs = Vec::new();
        let mut blob = |kind: &str, bytes: Vec<u8>| {
            let digest = sha256(&bytes);
            let descriptor = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
            blobs.push((format!("blobs/{}", digest.replace(':', "/")), bytes));
            descriptor
        };
        let config = json!({
            "os": "wasi", "architecture": "wasm", "config": { "Entrypoint": [entrypoint] }
        });
        let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().into());
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layers: Vec<_> = layers.iter().map(|layer| blob(kind, layer.clone())).collect();
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = blob(kind, manifest.to_string().into());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string();
        blobs.push(("index.json".to_owned(), index.into()));
        let files: Vec<_> =
            blobs.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        self.archive(name, &files);
    }
}

/// An entry of a tar as bytes, under a name that no library would write.
fn entry(path: &str, bytes: &[u8]) -> Vec<u8> {
    entry_of(EntryType::Regular, path, "", bytes.len() as u64, bytes)
}

/// The same of another kind, with a target, and a size that may not be that of its bytes.
fn entry_of(kind: EntryType, path: &str, target: &str, size: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(size);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn tar(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    entries.into_iter().chain([vec![0; 1024]]).flatten().collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn without_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "sha256:…" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit())
    })
}

fn guest(name: &str) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let path = target.join("guests").join(name);
    assert!(path.exists(), "{} is not there: build it with `scripts/guests`", path.display());
    fs::canonicalize(path).unwrap().display().to_string()
}

#[test]
fn a_module_is_described() {
    let desk = Desk::new();
    desk.file("hello.wat", HELLO);
    assert_eq!(
        desk.says(&["inspect", "hello.wat"]),
        r#"  file          hello.wat
  module        core module, WASI preview 1 command, 134 B
  digest        sha256:…
  imports       wasi_snapshot_preview1: fd_write
  exports       memory
                _start
  memory        64.0 KiB at first, at most 1.0 MiB
  features      those of WebAssembly 1.0
  made by       wat 1 (language)
  sections      imports 35 B, custom 34 B, exports 19 B, types 12 B, code 4 B, memories 4 B, functions 2 B
  custom        producers 27 B, note 7 B
  runs here     yes: it runs once, and ends with an exit code
  asks for      output
"#
    );
}

#[test]
fn a_component_is_described_with_its_world() {
    let desk = Desk::new();
    desk.file(
        "fence.wat",
        r#"(component
          (import "wasi:clocks/wall-clock@0.2.0" (instance
            (type $t (record (field "seconds" u64) (field "nanoseconds" u32)))
            (export "datetime" (type $d (eq $t)))
            (export "now" (func (result $d)))))
          (core module $m (memory 1) (func (export "f") (param i32)))
          (core instance $i (instantiate $m))
          (func $f (param "colour" u8) (canon lift (core func $i "f")))
          (export "paint-the-fence" (func $f)))"#,
    );
    assert_eq!(
        desk.says(&["inspect", "fence.wat"]),
        r#"  file          fence.wat
  module        component, WASI 0.2.0 reactor, of 1 core module, 251 B
  digest        sha256:…
  imports       wasi:clocks/wall-clock@0.2.0 (1 function)
  exports       paint-the-fence
  memory        64.0 KiB at first, no maximum of its own
  features      those of WebAssembly 1.0
  sections      types 73 B, custom 47 B, imports 33 B, exports 26 B, aliases 7 B, conversions 6 B, code 4 B, instances 4 B, memories 3 B, functions 2 B
  custom        component-name 38 B, name 9 B
  runs here     yes: only by a function's name, as FILE#EXPORT: it has no wasi:cli/run
  asks for      clocks

package root:component;

world root {
  import wasi:clocks/wall-clock@0.2.0;

  export paint-the-fence: func(colour: u8);
}
"#
    );
}

#[test]
fn an_image_is_described_with_what_is_in_it() {
    let desk = Desk::new();
    let image = desk.image();
    assert_eq!(
        desk.says(&["inspect", &image]),
        r#"  archive       hello.tar
  image         docker.io/library/hello:latest
  platform      wasi/wasm
  manifest      sha256:…
  layers        sha256:…, 195 B, 1 file, 134 B unpacked
  entrypoint    ["/hello.wasm"]
  user          7
  ports         80/tcp
  found         /hello.wasm
  module        core module, WASI preview 1 command, 134 B
  digest        sha256:…
  imports       wasi_snapshot_preview1: fd_write
  exports       memory
                _start
  memory        64.0 KiB at first, at most 1.0 MiB
  features      those of WebAssembly 1.0
  made by       wat 1 (language)
  sections      imports 35 B, custom 34 B, exports 19 B, types 12 B, code 4 B, memories 4 B, functions 2 B
  custom        producers 27 B, note 7 B
  runs here     yes: it runs once, and ends with an exit code
  asks for      output
"#
    );
    // The same, unpacked.
    Archive::new(File::open(desk.path(&image)).unwrap()).unpack(desk.path("layout")).unwrap();
    let (packed, unpacked) = (desk.json(&["inspect", &image]), desk.json(&["inspect", "layout"]));
    assert_eq!(packed["image"], unpacked["image"]);
    assert_eq!(packed["module"], unpacked["module"]);
}

#[test]
fn what_is_granted_is_explained() {
    let desk = Desk::new();
    let image = desk.image();
    assert_eq!(
        desk.says(&["explain", &image]),
        r#"hello.tar: core module, WASI preview 1 command
  runs here     yes: it runs once, and ends with an exit code

It asks for, and `docker run` without flags grants:
  output        standard output and error, as in `docker logs`
  memory        as much as the host has, for guest and runtime together
                --memory 64m             sets a limit

The image says:
  user          7; -u changes it
  ports         80/tcp; -P publishes them
"#
    );
}

#[test]
fn what_cannot_run_here_is_shown_all_the_same_and_why_it_cannot() {
    let desk = Desk::new();
    let cases = [
        (
            r#"(module (import "env" "x" (func)) (func (export "_start")))"#,
            "it imports env, which nobody here offers",
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)) (func (export "_start")))"#,
            "preview 1 has no sock_open",
        ),
        (
            "(module (func (export \"_start\"))
              (func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_s))",
            "it needs wide arithmetic, which is not switched on",
        ),
        (
            r#"(component (import "wasi:nn/graph@0.2.0" (instance (export "load" (func)))))"#,
            "it imports wasi:nn/graph@0.2.0, which nobody here offers",
        ),
        ("(module (memory 1))", "it exports nothing that could be called"),
    ];
    for (text, reason) in cases {
        desk.file("a.wat", text);
        for verb in ["inspect", "explain"] {
            let said = desk.says(&[verb, "a.wat"]);
            assert!(said.contains(&format!("  runs here     no: {reason}\n")), "{said}");
        }
        let run = &desk.json(&["inspect", "a.wat"])["run"];
        assert_eq!((&run["runnable"], &run["whyNot"]), (&json!(false), &json!([reason])));
    }
}

#[test]
fn features_are_named() {
    let desk = Desk::new();
    let cases = [
        ("(module (func (param v128)))", json!(["SIMD"])),
        ("(module (memory 1 1 shared))", json!(["threads"])),
        ("(module (tag) (func (throw 0)))", json!(["exceptions"])),
        ("(module (type (struct)))", json!(["garbage collection"])),
        ("(module (memory i64 1) (memory 1))", json!(["multiple memories", "64-bit memory"])),
        ("(module (func $f (return_call $f)))", json!(["tail call"])),
    ];
    for (text, features) in cases {
        desk.file("a.wat", text);
        assert_eq!(desk.json(&["inspect", "a.wat"])["module"]["features"], features, "{text}");
    }
}

#[test]
fn guests_of_real_toolchains_are_known_for_what_they_are() {
    let desk = Desk::new();
    let command = "core module, WASI preview 1 command";
    let cases = [
        ("hello-c.wasm", command, "clang", vec!["arguments", "input", "output", "files"]),
        (
            "hello-go.wasm",
            command,
            "Go cmd/compile",
            vec!["arguments", "environment", "input", "output", "files", "clocks", "random"],
        ),
        (
            "probe-p2.wasm",
            "component, wasi:cli/command 0.2",
            "rustc",
            vec![
                "arguments",
                "environment",
                "input",
                "output",
                "files",
                "network",
                "clocks",
                "random",
            ],
        ),
    ];
    // What Rust's standard library imports, whoever uses it.
    let std = ["environment", "input", "output", "files", "clocks"];
    let with = |more: &[&'static str]| {
        let order = [
            "arguments",
            "environment",
            "input",
            "output",
            "files",
            "serves HTTP",
            "asks by HTTP",
            "clocks",
        ];
        order.into_iter().filter(|need| std.contains(need) || more.contains(need)).collect()
    };
    let newer = [
        (
            "web2.wasm",
            "component, wasi:http/proxy 0.2",
            "rustc",
            with(&["serves HTTP", "asks by HTTP"]),
        ),
        ("web3.wasm", "component, wasi:http/service 0.3", "rustc", with(&["serves HTTP"])),
        ("command3.wasm", "component, wasi:cli/command 0.3", "rustc", with(&["arguments"])),
    ];
    for (name, description, tool, needs) in cases.into_iter().chain(newer) {
        let facts = desk.json(&["inspect", &guest(name)]);
        let module = &facts["module"];
        let described = module["description"].as_str().unwrap();
        assert!(described.starts_with(description), "{name}: {described}");
        let mut tools = module["producers"].as_array().unwrap().iter();
        assert!(tools.any(|one| one["name"].as_str().unwrap().contains(tool)), "{name}: {module}");
        let asked = facts["run"]["needs"].as_array().unwrap();
        let asked: Vec<_> = asked.iter().map(|need| need["name"].as_str().unwrap()).collect();
        assert_eq!(asked, needs, "{name}");
        let sections = module["sections"].as_array().unwrap();
        let sizes: u64 = sections.iter().map(|section| section["size"].as_u64().unwrap()).sum();
        let size = module["size"].as_u64().unwrap();
        assert!(sizes < size && sizes > size / 10 * 9, "{name}: {sizes} of {size}");
    }
    let wit = desk.json(&["inspect", &guest("probe-p2.wasm")])["module"]["wit"].clone();
    assert!(wit.as_str().unwrap().contains("export wasi:cli/run@0.2."), "{wit}");
}

#[test]
fn the_text_of_a_module_is_the_module() {
    let desk = Desk::new();
    for name in ["probe-p1.wasm", "probe-p2.wasm"] {
        let output = desk.run(&["inspect", "--wat", &guest(name)]);
        let text = String::from_utf8(output.stdout).unwrap();
        let (back, whole) = (wat::parse_str(text).unwrap(), fs::read(guest(name)).unwrap());
        let code = |bytes: &[u8]| {
            desk.file("back.wasm", bytes);
            let module = desk.json(&["inspect", "back.wasm"])["module"].clone();
            (module["imports"].clone(), module["exports"].clone(), module["memories"].clone())
        };
        assert_eq!(code(&back), code(&whole), "{name}");
    }
}

#[test]
fn a_module_that_is_a_layer_or_behind_links_is_found() {
    let desk = Desk::new();
    let module = wat::parse_str(HELLO).unwrap();
    let lower = tar([
        entry("bin/tool.wasm", b"no module"),
        entry_of(EntryType::Symlink, "app.wasm", "bin/../bin/link.wasm", 0, b""),
        entry_of(EntryType::Link, "bin/link.wasm", "bin/tool.wasm", 0, b""),
    ]);
    let upper = tar([entry("./bin/tool.wasm", &module)]);
    desk.layers("linked.tar", &[gzip(&lower), gzip(&upper)], "app.wasm");
    let image = desk.json(&["inspect", "linked.tar"]);
    assert_eq!(image["image"]["module"], "/bin/tool.wasm");
    assert_eq!(image["module"]["digest"], sha256(&module));
    let removed = tar([entry("bin/.wh.tool.wasm", b"")]);
    desk.layers("removed.tar", &[gzip(&upper), gzip(&removed)], "/bin/tool.wasm");
    assert!(desk.refuses("removed.tar").contains("\"/bin/tool.wasm\" is no file in it"));
}

#[test]
fn what_is_no_module_and_no_image_is_refused_by_what_it_is() {
    let desk = Desk::new();
    desk.file("empty.wasm", b"");
    desk.file("words", b"good morning");
    desk.file("folder/file", b"");
    desk.archive("files.tar", &[("file", b"x")]);
    desk.file("image.tar.gz", gzip(b"x"));
    nix::unistd::mkfifo(&desk.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, words) in [
        ("empty.wasm", "it is empty"),
        ("words", "not WebAssembly"),
        ("folder", "no OCI layout"),
        ("files.tar", "no OCI layout"),
        ("image.tar.gz", "gunzip"),
        ("fifo", "not a plain file"),
        ("missing", "No such file"),
    ] {
        let said = desk.refuses(name);
        assert!(said.contains(words) && said.contains(name), "{name}: {said}");
    }
}

#[test]
fn hostile_archives_are_refused_by_what_is_wrong_with_them() {
    let desk = Desk::new();
    let module = entry("a.wasm", &wat::parse_str(HELLO).unwrap());
    let with_layer = |tar: &[u8]| desk.layers("hostile.tar", &[gzip(tar)], "/a.wasm");
    let refused = |words: &str| {
        let said = desk.refuses("hostile.tar");
        assert!(said.contains(words), "nothing about {words:?} in: {said}");
    };

    with_layer(&tar([entry("../../etc/passwd", b"x"), module.clone()]));
    refused("\"../../etc/passwd\", which leads out of the image");
    with_layer(&tar([module.clone(), module.clone()]));
    refused("it holds a.wasm twice");
    with_layer(&tar([entry_of(EntryType::Symlink, "a.wasm", "a.wasm", 0, b"")]));
    refused("a link that leads to itself");
    with_layer(&tar([entry_of(EntryType::Char, "a.wasm", "", 0, b"")]));
    refused("/a.wasm is not WebAssembly");
    with_layer(&entry_of(EntryType::Regular, "big", "", 7 << 30, b"and nothing behind it"));
    refused("damaged or cut off");
    with_layer(&tar([entry_of(
        EntryType::XHeader,
        "x",
        "",
        30,
        b"30 size=99999999999999999999\n\n",
    )]));
    refused("more than 8 GiB");
    let half = &module[..module.len() / 2];
    with_layer(half);
    desk.refuses("hostile.tar");

    let document =
        |text: Value| desk.archive("hostile.tar", &[("index.json", text.to_string().as_bytes())]);
    let manifest = |digest: &str, size: u64| {
        document(json!({ "manifests": [{ "digest": digest, "size": size }] }));
    };
    manifest("sha256:../../../../../../etc/passwd", 10);
    refused("64 hexadecimal digits");
    manifest(&sha256(b"nowhere"), 10);
    refused("the tar holds no blobs/sha256/");
    document(json!({ "manifests": [] }));
    refused("its index is empty");
    document(json!([[[]]]));
    refused("its index is empty");
    desk.archive("hostile.tar", &[("index.json", &[b'['; 5 << 20])]);
    refused("no such document has more than");
    desk.archive("hostile.tar", &[("index.json", "[".repeat(1 << 20).as_bytes())]);
    refused("index.json is not JSON");
    desk.archive("hostile.tar", &[("index.json", b"{}"), ("./index.json", b"{}")]);
    refused("\"index.json\" twice");
    fs::write(
        desk.path("hostile.tar"),
        entry_of(EntryType::Regular, "index.json", "", u64::MAX / 2, b"{}"),
    )
    .unwrap();
    desk.refuses("hostile.tar");

    // A blob of another content, and one of another size.
    let digest = sha256(b"{}");
    let blob = format!("blobs/{}", digest.replace(':', "/"));
    let index = json!({ "manifests": [{ "digest": digest, "size": 2 }] }).to_string();
    desk.archive("hostile.tar", &[("index.json", index.as_bytes()), (&blob, b"[]")]);
    refused("is damaged");
    desk.archive("hostile.tar", &[("index.json", index.as_bytes()), (&blob, b"{ }")]);
    refused("has 3 bytes; the document that names it says 2");
}

#[test]
fn what_unpacks_without_end_is_refused_in_bounded_memory() {
    let desk = Desk::new();
    // As gzip has it, one member after the other is one stream.
    let zeros = gzip(&vec![0; 32 << 20]);
    let endless = |first: Vec<u8>| {
        let members = std::iter::once(gzip(&first)).chain(std::iter::repeat_n(zeros.clone(), 70));
        members.flatten().collect::<Vec<_>>()
    };
    let size = 100 << 30;
    for first in [
        entry_of(EntryType::Regular, "zeros", "", size, b""),
        entry_of(EntryType::Regular, "a.wasm", "", size, b""),
        entry_of(EntryType::GNULongName, "x", "", size, b""),
        entry_of(EntryType::XHeader, "x", "", size, b""),
    ] {
        // As a module begins, should it be taken for one.
        let first = [first, b"\0asm\x01\0\0\0".to_vec()].concat();
        desk.layers("endless.tar", &[endless(first)], "/a.wasm");
        let said = desk.refuses("endless.tar");
        let words = ["unpacks to more than 2 GiB", "larger than", "longer than"];
        assert!(words.iter().any(|words| said.contains(words)), "{said}");
    }
}

#[test]
fn an_archive_cut_off_anywhere_is_refused() {
    let desk = Desk::new();
    let image = desk.image();
    let whole = fs::read(desk.path(&image)).unwrap();
    // The zeros at the end say nothing.
    let end = whole.len() - whole.iter().rev().take_while(|&&byte| byte == 0).count();
    for length in (0..end).step_by(211) {
        desk.file("cut.tar", &whole[..length]);
        desk.refuses("cut.tar");
    }
}

#[test]
fn a_strangers_words_move_no_terminal() {
    let desk = Desk::new();
    desk.file("a.wat", "(module (import \"\\1b[2J\\0arm\" \"x\" (func)))");
    let said = desk.says(&["inspect", "a.wat"]);
    assert!(said.contains(r"\u{1b}[2J\u{a}rm") && !said.contains('\u{1b}'), "{said}");
    let said = desk.says(&["inspect", "--wat", "a.wat"]);
    assert!(!said.contains('\u{1b}'), "{said}");
}
