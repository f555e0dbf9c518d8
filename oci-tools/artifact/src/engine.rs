//! THE engine configuration. Code compiled with one configuration runs only in an engine of the
//! same one, so everybody who compiles or runs asks here.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use wasmtime::component::Component;
use wasmtime::{Config, Module};

pub use wasmtime::Engine;

/// Raised whenever the files in the cache change their form for a reason Wasmtime's own hash does
/// not see.
const CACHE_FORMAT: u32 = 1;

/// The configuration of every engine of this project.
///
/// Interruption is by signal, not by epochs or fuel, so guest code carries no checks for it.
pub fn config() -> Config {
    let mut config = Config::new();
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config.wasm_component_model_async(true);
    // A guest's stack, beside the 2 MiB that its async host calls run on.
    config.max_wasm_stack(1 << 20);
    config.async_stack_size(2 << 20);
    config
}

/// An engine with that configuration.
///
/// # Errors
/// When this CPU or system cannot run what the configuration asks for.
pub fn engine() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// Names all that compiled code depends on besides the wasm: Wasmtime's version and settings, the
/// CPU's features, our cache format. Written as 16 hex digits, a dash, and the format's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility(String);

impl Compatibility {
    /// That of code which `engine` can run.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(format!("{:016x}-{CACHE_FORMAT}", hasher.finish()))
    }

    /// Reads back what [`fmt::Display`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (hash, format) = text.split_once('-')?;
        let hex = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && format == CACHE_FORMAT.to_string()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Maps a core module's compiled code from the file at `path`, without copying it.
///
/// # Errors
/// When the file is damaged or of another engine.
#[expect(unsafe_code, reason = "guest loading")]
pub fn load_module(engine: &Engine, path: &str) -> wasmtime::Result<Module> {
    // SAFETY: the file is one of the code cache, which only this user can write ([`crate::cache`]
    // checks it whenever it opens one) and where files never change once they have their name.
    unsafe { Module::deserialize_file(engine, path) }
}

/// Maps a component's compiled code from the file at `path`, without copying it.
///
/// # Errors
/// When the file is damaged or of another engine.
#[expect(unsafe_code, reason = "guest loading")]
pub fn load_component(engine: &Engine, path: &str) -> wasmtime::Result<Component> {
    // SAFETY: as for `load_module`.
    unsafe { Component::deserialize_file(engine, path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_of_this_configuration_share_their_code() {
        let (one, two) = (engine().unwrap(), engine().unwrap());
        let (one, two) = (Compatibility::of(&one), Compatibility::of(&two));
        assert_eq!(one, two);
        assert_eq!(Compatibility::parse(&one.to_string()), Some(one));
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_compatibility() {
        for text in ["", "-1", "../../etc", "0123456789abcdef-9", "0123456789abcde/-1"] {
            assert_eq!(Compatibility::parse(text), None, "{text}");
        }
    }
}
