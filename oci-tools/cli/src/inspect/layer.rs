//! A layer of files: its tar is read from front to back, for one file in it or for all.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use artifact::module::MAX_WASM;
use artifact::module::kind;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType, Header};

use super::zstd::Zstd;

/// As much as a layer may unpack to, in bytes.
const UNPACKED: u64 = 2 << 30;

/// As many files as a layer may hold.
const FILES: usize = 200_000;

/// The longest name, in bytes.
const NAME: u64 = 4096;

/// The largest record of extended attributes (pax) that is taken, in bytes.
const RECORD: u64 = 1 << 20;

/// What was found in a layer.
#[derive(Default)]
pub struct Layer {
    /// Entries that are no folders.
    pub files: usize,
    /// Bytes of those files.
    pub unpacked: u64,
    /// The file, if it is there and is WebAssembly.
    pub wasm: Option<Vec<u8>>,
    /// Where it leads, if it is a link.
    pub link: Option<PathBuf>,
    /// It is there, and is neither.
    pub other: bool,
    /// It is taken away from the layers below.
    pub removed: bool,
}

/// An entry of a layer's tar.
pub struct Item {
    /// Its path from the root of the image, without a slash at its front; empty for that root.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryType,
    /// Where a link leads.
    pub target: Option<PathBuf>,
    /// Permissions, owner and time.
    pub header: Header,
    /// Its content's length in bytes.
    pub size: u64,
}

/// Reads the tar of a layer for the file `wanted`, a path from the root of the image without a slash
/// at its front.
pub fn read(tar: impl Read, wanted: &Path) -> Result<Layer> {
    let mut layer = Layer::default();
    let name = wanted.file_name().unwrap_or_default().to_string_lossy();
    let whiteout = wanted.with_file_name(format!(".wh.{name}"));
    let mut seen = false;
    walk(tar, |item, content| {
        if item.kind.is_dir() {
            return Ok(());
        }
        layer.files += 1;
        layer.unpacked += item.size;
        if item.path == wanted {
            ensure!(
                !std::mem::replace(&mut seen, true),
                "it holds {} twice, and which one counts is anybody's guess",
                wanted.display()
            );
            match (item.kind, &item.target) {
                (EntryType::Symlink, Some(target)) => {
                    let folder = wanted.parent().unwrap_or(Path::new(""));
                    layer.link = Some(normal(&folder.join(target)));
                }
                (EntryType::Link, Some(target)) => layer.link = Some(inside(target)?),
                _ if item.kind.is_file() => {
                    layer.wasm = module(content, item.size)?;
                    layer.other = layer.wasm.is_none();
                }
                _ => layer.other = true,
            }
        } else if item.path == whiteout {
            layer.removed = true;
        }
        Ok(())
    })?;
    Ok(layer)
}

/// Reads the tar of a layer from front to back, and shows each entry with its content. It is read in
/// bounded memory, to a bounded length, and no path leads out of the image.
pub fn walk(
    tar: impl Read,
    mut visit: impl FnMut(&Item, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut archive = Archive::new(Limited { inner: tar, left: UNPACKED });
    let mut long: HashMap<&str, PathBuf> = HashMap::new();
    let mut count = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry.context("the tar in it is damaged or cut off")?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => drop(long.insert("path", text(&mut entry, NAME)?)),
            EntryType::GNULongLink => drop(long.insert("linkpath", text(&mut entry, NAME)?)),
            EntryType::XHeader => pax(&bytes(&mut entry, RECORD)?, &mut long)?,
            _ => {}
        }
        if matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        ) {
            continue;
        }
        let path = long.remove("path").unwrap_or_else(|| path_of(&entry.path_bytes()));
        let target = long.remove("linkpath").or_else(|| Some(path_of(&entry.link_name_bytes()?)));
        long.clear();
        count += 1;
        ensure!(count <= FILES, "it holds more than {FILES} files");
        let (header, size) = (entry.header().clone(), entry.size());
        visit(&Item { path: inside(&path)?, kind, target, header, size }, &mut entry)?;
    }
    Ok(())
}

