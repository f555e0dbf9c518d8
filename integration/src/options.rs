//! `runtimeoptions.v1.Options`, in which CRI and docker send the settings of a runtime
//! (containerd, `api/types/runtimeoptions/v1/api.proto`).

use containerd_shim_protos::protobuf::well_known_types::any::Any;

const TYPE: &str = "runtimeoptions.v1.Options";

/// Settings as TOML text in the message itself.
pub fn body(toml: &str) -> Any {
    any(&[field(1, TYPE.as_bytes()), field(3, toml.as_bytes())].concat())
}

/// Settings in a file.
pub fn path(file: &str) -> Any {
    any(&[field(1, TYPE.as_bytes()), field(2, file.as_bytes())].concat())
}

fn any(value: &[u8]) -> Any {
    Any { type_url: TYPE.to_owned(), value: value.to_vec(), ..Default::default() }
}

/// A length-delimited field, short enough for one byte of length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length =
        u8::try_from(value.len()).ok().filter(|length| *length < 128).expect("short options");
    [&[number << 3 | 2, length], value].concat()
}
