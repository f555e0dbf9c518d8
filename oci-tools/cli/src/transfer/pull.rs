//! From a registry into the store.

use std::io;

use anyhow::{Context, Result, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use registry::{
    Access, BlobReader, Descriptor, Document, Error, Hasher, Outcome, Platform, Repository,
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::image::{Image, Wanted, platform_of, same};
use super::progress::Progress;
use super::report::{Moved, Report};
use super::{AT_A_TIME, Network};
use crate::reference::Reference;
use crate::store::{Draft, Store};

/// Fetches what `wanted` means of `image`, and names it `name`.
pub async fn pull(
    network: &Network,
    image: &Reference,
    wanted: &Wanted,
    store: &Store,
    name: &str,
    progress: &Progress,
) -> Result<Report> {
    let repository = network.repository(image, Access::Pull)?;
    let in_use = store.in_use()?;
    let image = Image::look(&repository, image.tag_or_digest(), wanted).await?;
    let fetch = |blob: &Descriptor| {
        let blob = blob.clone();
        let (repository, store) = (&repository, store);
        async move {
            let outcome = fetch(repository, store, &blob, progress).await?;
            Ok::<_, anyhow::Error>(Moved { blob, outcome })
        }
    };
    let blobs: Vec<_> = image.blobs.iter().map(fetch).collect();
    let blobs = stream::iter(blobs).buffer_unordered(AT_A_TIME).try_collect().await?;
    for fetched in &image.documents {
        store.put(&fetched.descriptor, &mut fetched.bytes.as_ref())?;
    }
    let mut root = image.root;
    if let Some(actual) = config_platform(store, &root) {
        if let Wanted::Only(platform) = wanted
            && !same(platform, &actual)
        {
            eprintln!("note: the image is the only one of its name, and for {actual}");
        }
        root.platform.get_or_insert(actual);
    }
    store.name(&[name.to_owned()], &root, in_use)?;
    Ok(Report { name: name.to_owned(), root, blobs })
}

/// Of an image that is no index.
fn config_platform(store: &Store, root: &Descriptor) -> Option<Platform> {
    match store.document(root).ok()? {
        Document::Manifest(manifest) => platform_of(&store.read(&manifest.config).ok()?),
        Document::Index(_) => None,
    }
}

async fn fetch(
    repository: &Repository,
    store: &Store,
    blob: &Descriptor,
    progress: &Progress,
) -> Result<Outcome> {
    if store.has(blob) {
        return Ok(Outcome::Present);
    }
    let mut draft = Draft::of(store, &blob.digest)?;
    if store.has(blob) {
        // Another pull has just finished it.
        draft.discard();
        return Ok(Outcome::Present);
    }
    let line = progress.begin(blob);
    let meter = line.meter();
    let (mut at, mut hasher) = draft.begun(blob.size)?;
    loop {
        let mut reader = BlobReader::new(repository, blob, at, hasher);
        match fill(&mut reader, &draft, at, &meter).await {
            Ok(()) => break,
            // What lay there from before may be what is wrong.
            Err(Failure::Registry(Error::Digest { .. })) if at > 0 => {
                draft.restart()?;
                (at, hasher) = (0, Hasher::default());
            }
            Err(Failure::Registry(error @ (Error::Digest { .. } | Error::Size { .. }))) => {
                draft.discard();
                return Err(error.into());
            }
            Err(Failure::Registry(error)) => return Err(error.into()),
            Err(Failure::Store(error)) => return Err(error),
        }
    }
    let (store, digest) = (store.clone(), blob.digest.clone());
    // To wait for the disk is not to keep other blobs waiting.
    let published = spawn_blocking(move || draft.publish(&store, &digest)).await;
    published.map_err(|lost| anyhow!(lost)).context("cannot write to the image store")??;
    Ok(Outcome::Sent)
}

/// After so many bytes, those that were written begin to go to the disk.
const FLUSHED: u64 = 8 << 20;

enum Failure {
    Registry(Error),
    Store(anyhow::Error),
}

async fn fill(
    reader: &mut BlobReader<'_>,
    draft: &Draft,
    mut at: u64,
    meter: &registry::Meter,
) -> Result<(), Failure> {
    let mut flush = Flush::default();
    while let Some(bytes) = reader.next().await.map_err(Failure::Registry)? {
        draft.write_all(&bytes).map_err(Failure::Store)?;
        at += bytes.len() as u64;
        meter(at);
        flush.after(bytes.len() as u64, draft).await.map_err(Failure::Store)?;
    }
    flush.end().await.map_err(Failure::Store)
}

/// Has what was written go to the disk while more comes, so that the end has little to wait for.
#[derive(Default)]
struct Flush {
    /// Bytes since the last one began.
    since: u64,
    work: Option<JoinHandle<io::Result<()>>>,
}

impl Flush {
    async fn after(&mut self, written: u64, draft: &Draft) -> Result<()> {
        self.since += written;
        let busy = self.work.as_ref().is_some_and(|work| !work.is_finished());
        if self.since >= FLUSHED && !busy {
            self.since = 0;
            self.end().await?;
            let file = draft.file()?;
            self.work = Some(spawn_blocking(move || file.sync_data()));
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let flushed = work.await.context("cannot write to the image store")?;
        flushed.context("cannot write to the image store")
    }
}
