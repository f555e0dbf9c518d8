//! When to try again.

use std::time::Duration;

use crate::error::Error;

/// The first pause; each next one is twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// The longest pause of our own.
const LONGEST: Duration = Duration::from_secs(8);

/// The longest pause that a registry may ask for before we give up instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a registry is tried again that was never reached: it is more likely to be elsewhere than
/// to come up.
const UNREACHED: u32 = 2;

/// How many bytes must have moved since the last break for the count to begin anew: a registry that
/// breaks after each byte does not hold us for ever.
const PROGRESS: u64 = 1 << 20;

/// Counts the tries of one thing.
pub(crate) struct Retry {
    most: u32,
    left: u32,
    pause: Duration,
    moved: u64,
}

impl Retry {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, left: most, pause: FIRST, moved: 0 }
    }

    /// Waits until it is time to try again, or gives `error` back where that is pointless. `moved`
    /// is how many bytes of the thing are done.
    pub(crate) async fn after(&mut self, error: Error, moved: u64) -> Result<(), Error> {
        if moved >= self.moved + PROGRESS {
            *self = Self { moved, ..Self::new(self.most) };
        }
        if matches!(error, Error::Unreachable { .. }) && moved == 0 && self.left == self.most {
            self.left = self.left.min(UNREACHED);
        }
        let pause = error.retry_after().unwrap_or(self.pause);
        if !error.is_passing() || self.left == 0 || pause > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        self.left -= 1;
        self.pause = (self.pause * 2).min(LONGEST);
        Ok(())
    }
}
