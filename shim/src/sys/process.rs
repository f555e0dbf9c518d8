//! What a process can say about itself and give up.

use nix::errno::Errno;
use std::io;

/// Asks the kernel to kill this process when its parent ends. A change of user or capabilities
/// forgets it, so it is to be said after that.
///
/// # Errors
/// What prctl(2) fails with.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Makes this process the parent of those of its descendants whose own parent ends from now on, or
/// leaves them to others again.
///
/// # Errors
/// What prctl(2) fails with.
pub fn adopt_orphans(adopt: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(adopt)?)
}

/// Puts this process and those it makes into a core-scheduling group of their own
/// (prctl(2), `PR_SCHED_CORE`).
///
/// # Errors
/// `ENODEV` or `EINVAL` where the kernel or CPU has no core scheduling.
pub fn new_core_scheduling_group() -> io::Result<()> {
    const PIDTYPE_PGID: libc::c_ulong = 2;
    // SAFETY: plain system call without pointers.
    let done =
        unsafe { libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, 0, PIDTYPE_PGID, 0) };
    Errno::result(done)?;
    Ok(())
}

/// Keeps the permitted capabilities over the coming change of user; they are set to what the plan
/// grants right after it.
///
/// # Errors
/// What prctl(2) fails with.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_keepcaps(keep)?)
}

/// Whether this process's groups are fixed: in a user namespace that a user other than root has made
/// (user_namespaces(7), `/proc/pid/setgroups`).
///
/// # Errors
/// When `/proc` does not say.
pub fn groups_are_fixed() -> io::Result<bool> {
    Ok(std::fs::read_to_string("/proc/self/setgroups")?.trim_end() == "deny")
}

/// Sets a resource limit by number, soft and hard, in the resource's own unit.
///
/// # Errors
/// `EPERM` when the hard limit would be raised without `CAP_SYS_RESOURCE`.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a live, initialised structure.
    Errno::result(unsafe { libc::setrlimit64(resource, &limit) }).map(drop)
}

/// The hard limit of a resource.
///
/// # Errors
/// `EINVAL` when there is no such resource.
pub fn hard_limit(resource: u32) -> nix::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure that the kernel fills.
    Errno::result(unsafe { libc::getrlimit64(resource, &mut limit) })?;
    Ok(limit.rlim_max)
}

/// Ends this process at once: no destructors, no exit handlers. What a forked child must end with.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always allowed; the process is gone after it.
    unsafe { libc::_exit(code) }
}

/// Lets every other process go first, from here on and for its children.
///
/// # Errors
/// What setpriority(2) or sched_setscheduler(2) fails with.
pub fn yield_to_all() -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) })?;
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a live, initialised structure.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &none) })?;
    // Of a session outside all cgroups, the kernel may weigh the whole instead of its processes.
    let _ = std::fs::write("/proc/self/autogroup", "19");
    Ok(())
}

/// Sets the NIS domain name of this process's UTS namespace.
///
/// # Errors
/// What setdomainname(2) fails with.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one live string.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Makes this process look like one that was executed with `args`, for `ps` and `docker top`. Longer
/// ones are cut to the room that its own command line took.
///
/// # Errors
/// When `/proc/self/stat` cannot be read.
pub fn set_title(args: &[String]) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Fields 48 and 49 of proc_pid_stat(5), counted from the third, behind the name.
    let mut fields = stat[stat.rfind(')').map_or(0, |at| at + 2)..].split(' ').skip(45);
    let mut address = || fields.next().and_then(|field| field.parse::<usize>().ok());
    let (Some(start), Some(end)) = (address(), address()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut line = args.join("\0").into_bytes();
    line.resize(end.saturating_sub(start), 0);
    if let Some(last) = line.last_mut() {
        *last = 0;
    }
    // SAFETY: the kernel put the arguments from `start` to `end` on this process's stack, writable,
    // for as long as it lives. The standard library reads them only in `std::env::args`, which a
    // forked child does not call, and keeps the last NUL.
    unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), start as *mut u8, line.len()) };
    let program = args.first().and_then(|arg| arg.rsplit('/').next()).unwrap_or_default();
    let name = std::ffi::CString::new(program).unwrap_or_default();
    Ok(nix::sys::prctl::set_name(&name)?)
}
