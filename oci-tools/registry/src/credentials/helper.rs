//! Programs that keep credentials: `docker-credential-NAME get|store|erase`.
//!
//! <https://github.com/docker/docker-credential-helpers#development>. Their answers are limited in
//! bytes and time: a helper may wait for a keyring that nobody will unlock.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Credential;
use crate::document::printable;
use crate::error::Error;

/// How long a helper may take: a person may have to type a password.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer, in bytes.
const MAX: u64 = 1 << 20;

/// What helpers say of credentials that they do not have.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user's name that goes with a token.
const TOKEN: &str = "<token>";

#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    /// `name` comes from the configuration at `path`.
    pub(super) fn new(name: &str, path: &Path) -> Result<Self, Error> {
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.chars().all(word) {
            return Ok(Self { program: format!("docker-credential-{name}") });
        }
        let name = printable(name);
        let path = path.display();
        Err(Error::Credentials(format!(
            "{path}: `{name}` cannot be the name of a credential helper"
        )))
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Credential>, Error> {
        let (worked, said) = self.run("get", key.as_bytes())?;
        if !worked {
            let said = String::from_utf8_lossy(&said);
            return if said.contains(NOT_FOUND) {
                Ok(None)
            } else {
                Err(self.failed(&format!("fails: {}", printable(&said))))
            };
        }
        // The parser's own words could hold a part of the secret.
        let kept: Kept = serde_json::from_slice(&said)
            .map_err(|_| self.failed("answers with no credentials"))?;
        Ok(match kept {
            Kept { secret, .. } if secret.is_empty() => None,
            Kept { username, secret, .. } if username == TOKEN => Some(Credential::Token(secret)),
            Kept { username, secret, .. } => {
                Some(Credential::Password { user: username, password: secret })
            }
        })
    }

    pub(super) fn store(&self, key: &str, user: &str, password: &str) -> Result<(), Error> {
        let kept = Kept {
            server_url: key.to_owned(),
            username: user.to_owned(),
            secret: password.to_owned(),
        };
        let input = serde_json::to_vec(&kept).expect("text is JSON");
        self.done(self.run("store", &input)?)
    }

    pub(super) fn erase(&self, key: &str) -> Result<(), Error> {
        self.done(self.run("erase", key.as_bytes())?)
    }

    fn done(&self, (worked, said): (bool, Vec<u8>)) -> Result<(), Error> {
        if worked {
            return Ok(());
        }
        Err(self.failed(&format!("fails: {}", printable(&String::from_utf8_lossy(&said)))))
    }

    fn failed(&self, words: &str) -> Error {
        Error::Credentials(format!("{} {words}", self.program))
    }

    /// Gives whether the program succeeded, and what it said.
    fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>), Error> {
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.failed(
                    "is not in PATH, but Docker's configuration names it: install it, or remove it there",
                ),
                _ => self.failed(&format!("cannot be run: {error}")),
            })?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let input = input.to_owned();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(converse(&mut child, &input)));
        match told.recv_timeout(PATIENCE) {
            Ok(Ok((worked, said))) if said.len() as u64 <= MAX => Ok((worked, said)),
            Ok(Ok(_)) => Err(self.failed("says more than credentials")),
            Ok(Err(error)) => Err(self.failed(&format!("cannot be listened to: {error}"))),
            Err(_) => {
                // It has not been waited for, so the number is still its own.
                let _ = kill(pid, Signal::SIGKILL);
                Err(self.failed("does not answer within 30 s; is its keyring locked?"))
            }
        }
    }
}

/// Writes `input`, and gives whether the program succeeded, and its output up to a byte too many.
fn converse(child: &mut Child, input: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    if let Some(mut stdin) = child.stdin.take() {
        // One that wants no input has its own reasons; what it says is what counts.
        let _ = stdin.write_all(input);
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX + 1).read_to_end(&mut said)?;
    }
    Ok((child.wait()?.success(), said))
}