/// The tar in a layer's blob, which its media type says how to unpack.
pub fn unpacked<'a>(blob: impl Read + 'a, media_type: &str) -> Result<Box<dyn Read + 'a>> {
    let kind = media_type.split(';').next().unwrap_or_default();
    if kind.ends_with("gzip") {
        Ok(Box::new(MultiGzDecoder::new(blob)))
    } else if kind.ends_with("zstd") {
        Ok(Box::new(Zstd::new(blob)))
    } else if kind.ends_with("tar") {
        Ok(Box::new(blob))
    } else {
        bail!(
            "its media type {kind:?} is neither tar, with gzip or zstd or without, nor WebAssembly"
        )
    }
}

/// The file if it is WebAssembly, which its first bytes say.
fn module(entry: &mut dyn Read, size: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    entry.take(8).read_to_end(&mut bytes)?;
    if kind(&bytes).is_none() && !bytes.starts_with(b"\0asm") {
        return Ok(None);
    }
    ensure!(size <= MAX_WASM, "the module in it is larger than {MAX_WASM} bytes");
    entry.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn text(entry: &mut impl Read, most: u64) -> Result<PathBuf> {
    let bytes = bytes(entry, most)?;
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    Ok(path_of(&bytes[..end]))
}

fn bytes(entry: &mut impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= most, "a name in it is longer than {most} bytes");
    Ok(bytes)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// The paths in a record: lines of `LENGTH KEY=VALUE`.
/// <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>
fn pax(record: &[u8], long: &mut HashMap<&str, PathBuf>) -> Result<()> {
    for line in record.split(|&byte| byte == b'\n') {
        let pair = line.iter().position(|&byte| byte == b' ').map(|space| &line[space + 1..]);
        let Some(pair) = pair else { continue };
        if let Some(value) = pair.strip_prefix(b"path=") {
            long.insert("path", path_of(value));
        } else if let Some(value) = pair.strip_prefix(b"linkpath=") {
            long.insert("linkpath", path_of(value));
        } else if pair.starts_with(b"size=") {
            bail!("it holds a file of more than 8 GiB");
        } else if pair.starts_with(b"GNU.sparse.") {
            bail!("it holds a file with holes, in GNU's form, which images do not have");
        }
    }
    Ok(())
}

/// A path of a tar, from the root of the image.
pub fn inside(path: &Path) -> Result<PathBuf> {
    ensure!(
        !path.components().any(|part| part == Component::ParentDir),
        "it names {path:?}, which leads out of the image"
    );
    Ok(normal(path))
}

/// The path without `.` and `..`, which at the root leads nowhere else, and without the root.
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::Prefix(_) | Component::RootDir => normal = PathBuf::new(),
            Component::CurDir => {}
        }
    }
    normal
}

/// A reader that fails where a layer is absurdly long.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} GiB", UNPACKED >> 30))
        })?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_image() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("a/c"));
        assert_eq!(normal(Path::new("../../etc/x")), Path::new("etc/x"));
        assert!(inside(Path::new("a/../../x")).is_err());
        assert_eq!(inside(Path::new("./a/b")).unwrap(), Path::new("a/b"));
    }

    #[test]
    fn any_tar_is_refused_or_gives_the_file_or_a_place_in_the_image() {
        let wasm = b"\0asm\x01\0\0\0";
        let (files, links) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        hostile::check("layers", 4000, hostile::tars("app.wasm", wasm), |tar| {
            let Ok(layer) = read(tar.as_slice(), Path::new("app.wasm")) else { return };
            assert!(layer.files <= tar.len() / 512);
            if let Some(link) = &layer.link {
                let inside = |part| matches!(part, Component::Normal(_));
                assert!(link.components().all(inside), "{link:?}");
                links.set(links.get() + 1);
            }
            if let Some(bytes) = &layer.wasm {
                assert!(bytes.starts_with(b"\0asm") && bytes.len() <= tar.len());
                assert!(layer.link.is_none() && !layer.other);
                files.set(files.get() + 1);
            }
        });
        assert!(files.get() > 100 && links.get() > 50, "{} {}", files.get(), links.get());
    }

    #[test]
    fn any_path_stays_in_the_image() {
        hostile::check("paths", 3000, hostile::text(), |text| {
            let path = normal(Path::new(&text));
            assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        });
    }
}
