//! A pair of sockets between a process and its child, for whole messages with a descriptor.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The largest message, in bytes.
const MAX: usize = 64 * 1024;

/// One end. The other end's closing reads as `UnexpectedEof`.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two ends that are close-on-exec and blocking.
    ///
    /// # Errors
    /// What socketpair(2) fails with.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Makes calls answer `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// What fcntl(2) fails with.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&self.0, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Sends one message, with a descriptor or without.
    ///
    /// # Errors
    /// What sendmsg(2) fails with; `EPIPE` when the other end is gone.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        if bytes.len() > MAX {
            return Err(Errno::EMSGSIZE.into());
        }
        loop {
            let sent = sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Err(Errno::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, else what recvmsg(2) fails with.
    pub fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut bytes = vec![0; MAX];
        let mut space = nix::cmsg_space!(RawFd);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let (length, fd) = loop {
            let received = recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            );
            let message = match received {
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            let fd = message.cmsgs()?.find_map(|m| match m {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
            break (message.bytes, fd);
        };
        // SAFETY: the kernel has just made this descriptor for us alone.
        let fd = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(length);
        Ok((bytes, fd))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
