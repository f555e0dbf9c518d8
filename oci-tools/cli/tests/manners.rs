//! What the tool has beside its commands: completions, manual pages, exit codes, reports for programs.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wasm-image")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = text(&run(&["--help"]).stdout);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn completions_are_scripts_that_their_shell_reads_and_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success());
        let script = text(&output.stdout);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("sbom-output"), "{shell}");
    }
    let script = run(&["completions", "bash"]).stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(bash.wait().unwrap().success());
    assert_eq!(run(&["completions", "none"]).status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = TempDir::new().unwrap();
    let man = folder.path().join("man1");
    assert!(run(&["man", man.to_str().unwrap()]).status.success());
    for command in commands() {
        let page = man.join(format!("wasm-image-{command}.1"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{command}");
    }
    assert!(text(&run(&["man"]).stdout).contains(".TH wasm-image 1"));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write the manual to"));
}

#[test]
fn every_command_that_reports_can_report_to_programs() {
    // The others say nothing, what another tool says, or where keys and credentials are.
    for command in ["build", "inspect", "explain", "pull", "push", "copy", "list", "rm"] {
        let help = text(&run(&[command, "--help"]).stdout);
        assert!(help.contains("--format <FORMAT>"), "{command}");
    }
}

#[test]
fn what_cannot_be_read_ends_with_2_what_cannot_be_done_with_1_and_help_with_0() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["build", "--help"], 0),
        (&["--version"], 0),
        (&[], 2),
        (&["none"], 2),
        (&["build", "--none"], 2),
        (&["build", "a.wasm", "--env", "x"], 2),
        (&["build", "/none.wasm"], 1),
        (&["inspect", "/none.wasm"], 1),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
}

/// What is written on a terminal, with this environment.
fn on_a_terminal(variable: &str) -> String {
    let command = format!("{} build --none", env!("CARGO_BIN_EXE_wasm-image"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--command", &command, "/dev/null"]).env_clear();
    script.env("TERM", "xterm").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    if let Some((name, value)) = variable.split_once('=') {
        script.env(name, value);
    }
    text(&script.output().unwrap().stdout)
}

#[test]
fn there_are_colours_on_a_terminal_unless_no_color_is_set() {
    assert!(on_a_terminal("").contains("\u{1b}["));
    let plain = on_a_terminal("NO_COLOR=1");
    assert!(plain.contains("unexpected argument '--none'") && !plain.contains('\u{1b}'), "{plain}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
    let mut child = command
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn bash_completes_what_comes_after_a_command() {
    let script = TempDir::new().unwrap();
    let script = script.path().join("completions");
    std::fs::write(&script, run(&["completions", "bash"]).stdout).unwrap();
    for (words, last, wanted) in [
        ("wasm-image", "insp", "inspect"),
        ("wasm-image run", "--pul", "--pull"),
        ("wasm-image run --pull", "nev", "never"),
        ("wasm-image cache", "pru", "prune"),
        ("wasm-image cache prune", "--al", "--all"),
    ] {
        let line = format!(
            ". {}; COMP_WORDS=({words} {last}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _wasm__image wasm-image '{last}' \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo ${{COMPREPLY[@]}}",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert_eq!(text(&output.stdout).trim(), wanted, "{}", text(&output.stderr));
    }
}
