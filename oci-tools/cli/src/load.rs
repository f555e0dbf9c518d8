//! `wasm-image load`: images of the store go into an engine by its own tool, as an archive that is
//! made while the tool reads it.

use std::io::{self, BufWriter};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cli::{Engine, LoadArgs};
use crate::store::{Entry, Store};

/// Pipes the images to `docker load` or `ctr image import`.
pub fn run(args: &LoadArgs) -> Result<()> {
    let store = Store::open(args.store.store.as_deref())?;
    let _in_use = store.in_use()?;
    let find = |image: &_| store.find(&format!("{image}"));
    let entries = args.images.iter().map(find).collect::<Result<Vec<_>>>()?;
    for entry in &entries {
        // Before anything is piped, so that the engine is not left with half of it.
        for part in store.parts(&entry.descriptor)? {
            store.blob(&part.descriptor)?;
        }
    }
    let mut command = command(args, &entries);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("{program} is not in PATH: install it"),
        _ => anyhow::anyhow!("cannot run {program}: {error}"),
    })?;
    let stdin = child.stdin.take().context("the pipe is gone")?;
    let written = store.export(&entries, BufWriter::new(stdin));
    let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
    if !status.success() {
        // What it said is on the terminal already.
        bail!("{program} ends with {status}");
    }
    written.with_context(|| format!("cannot pipe the image to {program}"))
}

fn command(args: &LoadArgs, entries: &[Entry]) -> Command {
    match args.into {
        Engine::Docker => {
            let mut command = Command::new("docker");
            command.arg("load");
            command
        }
        Engine::Containerd => {
            let mut command = Command::new("ctr");
            command.args(["-n", &args.namespace, "image", "import"]);
            let mut platforms = entries.iter().map(|entry| &entry.descriptor.platform);
            // Without it, containerd imports the images for its own machine only.
            match platforms.next().cloned().flatten() {
                Some(first) if platforms.all(|other| other.as_ref() == Some(&first)) => {
                    command.args(["--platform", &first.to_string()])
                }
                _ => command.arg("--all-platforms"),
            };
            command.arg("-");
            command
        }
    }
}
