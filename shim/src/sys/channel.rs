//! A pair of sockets between a process and its child, for whole messages with descriptors.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The largest message, in bytes.
const MAX: usize = 64 * 1024;

/// The most descriptors that one message carries.
const MAX_FDS: usize = 4;

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

    /// Sends one message with its descriptors, four at most.
    ///
    /// # Errors
    /// What sendmsg(2) fails with; `EPIPE` when the other end is gone.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let fds: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        if bytes.len() > MAX || fds.len() > MAX_FDS {
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

    /// Takes one message with its descriptors.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, else what recvmsg(2) fails with.
    pub fn receive(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        // Room for this one message only: a buffer for the largest would stay in the memory of every
        // container.
        let mut bytes = vec![0; self.next_length()?];
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let (length, fds) = loop {
            let received = recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            );
            let message = match received {
                // As below; it may be closed between the two calls.
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                received => received?,
            };
            let mut fds: Vec<RawFd> = Vec::new();
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(some) = control {
                    fds.extend(some);
                }
            }
            break (message.bytes, fds);
        };
        // SAFETY: the kernel has just made these descriptors for us alone.
        let fds = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((bytes, fds))
    }

    /// The length of the message that comes next; 0 at the end.
    fn next_length(&self) -> io::Result<usize> {
        let how = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        loop {
            match recv(self.0.as_raw_fd(), &mut [], how) {
                // Told once, when the other end was closed with something of ours unread; what it said
                // before that is still to be taken.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                length => return Ok(length?),
            }
        }
    }
}

impl From<OwnedFd> for Channel {
    fn from(end: OwnedFd) -> Self {
        Self(end)
    }
}

impl From<Channel> for OwnedFd {
    fn from(end: Channel) -> Self {
        end.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_although_the_other_end_heard_nothing_any_more() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(b"unread", &[]).unwrap();
        theirs.send(b"last words", &[]).unwrap();
        drop(theirs);
        assert_eq!(ours.receive().unwrap().0, b"last words");
        assert_eq!(ours.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_message_brings_its_descriptors() {
        let (ours, theirs) = Channel::pair().unwrap();
        let files = [(); 3].map(|()| std::fs::File::open("/dev/null").unwrap());
        ours.send(b"three", &files.each_ref().map(|file| file.as_fd())).unwrap();
        let (bytes, fds) = theirs.receive().unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (&b"three"[..], 3));
    }
}
