//! THE engine configuration. Code compiled with one configuration runs only in an engine of the
//! same one, so everybody who compiles or runs asks here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use wasmtime::component::Component;
use wasmtime::{Config, Module, Strategy};

pub use wasmtime::Engine;

/// Raised whenever the files in the cache change their form for a reason Wasmtime's own hash does
/// not see.
const CACHE_FORMAT: u32 = 2;

/// Which compiler's code it is. An engine runs that of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// Winch's: made in one pass, and slow. It does not know all of WebAssembly.
    Baseline,
    /// Cranelift's: made slowly, and fast.
    Optimized,
}

impl Tier {
    /// Reads back what [`fmt::Display`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Baseline, Self::Optimized].into_iter().find(|tier| tier.to_string() == text)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::Optimized => "optimized",
        })
    }
}

/// How large the stack is that a guest and its host calls run on, in bytes.
pub const STACK: usize = 2 << 20;

/// The configuration of every engine of this project; the tiers differ in the compiler alone.
///
/// Interruption is by signal, not by epochs or fuel, so guest code carries no checks for it.
pub fn config(tier: Tier) -> Config {
    let mut config = Config::new();
    config.strategy(match tier {
        Tier::Baseline => Strategy::Winch,
        Tier::Optimized => Strategy::Cranelift,
    });
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config.wasm_component_model_async(true);
    // The guest's part of it.
    config.max_wasm_stack(1 << 20);
    config.async_stack_size(STACK);
    config
}

/// An engine with that configuration.
///
/// # Errors
/// When this CPU or system cannot run what the configuration asks for.
pub fn engine(tier: Tier) -> wasmtime::Result<Engine> {
    Engine::new(&config(tier))
}

/// An engine whose compiler works on one core only.
///
/// # Errors
/// As [`engine`].
pub fn unhurried(tier: Tier) -> wasmtime::Result<Engine> {
    Engine::new(config(tier).parallel_compilation(false))
}

/// Names all that compiled code depends on besides the wasm and the tier: Wasmtime's version and
/// settings, the CPU's features, our cache format. Written as 16 hex digits, a dash, and the format's
/// number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility(String);

impl Compatibility {
    /// That of `engine`, which is one for optimized code. What makes another baseline code necessary
    /// makes another optimized code necessary, so one name does for both.
    pub fn of(engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(format!("{:016x}-{CACHE_FORMAT}", hasher.finish()))
    }

    /// Whether `name` is what [`fmt::Display`] writes of it.
    pub fn names(&self, name: &str) -> bool {
        self.0 == name
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
        let (one, two) = (engine(Tier::Optimized).unwrap(), engine(Tier::Optimized).unwrap());
        let (one, two) = (Compatibility::of(&one), Compatibility::of(&two));
        assert_eq!(one, two);
        assert_eq!(Compatibility::parse(&one.to_string()), Some(one));
    }

    #[test]
    fn an_engine_runs_the_code_of_its_own_tier_only() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["(module)", "(component)"] {
            for tier in [Tier::Baseline, Tier::Optimized] {
                let path = dir.path().join("code");
                let code = crate::compile::compile(&unhurried(tier).unwrap(), text.as_bytes());
                std::fs::write(&path, code.unwrap()).unwrap();
                for other in [Tier::Baseline, Tier::Optimized] {
                    let (engine, path) = (engine(other).unwrap(), path.to_str().unwrap());
                    let loaded = match text {
                        "(module)" => load_module(&engine, path).map(drop),
                        _ => load_component(&engine, path).map(drop),
                    };
                    assert_eq!(loaded.is_ok(), tier == other, "{text}, {tier} in {other}");
                }
            }
        }
    }

    #[test]
    fn what_winch_does_not_know_cranelift_does() {
        let tail_call = b"(module (func $f (return_call $f)))";
        crate::compile::compile(&engine(Tier::Optimized).unwrap(), tail_call).unwrap();
        crate::compile::compile(&engine(Tier::Baseline).unwrap(), tail_call).unwrap_err();
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_compatibility() {
        for text in ["", "-1", "../../etc", "0123456789abcdef-9", "0123456789abcde/-1"] {
            assert_eq!(Compatibility::parse(text), None, "{text}");
        }
    }
}
