//! Puts components into one that imports what they export, as `wac plug` does; the result is one
//! component, which no runtime has to put together.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use artifact::module::{Kind, Module};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, PlugError};

use super::request::Said;

/// A component that others may import.
pub struct Plug<'a> {
    file: &'a Said<PathBuf>,
    bytes: Vec<u8>,
    used: Cell<bool>,
}

impl<'a> Plug<'a> {
    /// Reads one by `read`, which gives a file's module in the binary format.
    ///
    /// # Errors
    /// When it is no component.
    pub fn read(
        file: &'a Said<PathBuf>,
        read: impl FnOnce(&Path) -> Result<(Vec<u8>, Module)>,
    ) -> Result<Self> {
        let (bytes, facts) = file.at.around(read(&file.value))?;
        if facts.kind != Kind::Component {
            return Err(file.at.bad(
                file.value.display(),
                "it is a core module, and only components are put into each other; `wasm-image build --component` makes one of it",
            ));
        }
        Ok(Self { file, bytes, used: Cell::new(false) })
    }

    /// The component `socket` with this one in it; nothing where it imports nothing that this exports.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn put_into(&self, socket: &[u8]) -> Result<Option<Vec<u8>>> {
        let words = |e: &dyn std::fmt::Display| anyhow!("{}", one_line(&e.to_string()));
        let mut graph = CompositionGraph::new();
        let mut add = |name, bytes: &[u8]| {
            let package = Package::from_bytes(name, None, bytes.to_vec(), graph.types_mut());
            package.and_then(|package| Ok(graph.register_package(package)?))
        };
        let socket = add("socket", socket).map_err(|e| words(&format!("{e:#}")))?;
        let plug = add("plug", &self.bytes).map_err(|e| words(&format!("{e:#}")))?;
        match wac_graph::plug(&mut graph, vec![plug], socket) {
            Ok(()) => {}
            Err(PlugError::NoPlugHappened) => return Ok(None),
            Err(PlugError::GraphError { source }) => return Err(words(&format!("{source:#}"))),
        }
        let whole = graph.encode(EncodeOptions::default()).map_err(|e| words(&e));
        let whole =
            whole.with_context(|| format!("{} does not fit into it", self.file.value.display()))?;
        self.used.set(true);
        Ok(Some(whole))
    }

    /// Makes sure that some module had use for it.
    ///
    /// # Errors
    /// When none had.
    pub fn check_used(&self) -> Result<()> {
        match self.used.get() {
            true => Ok(()),
            false => Err(self.file.at.bad(
                self.file.value.display(),
                "no component of the image imports what it exports, or in another version or with other types",
            )),
        }
    }
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
