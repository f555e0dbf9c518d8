//! Signed code, for other machines.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use artifact::engine::{Compatibility, Target};
use flate2::Compression;
use flate2::write::GzEncoder;
use registry::{Access, Descriptor, Digest, Repository};
use serde_json::json;
use trust::code::{self, ARTIFACT, Offer, Statement};
use trust::key::PrivateKey;

use super::modules::Module;
use super::{compile, fetched};
use crate::build::bytes;
use crate::cli::{CompileArgs, Format};
use crate::store::Store;
use crate::transfer::{Network, say, send_bytes, wait};

/// Unless others are asked for: what almost every node is one of.
const TARGETS: [Target; 2] = [Target::V3, Target::V2];

/// Compiles, signs and pushes.
pub fn run(args: &CompileArgs, key: &Path) -> Result<()> {
    let key = PrivateKey::read(key)?;
    let store = Store::open(args.store.store.as_deref())?;
    let network = Network::new(&args.network);
    let mut targets = args.targets.clone();
    targets.sort();
    targets.dedup();
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    wait(async {
        let repository = network.repository(&args.image, Access::Push)?;
        let root = crate::sign::root(&repository, &args.image).await?;
        let modules = fetched(&network, &store, args, &args.image.at(&root.digest)).await?;
        let (mut offers, mut present) = (Vec::new(), 0);
        for module in &modules {
            let there = code::offers(&repository, &root.digest, &Digest::of(&module.bytes)).await?;
            for &target in &targets {
                match is_there(&there, target, &key)? {
                    true => present += 1,
                    false => offers.push(offer(&repository, module, target, &key).await?),
                }
            }
        }
        let mut artifact = None;
        if !offers.is_empty() {
            let code::Artifact { config, descriptor, manifest } = code::artifact(&root, &offers);
            send_bytes(&repository, &config.0, &config.1).await?;
            repository.attach(&root.digest, ARTIFACT, &descriptor, manifest.into()).await?;
            artifact = Some(descriptor.digest);
        }
        report(args, &root, artifact.as_ref(), &modules, &offers, present)
    })
}

/// Whether `offers` has code for `target` that `key` has signed.
fn is_there(offers: &[Offer], target: Target, key: &PrivateKey) -> Result<bool> {
    let engine = target.engine().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    let engine = Compatibility::of(&engine).to_string();
    let keys = [key.public("")];
    let opened = offers.iter().filter_map(|offer| Some(offer.signed.open(&keys).ok()?.0));
    Ok(opened.into_iter().any(|said| said.engine == engine && said.target == target.to_string()))
}

async fn offer(
    repository: &Repository,
    module: &Module,
    target: Target,
    key: &PrivateKey,
) -> Result<Offer> {
    let failed = || format!("cannot compile {} for {target}", module.name);
    let engine = target.engine().map_err(|e| anyhow::anyhow!("{e:#}")).with_context(failed)?;
    let compiled = compile(module, &["for", &target.to_string()], |_| ())?;
    let statement = Statement {
        kind: ARTIFACT.to_owned(),
        wasm: Digest::of(&module.bytes),
        engine: Compatibility::of(&engine).to_string(),
        target: target.to_string(),
        code: Digest::of(&compiled),
        size: compiled.len() as u64,
    };
    let signed = statement.sign(key)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&compiled)?;
    let packed = packed.finish()?;
    let blob = code::layer(Digest::of(&packed), packed.len() as u64);
    send_bytes(repository, &blob, &packed).await?;
    Ok(Offer { signed, blob })
}

fn key_name(args: &CompileArgs) -> impl std::fmt::Display + '_ {
    args.key.as_deref().unwrap_or(Path::new("")).display()
}

fn report(
    args: &CompileArgs,
    root: &Descriptor,
    artifact: Option<&Digest>,
    modules: &[Module],
    offers: &[Offer],
    present: usize,
) -> Result<()> {
    let said = offers.iter().map(|offer| {
        let statement: Statement = serde_json::from_str(&offer.signed.text)?;
        let of = |module: &&Module| Digest::of(&module.bytes) == statement.wasm;
        let name = modules.iter().find(of).map_or("", |module| &module.name);
        Ok((name, statement, offer.blob.size))
    });
    let said = said.collect::<Result<Vec<_>>>()?;
    say(&match args.format {
        Format::Text => {
            let mut text = format!("{}@{}\n", args.image, root.digest);
            for (name, statement, size) in &said {
                let (whole, sent) = (bytes(statement.size), bytes(*size));
                let target = &statement.target;
                text += &format!("  {name} for {target}: {whole} of code, {sent} compressed\n");
            }
            if present > 0 {
                text += &format!("  {present} more, of the same key, are there already\n");
            }
            if let Some(artifact) = artifact {
                text += &format!("  signed with {}, as {artifact}\n", key_name(args));
            }
            text
        }
        Format::Json => {
            let one = |(name, statement, size): &(&str, Statement, u64)| {
                json!({
                    "module": name,
                    "wasm": statement.wasm,
                    "target": statement.target,
                    "engine": statement.engine,
                    "code": statement.code,
                    "size": statement.size,
                    "compressed": size,
                })
            };
            let code: Vec<_> = said.iter().map(one).collect();
            let image = args.image.to_string();
            format!(
                "{:#}\n",
                json!({ "image": image, "digest": root.digest, "artifact": artifact, "code": code, "present": present })
            )
        }
    })
}
