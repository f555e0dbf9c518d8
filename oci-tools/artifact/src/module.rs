//! What a piece of WebAssembly is: core module or component, what it asks of its host, what it
//! offers, and so how it is run. The answer comes from the bytes alone.
//!
//! Everything here is fed hostile input: it must never compile or run what it reads.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

/// The largest module taken, in bytes.
pub const MAX_WASM: u64 = 1 << 30;

/// The import module of WASI preview 1.
/// <https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md>
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The two binary formats of WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A module of the core specification, `\0asm` version 1, layer 0.
    CoreModule,
    /// A component of the component model, `\0asm` version 13, layer 1.
    Component,
}

/// Tells the format by the first 8 bytes; `None` when they are neither.
///
/// Preambles: <https://webassembly.github.io/spec/core/binary/modules.html#binary-module> and
/// <https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>.
#[must_use]
pub fn kind(bytes: &[u8]) -> Option<Kind> {
    match bytes.get(..8)? {
        b"\0asm\x01\0\0\0" => Some(Kind::CoreModule),
        b"\0asm\x0d\0\x01\0" => Some(Kind::Component),
        _ => None,
    }
}

/// How a module is meant to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Runs once: a core module with a function `_start`, or a component with `wasi:cli/run`.
    Command,
    /// Answers requests: a component with `wasi:http/incoming-handler` or `wasi:http/handler`.
    HttpProxy,
    /// Has exports of its own only; nothing says which of them is the program.
    Reactor,
}

/// The WASI that a module speaks, judged by all its imports and exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wasi {
    /// No WASI interface at all.
    None,
    /// `wasi_snapshot_preview1`, also called WASI 0.1.
    Preview1,
    /// WASI 0.2 of the newest patch release found, such as 6 for 0.2.6.
    Preview2 {
        /// The last number of the version.
        patch: u32,
    },
    /// WASI 0.3; it may use 0.2 interfaces beside it.
    Preview3 {
        /// The version as written, such as `0.3.0` or `0.3.0-rc-2025-09-16`.
        version: String,
    },
}

/// An import or an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// For an import of a core module the module imported from (`wasi_snapshot_preview1`); for a
    /// component the interface (`wasi:cli/run@0.2.6`); else the name of the item itself.
    pub name: String,
    /// The items in it: fields of an import module, functions of an interface. Empty when `name`
    /// is the item itself.
    pub members: Vec<String>,
}

/// A valid module or component and what it shows to the outside, in the order of the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its binary format.
    pub kind: Kind,
    /// How it is run.
    pub world: World,
    /// The WASI it was built for.
    pub wasi: Wasi,
    /// What it needs from the host, one entry per import module or interface.
    pub imports: Vec<Extern>,
    /// What it offers to the host.
    pub exports: Vec<Extern>,
}

/// Why bytes are not a module we can use. The words follow "the file" and name no path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither binary nor text of WebAssembly.
    #[error("it is not WebAssembly: it {0}")]
    NotWasm(Cow<'static, str>),
    /// `\0asm` followed by a version that is neither a core module's nor a component's.
    #[error(
        "its WebAssembly version is unknown: bytes 4 to 8 are {0}; a core module has 01 00 00 00, a component 0d 00 01 00"
    )]
    Version(String),
    /// The bytes stop before the module does.
    #[error("it is cut off: {reason} at offset {offset:#x} of {len:#x}")]
    Truncated {
        /// What was expected.
        reason: String,
        /// Bytes from the start of the file.
        offset: usize,
        /// Length of the file in bytes.
        len: usize,
    },
    /// It breaks a rule of the specification.
    #[error("it is not valid WebAssembly: {reason} at offset {offset:#x}")]
    Invalid {
        /// The rule.
        reason: String,
        /// Bytes from the start of the file.
        offset: usize,
    },
    /// It is valid only with a proposal that Wasmtime leaves off by default.
    #[error(
        "it needs a WebAssembly proposal that is not switched on: {reason} at offset {offset:#x}"
    )]
    Proposal {
        /// The proposal, in the words of the validator.
        reason: String,
        /// Bytes from the start of the file.
        offset: usize,
    },
    /// The text format does not parse; the message shows path, line, column and the line itself.
    #[error("its WebAssembly text does not parse: {0}")]
    Text(#[source] wat::Error),
}

/// The proposals that Wasmtime 48 has on by default, which are those our engine runs.
/// <https://docs.wasmtime.dev/stability-wasm-proposals.html>
#[must_use]
pub fn features() -> WasmFeatures {
    WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL | WasmFeatures::CM_ASYNC
}

