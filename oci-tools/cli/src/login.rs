//! `wasm-image login` and `logout`.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use registry::credentials::{Credential, Keeper, Place};
use registry::{Host, Registry};

use crate::cli::{LoginArgs, LogoutArgs};
use crate::transfer::{Network, wait};

/// The longest password, in bytes; tokens of cloud providers have a few thousand.
const MAX: u64 = 64 << 10;

/// Tries the credentials, and keeps them.
pub fn login(args: &LoginArgs) -> Result<()> {
    let network = Network::new(&args.network);
    let host = network.host(&args.host)?;
    let keeper = Keeper::of_user()?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin => bail!("--password-stdin needs --username"),
        None => ask("Username: ", true)?,
    };
    let password = if args.password_stdin { from_stdin()? } else { ask("Password: ", false)? };
    if user.is_empty() || user.contains(':') || password.is_empty() {
        bail!("a user without `:` and a password are needed");
    }
    let credential = Credential::Password { user: user.clone(), password: password.clone() };
    wait(async { Ok(Registry::login(network.transport(), host.clone(), credential).await?) })?;
    match keeper.put(&host, &user, &password)? {
        Place::Helper(program) => println!("logged in to {}; {program} keeps it", host.name()),
        Place::File(path) => {
            println!("logged in to {}", host.name());
            eprintln!(
                "note: the password is in {}, readable for whoever can read the file; a credential helper would keep it better",
                path.display()
            );
        }
    }
    Ok(())
}

/// Forgets the credentials.
pub fn logout(args: &LogoutArgs) -> Result<()> {
    let host = Host::new(&args.host, false, false).map_err(|error| anyhow!(error))?;
    if Keeper::of_user()?.erase(&host)? {
        println!("logged out of {}", host.name());
    } else {
        println!("no credentials were kept for {}", host.name());
    }
    Ok(())
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin().take(MAX).read_to_string(&mut text).context("cannot read the password")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks at the terminal; with `echo` the answer is seen.
fn ask(words: &str, echo: bool) -> Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask at: use --username NAME --password-stdin");
    }
    eprint!("{words}");
    let before = tcgetattr(&stdin).context("cannot use the terminal")?;
    if !echo {
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        quiet.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &quiet).context("cannot use the terminal")?;
    }
    let mut answer = String::new();
    let read = stdin.lock().take(MAX).read_line(&mut answer);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &before).context("cannot use the terminal")?;
    read.context("cannot read from the terminal")?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}
