//! `-v` and `-info`: what this runtime is and can do. Neither needs a bundle.

use super::Error;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use serde_json::json;
use std::io::{self, Write};

/// Under which containerd registers the features
/// (<https://github.com/opencontainers/runtime-spec/blob/main/features.md>).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

pub fn print_version(name: &str) -> Result<(), Error> {
    println!("{name}:");
    println!("  Version:  {}", env!("CARGO_PKG_VERSION"));
    println!("  Revision: {}", option_env!("REVISION").unwrap_or("unknown"));
    Ok(())
}

pub fn print_info(name: &str) -> Result<(), Error> {
    let info = RuntimeInfo {
        name: runtime_id(name),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        }),
        features: MessageField::some(Any {
            type_url: FEATURES.into(),
            value: features().to_string().into_bytes(),
            ..Default::default()
        }),
        ..Default::default()
    };
    io::stdout().write_all(&info.write_to_bytes()?)?;
    Ok(())
}

/// `containerd-shim-NAME-VERSION` is the runtime `io.containerd.NAME.VERSION`.
fn runtime_id(program: &str) -> String {
    match program.strip_prefix("containerd-shim-").and_then(|name| name.rsplit_once('-')) {
        Some((name, version)) => format!("io.containerd.{name}.{version}"),
        None => program.to_owned(),
    }
}

fn features() -> serde_json::Value {
    let mut capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    capabilities.sort();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "mountOptions": crate::spec::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false},
            "seccomp": {"enabled": false},
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::runtime_id;

    #[test]
    fn the_programs_name_is_the_runtimes() {
        assert_eq!(runtime_id("containerd-shim-wasmtime-v1"), "io.containerd.wasmtime.v1");
        assert_eq!(runtime_id("containerd-shim-my-wasm-v2"), "io.containerd.my-wasm.v2");
        assert_eq!(runtime_id("shim"), "shim");
    }
}
