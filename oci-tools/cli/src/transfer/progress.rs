//! A line for each blob on its way, for a person at a terminal; for anybody else nothing.

use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use registry::{Descriptor, Meter};

use crate::cli::Format;

const LINE: &str =
    "{prefix} {wide_bar} {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>12}";

/// The lines.
pub struct Progress(MultiProgress);

impl Progress {
    /// Of a command whose report has the form `format`.
    pub fn new(format: Format) -> Self {
        let target = match format {
            // Hides itself where stderr is no terminal.
            Format::Text => ProgressDrawTarget::stderr(),
            Format::Json => ProgressDrawTarget::hidden(),
        };
        Self(MultiProgress::with_draw_target(target))
    }

    /// Begins the line of a blob.
    pub fn begin(&self, blob: &Descriptor) -> Line {
        let bar = self.0.add(ProgressBar::new(blob.size));
        if let Ok(style) = ProgressStyle::with_template(LINE) {
            bar.set_style(style);
        }
        bar.set_prefix(blob.digest.hex()[..12].to_owned());
        Line(bar)
    }
}

/// One line. It stays when the blob arrived, and goes when it did not.
pub struct Line(ProgressBar);

impl Line {
    /// Moves it.
    pub fn meter(&self) -> Meter {
        let bar = self.0.clone();
        Arc::new(move |at| bar.set_position(at))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.0.position() >= self.0.length().unwrap_or(0) {
            self.0.finish();
        } else {
            self.0.finish_and_clear();
        }
    }
}
