//! `start`: finds or makes the shim that serves this container, and says where.

use super::args::Args;
use super::bootstrap::Bootstrap;
use super::socket::is_served;
use super::{Error, serve};
use crate::launch::{Containerd, Wanted};
use crate::{spec, sys};
use artifact::digest::Digest;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// As much as containerd itself takes, in bytes.
const MAX_INPUT: u64 = 10 << 20;

pub fn run(name: &str, args: &Args) -> Result<(), Error> {
    let bundle = std::env::current_dir()?;
    let input = read_input()?;
    let bootstrap = Bootstrap::read(&input, args, std::env::var("TTRPC_ADDRESS").ok())?;
    let outline = spec::Outline::read(&bundle)?;
    let group = group(|key| outline.annotation(key));
    let key = Digest::of(
        [&args.address, &args.namespace, group.unwrap_or(&args.id)].join("/").as_bytes(),
    );
    let socket = bootstrap.socket_dir.join(key.to_string());
    let address = format!("unix://{}", socket.display());
    let listener = listen(&socket)?;
    // containerd 1.6 finds a running shim again by this file.
    let file = bundle.join("address");
    if let Err(e) = fs::write(&file, &address) {
        if listener.is_some() {
            let _ = fs::remove_file(&socket);
        }
        return Err(format!("cannot write {}: {e}", file.display()).into());
    }
    if let Some(listener) = listener {
        core_scheduling();
        if sys::fork::fork()?.is_none() {
            let settings = serve::Settings {
                listener,
                socket,
                bundle,
                name: name.to_owned(),
                id: args.id.clone(),
                containerd: Containerd {
                    address: args.address.clone(),
                    namespace: args.namespace.clone(),
                },
                ttrpc_address: bootstrap.ttrpc_address,
                grouped: group.is_some(),
                first: match outline.new_pid_namespace() {
                    true => Wanted::New,
                    false => Wanted::Inherit,
                },
                debug: args.debug,
            };
            serve::run(settings);
        }
    }
    io::stdout().write_all(&bootstrap.answer(&address)?)?;
    Ok(())
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    let stdin = io::stdin();
    // By hand, from a terminal, there is nothing to wait for.
    if !stdin.is_terminal() {
        stdin.lock().take(MAX_INPUT).read_to_end(&mut input)?;
    }
    Ok(input)
}

/// Containers of one group share a shim: those of a pod, or those that the group annotation names
/// together. Without a group each has its own.
fn group<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"].into_iter().find_map(annotation)
}

/// Binds the group's socket; `None` when a shim serves it already. A socket that nobody serves any
/// more, of a shim that was killed, is replaced.
fn listen(socket: &Path) -> Result<Option<UnixListener>, Error> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let failed = |e: io::Error| format!("cannot listen on {}: {e}", socket.display());
    DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(failed)?;
    // One `start` at a time: a socket that is bound and does not listen yet looks dead.
    let _turn = Flock::lock(File::open(dir)?, FlockArg::LockExclusive)
        .map_err(|(_, e)| failed(e.into()))?;
    match is_served(socket) {
        Ok(true) => return Ok(None),
        Ok(false) => fs::remove_file(socket)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e).into()),
    }
    let listener = UnixListener::bind(socket).map_err(failed)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// containerd asks for it by environment; a machine without it is told so by containerd's log.
fn core_scheduling() {
    if std::env::var_os("SCHED_CORE").is_some()
        && let Err(e) = sys::process::new_core_scheduling_group()
    {
        eprintln!("no core scheduling: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::group;

    #[test]
    fn a_pods_containers_are_grouped_by_their_sandbox() {
        let pod = ("io.kubernetes.cri.sandbox-id", "pod");
        let named = ("io.containerd.runc.v2.group", "named");
        let of = |list: &[(&str, &'static str)]| {
            group(|key| list.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
        };
        assert_eq!(of(&[pod, named]), Some("pod"));
        assert_eq!(of(&[named]), Some("named"));
        assert_eq!(of(&[]), None);
    }
}
