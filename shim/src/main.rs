//! The binary. Its name is the runtime's: a symbolic link renames both.

fn main() -> std::process::ExitCode {
    shim::cli::run(std::env::args_os().collect())
}
