//! The roles of the binary, one file each; and [`run`], for a program without a daemon. containerd calls `start`, `delete`, `-info` and `-v`;
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
pub mod run;
mod serve;
mod socket;
mod start;
mod trust;
mod zygote;

use args::{Action, Args};
use std::ffi::OsString;
use std::process::ExitCode;

/// Why a role failed, in words for containerd's log.
type Error = Box<dyn std::error::Error>;

/// Runs the role that `argv` asks for. What goes wrong is said on standard error.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let argv: Vec<String> = argv.into_iter().map(|a| a.to_string_lossy().into_owned()).collect();
    match argv.get(1..).map(strs).as_deref() {
        // Where there may be no root to begin with.
        Some(["alone", "compile", order @ ..]) => {
            return match crate::sandbox::alone::enter() {
                Ok(()) => compile::run(order),
                Err(e) => {
                    eprintln!("{e}");
                    ExitCode::FAILURE
                }
            };
        }
        Some(["compile", order @ ..]) => return compile::run(order),
        Some(["layer", order @ ..]) => return layer::run(order),
        Some(["trust", order @ ..]) => return trust::run(order),
        Some(["fetch", order @ ..]) => return trust::fetch(order),
        _ => {}
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
