//! `zygote`: forks containers' processes for the shim that executes it, in place of one that is gone.
//! Its standard input is its control channel.

use super::Error;
use crate::init::zygote;
use crate::sys;
use crate::sys::channel::Channel;
use nix::fcntl::OFlag;
use std::os::fd::AsFd;
use std::path::Path;

pub fn run() -> Result<(), Error> {
    let control = Channel::from(sys::fd::standard(0)?);
    let null = sys::fd::open(Path::new("/dev/null"), OFlag::O_RDWR)?;
    sys::fd::become_standard(null.as_fd(), 0)?;
    zygote::run(control)
}
