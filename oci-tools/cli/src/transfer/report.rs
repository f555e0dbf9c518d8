//! What was moved, in words or as JSON.

use std::fmt;

use anyhow::Result;
use registry::{Descriptor, Outcome};
use serde_json::{Value, json};

use crate::build::bytes;
use crate::cli::Format;

/// An image that has arrived.
pub struct Report {
    /// Under which it did, in full.
    pub name: String,
    pub root: Descriptor,
    pub blobs: Vec<Moved>,
}

/// A blob of it.
pub struct Moved {
    pub blob: Descriptor,
    pub outcome: Outcome,
}

impl Report {
    /// Says it on stdout.
    pub fn print(&self, format: Format) -> Result<()> {
        let text = match format {
            Format::Text => self.to_string(),
            Format::Json => format!("{:#}\n", self.json()),
        };
        super::say(&text)
    }

    fn json(&self) -> Value {
        let blob = |moved: &Moved| {
            let outcome = match moved.outcome {
                Outcome::Present => "present",
                Outcome::Mounted => "mounted",
                Outcome::Sent => "moved",
            };
            json!({ "digest": moved.blob.digest, "size": moved.blob.size, "outcome": outcome })
        };
        json!({
            "name": self.name,
            "digest": self.root.digest,
            "mediaType": self.root.media_type,
            "platform": self.root.platform.as_ref().map(ToString::to_string),
            "blobs": self.blobs.iter().map(blob).collect::<Vec<_>>(),
        })
    }

    fn count(&self, outcome: Outcome) -> (usize, u64) {
        let blobs = self.blobs.iter().filter(|moved| moved.outcome == outcome);
        blobs.fold((0, 0), |(count, size), moved| (count + 1, size + moved.blob.size))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "image {}", self.name)?;
        writeln!(f, "  {:<11}{}", "digest", self.root.digest)?;
        if let Some(platform) = &self.root.platform {
            writeln!(f, "  {:<11}{platform}", "platform")?;
        }
        let mut words = Vec::new();
        for (outcome, word) in [
            (Outcome::Sent, "moved"),
            (Outcome::Mounted, "taken from another repository"),
            (Outcome::Present, "there before"),
        ] {
            let (count, size) = self.count(outcome);
            if count > 0 {
                words.push(format!("{count} {word} ({})", bytes(size)));
            }
        }
        writeln!(f, "  {:<11}{}", "blobs", words.join(", "))
    }
}
