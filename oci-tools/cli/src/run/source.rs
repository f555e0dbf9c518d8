//! What a person means to run.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::NotFound;
use crate::cli::{Pull, RunArgs};
use crate::inspect::Subject;
use crate::inspect::layout::Layout;
use crate::reference::Reference;
use crate::store::{InUse, Store};

/// What is to be run.
pub enum Source {
    /// A file, which is WebAssembly or says at its compilation that it is not. Absolute.
    File(PathBuf),
    /// An image.
    Image(ImageSource),
}

/// An image that is there.
pub struct ImageSource {
    /// As it was called.
    pub name: String,
    pub layout: Layout,
    /// The index that it is in; of the layout's own, this image's part.
    pub index: Value,
    /// The store, where it is unpacked.
    pub store: Store,
    /// Whether it is in the store itself.
    pub stored: bool,
    /// Until the end.
    _in_use: InUse,
}

impl Source {
    /// Finds what `word` means, and fetches it if need be.
    pub fn find(word: &OsStr, args: &RunArgs) -> Result<Self> {
        let path = Path::new(word);
        let text = word.to_str();
        ensure!(
            !text.is_some_and(|text| text.starts_with('-')),
            "unexpected argument {word:?}: `wasm-image run --help` lists the options"
        );
        if is_path(path) {
            return Self::of_path(path, args);
        }
        let name = text
            .context("the name of an image is UTF-8")
            .and_then(|text| Reference::parse(text).map_err(|why| anyhow!("{text:?}: {why}")));
        // What is called as an image of the store is that image; else a file can have any name.
        let is_stored = |name: &Reference| -> Result<bool> {
            Ok(Store::open(args.store.store.as_deref())?.find(&name.to_string()).is_ok())
        };
        if path.is_file() && !name.as_ref().ok().map(is_stored).transpose()?.unwrap_or(false) {
            return Self::of_path(path, args);
        }
        Self::of_name(name?.to_string(), args)
    }

    fn of_path(path: &Path, args: &RunArgs) -> Result<Self> {
        let absolute = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow!(NotFound(format!("cannot run {}: there is no such file", path.display())))
            }
            _ => anyhow!(error).context(format!("cannot run {}", path.display())),
        })?;
        let layout = match Subject::at(&absolute)? {
            Subject::File(..) => return Ok(Self::File(absolute)),
            Subject::Layout(layout) => layout,
        };
        ensure!(
            layout.has("index.json"),
            "cannot run {}: it is no OCI layout, for it holds no index.json",
            path.display()
        );
        let store = Store::open(args.store.store.as_deref())?;
        Ok(Self::Image(ImageSource {
            name: path.display().to_string(),
            index: layout.document("index.json")?,
            layout,
            _in_use: store.in_use()?,
            store,
            stored: false,
        }))
    }

    fn of_name(name: String, args: &RunArgs) -> Result<Self> {
        let store = Store::open(args.store.store.as_deref())?;
        let mut in_use = store.in_use()?;
        let known = store.find(&name).is_ok();
        let pull = match args.pull {
            Pull::Always => true,
            Pull::Missing => !known,
            Pull::Never => false,
        };
        if pull {
            // The name may pass to another image, whose predecessor is swept away then.
            drop(in_use);
            if !known {
                eprintln!("the store has no image {name}, so it is pulled");
            }
            fetch(&name, &store, args)?;
            in_use = store.in_use()?;
        }
        let entry = store.find(&name)?;
        Ok(Self::Image(ImageSource {
            name,
            layout: Layout::folder(store.root()),
            index: entry.index(),
            store,
            stored: true,
            _in_use: in_use,
        }))
    }
}

/// Whether a word names a file by its form.
fn is_path(path: &Path) -> bool {
    let named = ["wasm", "wat", "tar"].iter().any(|end| path.extension() == Some(OsStr::new(end)));
    let led = ["/", ".", ".."].iter().any(|start| path.starts_with(start));
    named || led
}

/// Pulls in a process of its own: this one must stay of one thread.
fn fetch(name: &str, store: &Store, args: &RunArgs) -> Result<()> {
    let network = &args.registry;
    let mut command = Command::new("/proc/self/exe");
    command.arg("pull").arg("--store").arg(store.root());
    command.arg(format!("--timeout={}", network.timeout.as_secs_f64()));
    command.arg(format!("--retries={}", network.retries));
    if network.plain_http {
        command.arg("--plain-http");
    }
    if let Some(ca) = &network.ca {
        command.arg("--ca").arg(ca);
    }
    // What it reports is not the guest's output.
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let status = command.arg("--").arg(name).stdin(Stdio::inherit()).stdout(stderr).status();
    match status.context("cannot pull")?.success() {
        true => Ok(()),
        false => bail!("cannot run {name}: it could not be pulled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_names_of_images_by_their_form() {
        for path in ["/a", "./a", "../a", ".", "a.wasm", "b/a.wat", "image.tar"] {
            assert!(is_path(Path::new(path)), "{path}");
        }
        for name in ["hello", "hello:1.0", "localhost:5000/a/hello", "a@sha256:00"] {
            assert!(!is_path(Path::new(name)), "{name}");
        }
    }
}
