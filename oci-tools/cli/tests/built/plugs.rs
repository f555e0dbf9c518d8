//! `--plug`: components in components.

use artifact::module::Module;

use crate::desk::{Desk, stderr};

/// Ends well if what it imports says 42.
const SOCKET: &str = r#"(component
    (import "test:dep/value@0.1.0" (instance $dep (export "get" (func (result u32)))))
    (alias export $dep "get" (func $get))
    (core func $lowered (canon lower (func $get)))
    (core module $m
        (import "dep" "get" (func $get (result i32)))
        (func (export "run") (result i32) (i32.ne (call $get) (i32.const 42))))
    (core instance $i (instantiate $m (with "dep" (instance (export "get" (func $lowered))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run)))"#;

/// Says one more than what it imports, or without that 41.
fn value(name: &str, imported: Option<&str>) -> String {
    let (import, get) = match imported {
        Some(imported) => (
            format!(
                r#"(import "test:dep/{imported}@0.1.0" (instance $dep (export "get" (func (result u32)))))
                (alias export $dep "get" (func $below))
                (core func $lowered (canon lower (func $below)))
                (core module $m
                    (import "dep" "get" (func $get (result i32)))
                    (func (export "get") (result i32) (i32.add (call $get) (i32.const 1))))
                (core instance $i (instantiate $m (with "dep" (instance (export "get" (func $lowered))))))"#
            ),
            "",
        ),
        None => (
            String::new(),
            r#"(core module $m (func (export "get") (result i32) (i32.const 41)))
            (core instance $i (instantiate $m))"#,
        ),
    };
    format!(
        r#"(component {import} {get}
            (func $get (result u32) (canon lift (core func $i "get")))
            (instance $value (export "get" (func $get)))
            (export "test:dep/{name}@0.1.0" (instance $value)))"#
    )
}

fn desk() -> Desk {
    Desk::new(&[
        ("app.wasm", SOCKET),
        ("value.wasm", &value("value", Some("base"))),
        ("base.wasm", &value("base", None)),
        ("other.wasm", &value("other", None)),
        ("module.wasm", "(module)"),
    ])
}

#[test]
fn a_chain_of_components_becomes_one_that_runs() {
    let desk = desk();
    let plugs = ["app.wasm", "--plug", "value.wasm", "--plug", "base.wasm"];
    let built = desk.build(&plugs).rootfs().remove("app.wasm").unwrap();
    assert!(Module::parse(&built).unwrap().imports.is_empty());
    assert_eq!(desk.build(&plugs).rootfs().remove("app.wasm").unwrap(), built, "the same again");
    desk.file("whole.wasm", built);
    let run = desk.run(&["run", "whole.wasm"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));

    desk.file("wasm-image.toml", "modules = ['app.wasm']\nplug = ['value.wasm', 'base.wasm']\n");
    assert!(desk.build(&[]).rootfs().contains_key("app.wasm"));
}

#[test]
fn what_still_lacks_a_component_is_told_at_its_start() {
    let desk = desk();
    let half = desk.build(&["app.wasm", "--plug", "value.wasm"]).rootfs().remove("app.wasm");
    desk.file("half.wasm", half.unwrap());
    let run = desk.run(&["run", "half.wasm"]);
    assert_eq!(run.status.code(), Some(126), "{}", stderr(&run));
    assert!(stderr(&run).contains("test:dep/base@0.1.0"), "{}", stderr(&run));
}

#[test]
fn a_plug_that_fits_nowhere_or_is_no_component_is_refused() {
    let desk = desk();
    for (plug, words) in [
        ("other.wasm", "no component of the image imports what it exports"),
        ("module.wasm", "only components are put into each other"),
        ("nowhere.wasm", "cannot read nowhere.wasm"),
    ] {
        let args = ["app.wasm", "--plug", plug];
        let output = desk.run(&[&["build", "--output", "failed.tar"], &args[..]].concat());
        assert!(!output.status.success() && stderr(&output).contains(words), "{}", stderr(&output));
    }
}
