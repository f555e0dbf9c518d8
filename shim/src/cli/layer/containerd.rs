//! What is asked of containerd: the image of a container, the target of an image, and content
//! (<https://github.com/containerd/containerd/tree/main/api/services>). Of each message, the fields
//! that are needed.

use super::grpc::{self, Answers, Client, Status};
use crate::image::manifest::{Descriptor, MAX_DOCUMENT};
use artifact::digest::{Digest, Hasher};
use bytes::Bytes;
use containerd_shim_protos::protobuf::rt::skip_field_for_tag;
use containerd_shim_protos::protobuf::{self, CodedInputStream, CodedOutputStream};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use tokio::runtime::Runtime;

/// The longest message but for content, in bytes: a container's has its specification in it.
const MAX_MESSAGE: usize = 16 << 20;

/// The longest message of content, in bytes.
const MAX_CHUNK: usize = 4 << 20;

/// Why something is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// containerd says no.
    #[error(transparent)]
    Status(Status),
    /// It does not answer.
    #[error(transparent)]
    Grpc(grpc::Error),
    /// It answers something else.
    #[error("containerd does not answer as it should: {0}")]
    Message(#[from] protobuf::Error),
    /// It has more or less of it than the image says.
    #[error(
        "containerd has {has} bytes of it in place of {size}; remove the image and pull it again"
    )]
    Size {
        /// How many it has, or at least.
        has: u64,
        /// How many the image says.
        size: u64,
    },
    /// It has something else.
    #[error("its content is not what its digest says; remove the image and pull it again")]
    Content,
    /// The system.
    #[error("cannot talk to containerd: {0}")]
    Io(#[from] io::Error),
    /// Where it should go.
    #[error("cannot pass it on: {0}")]
    Output(io::Error),
}

impl From<grpc::Error> for Error {
    fn from(error: grpc::Error) -> Self {
        match error {
            grpc::Error::Status(status) => Self::Status(status),
            error => Self::Grpc(error),
        }
    }
}

/// A containerd.
pub struct Containerd {
    runtime: Runtime,
    client: Client,
}

impl Containerd {
    /// The one behind `socket`, and of it what is in `namespace`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn connect(socket: UnixStream, namespace: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        socket.set_nonblocking(true)?;
        let client = runtime.block_on(async {
            let socket = tokio::net::UnixStream::from_std(socket)?;
            Ok::<_, Error>(Client::connect(socket, namespace).await?)
        })?;
        Ok(Self { runtime, client })
    }

    /// The name of the image of a container; nothing where it has none.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn image_of(&mut self, container: &str) -> Result<Option<String>, Error> {
        let answer = self.only("/containerd.services.containers.v1.Containers/Get", container)?;
        let container = bytes(&answer, 1)?;
        let image = text(&container, 3)?;
        Ok(Some(image).filter(|image| !image.is_empty()))
    }

    /// The manifest or index that an image's name stands for.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn target(&mut self, image: &str) -> Result<Descriptor, Error> {
        let answer = self.only("/containerd.services.images.v1.Images/Get", image)?;
        let target = bytes(&bytes(&answer, 1)?, 3)?;
        Ok(Descriptor::new(text(&target, 1)?, text(&target, 2)?, number(&target, 3)?))
    }

    /// A blob of `size` bytes, of [`MAX_DOCUMENT`] at most.
    ///
    /// # Errors
    /// When it is not there, or larger.
    pub fn blob(&mut self, digest: &str, size: u64) -> Result<Vec<u8>, Error> {
        let mut blob = Vec::new();
        self.content(digest, size.min(MAX_DOCUMENT), |chunk| {
            blob.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(blob)
    }

    /// Writes the blob of `size` bytes called `digest` to `out`, as it comes.
    ///
    /// # Errors
    /// When it is not there, or was not what its digest and size say: what was written is then void.
    pub fn copy(&mut self, digest: &Digest, size: u64, out: &mut impl Write) -> Result<(), Error> {
        let mut hash = Hasher::default();
        self.content(&format!("sha256:{digest}"), size, |chunk| {
            hash.update(chunk);
            out.write_all(chunk).map_err(Error::Output)
        })?;
        if hash.finish() != *digest {
            return Err(Error::Content);
        }
        out.flush().map_err(Error::Output)
    }

    fn content(
        &mut self,
        digest: &str,
        size: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut answers = self.call("/containerd.services.content.v1.Content/Read", digest)?;
        let mut has = 0;
        while let Some(answer) = self.runtime.block_on(answers.next(MAX_CHUNK))? {
            let chunk = bytes(&answer, 2)?;
            has += chunk.len() as u64;
            if has > size {
                return Err(Error::Size { has, size });
            }
            take(&chunk)?;
        }
        if has < size {
            return Err(Error::Size { has, size });
        }
        Ok(())
    }

    /// Calls `method` with a message whose first field is `name`, as each of them begins.
    fn call(&mut self, method: &str, name: &str) -> Result<Answers, Error> {
        let mut request = Vec::new();
        let mut out = CodedOutputStream::vec(&mut request);
        out.write_string(1, name)?;
        out.flush()?;
        drop(out);
        Ok(self.runtime.block_on(self.client.call(method, &request))?)
    }

    fn only(&mut self, method: &str, name: &str) -> Result<Bytes, Error> {
        let answers = self.call(method, name)?;
        Ok(self.runtime.block_on(answers.only(MAX_MESSAGE))?)
    }
}

/// The field `wanted` of a message: bytes, a string or another message. Empty where it is not there.
fn bytes(message: &[u8], wanted: u32) -> Result<Vec<u8>, Error> {
    const LENGTH_DELIMITED: u32 = 2;
    let mut found = Vec::new();
    let mut input = CodedInputStream::from_bytes(message);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag == wanted << 3 | LENGTH_DELIMITED {
            true => found = input.read_bytes()?,
            false => skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok(found)
}

fn text(message: &[u8], wanted: u32) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&bytes(message, wanted)?).into_owned())
}

/// The same of a number that is not below zero, which a size is not.
fn number(message: &[u8], wanted: u32) -> Result<u64, Error> {
    let mut found = 0;
    let mut input = CodedInputStream::from_bytes(message);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag == wanted << 3 {
            true => found = input.read_int64()?,
            false => skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok(found.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_others() {
        let mut message = Vec::new();
        let mut out = CodedOutputStream::vec(&mut message);
        out.write_int64(1, -7).unwrap();
        out.write_string(3, "name").unwrap();
        out.write_fixed64(4, 1).unwrap();
        out.write_int64(5, 1 << 40).unwrap();
        out.flush().unwrap();
        drop(out);
        assert_eq!(text(&message, 3).unwrap(), "name");
        assert_eq!((number(&message, 5).unwrap(), number(&message, 1).unwrap()), (1 << 40, 0));
        assert!(bytes(&message, 9).unwrap().is_empty());
        assert!(bytes(&message[..message.len() - 1], 3).is_err(), "it is cut short");
    }
}
