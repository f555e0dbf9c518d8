//! The leanest client that a task service can have, and the cheapest service for its events: what
//! is measured with them is the shim, not the mock. Requests are encoded before the clock runs; a
//! call is one write and one read.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use containerd_shim_protos::protobuf::Message;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE};
use ttrpc::{Code, Request, Response};

use super::{Answer, Refusal};

/// Compiling a big module takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A request that is ready to be sent.
pub struct Frame(Vec<u8>);

impl Frame {
    /// A call of the task service of a version.
    pub fn task(version: i32, method: &str, request: &impl Message) -> Self {
        Self::new(&format!("containerd.task.v{version}.Task"), method, request)
    }

    /// A call of a method of a service.
    pub fn new(service: &str, method: &str, request: &impl Message) -> Self {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).expect("a short time"),
            payload: request.write_to_bytes().expect("a message can be written"),
            ..Default::default()
        };
        Self(framed(MESSAGE_TYPE_REQUEST, &request.write_to_bytes().expect("as above")))
    }
}

/// A connection to a shim.
pub struct Raw {
    stream: UnixStream,
    /// Of the last request; a client's are odd.
    id: u32,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects to the shim at an address that `start` printed.
    ///
    /// # Errors
    /// What connect(2) fails with.
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(address.trim_start_matches("unix://"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, id: u32::MAX, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// What write(2) fails with.
    pub fn send(&mut self, frame: &mut Frame) -> io::Result<()> {
        self.id = self.id.wrapping_add(2);
        frame.0[4..8].copy_from_slice(&self.id.to_be_bytes());
        self.stream.write_all(&frame.0)
    }

    /// Waits for the answer to the last request, and returns its payload.
    ///
    /// # Errors
    /// What the shim answered, or that it left without an answer.
    pub fn answer(&mut self) -> Answer<Vec<u8>> {
        let lost = |words: String| Refusal { code: None, message: words };
        let length = frame(&mut self.stream, &mut self.buffer).map_err(|e| lost(e.to_string()))?;
        let (header, payload) = self.buffer[..length].split_at(MESSAGE_HEADER_LENGTH);
        assert_eq!(header[8], MESSAGE_TYPE_RESPONSE, "not an answer");
        assert_eq!(header[4..8], self.id.to_be_bytes(), "the answer to another request");
        let answer = Response::parse_from_bytes(payload).map_err(|e| lost(e.to_string()))?;
        match answer.status.into_option() {
            Some(status) if status.code != Code::OK.into() => {
                Err(Refusal { code: status.code.enum_value().ok(), message: status.message })
            }
            _ => Ok(answer.payload),
        }
    }

    /// Waits until the shim has left.
    pub fn hung_up(mut self) {
        while let Ok(1..) = self.stream.read(&mut self.buffer) {}
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// What the shim answered, or that it left without an answer.
    pub fn call(&mut self, frame: &mut Frame) -> Answer<Vec<u8>> {
        self.send(frame)
            .map_err(|error| Refusal { code: None, message: error.to_string() })
            .and_then(|()| self.answer())
    }
}

/// A call that has come.
pub struct Call {
    id: [u8; 4],
    /// The method's name, without its service.
    pub method: String,
    /// The request.
    pub payload: Vec<u8>,
}

/// The other end of a connection: calls come, in any order answers go.
pub struct Served(UnixStream);

impl Served {
    /// Serves a connection.
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Waits for the next call.
    ///
    /// # Errors
    /// When the client has left, or what came is no call.
    pub fn call(&mut self) -> io::Result<Call> {
        let mut header = [0; MESSAGE_HEADER_LENGTH];
        self.0.read_exact(&mut header)?;
        let mut payload = vec![0; length(header)];
        self.0.read_exact(&mut payload)?;
        let request = Request::parse_from_bytes(&payload)?;
        let id = [header[4], header[5], header[6], header[7]];
        Ok(Call { id, method: request.method, payload: request.payload })
    }

    /// Answers a call.
    ///
    /// # Errors
    /// What write(2) fails with.
    pub fn answer(&mut self, call: &Call, answer: &impl Message) -> io::Result<()> {
        let answer = Response { payload: answer.write_to_bytes()?, ..Default::default() };
        let mut answer = framed(MESSAGE_TYPE_RESPONSE, &answer.write_to_bytes()?);
        answer[4..8].copy_from_slice(&call.id);
        self.0.write_all(&answer)
    }
}

/// Takes the events of every shim that connects to a socket and says yes, until this process ends.
///
/// # Errors
/// When the socket cannot be bound.
pub fn swallow_events(socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        let mut shims: Vec<UnixStream> = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let yes = framed(MESSAGE_TYPE_RESPONSE, &[]);
        loop {
            for (shim, was_readable) in readable(&listener, &shims).into_iter().enumerate().rev() {
                match was_readable {
                    false => {}
                    true if shim == 0 => shims.extend(listener.accept().map(|(stream, _)| stream)),
                    true => {
                        if take_event(&mut shims[shim - 1], &mut buffer, &yes).is_err() {
                            shims.swap_remove(shim - 1);
                        }
                    }
                }
            }
        }
    });
    Ok(())
}

/// Waits for something to read; the listener's place comes first.
fn readable(listener: &UnixListener, shims: &[UnixStream]) -> Vec<bool> {
    let all = std::iter::once(listener.as_fd()).chain(shims.iter().map(AsFd::as_fd));
    let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // An interruption only means to look again.
    let _ = poll(&mut fds, PollTimeout::NONE);
    fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()
}

fn take_event(shim: &mut UnixStream, buffer: &mut Vec<u8>, yes: &[u8]) -> io::Result<()> {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    shim.read_exact(&mut header)?;
    buffer.resize(length(header), 0);
    shim.read_exact(buffer)?;
    let mut answer = yes.to_vec();
    answer[4..8].copy_from_slice(&header[4..8]);
    shim.write_all(&answer)
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short message");
    [&length.to_be_bytes()[..], &[0; 4], &[kind, 0], payload].concat()
}

/// Of the payload.
fn length([a, b, c, d, ..]: [u8; MESSAGE_HEADER_LENGTH]) -> usize {
    u32::from_be_bytes([a, b, c, d]) as usize
}

/// Reads one frame to the beginning of `buffer`, and returns its length.
fn frame(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut have = 0;
    loop {
        if let Some(header) = buffer[..have].first_chunk::<MESSAGE_HEADER_LENGTH>() {
            let length = MESSAGE_HEADER_LENGTH + length(*header);
            if have >= length {
                return Ok(length);
            }
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
        }
        // With one request on its way at a time, no second frame can follow the first.
        match stream.read(&mut buffer[have..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => have += more,
        }
    }
}
