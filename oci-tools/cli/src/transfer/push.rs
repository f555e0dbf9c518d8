//! From the store to a registry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use registry::{Access, Descriptor, Digest, Document, Outcome, Repository, Source};

use super::image::{Wanted, choose};
use super::progress::Progress;
use super::report::{Moved, Report};
use super::{AT_A_TIME, Network};
use crate::reference::Reference;
use crate::store::{Part, Store};

/// Sends what `wanted` means of `image`, which is in the store, under the name `to`.
pub async fn push(
    network: &Network,
    store: &Store,
    image: &Reference,
    wanted: &Wanted,
    to: &Reference,
    progress: &Progress,
) -> Result<Report> {
    let _in_use = store.in_use()?;
    let mut root = store.find(&image.to_string())?.descriptor;
    if let Some(platform) = wanted.platform() {
        match store.document(&root)? {
            Document::Index(manifests) => root = choose(&manifests, platform)?.clone(),
            Document::Manifest(_) => wanted.check(root.platform.as_ref())?,
        }
    }
    if to.has_digest() && to.tag_or_digest() != root.digest.as_str() {
        bail!("{to} cannot be the name of {}: give it a tag with `wasm-image tag`", root.digest);
    }
    let parts = store.parts(&root)?;
    let (documents, blobs): (Vec<_>, Vec<_>) = parts.iter().partition(|p| p.document.is_some());

    let repository = network.repository(to, Access::Push)?;
    let elsewhere = elsewhere(store, to, &blobs)?;
    repository.may_mount(elsewhere.values().cloned());
    let send = |part: &Part| {
        let blob = part.descriptor.clone();
        let from = elsewhere.get(&blob.digest).cloned();
        let repository = &repository;
        async move {
            let outcome = send(repository, store, &blob, from.as_deref(), progress).await?;
            Ok::<_, anyhow::Error>(Moved { blob, outcome })
        }
    };
    let blobs: Vec<_> = blobs.into_iter().map(send).collect();
    let blobs = stream::iter(blobs).buffer_unordered(AT_A_TIME).try_collect().await?;
    for part in documents {
        let descriptor = &part.descriptor;
        let bytes = store.read(descriptor)?.into();
        let reference = if descriptor.digest == root.digest {
            to.tag_or_digest()
        } else {
            descriptor.digest.as_str()
        };
        repository.put_document(reference, descriptor, bytes).await?;
    }
    Ok(Report { name: to.to_string(), root, blobs })
}

/// Of `blobs`, those that images of other repositories in the registry of `to` have, as far as the
/// store knows, and in which repository.
fn elsewhere(store: &Store, to: &Reference, blobs: &[&Part]) -> Result<HashMap<Digest, String>> {
    let wanted: HashSet<_> = blobs.iter().map(|blob| &blob.descriptor.digest).collect();
    let mut places = HashMap::new();
    for entry in store.entries()? {
        let Ok(name) = Reference::parse(&entry.name) else {
            continue;
        };
        if name.domain() != to.domain() || name.path() == to.path() {
            continue;
        }
        // One that is damaged is no help, and no harm.
        for part in store.parts(&entry.descriptor).unwrap_or_default() {
            let digest = part.descriptor.digest;
            if wanted.contains(&digest) {
                places.insert(digest, name.path().to_owned());
            }
        }
    }
    Ok(places)
}

async fn send(
    repository: &Repository,
    store: &Store,
    blob: &Descriptor,
    from: Option<&str>,
    progress: &Progress,
) -> Result<Outcome> {
    if repository.has(blob).await? {
        return Ok(Outcome::Present);
    }
    if let Some(from) = from
        && repository.mount(blob, from).await?
    {
        return Ok(Outcome::Mounted);
    }
    let line = progress.begin(blob);
    let mut source = Source::File(Arc::new(store.blob(blob)?));
    repository.put_blob(blob, &mut source, &line.meter()).await?;
    Ok(Outcome::Sent)
}
