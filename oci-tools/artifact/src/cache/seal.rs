//! The seal at the end of an entry, by which a file that is not what its maker wrote is known.
//!
//! It is a trailer and neither a file beside the entry nor an attribute: it takes its name together
//! with the code, nothing that copies or removes the code can lose it, and every file system has it.
//! Wasmtime finds all that it reads by the ELF header, so it does not mind.
//!
//! It guards against accidents (a lost write, a full disk, a flipped bit) and not against attackers:
//! whoever could write an entry could seal it.

use crate::digest::Digest;
use object::{Object, ObjectSection, ReadCache};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 8] = b"\0sealed\x01";

/// How many parts of the code are checked at each start.
const PARTS: usize = 4;

/// The numbers: length, time, the parts' offsets and lengths, their checksum.
const NUMBERS: usize = 2 + 2 * PARTS + 1;

/// In bytes: magic number, digest, numbers, and the seal's own checksum.
const LEN: usize = MAGIC.len() + 32 + 8 * NUMBERS + 4;

/// At once so much is read of the parts, in bytes.
const PIECE: usize = 32 << 10;

/// What a maker says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Of the code, in bytes; the seal comes after it.
    pub length: u64,
    /// When it was made, to the second.
    pub made: SystemTime,
    digest: Digest,
    /// Offsets and lengths of what is parsed at a start.
    parts: [(u64, u64); PARTS],
    checksum: u32,
}

impl Seal {
    /// Reads all of `file` and writes the seal at its end.
    ///
    /// # Errors
    /// Whatever reading and writing fail with.
    pub fn put(mut file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        let parts = parsed_parts(file, length);
        file.rewind()?;
        let seal = Self {
            length,
            made: SystemTime::now(),
            digest: Digest::of_reader(file.take(length))?,
            parts,
            checksum: checksum(file, &parts)?,
        };
        file.seek(SeekFrom::Start(length))?;
        file.write_all(&seal.to_bytes())
    }

    /// The seal of `file`; `None` when none is at its end, or that of a file of another length.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn of(file: &File) -> io::Result<Option<Self>> {
        let Some(length) = file.metadata()?.len().checked_sub(LEN as u64) else {
            return Ok(None);
        };
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, length)?;
        Ok(Self::from_bytes(&bytes).filter(|seal| seal.length == length))
    }

    /// Whether that of the code which Wasmtime parses, and trusts, is as it was made. Reads some
    /// hundredths of the file.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn holds_for_start(&self, file: &File) -> io::Result<bool> {
        Ok(checksum(file, &self.parts)? == self.checksum)
    }

    /// Whether all of the code is as it was made. Reads the file to its end.
    ///
    /// # Errors
    /// Whatever reading fails with.
    pub fn holds(&self, mut file: &File) -> io::Result<bool> {
        file.rewind()?;
        Ok(Digest::of_reader(file.take(self.length))? == self.digest)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let made = self.made.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let parts = self.parts.iter().flat_map(|(offset, length)| [*offset, *length]);
        let numbers = [self.length, made].into_iter().chain(parts).chain([self.checksum.into()]);
        let mut bytes = [&MAGIC[..], self.digest.as_bytes()].concat();
        bytes.extend(numbers.flat_map(u64::to_le_bytes));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; LEN]) -> Option<Self> {
        let (said, own) = bytes.split_last_chunk()?;
        if crc32fast::hash(said) != u32::from_le_bytes(*own) {
            return None;
        }
        let (digest, numbers) = said.strip_prefix(MAGIC)?.split_first_chunk()?;
        let mut numbers = numbers.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
        let length = numbers.next()?;
        let made = UNIX_EPOCH.checked_add(Duration::from_secs(numbers.next()?))?;
        let mut parts = [(0, 0); PARTS];
        for part in &mut parts {
            let (from, len) = (numbers.next()?, numbers.next()?);
            *part = (from, len);
            from.checked_add(len).filter(|end| *end <= length)?;
        }
        let checksum = numbers.next()?.try_into().ok()?;
        Some(Self { length, made, digest: Digest::from_bytes(*digest), parts, checksum })
    }
}

