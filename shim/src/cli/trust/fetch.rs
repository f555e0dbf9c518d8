//! `fetch`: asks the registry of an image, whose answers are hostile input. The process has no more of
//! the host than a user who is nobody, files that everybody may read, and the network. Its parent, which
//! reads nothing, has the clock, and ends all of it.
//!
//! `fetch signatures IMAGE DIGEST`, `fetch bundles IMAGE DIGEST` and `fetch code IMAGE DIGEST WASM` write
//! JSON to standard output, `fetch blob IMAGE DIGEST SIZE UNPACKED` the unpacked blob.

use crate::cli::confine;
use crate::sys;
use crate::sys::fork::PidNamespace;
use flate2::write::GzDecoder;
use nix::sys::wait::{WaitStatus, waitpid};
use registry::credentials::Keeper;
use registry::{
    Access, BlobReader, Digest, Hasher, Host, Registry, Repository, Settings, Transport,
};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use trust::image::Found;

/// How long nothing may move.
const STALL: Duration = Duration::from_secs(5);

/// How long all of it may take, in seconds, and for a blob: a container waits for it.
const PATIENCE: (u32, u32) = (20, 60);

/// (resource, the most that asking a registry may take, in its unit)
const LIMITS: [(u32, u64); 4] = [
    (libc::RLIMIT_DATA, 256 << 20),
    (libc::RLIMIT_CPU, 120),
    (libc::RLIMIT_FSIZE, 0),
    (libc::RLIMIT_CORE, 0),
];

pub fn run(order: &[&str]) -> ExitCode {
    match watched(order) {
        Ok(Some(code)) => code,
        Ok(None) => answer(order),
        Err(e) => {
            eprintln!("cannot ask a registry: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for the process that does it, alone in a pid namespace; in that one gives nothing.
fn watched(order: &[&str]) -> io::Result<Option<ExitCode>> {
    sys::process::die_with_parent()?;
    // Looking for credentials is in it.
    nix::unistd::alarm::set(if order.first() == Some(&"blob") { PATIENCE.1 } else { PATIENCE.0 });
    let Some(child) = sys::fork::fork_into(PidNamespace::New)? else {
        sys::process::die_with_parent()?;
        return Ok(None);
    };
    let ended = waitpid(child, None)?;
    let failed = !matches!(ended, WaitStatus::Exited(_, 0));
    Ok(Some(ExitCode::from(u8::from(failed))))
}

fn answer(order: &[&str]) -> ExitCode {
    let done = match *order {
        ["signatures", image, digest] => json(image, digest, |repository, image| async move {
            let signatures = trust::image::fetch(&repository, &image).await?;
            Ok(Found { signatures, trouble: None })
        }),
        ["bundles", image, digest] => json(image, digest, |repository, image| async move {
            trust::bundle::fetch(&repository, &image).await
        }),
        ["code", image, digest, wasm] => digest_of(wasm).and_then(|wasm| {
            json(image, digest, |repository, image| async move {
                trust::code::offers(&repository, &image, &wasm).await
            })
        }),
        ["blob", image, digest, size, unpacked] => match (size.parse(), unpacked.parse()) {
            (Ok(size), Ok(unpacked)) => blob(image, digest, size, unpacked),
            _ => Err(format!("bad size {size} or {unpacked}")),
        },
        _ => Err(
            "usage: fetch signatures IMAGE DIGEST | fetch bundles IMAGE DIGEST | fetch code IMAGE \
                  DIGEST WASM | fetch blob IMAGE DIGEST SIZE UNPACKED"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes what `ask` hears of the image as JSON.
fn json<T, F>(
    image: &str,
    digest: &str,
    ask: impl FnOnce(Repository, Digest) -> F,
) -> Result<(), String>
where
    T: serde::Serialize,
    F: Future<Output = Result<T, registry::Error>>,
{
    let digest = digest_of(digest)?;
    let repository = repository(image)?;
    let answer = wait(ask(repository, digest))?.map_err(words)?;
    let json = serde_json::to_vec(&answer).map_err(words)?;
    io::stdout().write_all(&json).map_err(words)
}

/// Writes a compressed blob of `size` bytes unpacked, up to `unpacked` bytes of it.
fn blob(image: &str, digest: &str, size: u64, unpacked: u64) -> Result<(), String> {
    let blob = trust::code::layer(digest_of(digest)?, size);
    let repository = repository(image)?;
    wait(async {
        let mut out = GzDecoder::new(Limited { out: io::stdout().lock(), left: unpacked });
        let mut reader = BlobReader::new(&repository, &blob, 0, Hasher::default());
        while let Some(piece) = reader.next().await.map_err(words)? {
            out.write_all(&piece).map_err(words)?;
        }
        out.finish().and_then(|mut limited| limited.out.flush()).map_err(words)
    })?
}

/// The repository of `image`; from here on this process has no more than it takes to ask there.
fn repository(image: &str) -> Result<Repository, String> {
    let Some((host, path)) = trust::policy::place(image) else {
        return Err(format!("{image} does not name a registry"));
    };
    let host = Host::new(host, false, false)?;
    // Root's own, as for root's docker; a helper may run for them.
    let credential = Keeper::of_user().and_then(|keeper| keeper.get(&host)).unwrap_or_else(|e| {
        eprintln!("{e}; {} is asked without credentials", host.name());
        None
    });
    confine::online(&LIMITS).map_err(|e| format!("cannot lock the reader in: {e}"))?;
    let settings =
        Settings { plain_http: false, ca: None, stall: STALL, retries: 1, chunk: u64::MAX };
    let registry = Registry::with(Arc::new(Transport::new(settings)), host, credential);
    Ok(Repository::new(&registry, path, Access::Pull))
}

fn wait<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(words)?;
    let done = runtime.block_on(work);
    // A lookup of a name may still go on, for which nobody waits.
    runtime.shutdown_background();
    Ok(done)
}

fn digest_of(text: &str) -> Result<Digest, String> {
    text.parse().map_err(words)
}

fn words(error: impl Display) -> String {
    error.to_string()
}

/// A writer that takes no more than it should be given.
struct Limited<W> {
    out: W,
    left: u64,
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than its statement says"))?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
