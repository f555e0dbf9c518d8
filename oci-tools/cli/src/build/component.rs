//! Makes a component of WASI 0.2 of a core module, by wrapping it with Wasmtime's adapter, which
//! answers the calls of preview 1.

use anyhow::{Result, anyhow, bail};
use artifact::module::{Module, World};
use wasi_preview1_component_adapter_provider as adapter;
use wit_component::ComponentEncoder;

use super::strip;

/// The custom section in which tools leave the types of a module that is meant to be a component.
const TYPES: &str = "component-type";

/// The module `binary`, which is `facts`, as a component: a command if it has a `_start`.
///
/// # Errors
/// When it imports what no component can give it, or is not written for this.
pub fn wrap(binary: &[u8], facts: &Module) -> Result<Vec<u8>> {
    if !strip::has_custom_section(binary, TYPES) {
        let foreign: Vec<_> = facts.foreign_imports().map(|import| import.name.as_str()).collect();
        if !foreign.is_empty() {
            bail!(
                "it imports {}, and only imports of WASI preview 1 can be adapted; leave out --component, or compile for wasm32-wasip2",
                foreign.join(", ")
            );
        }
        if facts.world != World::Command {
            bail!(
                "it exports no `_start`, and nothing says what else it would offer as a component; leave out --component, or compile for wasm32-wasip2"
            );
        }
    }
    let adapter = match facts.world {
        World::Command => adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        World::HttpProxy | World::Reactor => adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let encoded = ComponentEncoder::default()
        .module(binary)
        .and_then(|encoder| encoder.adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter))
        .and_then(|encoder| encoder.validate(true).encode());
    encoded.map_err(|error| anyhow!("{}", one_line(&format!("{error:#}"))))
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
