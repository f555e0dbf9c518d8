//! From wasm (or its text form) to native code. Fed hostile input: run it in a process that holds
//! nothing.

use crate::module::{self, Kind};
use std::borrow::Cow;
use wasmtime::Engine;

/// Why some bytes do not become code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither wasm nor its text form; says what it looks like.
    #[error("not a WebAssembly module: {0}")]
    NotWasm(String),
    /// Text that does not parse; with line and column.
    #[error("invalid WebAssembly text: {0}")]
    Text(String),
    /// Binary that does not validate or compile; with the offset where it fails.
    #[error("invalid WebAssembly {0}: {1}")]
    Invalid(&'static str, String),
}

/// Compiles a core module or a component, binary or text, to Wasmtime's serialized form.
///
/// # Errors
/// When the input is not valid WebAssembly that [`crate::engine::config`] accepts.
pub fn compile(engine: &Engine, input: &[u8]) -> Result<Vec<u8>, Error> {
    let wasm = binary(input)?;
    match module::kind(&wasm) {
        Some(Kind::CoreModule) => {
            engine.precompile_module(&wasm).map_err(|e| Error::Invalid("module", format!("{e:#}")))
        }
        Some(Kind::Component) => engine
            .precompile_component(&wasm)
            .map_err(|e| Error::Invalid("component", format!("{e:#}"))),
        None => Err(Error::NotWasm(looks_like(&wasm))),
    }
}

/// The binary form of `input`, which may be text.
fn binary(input: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    if input.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(input));
    }
    let text = std::str::from_utf8(input).map_err(|_| Error::NotWasm(looks_like(input)))?;
    if !text.contains("(module") && !text.contains("(component") {
        return Err(Error::NotWasm(looks_like(input)));
    }
    wat::parse_str(text).map(Cow::Owned).map_err(|e| Error::Text(e.to_string()))
}

/// What a person would call these bytes, for an error message.
fn looks_like(input: &[u8]) -> String {
    match input {
        [] => "the file is empty".into(),
        [0x7f, b'E', b'L', b'F', ..] => {
            "it is an ELF file, a program for Linux; give this runtime a .wasm file, or run the \
             image with a Linux runtime"
                .into()
        }
        [b'#', b'!', ..] => "it is a script".into(),
        [0, b'a', b's', b'm', rest @ ..] if rest.len() < 4 => "the file is cut short".into(),
        [0, b'a', b's', b'm', v @ ..] => {
            format!("unknown binary version {:02x?}", &v[..v.len().min(4)])
        }
        _ => format!("it starts with \"{}\"", input[..input.len().min(16)].escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Tier, engine};

    fn words(input: &[u8]) -> String {
        compile(&engine(Tier::Optimized).unwrap(), input).unwrap_err().to_string()
    }

    #[test]
    fn text_and_binary_of_modules_and_components_compile() {
        let engine = engine(Tier::Optimized).unwrap();
        for text in ["(module)", "(component)"] {
            compile(&engine, text.as_bytes()).unwrap();
            compile(&engine, &wat::parse_str(text).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_not_wasm_is_called_by_its_name() {
        assert!(words(b"").contains("empty"));
        assert!(words(b"\x7fELF\x02").contains("ELF"));
        assert!(words(b"#!/bin/sh\n").contains("script"));
        assert!(words(b"\0asm").contains("cut short"));
        assert!(words(b"\0asm\x09\0\0\0").contains("unknown binary version"));
        assert!(words(b"hello").contains("starts with"));
    }

    #[test]
    fn a_truncated_module_names_the_offset() {
        let wasm = wat::parse_str("(module (func (export \"_start\")))").unwrap();
        let words = words(&wasm[..wasm.len() - 3]);
        assert!(words.contains("invalid WebAssembly module"), "{words}");
        assert!(words.contains("offset"), "{words}");
    }

    #[test]
    fn bad_text_names_line_and_column() {
        let words = words(b"(module\n  (func $f (nonsense)))");
        assert!(words.contains("2:"), "{words}");
    }
}
