//! Code for machines that may be others than this one: `compile for TARGET <WASM >CODE`. For whoever
//! signs it and gives it away; no cache is concerned.

use super::{Error, MAX_WASM, internal, worker};
use crate::sys;
use artifact::engine::Target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek};

/// Compiles standard input to standard output.
pub fn make(target: &str) -> Result<(), Error> {
    let target = Target::parse(target).ok_or_else(|| internal(format!("no target {target}")))?;
    let engine = target.engine().map_err(internal)?;
    let mut wasm = Vec::new();
    let stdin = File::from(sys::fd::standard(0).map_err(internal)?);
    stdin.take(MAX_WASM + 1).read_to_end(&mut wasm).map_err(internal)?;
    if wasm.len() as u64 > MAX_WASM {
        return Err(Error::Unusable("it is larger than 1 GiB".into()));
    }
    let mut code = File::from(memfd_create(c"code", MFdFlags::MFD_CLOEXEC).map_err(internal)?);
    worker::compile(&engine, &wasm, &code)?;
    code.rewind().map_err(internal)?;
    let mut out = File::from(sys::fd::standard(1).map_err(internal)?);
    io::copy(&mut code, &mut out).map(drop).map_err(internal)
}
