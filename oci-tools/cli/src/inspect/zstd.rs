//! A zstd stream of any number of frames, as layers of images are compressed
//! (<https://datatracker.ietf.org/doc/html/rfc8878>). A frame may want 100 MiB of memory at most.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What is in such a stream.
pub struct Zstd<R: Read> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    within_frame: bool,
}

impl<R: Read> Zstd<R> {
    /// What is in `source`.
    pub fn new(source: R) -> Self {
        let source = BufReader::new(source);
        Self { source, decoder: FrameDecoder::new(), within_frame: false }
    }

    /// Goes into the next frame, past those that are to be skipped; or says that there is none.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within_frame {
                self.within_frame = self.next_frame()?;
                if !self.within_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let more = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.source, more).map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 if !buffer.is_empty() => self.within_frame = false,
                length => return Ok(length),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame whose only block is `text` as it is (RFC 8878, 3.1.1).
    fn frame(text: &[u8]) -> Vec<u8> {
        let length = text.len() as u8;
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, length, length << 3 | 1, 0, 0];
        frame.extend(text);
        frame
    }

    #[test]
    fn frames_are_joined_and_those_to_be_skipped_are() {
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [frame(b"one "), skipped, frame(b"two")].concat();
        let mut text = String::new();
        Zstd::new(&stream[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
        let cut = &stream[..stream.len() - 1];
        Zstd::new(cut).read_to_end(&mut Vec::new()).unwrap_err();
        Zstd::new(&b"no frame"[..]).read_to_end(&mut Vec::new()).unwrap_err();
    }
}
