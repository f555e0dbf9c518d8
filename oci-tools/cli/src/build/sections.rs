//! A module or component taken apart into sections and put together again, with what is nested in it.
//! Nothing refers to sections by place, so those that are replaced leave all others as they were.

use anyhow::Result;
use artifact::module::{Kind, kind};
use wasm_encoder::{Component, ComponentSectionId, Module, RawSection};
use wasmparser::{Parser, Payload};

/// Changes to what is in a binary.
pub trait Change {
    /// Whether the custom section of this name stays.
    fn keeps(&self, name: &str) -> bool;

    /// What takes the place of a core module, whose custom sections are sifted already.
    ///
    /// # Errors
    /// When it cannot be changed.
    fn core_module(&mut self, module: Vec<u8>) -> Result<Vec<u8>>;
}

/// The most levels of components within each other; the validator has its own limit.
const DEEPEST: usize = 100;

/// `binary` with all of `change` made, in it and in what is nested in it.
///
/// # Errors
/// When it is not valid, or a core module cannot be changed.
pub fn rewrite(binary: &[u8], change: &mut dyn Change) -> Result<Vec<u8>> {
    rewrite_within(binary, change, 0)
}

fn rewrite_within(binary: &[u8], change: &mut dyn Change, level: usize) -> Result<Vec<u8>> {
    anyhow::ensure!(level < DEEPEST, "its components lie too deep within each other");
    let core = kind(binary) == Some(Kind::CoreModule);
    let (mut module, mut component) = (Module::new(), Component::new());
    let mut push = |id: u8, data: &[u8]| {
        let section = RawSection { id, data };
        match core {
            true => drop(module.section(&section)),
            false => drop(component.section(&section)),
        }
    };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload?;
        match &payload {
            Payload::End(_) => depth -= 1,
            Payload::Version { .. } if depth == 0 => depth = 1,
            Payload::Version { .. } => depth += 1,
            _ if depth > 1 => {}
            Payload::ModuleSection { unchecked_range, .. } => {
                let new = rewrite_within(&binary[unchecked_range.clone()], change, level + 1)?;
                push(ComponentSectionId::CoreModule.into(), &new);
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                let new = rewrite_within(&binary[unchecked_range.clone()], change, level + 1)?;
                push(ComponentSectionId::Component.into(), &new);
            }
            Payload::CustomSection(section) if !change.keeps(section.name()) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    push(id, &binary[range]);
                }
            }
        }
    }
    match core {
        true => change.core_module(module.finish()),
        false => Ok(component.finish()),
    }
}
