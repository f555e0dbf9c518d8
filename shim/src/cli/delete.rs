//! `delete`: what is left of a container is removed, whatever became of its shim. containerd runs it
//! after every container; after a clean end there is nothing left to do.

use super::Error;
use super::args::Args;
use super::socket::is_served;
use crate::launch::Saved;
use crate::sandbox::hooks;
use crate::spec;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a container is said to have ended with whose own shim could not tell: as if killed.
const KILLED: u32 = 128 + libc::SIGKILL as u32;

pub fn run(args: &Args) -> Result<(), Error> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir()?,
    };
    let pid = match Saved::read(&bundle) {
        Ok(None) => 0,
        Ok(Some(saved)) => {
            for failure in saved.undo() {
                eprintln!("{}: {failure}", args.id);
            }
            poststop(&bundle, &args.id);
            Saved::remove(&bundle);
            saved.pid
        }
        Err(e) => {
            eprintln!("{}: cannot read what its shim saved: {e}", args.id);
            0
        }
    };
    remove_dead_socket(&bundle);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let response = DeleteResponse {
        pid: pid as u32,
        exit_status: KILLED,
        exited_at: MessageField::some(Timestamp {
            seconds: now.as_secs() as i64,
            nanos: now.subsec_nanos() as i32,
            ..Default::default()
        }),
        ..Default::default()
    };
    io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(())
}

fn poststop(bundle: &Path, id: &str) {
    let Ok(plan) = spec::read(bundle, id) else { return };
    let state = hooks::state(&plan, "stopped", None);
    if let Err(e) = hooks::run_all(&plan.hooks.poststop, &state) {
        eprintln!("{id}: poststop: {e}");
    }
}

/// Removes the socket of a shim that serves no more; another container's may still be there.
fn remove_dead_socket(bundle: &Path) {
    let Ok(address) = fs::read_to_string(bundle.join("address")) else {
        return;
    };
    let socket = PathBuf::from(address.trim().trim_start_matches("unix://"));
    if matches!(is_served(&socket), Ok(false)) {
        let _ = fs::remove_file(socket);
    }
}
