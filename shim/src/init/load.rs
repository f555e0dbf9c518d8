//! From wasm to code that only waits to be called.

use super::{Failure, FromInit, Need, Reason, ToInit, Tools, Warm, out_of_order, receive, send};
use crate::spec::Plan;
use crate::sys::channel::Channel;
use crate::{guest, image};
use artifact::engine::Tier;
use artifact::known::{DEFAULT_DIR, Known};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Gets the compiled code of `wasm` from the shim, maps and links it. Code of the cache that turns
/// out damaged is made anew, once of each tier.
pub(super) fn load(
    plan: &Plan,
    wasm: File,
    channel: &Channel,
    warm: &Warm,
) -> Result<guest::Loaded, Failure> {
    let Tools { compatibility, linkers: optimized } = warm.tools()?;
    let entry = &plan.process.entry;
    let digest = Known::at(Path::new(DEFAULT_DIR)).digest_of(&wasm)?.to_string();
    let mut damaged = Vec::new();
    loop {
        let need = FromInit::NeedCode(Need {
            engine: compatibility.to_string(),
            digest: digest.clone(),
            word: entry.word.clone(),
            damaged: damaged.last().copied(),
        });
        send(channel, &need, &[wasm.as_fd()])?;
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
        let reason = match error {
            image::Error::NotFound(_) | image::Error::NoSuchFile(_) => Reason::NotFound,
            _ => Reason::Unusable,
        };
        let hint = match reason {
            Reason::NotFound => "; ENTRYPOINT must name a .wasm file of the image",
            _ => "",
        };
        Self::new(reason, format!("{error}{hint}"))
    }
}
