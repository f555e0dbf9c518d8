//! THE engine configuration. Code compiled with one configuration runs only in an engine of the
//! same one, so everybody who compiles or runs asks here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use wasmtime::component::Component;
use wasmtime::{Config, Module, Precompiled, Strategy};

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

/// CPUs that code is compiled for elsewhere, to be run on any that has as much: the levels of the
/// x86-64 psABI (<https://gitlab.com/x86-psABIs/x86-64-ABI>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// What every x86-64 CPU has.
    V1,
    /// SSE 4.2 and POPCNT, as CPUs have since 2009.
    V2,
    /// AVX2, FMA and BMI, as servers have since 2013.
    V3,
}

impl Target {
    /// All, the one with most first.
    pub const ALL: [Self; 3] = [Self::V3, Self::V2, Self::V1];

    /// Reads back what [`fmt::Display`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.to_string() == text)
    }

    /// Whether this machine is one.
    #[cfg(target_arch = "x86_64")]
    pub fn is_here(self) -> bool {
        macro_rules! have { ($($feature:tt)*) => { true $(&& is_x86_feature_detected!($feature))* } }
        match self {
            Self::V1 => true,
            Self::V2 => have!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt"),
            Self::V3 => Self::V2.is_here() && have!("avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt"),
        }
    }

    /// Whether this machine is one.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_here(self) -> bool {
        false
    }

    /// What Cranelift calls that which it has more than the level before.
    fn features(self) -> Vec<&'static str> {
        let (below, more): (_, &[_]) = match self {
            Self::V1 => (Vec::new(), &[]),
            Self::V2 => (
                Self::V1.features(),
                &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"],
            ),
            Self::V3 => (
                Self::V2.features(),
                &["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"],
            ),
        };
        [below, more.to_vec()].concat()
    }

    /// An engine that makes optimized code for it.
    ///
    /// # Errors
    /// When the compiler does not know the target, as on other machines than x86-64 ones.
    #[expect(unsafe_code, reason = "the compiler's flags")]
    pub fn engine(self) -> wasmtime::Result<Engine> {
        let mut config = config(Tier::Optimized);
        config.target("x86_64-unknown-linux-gnu")?;
        for feature in self.features() {
            // SAFETY: they say what the CPU has, and an engine loads no code that says more than it
            // finds itself.
            unsafe { config.cranelift_flag_enable(feature) };
        }
        Engine::new(&config)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "x86_64-v1",
            Self::V2 => "x86_64-v2",
            Self::V3 => "x86_64-v3",
        })
    }
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
    // checks it whenever it opens one) and where files never change once they have their name; or it
    // is about to become one, and somebody whom the node's owner trusts has made it.
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

/// Makes sure that an engine of this node runs the optimized code that descriptor `fd` is of.
///
/// # Errors
/// When it is damaged or of another engine.
pub fn check_code(fd: std::os::fd::RawFd) -> wasmtime::Result<()> {
    let (engine, path) = (engine(Tier::Optimized)?, format!("/proc/self/fd/{fd}"));
    match Engine::detect_precompiled_file(&path)? {
        Some(Precompiled::Module) => load_module(&engine, &path).map(drop),
        Some(Precompiled::Component) => load_component(&engine, &path).map(drop),
        None => Err(wasmtime::Error::msg("it is no compiled code")),
    }
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
    fn code_for_a_target_runs_here_and_is_another_engines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        let own = engine(Tier::Optimized).unwrap();
        let mut names = vec![Compatibility::of(&own).to_string()];
        assert!(Target::V1.is_here());
        for target in Target::ALL.into_iter().filter(|target| target.is_here()) {
            assert_eq!(Target::parse(&target.to_string()), Some(target));
            let engine = target.engine().unwrap();
            assert_eq!(Compatibility::of(&engine), Compatibility::of(&target.engine().unwrap()));
            names.push(Compatibility::of(&engine).to_string());
            let text = b"(module (func (export \"f\") (param i64) (result i64)
                (i64.popcnt (local.get 0))))";
            std::fs::write(&path, crate::compile::compile(&engine, text).unwrap()).unwrap();
            load_module(&own, path.to_str().unwrap()).unwrap();
        }
        assert_eq!(Target::parse("x86_64-v9"), None);
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
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
