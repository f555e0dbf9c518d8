//! The terminal that `run` was started in: while the guest has one of its own, this one only carries
//! keys to it and shows what it says.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal that passes every key on; it is what it was when this is dropped.
pub struct Raw(Termios);

impl Raw {
    /// Makes standard input so, if it is a terminal.
    pub fn stdin() -> Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(stdin.as_fd()).context("cannot use the terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).context("cannot use the terminal")?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}
