//! Bundles that cannot run: each is refused with words that name the thing, and leaves nothing.

use std::fs;

use containerd_shim_protos::api::CreateTaskRequest;
use integration::bundle::Bundle;
use integration::images::HELLO;
use integration::mock::{Dialect, Mock, Refusal};
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::EXIT_7;

fn with_app(mock: &Mock, content: &[u8]) -> Bundle {
    mock.bundle(&["/app.wasm"]).with("app.wasm", content)
}

fn hello() -> Vec<u8> {
    wat::parse_str(HELLO).expect("well-formed wat")
}

/// Starts a bundle whose `config.json` is `config`, or missing; either step may refuse it.
fn refused_config(config: Option<&str>) -> Refusal {
    let mock = Mock::new();
    let bundle = with_app(&mock, &hello());
    if let Some(config) = config {
        fs::write(bundle.path.join("config.json"), config).expect("the bundle is writable");
    }
    let answer = mock.start(&bundle, &Dialect::Silent).and_then(|shim| {
        let answer = shim.create(&bundle);
        // It may leave by itself when nothing is in it.
        let _ = shim.shutdown(&bundle.id);
        answer
    });
    mock.delete(&bundle);
    mock.nothing_left(&bundle);
    answer.expect_err("it is refused")
}

#[test]
fn a_missing_config_is_named() {
    refused_config(None).names(&["config.json"]);
}

#[test]
fn a_malformed_config_is_named_with_the_place_of_the_mistake() {
    refused_config(Some("{\"ociVersion\": \"1.1.0\",\n \"process\": nonsense}"))
        .names(&["config.json", "line 2"]);
}

#[test]
fn an_empty_config_is_named() {
    refused_config(Some("")).names(&["config.json"]);
}

#[test]
fn a_config_without_a_process_is_refused() {
    refused_config(Some(r#"{"ociVersion": "1.1.0", "root": {"path": "rootfs"}}"#))
        .names(&["process"]);
}

#[test]
fn an_entrypoint_that_is_not_there_is_named() {
    let mock = Mock::new();
    mock.refused(&mock.bundle(&["/nowhere.wasm"])).names(&["/nowhere.wasm"]);
}

#[test]
fn an_entrypoint_that_is_not_in_the_path_is_named_with_where_it_was_looked_for() {
    let mock = Mock::new();
    mock.refused(&mock.bundle(&["nowhere.wasm"])).names(&["nowhere.wasm", "PATH"]);
}

#[test]
fn no_entrypoint_at_all_is_refused_where_the_image_has_more_than_one_program() {
    let mock = Mock::new();
    mock.refused(&mock.bundle(&[])).names(&["\"/\"", "ENTRYPOINT", "layer of the image"]);
}

#[test]
fn an_entrypoint_that_is_a_folder_is_named() {
    let mock = Mock::new();
    mock.refused(&mock.bundle(&["/folder"]).with("folder/file", "")).names(&["/folder"]);
}

#[test]
fn a_file_that_is_not_wasm_is_named() {
    let mock = Mock::new();
    mock.refused(&with_app(&mock, b"#!/bin/sh\necho hello\n")).names(&["/app.wasm", "not"]);
}

#[test]
fn an_empty_file_is_named() {
    let mock = Mock::new();
    mock.refused(&with_app(&mock, b"")).names(&["/app.wasm"]);
}

#[test]
fn a_linux_program_is_named_for_what_it_is() {
    let mock = Mock::new();
    let elf = fs::read("/bin/true").expect("the machine has it");
    mock.refused(&with_app(&mock, &elf)).names(&["/app.wasm", "ELF"]);
}

#[test]
fn a_truncated_module_is_named() {
    let mock = Mock::new();
    let module = hello();
    mock.refused(&with_app(&mock, &module[..module.len() - 9])).names(&["/app.wasm"]);
}

#[test]
fn an_invalid_module_is_named_with_the_mistake_in_it() {
    let mock = Mock::new();
    let module = wat::parse_str(r#"(module (func (export "_start") (i32.const 1)))"#)
        .expect("well-formed wat");
    mock.refused(&with_app(&mock, &module)).names(&["/app.wasm"]);
}

#[test]
fn wat_with_a_mistake_is_named_with_the_place() {
    let mock = Mock::new();
    mock.refused(
        &mock
            .bundle(&["/app.wat"])
            .with("app.wat", "(module\n  (func (export \"_start\") (i32.cost 1)))"),
    )
    .names(&["/app.wat", "i32.cost"]);
}

#[test]
fn a_module_without_a_start_function_is_refused_with_the_exports_it_has() {
    let mock = Mock::new();
    let bundle =
        mock.bundle(&["/app.wasm"]).with_wat("app.wasm", r#"(module (func (export "helper")))"#);
    mock.refused(&bundle).names(&["/app.wasm", "_start", "helper"]);
}

#[test]
fn an_export_that_is_not_there_is_named() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm#nothing"]).with_wat("app.wasm", HELLO);
    mock.refused(&bundle).names(&["nothing", "greet"]);
}

#[test]
fn a_component_of_an_unknown_world_is_refused_with_what_it_exports() {
    let mock = Mock::new();
    let wat = r#"(component
      (core module $m (func (export "f")))
      (core instance $i (instantiate $m))
      (func $f (canon lift (core func $i "f")))
      (export "paint-the-fence" (func $f)))"#;
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    mock.refused(&bundle).names(&["/app.wasm", "paint-the-fence"]);
}

#[test]
fn an_import_that_nobody_provides_is_named() {
    let mock = Mock::new();
    let wat = r#"(module (import "moon" "shine" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    mock.refused(&bundle).names(&["/app.wasm", "moon", "shine"]);
}

#[test]
fn an_import_of_another_type_is_named() {
    let mock = Mock::new();
    let wat = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))
      (memory (export "memory") 1) (func (export "_start")))"#;
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", wat);
    mock.refused(&bundle).names(&["/app.wasm", "proc_exit"]);
}

