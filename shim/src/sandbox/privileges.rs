//! The way down from root: each step takes something away that the next could not restore.

use super::Error;
use crate::spec::Process;
use crate::sys;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capabilities, PosixRlimitType};
use std::fs;
use std::str::FromStr;

/// What is done before the host's `/proc` is out of reach. Gives what could not be kept to the
/// letter, in words.
///
/// # Errors
/// When the kernel refuses for another reason than that this host's root may not either.
pub fn set_limits(process: &Process) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    if let Some(score) = process.oom_score_adj {
        match fs::write("/proc/self/oom_score_adj", score.to_string()) {
            Err(e)
                if e.raw_os_error() == Some(Errno::EACCES as i32)
                    || e.raw_os_error() == Some(Errno::EPERM as i32) =>
            {
                warnings.push(format!(
                    "process.oomScoreAdj: {score} needs CAP_SYS_RESOURCE; left as it is"
                ));
            }
            set => set.map_err(Error::step(format!("set oom_score_adj to {score}")))?,
        }
    }
    for limit in &process.rlimits {
        let (name, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        let number = number(name);
        let what = || format!("set {name} to {soft}:{hard}");
        match sys::process::set_limit(number, soft, hard) {
            Err(Errno::EPERM) => {
                let most = sys::process::hard_limit(number).map_err(Error::step(what()))?;
                sys::process::set_limit(number, soft.min(most), most)
                    .map_err(Error::step(what()))?;
                warnings.push(format!(
                    "process.rlimits: {name} {hard} needs CAP_SYS_RESOURCE; {most} it is"
                ));
            }
            set => set.map_err(Error::step(what()))?,
        }
    }
    Ok(warnings)
}

/// Becomes the plan's user with the plan's capabilities and no way to gain others. Where
/// `groups_are_fixed` ([`sys::process::groups_are_fixed`]), no other groups can be kept than it has.
///
/// # Errors
/// The first step that fails.
pub fn drop_to(process: &Process, groups_are_fixed: bool) -> Result<(), Error> {
    let sets = Sets::of(process);
    sets.bound()?;
    sys::process::keep_capabilities(true).map_err(Error::step("keep capabilities"))?;
    become_user(process, groups_are_fixed)?;
    sys::process::keep_capabilities(false).map_err(Error::step("keep capabilities"))?;
    sets.hold()?;
    // The guest executes nothing, so there is nothing that this could take from it.
    nix::sys::prctl::set_no_new_privs().map_err(Error::step("set no_new_privs"))?;
    let umask = nix::sys::stat::Mode::from_bits_truncate(process.umask.unwrap_or(0o022));
    nix::sys::stat::umask(umask);
    // A core dump or a debugger would show what the guest's memory holds.
    nix::sys::prctl::set_dumpable(false).map_err(Error::step("forbid core dumps"))?;
    sys::process::die_with_parent().map_err(Error::step("ask to end with the shim"))
}

fn become_user(process: &Process, groups_are_fixed: bool) -> Result<(), Error> {
    let groups: Vec<Gid> = process.additional_gids.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    if !(groups_are_fixed && groups.is_empty()) {
        setgroups(&groups).map_err(Error::step("set the additional groups"))?;
    }
    setresgid(gid, gid, gid).map_err(Error::step(format!("become group {gid}")))?;
    setresuid(uid, uid, uid).map_err(Error::step(format!("become user {uid}")))
}

/// Gives up every capability for good, but for those that executing a program would give.
///
/// # Errors
/// When the kernel refuses.
pub fn give_up_capabilities() -> Result<(), Error> {
    [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted]
        .into_iter()
        .try_for_each(|set| caps::clear(None, set).map_err(failed("give up capabilities")))
}

/// What a call of WASI can exercise. Others are granted to no guest, whatever the plan says: to a
/// guest they are worth nothing, and to whoever has taken over its process, a way out.
const USEFUL: [Capability; 5] = [
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_NET_BIND_SERVICE,
];

/// The capability sets of a plan; without any it has none.
struct Sets {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    inheritable: CapsHashSet,
    permitted: CapsHashSet,
    ambient: CapsHashSet,
}

impl Sets {
    fn of(process: &Process) -> Self {
        let plan = process.capabilities.as_ref();
        let set = |set: fn(&oci_spec::runtime::LinuxCapabilities) -> &Option<Capabilities>| {
            plan.and_then(|p| set(p).as_ref()).map(known).unwrap_or_default()
        };
        Self {
            bounding: set(|c| c.bounding()),
            effective: set(|c| c.effective()),
            inheritable: set(|c| c.inheritable()),
            permitted: set(|c| c.permitted()),
            ambient: set(|c| c.ambient()),
        }
    }

    fn bound(&self) -> Result<(), Error> {
        let all = caps::read(None, CapSet::Bounding).map_err(failed("read the bounding set"))?;
        for capability in all.difference(&self.bounding) {
            caps::drop(None, CapSet::Bounding, *capability)
                .map_err(failed("bound capabilities"))?;
        }
        Ok(())
    }

    fn hold(&self) -> Result<(), Error> {
        // Capabilities that the shim itself lacks cannot be handed on.
        let held = caps::read(None, CapSet::Permitted).map_err(failed("read capabilities"))?;
        let permitted: CapsHashSet = self.permitted.intersection(&held).copied().collect();
        // Daemons grant the same sets to every user and rely on execve(2), which leaves a user
        // other than root with the ambient ones. Nothing is executed here.
        let permitted = match nix::unistd::getuid().is_root() {
            true => permitted,
            false => permitted.intersection(&self.ambient).copied().collect(),
        };
        let effective = self.effective.intersection(&permitted).copied().collect();
        let inheritable = self.inheritable.intersection(&held).copied().collect();
        let set = |set, value: &CapsHashSet| {
            caps::set(None, set, value).map_err(failed("set capabilities"))
        };
        set(CapSet::Inheritable, &inheritable)?;
        set(CapSet::Effective, &effective)?;
        set(CapSet::Permitted, &permitted)?;
        for capability in &self.ambient {
            if permitted.contains(capability) && inheritable.contains(capability) {
                caps::raise(None, CapSet::Ambient, *capability)
                    .map_err(failed("raise capabilities"))?;
            }
        }
        Ok(())
    }
}

fn failed(step: &'static str) -> impl FnOnce(caps::errors::CapsError) -> Error {
    move |e| Error::step::<std::io::Error>(step)(std::io::Error::other(e.to_string()))
}

fn known(capabilities: &Capabilities) -> CapsHashSet {
    capabilities
        .iter()
        .filter_map(|c| Capability::from_str(&format!("CAP_{c}")).ok())
        .filter(|c| USEFUL.contains(c))
        .collect()
}

/// The kernel's number of a resource (getrlimit(2)).
fn number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
