//! `--optimize`, `--component`, `--strip`.

use std::fs;

use artifact::module::{Kind, Module, World};
use wasmparser::{Parser, Payload};

use crate::desk::{Desk, HELLO, guest, stderr};

/// The module at `/x.wasm` of an image that is built of `module` with `options`.
#[track_caller]
fn built(module: &[u8], options: &[&str]) -> Vec<u8> {
    let desk = Desk::new(&[]);
    desk.file("x.wasm", module);
    desk.build(&[&["x.wasm"], options].concat()).rootfs().remove("x.wasm").unwrap()
}

#[track_caller]
fn read_guest(name: &str) -> Vec<u8> {
    fs::read(guest(name)).unwrap()
}

/// The custom sections, at all levels.
fn customs(binary: &[u8]) -> Vec<String> {
    let payloads = Parser::new(0).parse_all(binary);
    payloads
        .filter_map(|payload| match payload.unwrap() {
            Payload::CustomSection(section) => Some(section.name().to_owned()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stripped_guest_is_the_same_program_without_custom_sections() {
    for name in ["probe-p1.wasm", "probe-p2.wasm", "hello-c.wasm", "web3.wasm"] {
        let before = read_guest(name);
        let after = built(&before, &["--strip"]);
        assert!(!customs(&before).is_empty() && after.len() < before.len(), "{name}");
        assert_eq!(customs(&after), [""; 0], "{name}");
        assert_eq!(Module::parse(&after).unwrap(), Module::parse(&before).unwrap(), "{name}");
    }
}

#[test]
#[cfg(feature = "optimize")]
fn an_optimized_guest_is_smaller_and_offers_and_asks_for_the_same() {
    for name in ["probe-p1.wasm", "probe-p2.wasm", "hello-c.wasm", "web3.wasm", "command3.wasm"] {
        let before = read_guest(name);
        let after = built(&before, &["--optimize"]);
        assert!(after.len() < before.len(), "{name}: {} to {}", before.len(), after.len());
        let (before, after) = (Module::parse(&before).unwrap(), Module::parse(&after).unwrap());
        assert_eq!((&after.exports, after.world), (&before.exports, before.world), "{name}");
        // What was never called need not be imported any more.
        for import in &after.imports {
            let known = before.imports.iter().find(|known| known.name == import.name).unwrap();
            assert!(import.members.iter().all(|member| known.members.contains(member)), "{name}");
        }
    }
}

#[test]
#[cfg(feature = "optimize")]
fn every_level_gives_a_valid_module_and_always_the_same() {
    let before = read_guest("hello-c.wasm");
    for level in ["0", "1", "2", "3", "4", "s", "z"] {
        let build = || built(&before, &[&format!("--optimize={level}")]);
        let after = build();
        Module::parse(&after).unwrap();
        assert!(after == build(), "{level}");
    }
    assert!(built(&before, &["-O"]) == built(&before, &["--optimize=s"]));
    assert!(built(&before, &["-O3"]) == built(&before, &["--optimize=3"]));
}

#[test]
#[cfg(feature = "optimize")]
fn an_optimized_module_keeps_names_and_loses_the_dwarf_that_would_be_wrong() {
    let sections = customs(&built(&read_guest("hello-c.wasm"), &["-O"]));
    assert!(sections.iter().any(|name| name == "name"), "{sections:?}");
    assert!(!sections.iter().any(|name| name.starts_with(".debug_")), "{sections:?}");
}

#[test]
fn a_module_of_preview_1_becomes_a_component_and_a_component_stays_one() {
    for name in ["probe-p1.wasm", "hello-c.wasm", "hello-go.wasm"] {
        let module = Module::parse(&built(&read_guest(name), &["--component"])).unwrap();
        assert_eq!((module.kind, module.world), (Kind::Component, World::Command), "{name}");
        assert_eq!(module.foreign_imports().count(), 0, "{name}");
    }
    let component = read_guest("probe-p2.wasm");
    assert!(built(&component, &["--component"]) == component);
}

#[test]
#[cfg(feature = "optimize")]
fn all_of_it_together_is_told_with_sizes() {
    let desk = Desk::new(&[]);
    desk.file("x.wasm", read_guest("hello-c.wasm"));
    let output =
        desk.run(&["build", "x.wasm", "-O=z", "--component", "--strip", "--format", "json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let changes = report["module"]["changes"].as_array().unwrap();
    let names: Vec<_> = changes.iter().map(|change| change["change"].as_str().unwrap()).collect();
    assert_eq!(names, ["optimized", "wrapped", "stripped"]);
    for pair in changes.windows(2) {
        assert_eq!(pair[0]["sizeAfter"], pair[1]["sizeBefore"]);
    }
    assert_eq!(changes[0]["sizeBefore"], read_guest("hello-c.wasm").len());
    assert_eq!(report["module"]["kind"], "component");
}

#[test]
fn what_no_component_can_be_made_of_is_refused_in_words() {
    let desk = Desk::new(&[
        ("env.wasm", r#"(module (import "env" "log" (func)) (func (export "_start")))"#),
        ("lib.wasm", r#"(module (func (export "add")))"#),
        (
            "odd.wasm",
            r#"(module (import "wasi_snapshot_preview1" "none" (func)) (func (export "_start")))"#,
        ),
    ]);
    for (module, words) in [
        (
            "env.wasm",
            "cannot make a component of env.wasm: it imports env, and only imports of WASI",
        ),
        ("lib.wasm", "cannot make a component of lib.wasm: it exports no `_start`"),
        ("odd.wasm", "cannot make a component of odd.wasm: "),
    ] {
        let said = desk.fail(1, &[module, "--component"]);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
#[cfg(feature = "optimize")]
fn what_the_optimizer_does_not_know_is_an_error_that_says_so() {
    let desk = Desk::new(&[(
        "gc.wasm",
        r#"(module (type $s (struct (field i32))) (func (export "_start") (drop (struct.new $s (i32.const 1)))))"#,
    )]);
    desk.build(&["gc.wasm"]);
    let said = desk.fail(1, &["gc.wasm", "--optimize"]);
    for words in ["cannot optimize gc.wasm: ", "Binaryen 116", "leave out --optimize"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
#[cfg(feature = "optimize")]
fn what_breaks_the_optimizer_down_is_an_error_and_no_crash() {
    // Conditions within conditions: valid, and deeper than a stack of C++ goes.
    let depth = 1_000_000;
    let mut body = vec![0];
    body.extend([0x41, 0x01, 0x04, 0x40].repeat(depth));
    body.extend(vec![0x0b; depth + 1]);
    let mut module = wasm_encoder::Module::new();
    let mut types = wasm_encoder::TypeSection::new();
    types.ty().function([], []);
    let mut functions = wasm_encoder::FunctionSection::new();
    functions.function(0);
    let mut exports = wasm_encoder::ExportSection::new();
    exports.export("_start", wasm_encoder::ExportKind::Func, 0);
    let mut code = wasm_encoder::CodeSection::new();
    code.raw(&body);
    module.section(&types).section(&functions).section(&exports).section(&code);
    let desk = Desk::new(&[]);
    desk.file("deep.wasm", module.finish());
    desk.build(&["deep.wasm"]);
    let said = desk.fail(1, &["deep.wasm", "--optimize"]);
    assert!(said.contains("Binaryen breaks down over it (SIG"), "{said}");
}

#[test]
#[cfg(feature = "optimize")]
fn the_modules_of_a_file_are_changed_as_it_says_and_options_go_before() {
    let desk = Desk::new(&[
        ("a.wasm", HELLO),
        ("wasm-image.toml", "modules = ['a.wasm']\ncomponent = true\nstrip = true\noptimize = 2"),
        ("Containerfile", "FROM scratch\nCOPY a.wasm b.wasm text.wasm /\nCMD [\"/a.wasm\"]"),
    ]);
    desk.file("b.wasm", wat::parse_str(HELLO).unwrap());
    desk.file("text.wasm", "not wasm");
    let module =
        |args: &[&str], name: &str| Module::parse(&desk.build(args).rootfs()[name]).unwrap().kind;
    assert_eq!(module(&[], "a.wasm"), Kind::Component);
    assert_eq!(module(&["--component=false"], "a.wasm"), Kind::CoreModule);
    let file = ["-f", "Containerfile", "--component"];
    assert_eq!(module(&file, "a.wasm"), Kind::Component);
    assert_eq!(module(&file, "b.wasm"), Kind::Component, "all modules are, not only what runs");
    assert_eq!(desk.build(&file).rootfs()["text.wasm"], b"not wasm");
}

#[test]
fn an_artifact_is_the_changed_module() {
    let desk = Desk::new(&[("a.wasm", HELLO)]);
    let layout = desk.build(&["a.wasm", "--component", "--form", "artifact"]);
    let manifest = layout.document(&layout.top());
    let layer = layout.blob(&manifest["layers"][0]);
    assert_eq!(Module::parse(layer).unwrap().kind, Kind::Component);
    assert_eq!(layout.document(&manifest["config"])["os"], "wasip2");
}
