//! `wasm-image build --form`: what is in each form, read as those who did not make it do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use artifact::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;

const COMPONENT: &str = r#"(component
    (import "wasi:cli/environment@0.2.3" (instance))
    (core module $m (func (export "run") (result i32) (i32.const 0)))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $interface (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $interface)))"#;

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        for (name, text) in [("module.wasm", MODULE), ("component.wasm", COMPONENT)] {
            fs::write(desk.path(name), wat::parse_str(text).unwrap()).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wasm-image"))
            .arg("build")
            .args(args)
            .current_dir(self.0.path())
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap()
    }

    fn build(&self, args: &[&str]) -> Layout {
        let output = self.run(&[args, &["--output", "out.tar"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Layout::open(&self.path("out.tar"))
    }

    /// Builds, which must fail with `code`, and gives the complaint.
    fn fail(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(&[args, &["--output", "failed.tar"]].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(!self.path("failed.tar").exists());
        String::from_utf8(output.stderr).unwrap()
    }

    /// An OCI layout for these platforms, as a folder.
    fn layout(&self, name: &str, platforms: &[&str]) -> Blobs {
        let mut blobs = Blobs { folder: self.path(name) };
        fs::create_dir_all(blobs.folder.join("blobs/sha256")).unwrap();
        let manifests: Vec<_> = platforms.iter().map(|platform| blobs.image(platform)).collect();
        blobs.index(&manifests);
        blobs
    }
}

/// What is put into a layout.
struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    fn put(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        fs::write(self.folder.join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// All images share a layer.
    fn image(&mut self, platform: &str) -> Value {
        let mut parts = platform.split('/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let config = json!({ "os": os, "architecture": architecture, "variant": variant });
        let config =
            self.put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.put("application/vnd.oci.image.layer.v1.tar", b"files");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        self.put(MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&mut self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.folder.join("index.json"), index.to_string()).unwrap();
    }

    fn tar(&self, file: &Path) {
        let mut tar = tar::Builder::new(File::create(file).unwrap());
        tar.append_dir_all(".", &self.folder).unwrap();
        tar.finish().unwrap();
    }
}

/// An OCI layout in a tar; every blob is what it is called.
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn open(path: &Path) -> Self {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(path).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let name = entry.path().unwrap().display().to_string();
            if let Some(digest) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(Digest::of(&bytes).to_string(), digest);
            }
            assert!(files.insert(name, bytes).is_none(), "no blob is there twice");
        }
        Self(files)
    }

    fn blob(&self, descriptor: &Value) -> &[u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &self.0[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    fn document(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(self.blob(descriptor)).unwrap()
    }

    /// What the only name stands for.
    fn top(&self) -> Value {
        let index: Value = serde_json::from_slice(&self.0["index.json"]).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        index["manifests"][0].clone()
    }
}

/// The platforms of an index, in its order.
fn platforms(index: &Value) -> Vec<String> {
    let of = |entry: &Value| {
        let parts = ["os", "architecture", "variant"].map(|key| entry["platform"][key].as_str());
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    };
    index["manifests"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn an_artifact_of_a_component_is_the_component_and_says_its_imports_and_exports() {
    let desk = Desk::new();
    let layout = desk.build(&["component.wasm", "--form", "artifact"]);
    let top = layout.top();
    assert_eq!(top["platform"], json!({ "os": "wasip2", "architecture": "wasm" }));
    let manifest = layout.document(&top);
    let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
        panic!("there is one layer: {manifest}");
    };
    assert_eq!(layout.blob(layer), fs::read(desk.path("component.wasm")).unwrap());
    assert_eq!(layer["mediaType"], "application/wasm");
    assert_eq!(layer["annotations"]["org.opencontainers.image.title"], "component.wasm");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(
        layout.document(&manifest["config"]),
        json!({
            "architecture": "wasm",
            "os": "wasip2",
            "created": "1970-01-01T00:00:00Z",
            "layerDigests": [layer["digest"]],
            "component": {
                "imports": ["wasi:cli/environment@0.2.3"],
                "exports": ["wasi:cli/run@0.2.3"],
                "target": "wasi:cli/command@0.2.3",
            },
        })
    );
}

#[test]
fn an_artifact_of_a_module_is_of_preview_1_and_has_no_component() {
    let desk = Desk::new();
    let layout = desk.build(&["module.wasm", "--form", "artifact"]);
    let config = layout.document(&layout.document(&layout.top())["config"]);
    assert_eq!((&config["os"], &config["component"]), (&json!("wasip1"), &Value::Null));
}

#[test]
fn an_index_has_the_image_first_and_linux_images_of_folders_and_tars_beside_it() {
    let desk = Desk::new();
    desk.layout("one", &["linux/amd64", "linux/arm/v7", "unknown/unknown"]);
    desk.layout("two", &["linux/arm64"]).tar(&desk.path("two.tar"));
    for (form, config) in [
        ("index", "application/vnd.oci.image.config.v1+json"),
        ("artifact-index", "application/vnd.wasm.config.v0+json"),
    ] {
        let layout =
            desk.build(&["component.wasm", "--form", form, "--linux", "one", "--linux", "two.tar"]);
        let top = layout.top();
        assert_eq!(top["mediaType"], INDEX);
        let index = layout.document(&top);
        assert_eq!(platforms(&index), ["wasi/wasm", "linux/amd64", "linux/arm/v7", "linux/arm64"]);
        for entry in index["manifests"].as_array().unwrap() {
            let manifest = layout.document(entry);
            layout.document(&manifest["config"]);
            layout.blob(&manifest["layers"][0]);
        }
        assert_eq!(layout.document(&index["manifests"][0])["config"]["mediaType"], config);
    }
}

#[test]
fn every_form_is_the_same_bytes_each_time() {
    for form in ["artifact", "index", "artifact-index"] {
        let build = || {
            let desk = Desk::new();
            let mut args = vec!["component.wasm", "--form", form];
            if form != "artifact" {
                desk.layout("linux", &["linux/amd64", "linux/arm64"]);
                args.extend(["--linux", "linux"]);
            }
            desk.build(&args);
            fs::read(desk.path("out.tar")).unwrap()
        };
        assert!(build() == build(), "{form}");
    }
}

#[test]
fn an_option_that_the_form_has_no_place_for_is_a_usage_error() {
    let desk = Desk::new();
    let said = desk.fail(2, &["module.wasm", "--form", "artifact", "--env", "A=b"]);
    assert!(said.contains("--env has no place in an artifact"), "{said}");
    let said = desk.fail(2, &["module.wasm", "--linux", "x"]);
    assert!(said.contains("--form index"), "{said}");
}

#[test]
fn a_layout_that_cannot_be_used_is_refused_by_name() {
    let desk = Desk::new();
    desk.layout("wasm", &["wasi/wasm"]);
    desk.layout("one", &["linux/amd64"]);
    desk.layout("other", &["linux/amd64"]);
    fs::create_dir(desk.path("empty")).unwrap();
    let mut partial = desk.layout("partial", &["linux/amd64"]);
    let manifest = partial.image("linux/amd64");
    fs::write(desk.path("partial/blobs/sha256").join(digest(&manifest)), "{}").unwrap();
    let gone = desk.layout("gone", &["linux/amd64"]);
    fs::remove_file(gone.folder.join("blobs/sha256").join(Digest::of(b"files").to_string()))
        .unwrap();
    let changed = desk.layout("changed", &["linux/amd64"]);
    fs::write(changed.folder.join("blobs/sha256").join(Digest::of(b"files").to_string()), "FILES")
        .unwrap();
    for (layouts, words) in [
        (&["nowhere"][..], "No such file"),
        (&["module.wasm"], "it is no tar"),
        (&["empty"], "no OCI layout"),
        (&["wasm"], "no image for Linux"),
        (&["one", "other"], "linux/amd64 already"),
        (&["partial"], "2 bytes in place of"),
        (&["gone"], "a part of the image only"),
        (&["changed"], "not what its digest says"),
    ] {
        let mut args = vec!["component.wasm", "--form", "index"];
        args.extend(layouts.iter().flat_map(|layout| ["--linux", layout]));
        let said = desk.fail(1, &args);
        let name = layouts.last().unwrap();
        assert!(said.contains(name) && said.contains(words), "{said}");
    }
}

fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:")
}

#[test]
fn the_report_says_how_to_run_it() {
    let desk = Desk::new();
    desk.layout("linux", &["linux/amd64"]);
    for (args, lines) in [
        (
            &["component.wasm", "--form", "artifact"][..],
            &["layer      the module", "--platform wasip2/wasm component /component.wasm"][..],
        ),
        (
            &["module.wasm", "--form", "index", "--linux", "linux"],
            &["platforms  wasi/wasm, linux/amd64", "--platform wasi/wasm module"],
        ),
        (
            &["module.wasm", "--form", "artifact-index"],
            &["index      sha256:", "--platform wasi/wasm module /module.wasm"],
        ),
    ] {
        let report = String::from_utf8(desk.run(args).stdout).unwrap();
        for line in lines {
            assert!(report.contains(line), "{report}");
        }
    }
}
