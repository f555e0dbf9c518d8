//! `wasm-image compile`: the code of an image's modules, for this machine's cache; or signed, and kept
//! beside the image in its registry. The compiler runs in the shim's own roles, without rights.

mod modules;
mod push;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use artifact::cache::DEFAULT_MAX_SIZE;
use registry::{Descriptor, Digest, Platform};
use serde_json::json;
use shim::launch::in_role;

use crate::cli::{CompileArgs, Format};
use crate::run;
use crate::store::Store;
use crate::transfer::{self, Network, say, wait};
use modules::Module;

/// Compiles the modules of an image.
pub fn run(args: &CompileArgs) -> Result<()> {
    match &args.key {
        Some(key) => push::run(args, key),
        None => fill_cache(args),
    }
}

fn fill_cache(args: &CompileArgs) -> Result<()> {
    let root = run::code_cache(args.root.as_deref())?;
    let store = Store::open(args.store.store.as_deref())?;
    let name = args.image.to_string();
    let modules = match store.entries()?.into_iter().find(|entry| entry.name == name) {
        Some(entry) => modules_of(&store, args, &entry.descriptor)?,
        None => {
            let network = Network::new(&args.network);
            wait(fetched(&network, &store, args, &args.image))?
        }
    };
    for module in &modules {
        compile(
            module,
            &["optimized", &folder(&root)?, &DEFAULT_MAX_SIZE.to_string()],
            |command| {
                command.arg(Digest::of(&module.bytes).hex()).stdout(Stdio::null());
            },
        )?;
    }
    say(&match args.format {
        Format::Text => {
            let names = modules.iter().map(|module| module.name.as_str()).collect::<Vec<_>>();
            format!("{}: {} compiled, in {}\n", args.image, names.join(", "), root.display())
        }
        Format::Json => {
            let one = |module: &Module| json!({ "module": module.name, "wasm": Digest::of(&module.bytes) });
            let modules: Vec<_> = modules.iter().map(one).collect();
            format!(
                "{:#}\n",
                json!({ "image": args.image.to_string(), "root": root, "modules": modules })
            )
        }
    })
}

/// The shim takes it by its full name.
fn folder(root: &Path) -> Result<String> {
    let root = std::path::absolute(root)?;
    root.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{} is not UTF-8", root.display()))
}

/// Has the compiler run in the role `order`, completed by `rest`; gives what it wrote to its output, if
/// that goes nowhere else.
fn compile(module: &Module, order: &[&str], rest: impl FnOnce(&mut Command)) -> Result<Vec<u8>> {
    let scratch = || -> std::io::Result<File> {
        let mut wasm = tempfile::tempfile()?;
        wasm.write_all(&module.bytes)?;
        wasm.rewind()?;
        Ok(wasm)
    };
    let wasm = scratch().context("cannot write to the temporary folder")?;
    let mut command = in_role("alone");
    command.arg("compile").args(order).stdin(wasm).stdout(Stdio::piped()).stderr(Stdio::piped());
    rest(&mut command);
    let child = command.spawn().context("cannot start the compiler")?;
    let done = child.wait_with_output().context("cannot wait for the compiler")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        match said.trim() {
            "" => bail!("cannot compile {}: the compiler ended with {}", module.name, done.status),
            said => bail!("cannot compile {}: {said}", module.name),
        }
    }
    Ok(done.stdout)
}

/// The modules of the image `name`, of which what is for Wasm is fetched into the store.
async fn fetched(
    network: &Network,
    store: &Store,
    args: &CompileArgs,
    name: &crate::reference::Reference,
) -> Result<Vec<Module>> {
    let wasm: Platform = "wasi/wasm".parse().map_err(anyhow::Error::msg)?;
    let root = transfer::fetch(network, name, &wasm, store, args.format).await?;
    modules_of(store, args, &root)
}

fn modules_of(store: &Store, args: &CompileArgs, root: &Descriptor) -> Result<Vec<Module>> {
    let _in_use = store.in_use()?;
    let modules = modules::of(store, root)?;
    ensure!(!modules.is_empty(), "{} has no WebAssembly in it", args.image);
    Ok(modules)
}