/// What Wasmtime and the unwinder parse when they load the code of `file`: headers at both ends of
/// it, the tables for unwinding, and Wasmtime's own description. What it is not ELF has no such.
fn parsed_parts(file: &File, length: u64) -> [(u64, u64); PARTS] {
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else {
        return [(0, 0); PARTS];
    };
    let section = |name| {
        let range = elf.section_by_name(name).and_then(|section| section.file_range());
        range.filter(|(from, len)| from.checked_add(*len).is_some_and(|end| end <= length))
    };
    let (text, _) = section(".text").unwrap_or_default();
    let (names, _) = section(".shstrtab").unwrap_or((length, 0));
    [
        (0, text),
        section(".eh_frame").unwrap_or_default(),
        section(".wasmtime.info").unwrap_or_default(),
        (names, length - names),
    ]
}

/// One of all `parts`.
fn checksum(file: &File, parts: &[(u64, u64)]) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = Vec::new();
    for (mut offset, mut left) in parts.iter().copied() {
        while left > 0 {
            buffer.resize(left.min(PIECE as u64) as usize, 0);
            file.read_exact_at(&mut buffer, offset)?;
            hasher.update(&buffer);
            offset += buffer.len() as u64;
            left -= buffer.len() as u64;
        }
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Tier, engine};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn sealed(code: &[u8]) -> Vec<u8> {
        let mut made = file(code);
        Seal::put(&made).unwrap();
        let mut bytes = Vec::new();
        made.rewind().unwrap();
        made.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn code() -> Vec<u8> {
        let text = "(module (memory 1) (data (i32.const 0) \"hello\") (func (export \"_start\")))";
        crate::compile::compile(&engine(Tier::Optimized).unwrap(), text.as_bytes()).unwrap()
    }

    /// Whether a start would take it, and whether a look at all of it does.
    fn taken(bytes: &[u8]) -> (bool, bool) {
        let file = file(bytes);
        let Some(seal) = Seal::of(&file).unwrap() else {
            return (false, false);
        };
        (seal.holds_for_start(&file).unwrap(), seal.holds(&file).unwrap())
    }

    #[test]
    fn what_is_sealed_is_whole_and_says_when_it_was_made() {
        for code in [code(), b"not ELF".to_vec(), Vec::new()] {
            let bytes = sealed(&code);
            assert_eq!(bytes.len(), code.len() + LEN);
            assert!(bytes.starts_with(&code));
            assert_eq!(taken(&bytes), (true, true));
            let seal = Seal::of(&file(&bytes)).unwrap().unwrap();
            assert_eq!(seal.length, code.len() as u64);
            assert!(seal.made.elapsed().unwrap() < Duration::from_secs(3600));
        }
    }

    #[test]
    fn wasmtime_loads_code_with_a_seal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), sealed(&code())).unwrap();
        let engine = engine(Tier::Optimized).unwrap();
        crate::engine::load_module(&engine, file.path().to_str().unwrap()).unwrap();
    }

    #[test]
    fn a_file_cut_short_anywhere_is_not_taken() {
        let bytes = sealed(&code());
        for length in 0..bytes.len() {
            if length % 61 == 0 || length + 2 * LEN > bytes.len() {
                assert_eq!(taken(&bytes[..length]), (false, false), "{length} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn a_file_that_ends_in_zeros_is_not_taken() {
        let bytes = sealed(&code());
        for length in (0..bytes.len()).step_by(61).chain(bytes.len() - LEN..bytes.len() - 1) {
            let mut torn = bytes.clone();
            torn[length..].fill(0);
            if torn != bytes {
                assert_eq!(taken(&torn), (false, false), "from {length} of {}", bytes.len());
            }
        }
        assert_eq!(taken(&vec![0; bytes.len()]), (false, false));
    }

    #[test]
    fn what_comes_after_the_seal_makes_it_none() {
        let mut bytes = sealed(&code());
        bytes.push(0);
        assert_eq!(taken(&bytes), (false, false));
    }

    #[test]
    fn a_flipped_bit_of_what_is_parsed_stops_a_start_and_any_is_found_by_a_look_at_all() {
        let bytes = sealed(&code());
        let seal = Seal::of(&file(&bytes)).unwrap().unwrap();
        assert!(seal.parts.iter().all(|(_, length)| *length > 0), "{:?}", seal.parts);
        let parsed = |at| {
            let at = at as u64;
            at >= seal.length
                || seal.parts.iter().any(|(from, len)| (*from..from + len).contains(&at))
        };
        let mut stopped = 0;
        for at in (0..bytes.len()).step_by(37) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let (started, whole) = taken(&flipped);
            assert!(!whole, "byte {at}");
            assert_eq!(started, !parsed(at), "byte {at}");
            stopped += usize::from(!started);
        }
        assert!(stopped > 50, "{stopped}");
    }
}