#[test]
fn a_mount_whose_source_is_missing_is_named() {
    let mock = Mock::new();
    let mount = json!({ "destination": "/data", "source": "/run/nowhere", "type": "bind", "options": ["rbind"] });
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO).push("/mounts", mount);
    mock.refused(&bundle).names(&["/run/nowhere", "/data"]);
}

#[test]
fn a_missing_rootfs_is_named() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).set("/root/path", json!("nowhere"));
    mock.refused(&bundle).names(&["nowhere"]);
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    let mock = Mock::new();
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", HELLO)
        .without_namespace("network")
        .push("/linux/namespaces", json!({ "type": "network", "path": "/run/nowhere/net" }));
    mock.refused(&bundle).names(&["/run/nowhere/net"]);
}

#[test]
fn a_working_folder_that_cannot_be_is_named() {
    let mock = Mock::new();
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with_wat("app.wasm", HELLO)
        .set("/process/cwd", json!("/app.wasm/inside"));
    mock.refused(&bundle).names(&["/app.wasm/inside"]);
}

#[test]
fn a_cache_that_is_not_a_folder_is_named() {
    let mock = Mock::new();
    fs::create_dir_all("/var/lib/containerd-shim-wasmtime").expect("/var/lib is the test's own");
    fs::write("/var/lib/containerd-shim-wasmtime/code", "in the way").expect("a new file");
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    mock.refused(&bundle).names(&["/var/lib/containerd-shim-wasmtime/code"]);
}

#[test]
fn a_full_disk_is_named() {
    let mock = Mock::new();
    let cache = "/var/lib/containerd-shim-wasmtime/code";
    fs::create_dir_all(cache).expect("/var/lib is the test's own");
    mount(Some("tmpfs"), cache, Some("tmpfs"), MsFlags::empty(), Some("size=8k,mode=700"))
        .expect("a tiny tmpfs");
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", HELLO);
    bundle.write();
    let shim = mock.start(&bundle, &Dialect::Silent).expect("the shim starts");
    let refusal = shim.create(&bundle).expect_err("there is no room for the code");
    refusal.names(&[cache, "No space left on device"]);
    let _ = shim.shutdown(&bundle.id);
    mock.delete(&bundle);
    assert!(integration::mock::cgroups(&bundle.id).is_empty());
    let unfinished = fs::read_dir(cache).expect("the tmpfs is there").flatten();
    for entry in unfinished.filter(|entry| entry.path().is_dir()) {
        let files = fs::read_dir(entry.path()).expect("a folder of the cache").flatten();
        let names: Vec<_> = files
            .map(|file| file.file_name())
            .filter(|name| !name.to_string_lossy().ends_with(".lock"))
            .collect();
        assert!(names.is_empty(), "an unfinished file was left in the cache: {names:?}");
    }
}

#[test]
fn a_fifo_that_is_not_there_is_named() {
    let mock = Mock::new();
    let bundle = mock.bundle(&["/app.wasm"]).with_wat("app.wasm", EXIT_7);
    let request =
        CreateTaskRequest { stdout: "/run/containerd/fifo/nowhere".into(), ..Default::default() };
    let refusal = mock.create_with(&bundle, request).err().expect("there is no such fifo");
    refusal.names(&["/run/containerd/fifo/nowhere"]);
    mock.nothing_left(&bundle);
}

#[test]
fn a_module_with_very_many_exports_is_refused_in_few_words() {
    let mock = Mock::new();
    let exports: String =
        (0..6000).map(|n| format!("(export \"function-number-{n}\" (func $f))")).collect();
    let wat = format!("(module (func $f) {exports})");
    let refusal = mock.refused(&mock.bundle(&["/app.wasm"]).with_wat("app.wasm", &wat));
    refusal.names(&["_start", "function-number-1", "more"]);
    assert!(refusal.message.len() < 5000, "{}", refusal.message.len());
}

#[test]
fn a_device_that_is_not_granted_whole_is_refused_by_name() {
    let mock = Mock::new();
    let bundle = mock
        .bundle(&["/app.wasm"])
        .with("app.wasm", hello())
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]),
        )
        .set(
            "/linux/resources/devices",
            json!([{ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" }]),
        );
    mock.refused(&bundle).names(&["/dev/kmsg", "access"]);
}
