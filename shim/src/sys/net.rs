//! The network as this process sees it: its loopback device, its resolver.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::AsRawFd;

/// Brings the loopback device of the caller's network namespace up.
///
/// # Errors
/// What ioctl(2) `SIOCSIFFLAGS` fails with.
pub fn loopback_up() -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        },
    };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: the request is a live, initialised `ifreq`, as this ioctl expects.
    Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })?;
    Ok(())
}

// SAFETY: declared as in glibc's nss.h.
unsafe extern "C" {
    /// What `/etc/nsswitch.conf` would say of one database.
    fn __nss_configure_lookup(
        database: *const libc::c_char,
        line: *const libc::c_char,
    ) -> libc::c_int;
}

/// Makes the C library resolve host names by `/etc/hosts` and DNS, which are built into it, whatever
/// `/etc/nsswitch.conf` says. Within a container's rootfs that file, and the modules that it names
/// for loading, are the guest's: it would choose native code for this process.
///
/// # Errors
/// When there is no memory for it.
pub fn pin_resolver() -> io::Result<()> {
    // SAFETY: both texts are NUL-terminated constants; the library only reads them.
    match unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
