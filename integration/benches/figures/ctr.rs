//! Whole commands of clients, in the test host with its daemons: what a user waits for.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::sample::{Figure, milliseconds};
use crate::world::{Peer, Runs, quiet};

pub const CTR: &str = "ctr run --rm";
pub const CTR_P2: &str = "ctr run --rm, 0.2";
pub const DOCKER: [&str; 3] =
    ["docker run --rm", "docker run --rm, no network", "docker run --rm, host network"];

/// The images, as archives that the machine's side has put there.
pub const IMAGES: [(&str, &str); 2] = [("hello", "probe-p1.wasm"), ("hello2", "probe-p2.wasm")];

pub fn measure(peers: &[Peer], runs: usize) -> Figure {
    let mut figure = Figure::new("ctr", "ms");
    for (image, _) in IMAGES {
        let archive = format!("/share/images/{image}.tar");
        must(&["docker", "load", "-q", "-i", &archive]);
        must(&["ctr", "image", "import", "--platform", "wasi/wasm", &archive]);
    }
    let mut kinds: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for what in [CTR, DOCKER[0], DOCKER[1], DOCKER[2], CTR_P2] {
        for peer in peers {
            if let Some(words) = command(what, peer) {
                kinds.push((what, &peer.name, words));
            }
        }
    }
    for (.., words) in &kinds {
        must(&words.iter().map(String::as_str).collect::<Vec<_>>()); // every cache is warm
    }
    quiet();
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..runs {
        for ((.., words), times) in kinds.iter().zip(&mut times) {
            let begin = Instant::now();
            must(&words.iter().map(String::as_str).collect::<Vec<_>>());
            times.push(milliseconds(begin.elapsed()));
        }
    }
    for ((what, who, _), times) in kinds.iter().zip(times) {
        figure.add(what, who, times);
    }
    figure
}

/// How `peer` is asked for a hello, if it can be.
fn command(what: &str, peer: &Peer) -> Option<Vec<String>> {
    let (client, network) = match what {
        CTR | CTR_P2 => ("ctr run --rm", ""),
        _ if what == DOCKER[0] => ("docker run --rm", ""),
        _ if what == DOCKER[1] => ("docker run --rm", "--network none"),
        _ => ("docker run --rm", "--network host"),
    };
    let of_ctr = client.starts_with("ctr");
    let words = match peer.runs {
        // The daemon would set up a network for a process that it has not.
        Runs::Nothing if !of_ctr && network != "--network host" => return None,
        Runs::Linux(_) | Runs::Nothing if what == CTR_P2 => return None,
        Runs::Linux(runtime) if of_ctr => format!(
            "{client} --runc-binary {runtime} docker.io/library/busybox:latest figure /bin/busybox echo hello"
        ),
        Runs::Linux(runtime) => {
            format!("{client} {network} --runtime {runtime} busybox echo hello")
        }
        Runs::Wasm | Runs::Nothing => {
            let image = if what == CTR_P2 { "hello2" } else { "hello" };
            let wasm = format!("--runtime {} --platform wasi/wasm", peer.runtime());
            match of_ctr {
                true => format!("{client} {wasm} docker.io/library/{image}:latest figure"),
                false => format!("{client} {network} {wasm} {image}"),
            }
        }
    };
    Some(words.split_whitespace().map(str::to_owned).collect())
}

fn must(words: &[&str]) {
    let mut command = Command::new(words[0]);
    let done = command.args(&words[1..]).stdin(Stdio::null()).output().expect("a client");
    assert!(
        done.status.success(),
        "{}: {}",
        words.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
}
