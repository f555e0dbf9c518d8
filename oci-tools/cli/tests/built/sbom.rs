//! `--sbom`.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use wasm_encoder::{Component, ComponentSectionId, CustomSection, RawSection};

use crate::desk::{Desk, HELLO, guest};

/// What `cargo auditable` leaves in a program `tool` that uses `libc` and a crate of its own.
const PACKAGES: &str = r#"{"packages":[
    {"name":"libc","version":"0.2.1","source":"crates.io"},
    {"name":"own","version":"0.1.0","source":"local","dependencies":[0]},
    {"name":"tool","version":"3.2.1","source":"local","dependencies":[0,1],"root":true}]}"#;

fn section(module: &mut Vec<u8>, name: &str, data: &[u8]) {
    let section = CustomSection { name: name.into(), data: data.into() };
    wasm_encoder::Section::append_to(&section, module);
}

/// A program that says all that can be said.
fn told() -> Vec<u8> {
    let mut module = wat::parse_str(HELLO).unwrap();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(PACKAGES.as_bytes()).unwrap();
    section(&mut module, ".dep-v0", &packed.finish().unwrap());
    section(&mut module, "licenses", b"Apache-2.0 OR MIT");
    section(&mut module, "authors", b"Somebody");
    section(&mut module, "homepage", b"https://example.com/");
    let mut producers = wasm_metadata::Producers::empty();
    producers.add("language", "Rust", "");
    producers.add("processed-by", "rustc", "1.95.0");
    producers.add_to_wasm(&module).unwrap()
}

fn desk() -> Desk {
    let desk = Desk::new(&[]);
    desk.file("tool.wasm", told());
    desk
}

fn sbom(desk: &Desk, format: &str) -> Value {
    desk.build(&["tool.wasm", "--tag", "example.com/tool:1", "--sbom", format]);
    serde_json::from_slice(&fs::read(desk.path(&format!("tool.{format}.json"))).unwrap()).unwrap()
}

#[test]
fn spdx_lists_the_module_what_it_says_of_itself_and_its_packages() {
    let document = sbom(&desk(), "spdx");
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["name"], "example.com/tool:1");
    assert_eq!(document["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    let packages = document["packages"].as_array().unwrap();
    let names: Vec<_> = packages.iter().map(|package| &package["name"]).collect();
    assert_eq!(names, ["tool.wasm", "libc", "own", "tool"]);
    let module = &packages[0];
    assert_eq!(module["versionInfo"], "3.2.1");
    assert_eq!(module["licenseDeclared"], "Apache-2.0 OR MIT");
    assert_eq!(module["originator"], "Person: Somebody");
    assert_eq!(module["comment"], "language: Rust; processed-by: rustc 1.95.0");
    let digest = artifact::digest::Digest::of(&told()).to_string();
    assert_eq!(module["checksums"][0]["checksumValue"], digest);
    assert_eq!(packages[1]["externalRefs"][0]["referenceLocator"], "pkg:cargo/libc@0.2.1");
    assert_eq!(packages[2]["externalRefs"], Value::Null, "it is in no registry");
    let relations: Vec<_> = document["relationships"]
        .as_array()
        .unwrap()
        .iter()
        .map(|relation| {
            let part = |key: &str| relation[key].as_str().unwrap().replace("SPDXRef-", "");
            format!(
                "{} {} {}",
                part("spdxElementId"),
                part("relationshipType"),
                part("relatedSpdxElement")
            )
        })
        .collect();
    let expected = [
        "DOCUMENT DESCRIBES module-0",
        "module-0 DEPENDS_ON module-0-cargo-2",
        "module-0-cargo-1 DEPENDS_ON module-0-cargo-0",
        "module-0-cargo-2 DEPENDS_ON module-0-cargo-0",
        "module-0-cargo-2 DEPENDS_ON module-0-cargo-1",
    ];
    assert_eq!(relations, expected);
}

#[test]
fn cyclonedx_lists_the_same() {
    let document = sbom(&desk(), "cyclonedx");
    assert_eq!(
        (&document["bomFormat"], &document["specVersion"]),
        (&json!("CycloneDX"), &json!("1.5"))
    );
    let serial = document["serialNumber"].as_str().unwrap();
    assert_eq!((serial.len(), &serial[..9]), (45, "urn:uuid:"));
    assert_eq!(document["metadata"]["component"]["name"], "example.com/tool:1");
    let components = document["components"].as_array().unwrap();
    let names: Vec<_> = components.iter().map(|component| &component["name"]).collect();
    assert_eq!(names, ["tool.wasm", "libc", "own", "tool"]);
    assert_eq!(components[0]["licenses"], json!([{ "expression": "Apache-2.0 OR MIT" }]));
    assert_eq!(components[1]["purl"], "pkg:cargo/libc@0.2.1");
    let of_image = json!({ "ref": "image", "dependsOn": ["module-0"] });
    assert_eq!(document["dependencies"][0], of_image);
    let of_tool =
        json!({ "ref": "module-0-cargo-2", "dependsOn": ["module-0-cargo-0", "module-0-cargo-1"] });
    assert!(document["dependencies"].as_array().unwrap().contains(&of_tool), "{document}");
}

#[test]
fn what_is_within_a_component_is_listed_as_within_it() {
    let mut component = Component::new();
    component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &told() });
    let desk = Desk::new(&[]);
    desk.file("tool.wasm", component.finish());
    let document = sbom(&desk, "cyclonedx");
    let inner = &document["components"][0]["components"][0];
    assert_eq!((&inner["bom-ref"], &inner["version"]), (&json!("module-0.0"), &json!("3.2.1")));
    assert_eq!(document["components"][1]["name"], "libc");
}

