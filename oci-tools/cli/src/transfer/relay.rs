//! From a registry to a registry.

use anyhow::{Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use registry::{Access, BlobReader, Descriptor, Hasher, Outcome, Repository, Source};

use super::image::{Image, Wanted};
use super::progress::Progress;
use super::report::{Moved, Report};
use super::{AT_A_TIME, Network};
use crate::reference::Reference;

/// Copies what `wanted` means of `from` under the name `to`.
pub async fn relay(
    network: &Network,
    from: &Reference,
    wanted: &Wanted,
    to: &Reference,
    progress: &Progress,
) -> Result<Report> {
    let source = network.repository(from, Access::Pull)?;
    let target = network.repository(to, Access::Push)?;
    let same_registry = from.domain() == to.domain();
    if same_registry {
        target.may_mount([from.path().to_owned()]);
    }
    let image = Image::look(&source, from.tag_or_digest(), wanted).await?;
    let root = image.root;
    if to.has_digest() && to.tag_or_digest() != root.digest.as_str() {
        bail!("{to} cannot be the name of {}: give a tag", root.digest);
    }
    let send = |blob: &Descriptor| {
        let blob = blob.clone();
        let (source, target) = (&source, &target);
        async move {
            let outcome = send(source, target, &blob, same_registry, progress).await?;
            Ok::<_, anyhow::Error>(Moved { blob, outcome })
        }
    };
    let blobs: Vec<_> = image.blobs.iter().map(send).collect();
    let blobs = stream::iter(blobs).buffer_unordered(AT_A_TIME).try_collect().await?;
    for fetched in &image.documents {
        let descriptor = &fetched.descriptor;
        let reference = if descriptor.digest == root.digest {
            to.tag_or_digest()
        } else {
            descriptor.digest.as_str()
        };
        target.put_document(reference, descriptor, fetched.bytes.clone()).await?;
    }
    Ok(Report { name: to.to_string(), root, blobs })
}

async fn send(
    source: &Repository,
    target: &Repository,
    blob: &Descriptor,
    same_registry: bool,
    progress: &Progress,
) -> Result<Outcome> {
    if target.has(blob).await? {
        return Ok(Outcome::Present);
    }
    if same_registry && target.mount(blob, source.path()).await? {
        return Ok(Outcome::Mounted);
    }
    let line = progress.begin(blob);
    let reader = BlobReader::new(source, blob, 0, Hasher::default());
    target.put_blob(blob, &mut Source::Remote(Box::new(reader)), &line.meter()).await?;
    Ok(Outcome::Sent)
}
