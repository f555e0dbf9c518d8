//! What a module is made of: sections, memories, the tools that made it, the features that it uses.

use std::collections::BTreeMap;

use anyhow::Result;
use wasmparser::{
    BinaryReaderError as Error, CustomSectionReader, KnownCustom, MemoryType, Parser, Payload,
    TypeRef, Validator, WasmFeatures,
};

/// How many tools, memories and names of custom sections are kept.
const KEPT: usize = 64;

/// What a module or a component is made of, the modules nested in it included.
#[derive(Default)]
pub struct Anatomy {
    /// Kinds of sections and their bytes together, the largest first.
    pub sections: Vec<(&'static str, u64)>,
    /// Custom sections by name and their bytes together, the largest first.
    pub customs: Vec<(String, u64)>,
    /// Core modules nested in it.
    pub modules: usize,
    /// Components nested in it.
    pub components: usize,
    /// Its memories.
    pub memories: Vec<Memory>,
    /// `FIELD: NAME VERSION`, as field, name and version.
    pub producers: Vec<[String; 3]>,
}

/// A memory of a core module.
pub struct Memory {
    /// Bytes at the beginning.
    pub initial: u128,
    /// Bytes that it grows to at most; nothing where the module sets no limit.
    pub maximum: Option<u128>,
    /// Whether it is shared between threads.
    pub shared: bool,
    /// Whether addresses have 64 bits.
    pub wide: bool,
    /// Whether the host gives it.
    pub imported: bool,
}

impl Memory {
    fn new(memory: MemoryType, imported: bool) -> Self {
        let page = 1_u128 << memory.page_size_log2.unwrap_or(16);
        Self {
            initial: u128::from(memory.initial) * page,
            maximum: memory.maximum.map(|pages| u128::from(pages) * page),
            shared: memory.shared,
            wide: memory.memory64,
            imported,
        }
    }
}

impl Anatomy {
    /// Takes valid bytes apart.
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        let mut anatomy = Self::default();
        let (mut sections, mut customs) = (BTreeMap::new(), BTreeMap::new());
        let mut depth = 0_usize;
        let mut is_core = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            let size = payload.as_section().map_or(0, |(_, range)| range.len() as u64);
            let mut add = |kind| *sections.entry(kind).or_insert(0) += size;
            match &payload {
                Payload::Version { encoding, .. } => {
                    is_core.push(*encoding == wasmparser::Encoding::Module);
                }
                Payload::End(_) => {
                    is_core.pop();
                    depth = depth.saturating_sub(1);
                }
                // What is in these comes next.
                Payload::ModuleSection { .. } => {
                    depth += 1;
                    anatomy.modules += 1;
                }
                Payload::ComponentSection { .. } => {
                    depth += 1;
                    anatomy.components += 1;
                }
                Payload::CustomSection(custom) => {
                    add("custom");
                    anatomy.custom(custom, size, &mut customs);
                }
                Payload::ImportSection(section) => {
                    add("imports");
                    for import in section.clone().into_imports() {
                        if let TypeRef::Memory(memory) = import?.ty {
                            anatomy.memory(memory, true, depth);
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    add("memories");
                    for memory in section.clone() {
                        anatomy.memory(memory?, false, depth);
                    }
                }
                Payload::CodeSectionStart { .. } => add("code"),
                Payload::DataSection(_) | Payload::DataCountSection { .. } => add("data"),
                Payload::TypeSection(_)
                | Payload::CoreTypeSection(_)
                | Payload::ComponentTypeSection(_) => add("types"),
                Payload::FunctionSection(_) => add("functions"),
                Payload::TableSection(_) => add("tables"),
                Payload::ElementSection(_) => add("elements"),
                Payload::GlobalSection(_) => add("globals"),
                Payload::TagSection(_) => add("tags"),
                Payload::ExportSection(_) | Payload::ComponentExportSection(_) => add("exports"),
                Payload::ComponentImportSection(_) => add("imports"),
                Payload::ComponentAliasSection(_) => add("aliases"),
                Payload::ComponentCanonicalSection(_) => add("conversions"),
                Payload::InstanceSection(_) | Payload::ComponentInstanceSection(_) => {
                    add("instances");
                }
                _ if size > 0 => add("other"),
                _ => {}
            }
        }
        anatomy.sections = by_size(sections);
        anatomy.customs = by_size(customs);
        anatomy.customs.truncate(KEPT);
        Ok(anatomy)
    }

    fn memory(&mut self, memory: MemoryType, imported: bool, depth: usize) {
        // A nested module's import is another's memory, and is listed there.
        if self.memories.len() < KEPT && !(imported && depth > 0) {
            self.memories.push(Memory::new(memory, imported));
        }
    }

    fn custom(
        &mut self,
        custom: &CustomSectionReader<'_>,
        size: u64,
        customs: &mut BTreeMap<String, u64>,
    ) {
        *customs.entry(custom.name().to_owned()).or_insert(0) += size;
        let KnownCustom::Producers(fields) = custom.as_known() else { return };
        // Like every custom section it may be anything, and what does not read is left out.
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                let one = [field.name, value.name, value.version].map(str::to_owned);
                if self.producers.len() < KEPT && !self.producers.contains(&one) {
                    self.producers.push(one);
                }
            }
        }
    }
}

fn by_size<K: Ord>(sizes: BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    sizes
}

/// What is asked of an engine beyond WebAssembly 1.0 and, of a component, the component model.
pub fn features(bytes: &[u8]) -> WasmFeatures {
    let base = WasmFeatures::WASM1 | WasmFeatures::COMPONENT_MODEL;
    let valid = |features| Validator::new_with_features(features).validate_all(bytes);
    let mut features = base;
    while let Err(error) = valid(features) {
        match error.missing_wasm_feature() {
            Some(missing) if !features.contains(missing) => features |= missing,
            // Where the validator does not say what is missing: all that it cannot be without.
            _ => {
                let needed =
                    |&feature: &WasmFeatures| valid(WasmFeatures::all() - feature).is_err();
                features |= WasmFeatures::all().iter().filter(needed).collect();
                break;
            }
        }
    }
    features - base
}

/// The names of features, as their proposals have them.
/// <https://github.com/WebAssembly/proposals>
pub fn names(features: WasmFeatures) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in features.iter_names() {
        let name = match name {
            "REFERENCE_TYPES" | "CALL_INDIRECT_OVERLONG" => "reference types",
            "BULK_MEMORY" | "BULK_MEMORY_OPT" => "bulk memory",
            "SIMD" => "SIMD",
            "RELAXED_SIMD" => "relaxed SIMD",
            "MULTI_MEMORY" => "multiple memories",
            "MEMORY64" => "64-bit memory",
            "GC" => "garbage collection",
            "FUNCTION_REFERENCES" => "typed function references",
            "SATURATING_FLOAT_TO_INT" => "saturating float to int",
            "CM_ASYNC" => "component model: async",
            other => {
                let words = other.to_lowercase().replace('_', " ");
                names.push(match words.strip_prefix("cm ") {
                    Some(words) => format!("component model: {words}"),
                    None => words,
                });
                continue;
            }
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
