//! What goes wrong with registries, in words that say what to do.

use std::io;
use std::time::Duration;

use crate::digest::Digest;
use crate::document::BadDocument;

/// Why a registry could not be used. `what` is what was asked for, such as
/// `blob sha256:… of localhost:5000/hello`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or no agreement about TLS.
    #[error("cannot reach {host}: {reason}{}", advice_on(reason))]
    Unreachable {
        /// Host and port.
        host: String,
        /// The innermost causes.
        reason: String,
    },
    /// The connection ended in the middle.
    #[error("{what}: the connection broke: {reason}")]
    Broken {
        /// What was asked for.
        what: String,
        /// The innermost causes.
        reason: String,
    },
    /// Nothing came, or almost nothing.
    #[error(
        "{what}: nothing moved for {} s; try again, or wait longer with --timeout",
        .after.as_secs_f64()
    )]
    Stalled {
        /// What was asked for.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The registry does not have it, or does not say that it has.
    #[error(
        "{what}: not found; check the name, and `wasm-image login {host}` if it is private{said}"
    )]
    NotFound {
        /// What was asked for.
        what: String,
        /// The registry's name.
        host: String,
        /// The registry's own words, after `: `, or nothing.
        said: String,
    },
    /// No credentials, or the wrong ones.
    #[error("{what}: {host} refuses {who}: `wasm-image login {host}`{said}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The registry's name.
        host: String,
        /// Whose access it was.
        who: &'static str,
        /// The registry's own words, after `: `, or nothing.
        said: String,
    },
    /// Too many requests, and the wait is too long.
    #[error("{what}: too many requests for {host}{}; try again later{said}", wait(*after))]
    Busy {
        /// What was asked for.
        what: String,
        /// The registry's name.
        host: String,
        /// When the registry takes requests again.
        after: Option<Duration>,
        /// The registry's own words, after `: `, or nothing.
        said: String,
    },
    /// Any other status.
    #[error("{what}: {host} answers with status {status}{said}{}", advice_on_status(*status))]
    Status {
        /// What was asked for.
        what: String,
        /// The registry's name.
        host: String,
        /// Of HTTP.
        status: u16,
        /// When the registry takes requests again, if it said.
        after: Option<Duration>,
        /// The registry's own words, after `: `, or nothing.
        said: String,
    },
    /// The answer is not what the protocol says.
    #[error("{what}: {reason}; is {host} a registry?")]
    Answer {
        /// What was asked for.
        what: String,
        /// The registry's name.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer sends elsewhere, where it must not.
    #[error("{what}: the registry sends to {to}: {reason}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// The target, without its query.
        to: String,
        /// Why not there.
        reason: &'static str,
    },
    /// Other bytes than were asked for.
    #[error("{what}: the registry sends other bytes, of digest {actual}; nothing of it is kept")]
    Digest {
        /// What was asked for.
        what: String,
        /// The digest of what came.
        actual: Digest,
    },
    /// More or fewer bytes than were asked for.
    #[error(
        "{what}: the registry sends {actual}, but the manifest says {expected} bytes; nothing of it is kept"
    )]
    Size {
        /// What was asked for.
        what: String,
        /// By the manifest, in bytes.
        expected: u64,
        /// In words.
        actual: String,
    },
    /// A manifest or index that cannot be used.
    #[error("{what}: {source}")]
    Document {
        /// What was asked for.
        what: String,
        /// Why not.
        source: BadDocument,
    },
    /// Something of Docker's configuration or of a credential helper.
    #[error("{0}")]
    Credentials(String),
    /// A file of this machine.
    #[error("{what}: {source}")]
    File {
        /// What was done to it.
        what: String,
        /// Why it did not work.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same may work a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } | Self::Busy { .. } => true,
            // What TLS and name servers refuse, they refuse again.
            Self::Unreachable { reason, .. } => {
                ["refused", "reset", "timed out", "closed", "temporar"]
                    .iter()
                    .any(|word| reason.contains(word))
            }
            Self::Status { status, .. } => matches!(status, 408 | 500..=599),
            _ => false,
        }
    }

    /// How long the registry asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } | Self::Status { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::File { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

fn advice_on(reason: &str) -> &'static str {
    if reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
        "; if the registry's certificate comes from an authority of your own, name it with --ca FILE"
    } else if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        "; it does not speak TLS: use --plain-http if it is meant to be without"
    } else {
        ""
    }
}

fn advice_on_status(status: u16) -> &'static str {
    match status {
        413 => {
            "; a proxy before it takes no request that long: send less in one, as by --chunk-size 16MiB"
        }
        _ => "",
    }
}

fn wait(after: Option<Duration>) -> String {
    after.map_or(String::new(), |after| format!(", for another {} s", after.as_secs()))
}
