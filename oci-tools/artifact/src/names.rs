//! The names that a wasm file gives its functions.
//!
//! Only what is asked for is read, since the file may be large and whoever asks may have little
//! memory.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};

use wasmparser::{BinaryReader, Name, NameSectionReader};

/// A function: the number of the core module in its component, counted from 0 in the order of the
/// file, and its index in that.
pub type Function = (u32, u32);

/// The most bytes of names that are read of one core module.
const MOST: u64 = 16 << 20;

/// How deep components are followed into each other.
const DEEPEST: u32 = 16;

/// The section of a component that holds a core module, and that which holds a component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// The names of those `wanted` that have one. A file that is not WebAssembly has none.
///
/// # Errors
/// What reading the file fails with.
pub fn names(
    file: &mut (impl Read + Seek),
    wanted: &[Function],
) -> io::Result<HashMap<Function, String>> {
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut search = Search { file, wanted, module: 0, found: HashMap::new() };
    search.binary(end, 0)?;
    Ok(search.found)
}

struct Search<'a, F> {
    file: &'a mut F,
    wanted: &'a [Function],
    /// The number of the next core module.
    module: u32,
    found: HashMap<Function, String>,
}

impl<F: Read + Seek> Search<'_, F> {
    /// Goes through what begins here and ends at `end`.
    fn binary(&mut self, end: u64, depth: u32) -> io::Result<()> {
        let mut preamble = [0; 8];
        if end.saturating_sub(self.file.stream_position()?) < 8 || depth > DEEPEST {
            return Ok(());
        }
        self.file.read_exact(&mut preamble)?;
        match super::module::kind(&preamble) {
            Some(super::module::Kind::CoreModule) => {
                let module = self.module;
                self.module += 1;
                self.core_module(module, end)
            }
            Some(super::module::Kind::Component) => self.component(end, depth),
            None => Ok(()),
        }
    }

    fn core_module(&mut self, module: u32, end: u64) -> io::Result<()> {
        let is_wanted = self.wanted.iter().any(|(wanted, _)| *wanted == module);
        while let Some((id, begin, length)) = self.section(end)? {
            if id == 0 && is_wanted && length <= MOST {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
                self.file.read_exact(&mut bytes)?;
                self.names(module, &bytes);
            }
            self.file.seek(SeekFrom::Start(begin + length))?;
        }
        Ok(())
    }

    fn component(&mut self, end: u64, depth: u32) -> io::Result<()> {
        while let Some((id, begin, length)) = self.section(end)? {
            if matches!(id, CORE_MODULE | COMPONENT) {
                self.binary(begin + length, depth + 1)?;
            }
            self.file.seek(SeekFrom::Start(begin + length))?;
        }
        Ok(())
    }

    /// The next section: its id, and where its content begins and how long it is in bytes.
    fn section(&mut self, end: u64) -> io::Result<Option<(u8, u64, u64)>> {
        if self.file.stream_position()? >= end {
            return Ok(None);
        }
        let mut head = Vec::new();
        // An id and a number of up to 5 bytes.
        self.file.by_ref().take(6).read_to_end(&mut head)?;
        let mut reader = BinaryReader::new(&head, 0);
        let (Ok(id), Ok(length)) = (reader.read_u8(), reader.read_var_u32()) else {
            return Ok(None);
        };
        let back = (head.len() - reader.original_position()) as i64;
        let begin = self.file.seek(SeekFrom::Current(-back))?;
        let length = u64::from(length);
        Ok((begin + length <= end).then_some((id, begin, length)))
    }

    /// Takes from a custom section what it says, if it is the one of names.
    fn names(&mut self, module: u32, section: &[u8]) {
        let mut reader = BinaryReader::new(section, 0);
        let Ok("name") = reader.read_string() else { return };
        let names =
            NameSectionReader::new(BinaryReader::new(&section[reader.original_position()..], 0));
        for name in names.into_iter().map_while(Result::ok) {
            let Name::Function(map) = name else { continue };
            for naming in map.into_iter().map_while(Result::ok) {
                let function = (module, naming.index);
                if self.wanted.contains(&function) {
                    self.found.insert(function, naming.name.to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn of(wasm: &[u8], wanted: &[Function]) -> HashMap<Function, String> {
        names(&mut Cursor::new(wasm), wanted).expect("memory can be read")
    }

    #[test]
    fn functions_of_modules_within_components_have_their_names() {
        let component = wat::parse_str(
            "(component
               (core module (func $first) (func $second))
               (component (core module (func $third)))
               (core module (func $fourth)))",
        )
        .expect("wat");
        let found = of(&component, &[(0, 1), (1, 0), (2, 0), (2, 7)]);
        let name = |function| found.get(&function).map(String::as_str);
        assert_eq!(name((0, 1)), Some("second"));
        assert_eq!(name((1, 0)), Some("third"));
        assert_eq!(name((2, 0)), Some("fourth"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn whatever_is_no_wasm_has_no_names() {
        let module = wat::parse_str("(module (func $f))").expect("wat");
        for cut in 0..module.len() {
            let found = of(&module[..cut], &[(0, 0)]);
            assert!(found.is_empty() || found[&(0, 0)] == "f", "{cut}");
        }
        assert!(of(b"\x7fELF and more than eight bytes", &[(0, 0)]).is_empty());
        assert!(of(&[b"\0asm\x01\0\0\0\0", &[0xff; 9][..]].concat(), &[(0, 0)]).is_empty());
    }
}
