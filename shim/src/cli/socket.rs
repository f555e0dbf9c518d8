//! Whether a shim serves a socket.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a shim may take to see that a caller has nothing to say.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether somebody serves the socket at `path`. One that is being killed still takes connections,
/// for a moment, so the first is waited for to end and the second counts.
///
/// # Errors
/// `NotFound` when there is no socket, or what connect(2) fails with for another reason than that
/// nobody listens.
pub fn is_served(path: &Path) -> io::Result<bool> {
    for _ in 0..2 {
        match UnixStream::connect(path) {
            Ok(mut stream) => {
                let _ = stream.shutdown(Shutdown::Write);
                stream.set_read_timeout(Some(PATIENCE))?;
                let _ = stream.read(&mut [0]);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::is_served;
    use std::io;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_is_served_as_long_as_somebody_listens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert_eq!(is_served(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            // Two callers, then gone.
            let _ = (listener.accept(), listener.accept());
        });
        assert!(is_served(&path).unwrap());
        server.join().unwrap();
        assert!(!is_served(&path).unwrap());
    }

    #[test]
    fn a_server_that_goes_while_it_is_asked_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(listener);
        });
        assert!(!is_served(&path).unwrap());
        server.join().unwrap();
    }
}
