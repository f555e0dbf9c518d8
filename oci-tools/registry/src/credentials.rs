//! The credentials that Docker's tools keep: `config.json` and the credential helpers it names.
//!
//! <https://docs.docker.com/reference/cli/docker/login/#credential-stores>. Passwords and tokens
//! are never part of a message, and `Debug` does not show them.

mod config;
mod helper;

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::host::Host;
use config::Config;
use helper::Helper;

/// How a registry knows who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's.
    Password {
        /// The user's name.
        user: String,
        /// Or an access token in its place.
        password: String,
    },
    /// A token by which the registry's token service gives other tokens.
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password of {user}"),
            Self::Token(_) => write!(f, "Token"),
        }
    }
}

/// Where credentials are kept.
#[derive(Clone, Debug)]
pub struct Keeper {
    path: PathBuf,
}

/// In what a credential was put.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// A credential helper, by the name of its program.
    Helper(String),
    /// The configuration file, where it is readable for whoever can read the file.
    File(PathBuf),
}

impl Keeper {
    /// The configuration of this user: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    pub fn of_user() -> Result<Self, Error> {
        let folder = match std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
            Some(folder) => Some(PathBuf::from(folder)),
            None => std::env::home_dir().map(|home| home.join(".docker")),
        };
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.ok_or_else(|| {
            Error::Credentials("there is no home folder: set DOCKER_CONFIG to a folder".to_owned())
        })?;
        Ok(Self { path: folder.join("config.json") })
    }

    /// What is kept for `host`. A helper's program may run, for half a minute at most.
    pub fn get(&self, host: &Host) -> Result<Option<Credential>, Error> {
        let config = Config::read(&self.path)?;
        let key = host.credentials_key();
        if let Some(helper) = self.helper(&config, key)?
            && let Some(credential) = helper.get(key)?
        {
            return Ok(Some(credential));
        }
        config.get(key)
    }

    /// Keeps `user` and `password` for `host`, in a helper if one is configured.
    pub fn put(&self, host: &Host, user: &str, password: &str) -> Result<Place, Error> {
        let mut config = Config::read(&self.path)?;
        let key = host.credentials_key();
        match self.helper(&config, key)? {
            Some(helper) => {
                helper.store(key, user, password)?;
                Ok(Place::Helper(helper.program().to_owned()))
            }
            None => {
                config.put(key, user, password);
                config.write(&self.path)?;
                Ok(Place::File(self.path.clone()))
            }
        }
    }

    /// Forgets what is kept for `host`; gives whether there was anything.
    pub fn erase(&self, host: &Host) -> Result<bool, Error> {
        let mut config = Config::read(&self.path)?;
        let key = host.credentials_key();
        let mut there = false;
        if let Some(helper) = self.helper(&config, key)?
            && helper.get(key)?.is_some()
        {
            helper.erase(key)?;
            there = true;
        }
        if config.erase(key) {
            config.write(&self.path)?;
            there = true;
        }
        Ok(there)
    }

    fn helper(&self, config: &Config, key: &str) -> Result<Option<Helper>, Error> {
        config.helper(key).map(|name| Helper::new(name, &self.path)).transpose()
    }
}
