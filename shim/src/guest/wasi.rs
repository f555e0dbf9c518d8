//! What a guest is granted through WASI.

use super::stdio::Streams;
use crate::spec::{MountKind, Plan};
use std::path::Path;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// What `plan` grants: arguments, environment, folders, the network of its namespace. To be called
/// as the container's user within its root, for a folder that the user cannot open is not granted
/// under its own name.
///
/// # Errors
/// When a folder cannot be opened for another reason.
pub fn context(plan: &Plan, streams: &Streams) -> wasmtime::Result<WasiCtxBuilder> {
    let process = &plan.process;
    let mut context = WasiCtxBuilder::new();
    context
        // One guest per process and thread: waiting for a disk may as well hold it up.
        .allow_blocking_current_thread(true)
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .args(&process.args)
        .stdin(streams.input.clone())
        .stdout(streams.output.clone())
        .stderr(streams.error.clone());
    let cwd = process.cwd.display().to_string();
    context.initial_cwd(&cwd);
    for (key, value) in process.env.iter().filter_map(|pair| pair.split_once('=')) {
        context.env(key, value);
    }
    // Preview 1 has no working directory; Go's guests take it from here, as from a shell.
    if !process.env.iter().any(|pair| pair.starts_with("PWD=")) {
        context.env("PWD", &cwd);
    }
    for (path, read_only) in folders(plan) {
        let perms = if read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        preopen(&mut context, path, perms)?;
    }
    Ok(context)
}

/// The folders that a guest is granted, as far as its user may open them, and whether read-only. To
/// be called within the container's root.
pub fn folders(plan: &Plan) -> impl Iterator<Item = (&Path, bool)> {
    let mounts = plan.mounts.iter().filter(|mount| mount.kind != MountKind::Withheld);
    std::iter::once((Path::new("/"), plan.rootfs_read_only)).chain(
        mounts
            .filter(|mount| mount.destination.is_dir())
            .map(|mount| (mount.destination.as_path(), mount.read_only())),
    )
}

fn preopen(context: &mut WasiCtxBuilder, path: &Path, perms: FsPerms) -> wasmtime::Result<()> {
    match context.preopened_dir(path, path.to_string_lossy(), perms) {
        Ok(_) => Ok(()),
        Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(is_denied) => Ok(()),
        Err(e) => Err(e.context(format!("cannot open {} for the guest", path.display()))),
    }
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
