//! The roles of the binary, one file each. containerd calls `start`, `delete`, `-info` and `-v`;
//! `start` forks the process that serves, and that one calls `compile`, `layer` and
//! `zygote`.

mod accept;
mod args;
mod bootstrap;
mod compile;
mod confine;
mod delete;
mod info;
mod layer;
mod logger;
mod serve;
mod socket;
mod start;
mod zygote;

use args::{Action, Args};
use std::ffi::OsString;
use std::process::ExitCode;

/// Why a role failed, in words for containerd's log.
type Error = Box<dyn std::error::Error>;

/// Runs the role that `argv` asks for. What goes wrong is said on standard error.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let argv: Vec<String> = argv.into_iter().map(|a| a.to_string_lossy().into_owned()).collect();
    if let Some(["compile", work, root, max_cache, digest]) = argv.get(1..).map(strs).as_deref() {
        return compile::run(work, root, max_cache, digest);
    }
    if let Some(["layer", order @ ..]) = argv.get(1..).map(strs).as_deref() {
        return layer::run(order);
    }
    let name = args::program_name(&argv);
    let done = match Args::parse(&argv) {
        Ok(args) => match args.action {
            Action::Version => info::print_version(&name),
            Action::Info => info::print_info(&name),
            Action::Start => start::run(&name, &args),
            Action::Delete => delete::run(&args),
            Action::Zygote => zygote::run(),
        },
        Err(usage) => Err(usage.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{name}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
