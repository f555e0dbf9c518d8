//! What a guest is granted through WASI.

use super::stdio::Streams;
use crate::spec::{MountKind, Plan, Process};
use std::path::{Path, PathBuf};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// What a guest is granted: arguments, environment, folders, the network of its namespace.
pub struct Grants {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    folders: Vec<(PathBuf, FsPerms)>,
}

impl Grants {
    /// What `plan` grants. To be called as the container's user within its root.
    pub fn of(plan: &Plan) -> Self {
        let Process { args, env, cwd, .. } = &plan.process;
        let mut env = env.clone();
        let cwd = cwd.display().to_string();
        // Preview 1 has no working directory; Go's guests take it from here, as from a shell.
        if !env.iter().any(|pair| pair.starts_with("PWD=")) {
            env.push(format!("PWD={cwd}"));
        }
        let folders = folders(plan)
            .map(|(path, read_only)| {
                let perms = if read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
                (path.to_owned(), perms)
            })
            .collect();
        Self { args: args.clone(), env, cwd, folders }
    }

    /// The environment variable `name`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().filter_map(|pair| pair.split_once('='))
    }

    /// The same for one store. A folder that the user cannot open is not granted under its own name.
    ///
    /// # Errors
    /// When a folder cannot be opened for another reason.
    pub fn context(&self, streams: &Streams) -> wasmtime::Result<WasiCtxBuilder> {
        let mut context = WasiCtxBuilder::new();
        context
            // What is waited for is a disk, and a thread has one guest, or as many as there are CPUs
            // serve many: waiting may as well hold it up.
            .allow_blocking_current_thread(true)
            .inherit_network()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true)
            .args(&self.args)
            .stdin(streams.input.clone())
            .stdout(streams.output.clone())
            .stderr(streams.error.clone())
            .initial_cwd(&self.cwd);
        for (key, value) in self.variables() {
            context.env(key, value);
        }
        for (path, perms) in &self.folders {
            preopen(&mut context, path, *perms)?;
        }
        Ok(context)
    }
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
