//! Takes out of a module what is not needed to run it: names, DWARF and other custom sections. A
//! backtrace of it then has numbers in place of names.

use anyhow::Result;

use super::sections::{Change, rewrite};

struct Strip;

impl Change for Strip {
    /// The types by which a module becomes a component, how a library is linked, and hints for
    /// compilers.
    fn keeps(&self, name: &str) -> bool {
        name.starts_with("component-type")
            || name == "dylink.0"
            || name.starts_with("metadata.code.")
    }

    fn core_module(&mut self, module: Vec<u8>) -> Result<Vec<u8>> {
        Ok(module)
    }
}

/// The module or component without them, and without those of what is nested in it.
pub fn strip(binary: &[u8]) -> Result<Vec<u8>> {
    rewrite(binary, &mut Strip)
}

/// Whether a core module has a custom section whose name begins so.
pub fn has_custom_section(module: &[u8], name: &str) -> bool {
    let payloads = wasmparser::Parser::new(0).parse_all(module);
    payloads.into_iter().flatten().any(|payload| match payload {
        wasmparser::Payload::CustomSection(section) => section.name().starts_with(name),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customs(binary: &[u8]) -> Vec<String> {
        let payloads = wasmparser::Parser::new(0).parse_all(binary);
        payloads
            .filter_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CustomSection(section) => Some(section.name().to_owned()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn custom_sections_go_at_all_levels_but_for_those_that_mean_something() {
        let text = r#"(component (@custom "producers" "")
            (core module $m (func $named (export "f")) (@custom ".debug_info" "x")
                (@custom "component-type:x" "") (@custom "dylink.0" ""))
            (component $inner (core module (func $deep)) (@custom "x" "y"))
            (core instance (instantiate $m)))"#;
        let binary = wat::parse_str(text).unwrap();
        assert!(customs(&binary).len() > 6, "{:?}", customs(&binary));
        let stripped = strip(&binary).unwrap();
        assert_eq!(customs(&stripped), ["component-type:x", "dylink.0"]);
        artifact::module::Module::parse(&stripped).unwrap();
        assert_eq!(strip(&stripped).unwrap(), stripped);
    }

    #[test]
    fn what_is_no_custom_section_stays_byte_for_byte() {
        let text = r#"(module (type (func (param i32))) (import "a" "b" (func)) (table 1 funcref)
            (memory 1) (global i32 (i32.const 7)) (export "f" (func 1)) (start 2)
            (elem (i32.const 0) func 1) (func (type 0)) (func) (data (i32.const 0) "x"))"#;
        let binary = wat::parse_str(text).unwrap();
        assert_eq!(strip(&binary).unwrap(), binary);
    }
}