#[test]
fn the_list_is_the_same_bytes_each_time_and_of_real_guests_too() {
    for name in ["probe-p2.wasm", "hello-go.wasm", "hello-c.wasm"] {
        for format in ["spdx", "cyclonedx"] {
            let list = || {
                let desk = Desk::new(&[]);
                desk.file("x.wasm", fs::read(guest(name)).unwrap());
                desk.build(&["x.wasm", "--sbom", format, "--sbom-output", "list.json"]);
                fs::read(desk.path("list.json")).unwrap()
            };
            let first = list();
            assert!(first == list(), "{name}");
            let text = String::from_utf8(first).unwrap();
            assert!(text.contains("processed-by"), "{name}: {text}");
        }
    }
}

#[test]
fn an_index_has_the_list_as_an_artifact_about_the_image() {
    let desk = desk();
    for form in ["index", "artifact-index"] {
        let layout = desk.build(&["tool.wasm", "--form", form, "--sbom", "spdx"]);
        let index = layout.document(&layout.top());
        let [image, about] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("{index}");
        };
        assert_eq!(about["platform"], json!({ "os": "unknown", "architecture": "unknown" }));
        let manifest = layout.document(about);
        assert_eq!(manifest["artifactType"], "application/spdx+json");
        assert_eq!(manifest["subject"]["digest"], image["digest"]);
        assert_eq!(layout.blob(&manifest["config"]), b"{}");
        let list = layout.blob(&manifest["layers"][0]);
        assert_eq!(list, fs::read(desk.path("tool.spdx.json")).unwrap());
    }
}

#[test]
fn a_list_that_cannot_be_made_or_written_is_refused_in_words() {
    let desk = desk();
    let said = desk.fail(2, &["tool.wasm", "--sbom-output", "x"]);
    assert!(said.contains("--sbom-output needs --sbom spdx or --sbom cyclonedx"), "{said}");
    let said = desk.fail(1, &["tool.wasm", "--sbom", "spdx", "--sbom-output", "none/x"]);
    assert!(said.contains("cannot write to none"), "{said}");
    let said = desk.fail(1, &["tool.wasm", "--sbom", "spdx", "--sbom-output", "tool.wasm"]);
    assert!(said.contains("cannot write tool.wasm: it is also an input"), "{said}");
    // Packed to grow without end.
    let mut module = wat::parse_str(HELLO).unwrap();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 64 << 20]).unwrap();
    section(&mut module, ".dep-v0", &packed.finish().unwrap());
    desk.file("bomb.wasm", module);
    let said = desk.fail(1, &["bomb.wasm", "--sbom", "spdx"]);
    assert!(said.contains("cannot read what bomb.wasm says of itself: leave out --sbom"), "{said}");
    desk.build(&["bomb.wasm"]);
}
