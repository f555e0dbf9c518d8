//! As much of gRPC over HTTP/2 as three calls need
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode, header};
use std::fmt;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the other side may send before this one has taken it, in bytes.
const WINDOW: u32 = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("containerd does not answer as it should: {0}")]
    Http(#[from] h2::Error),
    /// It is silent.
    #[error("containerd does not answer")]
    Silent,
    /// It says no.
    #[error(transparent)]
    Status(#[from] Status),
    /// It says something else.
    #[error("containerd does not answer as it should: {0}")]
    Protocol(&'static str),
}

/// How a call ended that did not succeed.
#[derive(Debug, thiserror::Error)]
pub struct Status {
    /// <https://grpc.io/docs/guides/status-codes/>
    code: u32,
    message: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "containerd answers with status {}", self.code),
            message => write!(f, "containerd says: {message}"),
        }
    }
}

/// A connection.
pub struct Client {
    requests: SendRequest<Bytes>,
    namespace: String,
}

/// The messages that answer a call.
pub struct Answers {
    body: h2::RecvStream,
    received: BytesMut,
}

impl Client {
    /// Begins to talk over `socket`, of things in `namespace` of containerd.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn connect(socket: UnixStream, namespace: &str) -> Result<Self, Error> {
        let begun = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(socket);
        let (requests, connection) = in_time(begun).await??;
        tokio::spawn(connection);
        Ok(Self { requests, namespace: namespace.to_owned() })
    }

    /// Calls `method`, the path of one, with one message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call(&mut self, method: &str, message: &[u8]) -> Result<Answers, Error> {
        let request = Request::post(format!("http://localhost{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header("containerd-namespace", &self.namespace)
            .body(())
            .map_err(|_| Error::Protocol("the request cannot be written"))?;
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put_slice(message);
        let mut ready = in_time(self.requests.clone().ready()).await??;
        let (response, mut stream) = ready.send_request(request, false)?;
        stream.send_data(framed.freeze(), true)?;
        let response = in_time(response).await??;
        if response.status() != StatusCode::OK {
            return Err(Error::Protocol("it is no gRPC server"));
        }
        // Where there is nothing but a status, it stands here.
        if response.headers().contains_key("grpc-status") {
            check(response.headers())?;
        }
        Ok(Answers { body: response.into_body(), received: BytesMut::new() })
    }
}

impl Answers {
    /// The next message, of no more than `most` bytes; nothing at the good end of all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self, most: usize) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = whole(&mut self.received, most)? {
                return Ok(Some(message));
            }
            match in_time(self.body.data()).await? {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.received.put_slice(&data);
                }
                None if self.received.has_remaining() => {
                    return Err(Error::Protocol("a message is cut short"));
                }
                None => {
                    let trailers = in_time(self.body.trailers()).await??;
                    check(&trailers.unwrap_or_default())?;
                    return Ok(None);
                }
            }
        }
    }

    /// The only message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn only(mut self, most: usize) -> Result<Bytes, Error> {
        let message = self.next(most).await?.ok_or(Error::Protocol("no message"))?;
        match self.next(most).await? {
            None => Ok(message),
            Some(_) => Err(Error::Protocol("a message too many")),
        }
    }
}

/// The first of the messages that begin `received`, if it is whole
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>, Length-Prefixed-Message).
fn whole(received: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Error> {
    let Some([compressed, length @ ..]) = received.first_chunk::<5>().copied() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(length) as usize;
    if compressed != 0 {
        return Err(Error::Protocol("a message is compressed"));
    }
    if length > most {
        return Err(Error::Protocol("a message is too long"));
    }
    if received.len() < 5 + length {
        return Ok(None);
    }
    received.advance(5);
    Ok(Some(received.split_to(length).freeze()))
}

async fn in_time<T>(what: impl Future<Output = T>) -> Result<T, Error> {
    timeout(PATIENCE, what).await.map_err(|_| Error::Silent)
}

fn check(headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => {
            let message = decoded(text("grpc-message").unwrap_or_default());
            Err(Status { code, message }.into())
        }
        None => Err(Error::Protocol("no status")),
    }
}

/// Percent-decoded, as far as it is encoded well.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_once_it_is_whole_and_is_refused_when_it_is_too_long() {
        let mut received = BytesMut::new();
        for byte in [0, 0, 0, 0, 2, b'o'] {
            received.put_u8(byte);
            assert!(whole(&mut received, 2).unwrap().is_none());
        }
        received.put_slice(b"k\0\0\0\0\0\0\0\0\0\x03");
        assert_eq!(whole(&mut received, 2).unwrap().unwrap(), "ok");
        assert!(whole(&mut received, 2).unwrap().unwrap().is_empty());
        assert!(whole(&mut received, 2).is_err(), "three bytes are announced");
        assert!(whole(&mut BytesMut::from(&b"\x01\0\0\0\0"[..]), 2).is_err(), "it is compressed");
    }

    #[test]
    fn messages_are_decoded_as_far_as_they_are_encoded() {
        assert_eq!(decoded("image \"a\": not found"), "image \"a\": not found");
        assert_eq!(decoded("100%25 %C3%A9"), "100% é");
        assert_eq!(decoded("50% %zz %4"), "50% %zz %4");
    }
}
