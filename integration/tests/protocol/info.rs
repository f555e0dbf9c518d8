//! What the binary says about itself, outside any bundle.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::types::introspection::RuntimeInfo;
use integration::command::{self, Done};
use integration::{RUNTIME, options, paths};
use serde_json::Value;

fn ask(binary: &Path, argument: &str, stdin: &[u8]) -> Done {
    let mut command = Command::new(binary);
    command.env_clear().current_dir("/").arg(argument);
    command::run(command, stdin, Duration::from_secs(20)).ok()
}

fn info(binary: &Path, stdin: &[u8]) -> RuntimeInfo {
    let done = ask(binary, "-info", stdin);
    RuntimeInfo::parse_from_bytes(&done.stdout)
        .unwrap_or_else(|error| panic!("not a RuntimeInfo: {error}\n{done}"))
}

#[test]
fn info_names_the_runtime_and_its_version_without_a_bundle() {
    let info = info(&paths::binary(paths::SHIM), b"");
    assert_eq!(info.name, RUNTIME);
    assert!(!info.version.version.is_empty());
}

#[test]
fn info_lists_the_oci_features_as_containerd_reads_them() {
    let info = info(&paths::binary(paths::SHIM), b"");
    assert_eq!(
        info.features.type_url,
        "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    );
    let features: Value =
        serde_json::from_slice(&info.features.value).expect("the features are JSON");
    for hook in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        let hooks = features["hooks"].as_array().expect("hooks is a list");
        assert!(hooks.iter().any(|known| known == hook), "no {hook} in {features:#}");
    }
    for key in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[key].is_string(), "no {key} in {features:#}");
    }
    let namespaces = features["linux"]["namespaces"].as_array().expect("namespaces is a list");
    assert!(namespaces.iter().any(|known| known == "network"), "{features:#}");
}

#[test]
fn info_accepts_the_runtimes_options_on_its_input() {
    let stdin =
        options::body("SystemdCgroup = true\n").write_to_bytes().expect("a message can be written");
    assert_eq!(info(&paths::binary(paths::SHIM), &stdin).name, RUNTIME);
}

#[test]
fn a_symlink_renames_the_runtime() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("containerd-shim-other-v2");
    symlink(paths::binary(paths::SHIM), &link).expect("a new link");
    assert_eq!(info(&link, b"").name, "io.containerd.other.v2");
}

#[test]
fn the_version_is_printed_for_people() {
    let done = ask(&paths::binary(paths::SHIM), "-v", b"");
    let text = done.text();
    assert!(text.contains(paths::SHIM) && text.contains(env!("CARGO_PKG_VERSION")), "{done}");
}
