//! The one layer of the image: the module itself, or a gzip-compressed tar whose bytes depend on the files alone, not on
//! who owns them, when they were made or in which order a folder lists them.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::modules::Module;
use super::tree::{Entry, Node, Tree};

/// A layer in a scratch file.
pub struct Layer {
    /// Compressed bytes, positioned at the start.
    pub content: File,
    /// Length of `content` in bytes.
    pub size: u64,
    /// `sha256:…` of `content`.
    pub digest: String,
    /// `sha256:…` of what is inside: the tar, or the same bytes.
    pub diff_id: String,
    /// Entries that are not folders.
    pub files: usize,
    /// Bytes of those files.
    pub unpacked: u64,
}

/// Why a layer could not be written: the reader of inputs and the disk of outputs fail differently.
const SCRATCH: &str = "cannot write the layer";

impl Layer {
    /// Writes `module` itself. `scratch` is an empty file that nothing else uses.
    pub fn raw(module: &[u8], mut scratch: File) -> Result<Self> {
        scratch.write_all(module).and_then(|()| scratch.rewind()).context(SCRATCH)?;
        let digest = digest(Sha256::new_with_prefix(module));
        let size = module.len() as u64;
        let diff_id = digest.clone();
        Ok(Self { content: scratch, size, digest, diff_id, files: 1, unpacked: size })
    }

    /// Writes `tree` with `modules` in the places of its [`Node::Module`]s. `scratch` is an empty file
    /// that nothing else uses; `mtime` is in seconds since 1970.
    pub fn write(tree: &Tree, modules: &[Module], mtime: u64, scratch: File) -> Result<Self> {
        let file = Hashing::new(BufWriter::new(scratch));
        // No file name, no time, and "unknown" as the system: RFC 1952, section 2.3.1.
        let gzip = GzBuilder::new().mtime(0).operating_system(255);
        let gzip = gzip.write(file, Compression::default());
        let mut tar = Builder::new(Hashing::new(gzip));
        let (mut files, mut unpacked) = (0, 0);
        for (path, entry) in tree.iter() {
            unpacked += append(&mut tar, path, entry, modules, mtime)?;
            files += usize::from(entry.node != Node::Dir);
        }
        let (gzip, diff_id, _) = tar.into_inner().context(SCRATCH)?.finish();
        let (file, digest, size) = gzip.finish().context(SCRATCH)?.finish();
        let mut content =
            file.into_inner().map_err(io::IntoInnerError::into_error).context(SCRATCH)?;
        content.rewind().context(SCRATCH)?;
        Ok(Self { content, size, digest, diff_id, files, unpacked })
    }
}

/// Appends one path and gives the bytes of the file there.
fn append(
    tar: &mut Builder<impl Write>,
    path: &Path,
    entry: &Entry,
    modules: &[Module],
    mtime: u64,
) -> Result<u64> {
    let (kind, mode) = match &entry.node {
        Node::Dir => (EntryType::Directory, 0o755),
        Node::Link { .. } => (EntryType::Symlink, 0o777),
        Node::Module(_) | Node::File { executable: true, .. } => (EntryType::Regular, 0o755),
        Node::File { .. } => (EntryType::Regular, 0o644),
    };
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(entry.mode.unwrap_or(mode));
    header.set_mtime(mtime);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    match &entry.node {
        Node::Dir => append_bytes(tar, &mut header, path, &[]),
        Node::Module(number) => append_bytes(tar, &mut header, path, &modules[*number].binary),
        Node::File { source, .. } => append_file(tar, &mut header, path, source),
        Node::Link { target } => {
            header.set_size(0);
            tar.append_link(&mut header, path, target).context(SCRATCH)?;
            Ok(0)
        }
    }
}

fn append_bytes(
    tar: &mut Builder<impl Write>,
    header: &mut Header,
    path: &Path,
    bytes: &[u8],
) -> Result<u64> {
    header.set_size(bytes.len() as u64);
    tar.append_data(header, path, bytes).context(SCRATCH)?;
    Ok(bytes.len() as u64)
}

fn append_file(
    tar: &mut Builder<impl Write>,
    header: &mut Header,
    path: &Path,
    source: &Path,
) -> Result<u64> {
    let unreadable = || format!("cannot read {}", source.display());
    let file = File::open(source).with_context(unreadable)?;
    let size = file.metadata().with_context(unreadable)?.len();
    header.set_size(size);
    let mut input = Input { file: file.take(size), source: source.to_owned(), error: None };
    let written = tar.append_data(header, path, &mut input);
    if let Some(error) = input.error {
        return Err(error).with_context(|| format!("cannot read {}", input.source.display()));
    }
    written.context(SCRATCH)?;
    // The header has already promised `size` bytes, so a tar cut here would be garbage.
    if input.file.limit() > 0 {
        bail!("{} became shorter while it was read: build again", source.display());
    }
    Ok(size)
}

/// Keeps an error of reading apart from one of writing, which the tar crate returns alike.
struct Input {
    file: io::Take<File>,
    source: PathBuf,
    error: Option<io::Error>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

/// Passes bytes on and keeps their count and SHA-256.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, digest(self.hash), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `sha256:` and 64 hexadecimal digits.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>
pub fn digest(hash: Sha256) -> String {
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}
