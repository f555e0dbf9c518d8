//! Namespaces: those of the plan that are new are made, those with a path are joined.

use super::Error;
use crate::spec::Isolation;
use crate::sys;
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};

/// Kinds that a process enters itself, before it is in its control group. A pid namespace is entered
/// by being forked into it; a user namespace last of all, so that everything before is done with the
/// host's rights.
const ENTERED: [Kind; 4] = [Kind::Network, Kind::Ipc, Kind::Uts, Kind::Mount];

fn flag(kind: Kind) -> CloneFlags {
    match kind {
        Kind::Mount => CloneFlags::CLONE_NEWNS,
        Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        Kind::Uts => CloneFlags::CLONE_NEWUTS,
        Kind::Ipc => CloneFlags::CLONE_NEWIPC,
        Kind::User => CloneFlags::CLONE_NEWUSER,
        Kind::Pid => CloneFlags::CLONE_NEWPID,
        Kind::Network => CloneFlags::CLONE_NEWNET,
        Kind::Time => CloneFlags::empty(),
    }
}

/// Opens the namespace of this kind that the plan gives by path, if it does.
///
/// # Errors
/// When the path cannot be opened.
pub fn open(isolation: &Isolation, kind: Kind) -> Result<Option<File>, Error> {
    let Some(path) = isolation.namespace(kind).and_then(|n| n.path().as_ref()) else {
        return Ok(None);
    };
    let file = File::open(path)
        .map_err(Error::step(format!("open the {kind} namespace {}", path.display())))?;
    Ok(Some(file))
}

/// Takes the calling process into its namespaces, all but those of pids, users and control groups,
/// and sets what lies in them: names, the loopback device, kernel settings.
///
/// # Errors
/// The first step that fails.
pub fn enter(isolation: &Isolation) -> Result<(), Error> {
    enter_kinds(isolation, &ENTERED)?;
    if isolation.is_new(Kind::Uts) {
        names(isolation)?;
    }
    if isolation.is_new(Kind::Network) {
        sys::net::loopback_up().map_err(Error::step("bring the loopback device up"))?;
    }
    isolation.sysctl.iter().try_for_each(|(name, value)| sysctl(isolation, name, value))
}

/// Takes the calling process, which is in its control group, into its namespace of control groups:
/// the group is what the namespace shows as the root.
///
/// # Errors
/// When it cannot be made, opened or joined.
pub fn enter_cgroup(isolation: &Isolation) -> Result<(), Error> {
    enter_kinds(isolation, &[Kind::Cgroup])
}

fn enter_kinds(isolation: &Isolation, kinds: &[Kind]) -> Result<(), Error> {
    let mut new = CloneFlags::empty();
    for kind in kinds.iter().copied() {
        if let Some(file) = open(isolation, kind)? {
            setns(file.as_fd(), flag(kind))
                .map_err(Error::step(format!("join the {kind} namespace")))?;
        } else if isolation.is_new(kind) {
            new |= flag(kind);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    unshare(new).map_err(Error::step(format!("make namespaces {new:?}")))
}

/// Whether the caller still has to enter a user namespace with [`enter_user`].
pub fn has_user(isolation: &Isolation) -> bool {
    isolation.namespace(Kind::User).is_some()
}

/// Takes the calling process into its user namespace. A new one is empty until its parent maps
/// ids into it.
///
/// # Errors
/// When it cannot be made, opened or joined.
pub fn enter_user(isolation: &Isolation, joined: Option<&File>) -> Result<(), Error> {
    match joined {
        Some(file) => setns(file.as_fd(), CloneFlags::CLONE_NEWUSER)
            .map_err(Error::step("join the user namespace")),
        None if isolation.is_new(Kind::User) => {
            unshare(CloneFlags::CLONE_NEWUSER).map_err(Error::step("make a user namespace"))
        }
        None => Ok(()),
    }
}

/// Takes the calling process to where the process `init` is, a pidfd, and `root` its root folder: into
/// all its namespaces but that of pids, that of users last.
///
/// # Errors
/// The first step that fails; the process may have ended meanwhile.
pub fn join(
    isolation: &Isolation,
    init: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), Error> {
    let all = ENTERED.into_iter().chain([Kind::Cgroup]);
    let kinds = all.fold(CloneFlags::empty(), |kinds, kind| kinds | flag(kind));
    setns(init, kinds).map_err(Error::step("join the container's namespaces"))?;
    // The kernel goes to the root of the mount namespace, which is another folder where the shim
    // lived in a changed root.
    nix::unistd::fchdir(root).map_err(Error::step("enter the container's root"))?;
    nix::unistd::chroot(".").map_err(Error::step("enter the container's root"))?;
    if has_user(isolation) {
        setns(init, CloneFlags::CLONE_NEWUSER)
            .map_err(Error::step("join the container's user namespace"))?;
    }
    Ok(())
}

/// Maps the plan's ids into the new user namespace of the process `pid`.
///
/// # Errors
/// When the kernel refuses a map.
pub fn map_ids(isolation: &Isolation, pid: nix::unistd::Pid) -> Result<(), Error> {
    let maps = [("uid_map", &isolation.uid_mappings), ("gid_map", &isolation.gid_mappings)];
    for (file, mappings) in maps {
        let lines: String = mappings
            .iter()
            .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
            .collect();
        fs::write(format!("/proc/{pid}/{file}"), lines)
            .map_err(Error::step(format!("write {file} of the user namespace")))?;
    }
    Ok(())
}

fn names(isolation: &Isolation) -> Result<(), Error> {
    if let Some(name) = &isolation.hostname {
        nix::unistd::sethostname(name)
            .map_err(Error::step(format!("set the host name {name:?}")))?;
    }
    if let Some(name) = &isolation.domainname {
        sys::process::set_domain_name(name)
            .map_err(Error::step(format!("set the domain name {name:?}")))?;
    }
    Ok(())
}

/// Sets a kernel setting that belongs to a namespace of the container; the host's are not its to
/// change.
fn sysctl(isolation: &Isolation, name: &str, value: &str) -> Result<(), Error> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let owner = if name.starts_with("net.") {
        Kind::Network
    } else if name == "kernel.domainname" {
        Kind::Uts
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Kind::Ipc
    } else {
        let no = std::io::Error::other("it belongs to no namespace, so it would be the host's");
        return Err(Error::step(format!("set sysctl {name}"))(no));
    };
    if isolation.namespace(owner).is_none() {
        let no = std::io::Error::other(format!(
            "the container shares the host's {owner} namespace, so it would be the host's"
        ));
        return Err(Error::step(format!("set sysctl {name}"))(no));
    }
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::write(path, value).map_err(Error::step(format!("set sysctl {name} to {value:?}")))
}
