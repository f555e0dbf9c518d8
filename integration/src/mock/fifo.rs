//! containerd's ends of the fifos.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wait;

/// What comes out of a fifo, read as containerd reads: opened before there is a writer.
pub struct Outlet(Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>);

impl Outlet {
    /// Begins to read.
    pub fn of(fifo: &Path) -> Self {
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(fifo)
            .expect("the fifo is there");
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let thread = thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            let mut begun = false;
            loop {
                match reader.read(&mut chunk) {
                    // Before the first writer comes a fifo is at its end, too.
                    Ok(0) if begun => break,
                    Ok(0) => begun = hung_up(&reader),
                    Ok(length) => {
                        begun = true;
                        keep.lock()
                            .expect("nobody panics with it")
                            .extend_from_slice(&chunk[..length]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        begun = true;
                        readable(&reader);
                    }
                    Err(error) => panic!("a fifo cannot be read: {error}"),
                }
            }
        });
        Self(kept, thread)
    }

    /// What came so far.
    pub fn so_far(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    /// Waits until `text` has come.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait::until(&format!("{text:?} from a fifo"), || {
            String::from_utf8_lossy(&self.so_far()).contains(text)
        });
    }

    /// Waits for the end, and returns everything as text.
    #[track_caller]
    pub fn all(self) -> String {
        wait::until("the end of a fifo", || self.1.is_finished());
        String::from_utf8_lossy(&self.so_far()).into_owned()
    }
}

/// Opens a fifo for writing as soon as it has a reader.
#[track_caller]
pub fn inlet(fifo: &Path) -> impl Write {
    wait::some("a reader of the fifo", || {
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo).ok()
    })
}

fn readable(file: &fs::File) {
    // An interruption only means to look again.
    let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::from(100u8));
}

/// Waits a little for a writer, and says whether one came and left again without a word.
fn hung_up(file: &fs::File) -> bool {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100u8));
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Reads the shim's log to nowhere, as long as the test binary runs.
pub(super) fn drain(fifo: &Path) {
    let mut log =
        OpenOptions::new().read(true).write(true).open(fifo).expect("the bundle has a log fifo");
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = log.read(&mut chunk) {
            // libtest shows it where the test fails; a broken stderr is none of the test's business.
            let _ = std::io::stderr().write_all(&chunk[..length]);
        }
    });
}
