//! The two dialects in which containerd starts a shim.
//!
//! Up to 2.2: runtime options (or nothing) on standard input, the rest in flags and environment;
//! answered with the plain address, which every version takes and which means the task service v2.
//! From 2.3: a protobuf `BootstrapParams` on standard input, answered with a `BootstrapResult`
//! (<https://github.com/containerd/containerd/blob/main/docs/runtime-v2.md>).

use super::args::Args;
use containerd_shim_protos::TASK_API_VERSION;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::{self, Message};
use std::path::PathBuf;

/// Where sockets of shims live unless containerd says otherwise.
const SOCKET_DIR: &str = "/run/containerd/s";

/// What containerd tells at start.
#[derive(Debug)]
pub struct Bootstrap {
    modern: bool,
    /// Where events go.
    pub ttrpc_address: String,
    /// Where the socket goes.
    pub socket_dir: PathBuf,
}

impl Bootstrap {
    /// Understands `input`, what stood on standard input.
    ///
    /// # Errors
    /// When it is meant for another container, or containerd's address for events is nowhere.
    pub fn read(input: &[u8], args: &Args, environment: Option<String>) -> Result<Self, String> {
        let params = modern(input, args)?;
        let modern = params.is_some();
        let (address, dir) = match params {
            Some(params) => (Some(params.containerd_ttrpc_address), params.socket_dir),
            None => (environment, None),
        };
        let dir = dir.filter(|dir| !dir.is_empty());
        Ok(Self {
            modern,
            ttrpc_address: address
                .filter(|address| !address.is_empty())
                .ok_or("containerd did not say where events go (TTRPC_ADDRESS)")?,
            socket_dir: dir.map_or_else(|| SOCKET_DIR.into(), PathBuf::from),
        })
    }

    /// The answer that this caller understands.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn answer(&self, address: &str) -> protobuf::Result<Vec<u8>> {
        if !self.modern {
            return Ok(address.as_bytes().to_vec());
        }
        let result = BootstrapResult {
            version: TASK_API_VERSION,
            address: address.to_owned(),
            protocol: "ttrpc".into(),
            ..Default::default()
        };
        result.write_to_bytes()
    }
}

/// `BootstrapParams`, if that is what `input` is. Runtime options decode as such too, with their
/// type as the id and their value as the namespace and nothing else, so both must be ours.
fn modern(input: &[u8], args: &Args) -> Result<Option<BootstrapParams>, String> {
    let Ok(params) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if (&params.instance_id, &params.namespace) == (&args.id, &args.namespace) {
        return Ok(Some(params));
    }
    let BootstrapParams { instance_id, namespace, .. } = params.clone();
    let only_those = BootstrapParams { instance_id, namespace, ..Default::default() };
    if params == only_those {
        return Ok(None);
    }
    Err(format!(
        "started as {}/{} with bootstrap parameters of {}/{}",
        args.namespace, args.id, params.namespace, params.instance_id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    fn args() -> Args {
        let argv = ["shim", "-id", "abc", "-namespace", "moby", "start"].map(str::to_owned);
        Args::parse(&argv).unwrap()
    }

    fn params() -> BootstrapParams {
        BootstrapParams {
            instance_id: "abc".into(),
            namespace: "moby".into(),
            containerd_ttrpc_address: "/run/c.sock.ttrpc".into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_protobuf_dialect_is_answered_in_protobuf() {
        let input = params().write_to_bytes().unwrap();
        let bootstrap = Bootstrap::read(&input, &args(), None).unwrap();
        assert_eq!(bootstrap.ttrpc_address, "/run/c.sock.ttrpc");
        let answer = bootstrap.answer("unix:///s").unwrap();
        let result = BootstrapResult::parse_from_bytes(&answer).unwrap();
        assert_eq!((result.version, result.address.as_str()), (3, "unix:///s"));
    }

    #[test]
    fn the_socket_goes_where_containerd_says() {
        let mut params = params();
        params.socket_dir = Some("/run/x".into());
        let input = params.write_to_bytes().unwrap();
        let bootstrap = Bootstrap::read(&input, &args(), None).unwrap();
        assert_eq!(bootstrap.socket_dir, std::path::Path::new("/run/x"));
    }

    #[test]
    fn options_or_nothing_are_the_older_dialect_answered_with_the_plain_address() {
        let options = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: vec![1],
            ..Default::default()
        };
        for input in [Vec::new(), options.write_to_bytes().unwrap()] {
            let bootstrap = Bootstrap::read(&input, &args(), Some("/c.ttrpc".into())).unwrap();
            assert_eq!(bootstrap.answer("unix:///s").unwrap(), b"unix:///s");
        }
    }

    #[test]
    fn parameters_of_another_container_and_a_missing_address_are_refused() {
        let mut params = params();
        params.instance_id = "other".into();
        let input = params.write_to_bytes().unwrap();
        Bootstrap::read(&input, &args(), None).unwrap_err();
        Bootstrap::read(&[], &args(), None).unwrap_err();
    }
}