/// Turns `.wat` text into the binary format; bytes that are binary already come back untouched.
///
/// `path` appears in messages and decides, by its `.wat` ending, that bytes are meant as text.
///
/// # Errors
/// [`Error::Text`] with line and column, or [`Error::NotWasm`].
pub fn to_binary(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let named_text = path.extension().is_some_and(|ending| ending == "wat");
    match wat::Detect::from_bytes(&bytes) {
        wat::Detect::WasmBinary => Ok(bytes),
        wat::Detect::Unknown if !named_text => Err(Error::NotWasm(describe(&bytes))),
        _ => match wat::Parser::new().parse_bytes(Some(path), &bytes) {
            Ok(binary) => Ok(binary.into_owned()),
            Err(error) => Err(Error::Text(error)),
        },
    }
}

impl Module {
    /// Validates `bytes`, all function bodies and nested modules included, and reads what the
    /// module imports and exports. Time and memory are linear in the length of `bytes`.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::Text`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse_with(bytes, features())
    }

    /// [`Module::parse`] with other proposals than those that our engine runs.
    ///
    /// # Errors
    /// As [`Module::parse`].
    pub fn parse_with(bytes: &[u8], features: WasmFeatures) -> Result<Self, Error> {
        let kind = kind(bytes).ok_or_else(|| bad_preamble(bytes))?;
        let mut validator = Validator::new_with_features(features);
        let types = validator.validate_all(bytes).map_err(|error| invalid(&error, bytes.len()))?;
        let (imports, exports) = match kind {
            Kind::CoreModule => core_externs(&types),
            Kind::Component => {
                component_externs(bytes, &types).map_err(|error| invalid(&error, bytes.len()))?
            }
        };
        let world = match kind {
            Kind::CoreModule if has_start(&types) => World::Command,
            Kind::CoreModule => World::Reactor,
            Kind::Component => component_world(&exports),
        };
        Ok(Self {
            kind,
            world,
            wasi: Wasi::spoken_by(imports.iter().chain(&exports)),
            imports,
            exports,
        })
    }

    /// The imports that belong to no WASI we know, for which a host has nothing to give.
    pub fn foreign_imports(&self) -> impl Iterator<Item = &Extern> {
        self.imports.iter().filter(|import| match self.kind {
            Kind::CoreModule => import.name != PREVIEW1,
            Kind::Component => !import.name.starts_with("wasi:"),
        })
    }
}

impl Wasi {
    fn spoken_by<'a>(externs: impl Iterator<Item = &'a Extern>) -> Self {
        externs.fold(Self::None, |found, item| {
            let next = Self::of(&item.name);
            if next.rank() > found.rank() { next } else { found }
        })
    }

    /// The WASI that one import module or interface belongs to.
    fn of(name: &str) -> Self {
        if name == PREVIEW1 {
            return Self::Preview1;
        }
        let Some((_, version)) = name.strip_prefix("wasi:").and_then(|n| n.split_once('@')) else {
            return Self::None;
        };
        if let Some(patch) = version.strip_prefix("0.2.").and_then(|p| p.parse().ok()) {
            return Self::Preview2 { patch };
        }
        if version.starts_with("0.3.") {
            return Self::Preview3 { version: version.to_owned() };
        }
        Self::None
    }

    fn rank(&self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Preview1 => (1, 0),
            Self::Preview2 { patch } => (2, *patch),
            Self::Preview3 { .. } => (3, 0),
        }
    }
}

fn core_externs(types: &Types) -> (Vec<Extern>, Vec<Extern>) {
    let mut imports: Vec<Extern> = Vec::new();
    for (from, field, _) in types.as_ref().core_imports().into_iter().flatten() {
        match imports.iter_mut().find(|import| import.name == from) {
            Some(import) => import.members.push(field.to_owned()),
            None => imports.push(Extern { name: from.to_owned(), members: vec![field.to_owned()] }),
        }
    }
    let exports = types.as_ref().core_exports().into_iter().flatten();
    let exports =
        exports.map(|(name, _)| Extern { name: name.to_owned(), members: Vec::new() }).collect();
    (imports, exports)
}

/// A `_start` that takes or gives anything is some other function that happens to have the name.
/// <https://github.com/WebAssembly/WASI/blob/main/legacy/application-abi.md>
fn has_start(types: &Types) -> bool {
    let mut exports = types.as_ref().core_exports().into_iter().flatten();
    exports.any(|(name, item)| match item {
        EntityType::Func(id) if name == "_start" => {
            let function = types[id].unwrap_func();
            function.params().is_empty() && function.results().is_empty()
        }
        _ => false,
    })
}

