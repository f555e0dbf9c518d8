//! `wasm-image`: makes OCI images that hold WebAssembly, shows what they are, runs them, keeps them,
//! and moves them.

mod build;
mod cache;
mod cli;
mod compile;
mod images;
mod inspect;
mod load;
mod login;
mod manners;
mod name;
mod reference;
mod run;
mod sign;
mod store;
mod transfer;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(code) = run::role() {
        return code;
    }
    if let Some(done) = build::optimize_module() {
        return done;
    }
    let command = match cli::Cli::try_parse_from(cli::words(std::env::args_os())) {
        Ok(cli) => cli.command,
        Err(error) => return run::refuse(&error),
    };
    let result = match command {
        cli::Command::Run(args) => return run::run(&args),
        cli::Command::Build(args) => build::run(*args),
        cli::Command::Inspect(args) => inspect::inspect(&args),
        cli::Command::Explain(args) => inspect::explain(&args),
        cli::Command::Pull(args) => transfer::pull(&args),
        cli::Command::Push(args) => transfer::push(&args),
        cli::Command::Copy(args) => transfer::copy(&args),
        cli::Command::Tag(args) => images::tag(&args),
        cli::Command::List(args) => images::list(&args),
        cli::Command::Rm(args) => images::rm(&args),
        cli::Command::Load(args) => load::run(&args),
        cli::Command::Keygen(args) => sign::keygen(&args),
        cli::Command::Sign(args) => sign::sign(&args),
        cli::Command::Verify(args) => sign::verify(&args),
        cli::Command::Compile(args) => compile::run(&args),
        cli::Command::Login(args) => login::login(&args),
        cli::Command::Logout(args) => login::logout(&args),
        cli::Command::Cache(args) => cache::run(&args),
        cli::Command::Completions(args) => manners::completions(&args),
        cli::Command::Man(args) => manners::man(&args),
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
