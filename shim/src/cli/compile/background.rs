//! Optimized code for a module whose baseline code runs already. It is nobody's hurry: one module at
//! a time on a node, on one core, when that has nothing else to do.
//!
//! The container may be gone before its code is there, and its shim with it, so this process has a
//! session of its own, a copy of the wasm, and holds nothing of either.

use super::{Error, Job, REFUSED, internal, rewind};
use crate::sys;
use artifact::cache::Cache;
use artifact::engine::{self, Tier};
use artifact::module::MAX_WASM;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long a failure is remembered that is not the module's fault.
const FAILED: Duration = Duration::from_secs(600);

/// How long it may wait for its turn and work, in seconds. At the end of it the kernel ends it.
const PATIENCE: u32 = 3600;

/// Makes optimized code of `job`, unless somebody does already.
pub fn make(job: &Job<'_>) -> Result<(), Error> {
    let cache = job.cache(Tier::Optimized)?;
    let settled = || Ok::<_, Error>(cache.get(&job.digest)?.is_some() || is_noted(job, &cache));
    // Held to the end of this process.
    let Some(_ticket) = job.cache(Tier::Baseline)?.ticket(&job.digest)? else {
        return Ok(());
    };
    if settled()? {
        return Ok(());
    }
    let wasm = copy(&cache)?;
    detach().map_err(internal)?;
    let turn = cache.turn()?;
    if settled()? {
        return Ok(());
    }
    let engine = engine::unhurried(Tier::Optimized).map_err(internal)?;
    let wasm = job.read(wasm)?;
    match cache.put_in_turn(&job.digest, &turn, |file| job.compile(&engine, &wasm, file)) {
        Ok(_) => {}
        Err(Error::Refused(why)) => cache.set_note(&job.digest, &why, REFUSED)?,
        Err(e) => cache.set_note(&job.digest, &e.to_string(), FAILED)?,
    }
    Ok(cache.evict(job.max_cache)?)
}

fn is_noted(job: &Job<'_>, cache: &Cache) -> bool {
    cache.note(&job.digest).is_some()
}

/// Copies the wasm: its own file is the container's, and would keep the rootfs from being unmounted.
fn copy(cache: &Cache) -> Result<File, Error> {
    let mut spool = cache.spool()?;
    let mut wasm = File::from(sys::fd::standard(0).map_err(internal)?);
    rewind(&mut wasm)
        .and_then(|()| io::copy(&mut wasm.take(MAX_WASM + 1), &mut spool))
        .map_err(|e| internal(format!("cannot copy the wasm into the cache: {e}")))?;
    Ok(spool)
}

/// Leaves the shim and the container; by the end of standard output the shim sees it.
fn detach() -> io::Result<()> {
    nix::unistd::setsid()?;
    nix::unistd::alarm::set(PATIENCE);
    sys::process::yield_to_all()?;
    let null = sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)?;
    (0..=2).try_for_each(|standard| sys::fd::become_standard(null.as_fd(), standard))
}