fn component_externs(
    bytes: &[u8],
    types: &Types,
) -> Result<(Vec<Extern>, Vec<Extern>), wasmparser::Error> {
    let view = types.as_ref();
    let functions = |item: Option<&wasmparser::component_types::ComponentItem>| match item {
        Some(item) => members(types, item.ty),
        None => Vec::new(),
    };
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            // Nested modules and components have imports and exports too; they are private.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import?.name.name.to_owned();
                    let members = functions(view.component_item_for_import(&name));
                    imports.push(Extern { name, members });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let name = export?.name.name.to_owned();
                    let members = functions(view.component_item_for_export(&name));
                    exports.push(Extern { name, members });
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// The functions of an interface; types and resources are not something a host is asked to do.
fn members(types: &Types, item: ComponentEntityType) -> Vec<String> {
    let ComponentEntityType::Instance(id) = item else {
        return Vec::new();
    };
    let exports = types[id].exports.iter();
    exports
        .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
        .map(|(name, _)| name.clone())
        .collect()
}

fn component_world(exports: &[Extern]) -> World {
    let offers = |interface: &str| {
        exports.iter().any(|export| {
            let versioned = export.name.strip_prefix(interface);
            versioned.is_some_and(|rest| rest.starts_with('@'))
                && Wasi::of(&export.name) != Wasi::None
        })
    };
    if offers("wasi:cli/run") {
        World::Command
    } else if offers("wasi:http/incoming-handler") || offers("wasi:http/handler") {
        World::HttpProxy
    } else {
        World::Reactor
    }
}

fn bad_preamble(bytes: &[u8]) -> Error {
    match bytes.strip_prefix(b"\0asm") {
        Some(rest) if rest.len() < 4 => Error::Truncated {
            reason: "the version is missing".to_owned(),
            offset: bytes.len(),
            len: bytes.len(),
        },
        Some(rest) => Error::Version(hex(&rest[..4])),
        None => Error::NotWasm(describe(bytes)),
    }
}

fn invalid(error: &wasmparser::Error, len: usize) -> Error {
    let (reason, offset) = (error.message().to_owned(), error.offset());
    if error.missing_wasm_feature().is_some() {
        Error::Proposal { reason, offset }
    } else if reason.starts_with("unexpected end") {
        Error::Truncated { reason, offset, len }
    } else {
        Error::Invalid { reason, offset }
    }
}

/// What a file that is not WebAssembly seems to be, after "it …".
fn describe(bytes: &[u8]) -> Cow<'static, str> {
    match bytes {
        [] => "is empty".into(),
        [0x7f, b'E', b'L', b'F', ..] => {
            "is an ELF file (a native program, or code that Wasmtime has already compiled)".into()
        }
        [0x1f, 0x8b, ..] => "is gzip data".into(),
        [b'P', b'K', 3, 4, ..] => "is a zip archive".into(),
        [b'#', b'!', ..] => "is a script".into(),
        _ => format!("begins with {}", hex(&bytes[..bytes.len().min(8)])).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoreModule => "core module",
            Self::Component => "component",
        })
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::HttpProxy => "http proxy",
            Self::Reactor => "reactor",
        })
    }
}

/// `preview 1`, `0.2.6`, `0.3.0`, `none`.
impl fmt::Display for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Preview1 => f.write_str("preview 1"),
            Self::Preview2 { patch } => write!(f, "0.2.{patch}"),
            Self::Preview3 { version } => f.write_str(version),
        }
    }
}

