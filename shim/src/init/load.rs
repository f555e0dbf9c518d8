//! From wasm to code that only waits to be called.

use super::{
    Failure, FromInit, Need, Reason, ToInit, Tools, Warm, Wasm, out_of_order, receive, send,
};
use crate::spec::{Entry, Plan};
use crate::sys::channel::Channel;
use crate::{guest, image};
use artifact::engine::Tier;
use artifact::known::{DEFAULT_DIR, Known};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What `entry` means in the rootfs `root`: a file, or else perhaps a layer.
pub(super) fn find(root: BorrowedFd<'_>, entry: &Entry) -> Result<Source, Failure> {
    match image::open(root, entry) {
        Ok(file) => Ok(Source::File(file)),
        Err(e) if e.is_absence() => Ok(Source::layer(entry, None, e.into())),
        Err(e) => Err(e.into()),
    }
}

/// Wasm that is to be run.
pub(super) enum Source {
    /// A file.
    File(File),
    /// What only the shim can find.
    Layer(Wasm),
}

impl Source {
    /// A layer that `entry` means, or in a container whose own entrypoint is `own`; `missing` says
    /// what it is if there is none.
    pub(super) fn layer(entry: &Entry, own: Option<&Entry>, missing: Failure) -> Self {
        let own = own.map(|own| own.file().to_owned());
        Self::Layer(Wasm::Layer { file: entry.file().to_owned(), own, missing })
    }
}

/// Gets the compiled code of `source` from the shim, maps and links it. Code of the cache that turns
/// out damaged is made anew, once of each tier.
pub(super) fn load(
    plan: &Plan,
    source: Source,
    channel: &Channel,
    warm: &Warm,
) -> Result<guest::Loaded, Failure> {
    let Tools { compatibility, linkers: optimized } = warm.tools()?;
    let entry = &plan.process.entry;
    let (wasm, file) = match source {
        Source::File(file) => {
            let digest = Known::at(Path::new(DEFAULT_DIR)).digest_of(&file)?.to_string();
            (Wasm::File { digest }, Some(file))
        }
        Source::Layer(wasm) => (wasm, None),
    };
    let mut damaged = Vec::new();
    loop {
        let need = FromInit::NeedCode(Need {
            engine: compatibility.to_string(),
            word: entry.word.clone(),
            wasm: wasm.clone(),
            damaged: damaged.last().copied(),
        });
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        send(channel, &need, &fds)?;
        let (ToInit::Code(tier), mut fds) = receive(channel)? else {
            return Err(out_of_order());
        };
        let code = File::from(fds.pop().ok_or_else(out_of_order)?);
        let baseline;
        let linkers = match tier {
            Tier::Optimized => optimized,
            Tier::Baseline => {
                baseline = linkers(tier)?;
                &baseline
            }
        };
        match guest::Loaded::new(linkers, &code, entry.export.as_deref(), plan.max_guest_memory) {
            Err(guest::Error::Code(_)) if !damaged.contains(&tier) => damaged.push(tier),
            Err(e) => {
                let words = format!("cannot run {}: {e}", entry.word);
                return Err(Failure::new(Reason::Unusable, words));
            }
            Ok(loaded) => return Ok(loaded),
        }
    }
}

/// What guests of a tier can import.
pub(super) fn linkers(tier: Tier) -> Result<guest::Linkers, Failure> {
    let engine = artifact::engine::engine(tier)
        .map_err(|e| Failure::new(Reason::Internal, format!("cannot make an engine: {e:#}")))?;
    Ok(guest::Linkers::new(engine))
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        let reason = if error.is_absence() { Reason::NotFound } else { Reason::Unusable };
        let hint = match reason {
            Reason::NotFound => "; ENTRYPOINT must name a .wasm file of the image",
            _ => "",
        };
        Self::new(reason, format!("{error}{hint}"))
    }
}
