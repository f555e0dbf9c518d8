//! Thin system calls that no library offers safely. With the loading of compiled code, the only
//! place of `unsafe`; decides nothing.

#![expect(unsafe_code, reason = "this is where it lives")]

pub mod channel;
pub mod fd;
pub mod fork;
pub mod mount;
pub mod net;
pub mod pidfd;
pub mod polled;
pub mod process;
pub mod ptrace;
pub mod pty;
pub mod signal;