/// `core module, WASI preview 1 command`; `component, wasi:cli/command 0.2.6`.
impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, world, wasi, .. } = self;
        // WASI 0.3 gave the world of HTTP servers a new name.
        let http = match wasi {
            Wasi::Preview3 { .. } => "service",
            _ => "proxy",
        };
        match (kind, world, wasi) {
            (Kind::Component, World::Command, _) => write!(f, "{kind}, wasi:cli/command {wasi}"),
            (Kind::Component, World::HttpProxy, _) => write!(f, "{kind}, wasi:http/{http} {wasi}"),
            (_, _, Wasi::None) => write!(f, "{kind}, {world} without WASI"),
            _ => write!(f, "{kind}, WASI {wasi} {world}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Module {
        Module::parse(&binary(text)).expect("valid text")
    }

    fn binary(text: &str) -> Vec<u8> {
        to_binary(Path::new("test.wat"), text.into()).expect("text parses")
    }

    /// A component whose exported instance of that name has one function, `run`.
    fn component(export: &str, import: &str) -> Module {
        parse(&format!(
            r#"(component
                (import "{import}" (instance $i (export "now" (func)) (export "t" (type (sub resource)))))
                (instance $e (export "run" (func $i "now")))
                (export "{export}" (instance $e)))"#
        ))
    }

    #[test]
    fn the_first_eight_bytes_tell_module_from_component() {
        assert_eq!(kind(&binary("(module)")), Some(Kind::CoreModule));
        assert_eq!(kind(&binary("(component)")), Some(Kind::Component));
        assert_eq!(kind(b"\0asm\x01\0\0"), None);
        assert_eq!(kind(b"\0asm\x02\0\0\0"), None);
    }

    #[test]
    fn a_start_function_with_preview_1_imports_is_a_command() {
        let module = parse(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
                (import "env" "log" (func))
                (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
                (memory (export "memory") 1)
                (func (export "_start")))"#,
        );
        assert_eq!(module.to_string(), "core module, WASI preview 1 command");
        assert_eq!(module.imports[0].members, ["proc_exit", "sched_yield"]);
        let foreign: Vec<_> = module.foreign_imports().map(|i| i.name.as_str()).collect();
        assert_eq!(foreign, ["env"]);
        assert_eq!(module.exports[1].name, "_start");
    }

    #[test]
    fn a_start_function_of_another_type_makes_no_command() {
        let module = parse(r#"(module (func (export "_start") (param i32)))"#);
        assert_eq!(module.world, World::Reactor);
        assert_eq!(module.to_string(), "core module, reactor without WASI");
    }

    #[test]
    fn a_component_with_cli_run_is_a_command_of_its_newest_wasi() {
        let module = component("wasi:cli/run@0.2.3", "wasi:clocks/wall-clock@0.2.6");
        assert_eq!(module.to_string(), "component, wasi:cli/command 0.2.6");
        assert_eq!(module.imports[0].members, ["now"]);
        assert_eq!(module.foreign_imports().count(), 0);
        let module = component("wasi:cli/run@0.3.0-rc-2025-09-16", "wasi:io/poll@0.2.0");
        assert_eq!(module.to_string(), "component, wasi:cli/command 0.3.0-rc-2025-09-16");
    }

    #[test]
    fn a_component_with_an_http_handler_is_a_proxy() {
        let module = component("wasi:http/incoming-handler@0.2.0", "wasi:io/poll@0.2.0");
        assert_eq!(module.to_string(), "component, wasi:http/proxy 0.2.0");
        let module = component("wasi:http/handler@0.3.0", "wasi:io/poll@0.2.0");
        assert_eq!(module.world, World::HttpProxy);
        assert_eq!(module.to_string(), "component, wasi:http/service 0.3.0");
    }

    #[test]
    fn an_interface_that_only_begins_alike_or_is_too_old_makes_no_world() {
        let module = component("wasi:cli/runner@0.2.0", "my:own/thing");
        assert_eq!(module.to_string(), "component, WASI 0.2.0 reactor");
        assert_eq!(module.foreign_imports().count(), 1);
        let module = component("wasi:cli/run@0.1.0", "my:own/thing");
        assert_eq!(module.to_string(), "component, reactor without WASI");
    }

    #[test]
    fn imports_and_exports_of_nested_modules_stay_private() {
        let module = parse(
            r#"(component (core module (import "env" "x" (func)) (func (export "_start")))
                (component (core module (func (export "y")))))"#,
        );
        assert_eq!((module.imports.len(), module.exports.len()), (0, 0));
    }

    #[test]
    fn a_module_cut_off_anywhere_is_never_taken() {
        let whole = binary(r#"(module (func (export "_start") (drop (i32.const 7))))"#);
        for len in 0..whole.len() {
            // A cut between two sections can leave a module that is valid without the rest.
            let cut = Module::parse(&whole[..len]);
            assert!(len == 8 || len == 14 || cut.is_err(), "{len} bytes: {cut:?}");
        }
        let error = Module::parse(&whole[..whole.len() - 1]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{error}");
    }

    #[test]
    fn an_invalid_body_is_refused_with_its_offset() {
        let error = Module::parse(&binary("(module (func (result i32)))")).unwrap_err();
        let words = error.to_string();
        assert!(words.contains("type mismatch") && words.contains("offset 0x"), "{words}");
    }

    #[test]
    fn a_proposal_that_is_off_is_named() {
        let text = "(module (func (param i64 i64) (result i64 i64)
            local.get 0 local.get 1 i64.mul_wide_s))";
        let error = Module::parse(&binary(text)).unwrap_err();
        assert!(error.to_string().contains("wide arithmetic"), "{error}");
    }

    #[test]
    fn text_that_does_not_parse_is_refused_with_line_and_column() {
        let error = to_binary(Path::new("a.wat"), b"(module\n  (fun))".to_vec()).unwrap_err();
        assert!(error.to_string().contains("a.wat:2:4"), "{error}");
    }

    #[test]
    fn other_files_are_refused_in_words_that_say_what_they_are() {
        let words = |bytes: &[u8]| match to_binary(Path::new("a.wasm"), bytes.to_vec()) {
            Ok(binary) => Module::parse(&binary).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(words(b""), "it is not WebAssembly: it is empty");
        assert!(words(b"\x7fELF\x02\x01").contains("ELF"));
        assert!(words(b"hello").contains("begins with 68 65 6c 6c 6f"));
        assert!(words(b"\0asm\x0a\0\x01\0").contains("bytes 4 to 8 are 0a 00 01 00"));
        assert!(words(b"\0asm\x01").contains("cut off"));
    }
}
