//! Images between registries and the store: `pull`, `push`, `copy`.
//!
//! Blobs go first, several at a time, then documents, those that name others last, then the name;
//! so whatever breaks off leaves no name of something that is not there.

mod image;
mod progress;
mod pull;
mod push;
mod relay;
mod report;

use std::future::Future;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use registry::credentials::Keeper;
use registry::{
    Access, Descriptor, Host, Platform, Registry, Repository, Settings, Source, Transport,
};

use crate::cli::{CopyArgs, Format, NetworkArgs, PullArgs, PushArgs};
use crate::manners::print;
use crate::reference::{Place, Reference};
use crate::store::Store;
use image::Wanted;
use progress::Progress;

/// How many blobs are moved at a time.
const AT_A_TIME: usize = 4;

/// `wasm-image pull`.
pub fn pull(args: &PullArgs) -> Result<()> {
    let store = Store::open(args.store.store.as_deref())?;
    let wanted = match (&args.platform.platform, args.platform.all) {
        (_, true) => Wanted::All,
        (Some(platform), _) => Wanted::Exactly(platform.clone()),
        (None, _) => Wanted::Only(wasm()),
    };
    let network = Network::new(&args.network);
    let progress = Progress::new(args.format);
    let (image, name) = (&args.image, args.image.to_string());
    wait(pull::pull(&network, image, &wanted, &store, &name, &progress))?.print(args.format)
}

/// Fetches the image that `image` means for `platform` into the store, under that name; gives what is
/// there now. Nothing is said of it but how it goes.
pub async fn fetch(
    network: &Network,
    image: &Reference,
    platform: &Platform,
    store: &Store,
    format: Format,
) -> Result<Descriptor> {
    let (name, progress) = (image.to_string(), Progress::new(format));
    let wanted = Wanted::Only(platform.clone());
    Ok(pull::pull(network, image, &wanted, store, &name, &progress).await?.root)
}

/// Sends a blob that is in memory, unless it is there.
pub async fn send_bytes(repository: &Repository, blob: &Descriptor, content: &[u8]) -> Result<()> {
    if repository.has(blob).await? {
        return Ok(());
    }
    let mut file = tempfile::tempfile().context("cannot write to the temporary folder")?;
    file.write_all(content).context("cannot write to the temporary folder")?;
    let silent: registry::Meter = Arc::new(|_| ());
    Ok(repository.put_blob(blob, &mut Source::File(Arc::new(file)), &silent).await?)
}

/// Says a report on stdout; a reader that has seen enough is no failure.
pub fn say(text: &str) -> Result<()> {
    print(text).context("it is done, but the report cannot be written")
}

/// `wasm-image push`.
pub fn push(args: &PushArgs) -> Result<()> {
    let store = Store::open(args.store.store.as_deref())?;
    let network = Network::new(&args.network);
    let progress = Progress::new(args.format);
    let image = &args.image;
    wait(push::push(&network, &store, image, &Wanted::All, image, &progress))?.print(args.format)
}

/// `wasm-image copy`.
pub fn copy(args: &CopyArgs) -> Result<()> {
    let network = Network::new(&args.network);
    let progress = Progress::new(args.format);
    let wanted = args.platform.clone().map_or(Wanted::All, Wanted::Exactly);
    let store = || Store::open(args.store.store.as_deref());
    let report = match (&args.source, &args.destination) {
        (Place::Registry(from), Place::Registry(to)) => {
            wait(relay::relay(&network, from, &wanted, to, &progress))?
        }
        (Place::Registry(from), Place::Store(to)) => {
            wait(pull::pull(&network, from, &wanted, &store()?, &to.to_string(), &progress))?
        }
        (Place::Store(from), Place::Registry(to)) => {
            wait(push::push(&network, &store()?, from, &wanted, to, &progress))?
        }
        (Place::Store(_), Place::Store(_)) => {
            bail!("within the store there is nothing to copy: use `wasm-image tag`")
        }
    };
    report.print(args.format)
}

fn wasm() -> Platform {
    let (os, architecture) = (artifact::media::OS.into(), artifact::media::ARCHITECTURE.into());
    Platform { os, architecture, variant: None }
}

/// Runs `work` to its end on this thread.
pub fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let result = runtime.block_on(work);
    // A lookup of a name may still go on, for which nobody waits.
    runtime.shutdown_background();
    result
}

/// The ways to registries.
pub struct Network {
    transport: Arc<Transport>,
    plain_http: bool,
    own_ca: bool,
}

impl Network {
    pub fn new(args: &NetworkArgs) -> Self {
        let settings = Settings {
            plain_http: args.plain_http,
            ca: args.ca.clone(),
            stall: args.timeout,
            retries: args.retries,
            chunk: args.chunk_size,
        };
        let transport = Arc::new(Transport::new(settings));
        Self { transport, plain_http: args.plain_http, own_ca: args.ca.is_some() }
    }

    pub fn transport(&self) -> Arc<Transport> {
        self.transport.clone()
    }

    /// The address of registry `domain`.
    pub fn host(&self, domain: &str) -> Result<Host> {
        Host::new(domain, self.plain_http, self.own_ca).map_err(|error| anyhow!(error))
    }

    fn registry(&self, domain: &str) -> Result<Arc<Registry>> {
        Ok(Registry::new(self.transport(), self.host(domain)?, Some(Keeper::of_user()?)))
    }

    /// The repository of `image`.
    pub fn repository(&self, image: &Reference, access: Access) -> Result<Repository> {
        Ok(Repository::new(&self.registry(image.domain())?, image.path(), access))
    }
}
