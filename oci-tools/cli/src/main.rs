//! `wasm-image`: makes OCI images that hold WebAssembly, and shows what they are.

mod build;
mod cli;
mod inspect;
mod name;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let result = match cli::Cli::parse().command {
        cli::Command::Build(args) => build::run(*args),
        cli::Command::Inspect(args) => inspect::inspect(&args),
        cli::Command::Explain(args) => inspect::explain(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // 2 is what clap ends with for a command line that it cannot read.
            ExitCode::from(if error.is::<build::Usage>() { 2 } else { 1 })
        }
    }
}
