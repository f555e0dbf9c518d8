//! A component of `wasi:cli/command` 0.3: says its arguments, or exits as told.

use wasip3::exports::cli::run::Guest;

struct Command;

wasip3::cli::command::export!(Command);

impl Guest for Command {
    async fn run() -> Result<(), ()> {
        let args = wasip3::cli::environment::get_arguments();
        match args.get(1).map(String::as_str) {
            Some("fail") => Err(()),
            Some("trap") => panic!("asked to"),
            Some("sleep") => {
                say("sleeping\n").await;
                wasip3::clocks::monotonic_clock::wait_for(u64::MAX / 2).await;
                Ok(())
            }
            _ => {
                say(&format!("{}\n", args[1..].join(" "))).await;
                Ok(())
            }
        }
    }
}

async fn say(words: &str) {
    let (mut to, from) = wasip3::wit_stream::new();
    let written = wasip3::cli::stdout::write_via_stream(from);
    to.write_all(words.as_bytes().to_vec()).await;
    drop(to);
    written.await.expect("somebody reads");
}
