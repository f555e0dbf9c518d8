//! The one place where errors become ttrpc codes, by which containerd and its clients decide.

use crate::init::Reason;
use crate::task::Error;
use crate::{cgroup, launch, spec};
use containerd_shim_protos::ttrpc::error::get_rpc_status;
use containerd_shim_protos::ttrpc::{self, Code};

/// A call about checkpoints, which this runtime never serves.
pub struct NotSupported(pub &'static str);

impl From<NotSupported> for ttrpc::Error {
    fn from(NotSupported(call): NotSupported) -> Self {
        let words = format!(
            "{call} is not supported: a guest's state lies in its runtime's memory, with code mapped \
             from the cache, open sockets and waiting calls of WASI, which nothing can write down \
             and take up again; stop the container and start it anew"
        );
        get_rpc_status(Code::UNIMPLEMENTED, words)
    }
}

/// The answer that tells `error`.
pub fn rpc(error: Error) -> ttrpc::Error {
    get_rpc_status(code(&error), error)
}

fn code(error: &Error) -> Code {
    match error {
        Error::NotFound(_) | Error::NoProcess { .. } | Error::Finished(_) | Error::NoCgroup(_) => {
            Code::NOT_FOUND
        }
        Error::Exists(_) | Error::ProcessExists { .. } => Code::ALREADY_EXISTS,
        Error::State { .. } | Error::ProcessState { .. } | Error::ExecIn { .. } => {
            Code::FAILED_PRECONDITION
        }
        Error::BadSignal { .. } => Code::INVALID_ARGUMENT,
        Error::Spec(spec::Error::Unreadable { .. }) => Code::NOT_FOUND,
        Error::Spec(spec::Error::Unsupported { .. }) => Code::UNIMPLEMENTED,
        Error::Spec(_) => Code::INVALID_ARGUMENT,
        Error::Launch(launch::Error::Failed(failure)) => match failure.reason {
            Reason::NotFound => Code::NOT_FOUND,
            Reason::Unusable => Code::INVALID_ARGUMENT,
            Reason::Forbidden => Code::PERMISSION_DENIED,
            Reason::Internal => Code::UNKNOWN,
        },
        Error::Launch(launch::Error::NotYet(_)) => Code::UNIMPLEMENTED,
        Error::Launch(launch::Error::Cgroup(e)) | Error::Cgroup(e) => match e {
            cgroup::Error::NotSystemd(_) | cgroup::Error::Limit { .. } => Code::INVALID_ARGUMENT,
            _ => Code::UNKNOWN,
        },
        Error::Launch(_) | Error::Io { .. } | Error::Lost => Code::UNKNOWN,
    }
}
