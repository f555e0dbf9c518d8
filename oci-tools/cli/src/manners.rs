//! What a command has beside its work: completions for shells, and manual pages.

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, CompletionsArgs, ManArgs};

/// `wasm-image completions`.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, &name, &mut script);
    if args.shell == Shell::Bash {
        // clap_complete 4.6 calls a command with a hyphen in two ways, so that nothing is found.
        let label = |between: &str| format!("{}__subcmd__", name.replace('-', between));
        let text = String::from_utf8_lossy(&script).replace(&label("__subcmd__"), &label("__"));
        script = text.into_bytes();
    }
    print(&script)
}

/// `wasm-image man`.
pub fn man(args: &ManArgs) -> Result<()> {
    let command = Cli::command();
    match &args.folder {
        Some(folder) => {
            let unwritable = || format!("cannot write the manual to {}", folder.display());
            fs::create_dir_all(folder).with_context(unwritable)?;
            clap_mangen::generate_to(command, folder).with_context(unwritable)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).context("cannot make the manual")?;
            print(&page)
        }
    }
}

/// Writes to stdout. A reader that goes away, such as `head`, has seen enough, and is no failure.
pub fn print(text: impl AsRef<[u8]>) -> Result<()> {
    match io::stdout().write_all(text.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}
