//! The tool's words as people read them, kept in `tests/words`: help, reports and refusals. A change
//! shows in review. `WORDS=write cargo test --release --workspace --test words` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What is read once, for it tells of this machine or of today.
const OF_TODAY: [(&str, &str); 1] = [(env!("CARGO_PKG_VERSION"), "VERSION")];

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-image"));
    command.args(args).current_dir(folder).env("WASM_IMAGE_STORE", folder.join("store"));
    command.env("DOCKER_CONFIG", folder).env_remove("SOURCE_DATE_EPOCH").output().unwrap()
}

/// Compares what is said with the file `name`.
#[track_caller]
fn holds(name: &str, said: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/words").join(name);
    let mut said = said.to_owned();
    for (actual, word) in OF_TODAY {
        said = said.replace(actual, word);
    }
    if std::env::var_os("WORDS").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &said).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said, "{} says\n{kept}\nand the tool\n{said}", path.display());
}

/// The commands that the help of `args` lists.
fn commands(args: &[&str]) -> Vec<String> {
    let help = run(Path::new("."), &[args, &["--help"]].concat());
    let help = String::from_utf8(help.stdout).unwrap();
    let Some((_, listed)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command() {
    let help = |args: &[&str], name: &str| {
        let output = run(Path::new("."), &[args, &["--help"]].concat());
        assert!(output.status.success(), "{args:?}");
        holds(&format!("help/{name}.txt"), &String::from_utf8(output.stdout).unwrap());
    };
    help(&[], "wasm-image");
    let all = commands(&[]);
    assert!(all.len() > 15, "{all:?}");
    for verb in &all {
        help(&[verb], verb);
        for part in commands(&[verb]) {
            help(&[verb, &part], &format!("{verb}-{part}"));
        }
    }
}

#[test]
fn what_is_said_from_a_module_to_its_end() {
    let folder = TempDir::new().unwrap();
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start")))"#;
    fs::write(folder.path().join("hello.wat"), wat).unwrap();
    fs::write(folder.path().join("page.html"), "hello").unwrap();
    let mut said = String::new();
    for line in [
        "build hello.wat --tag registry.example.com/team/hello:1.0 --add page.html:/srv/ --cmd one",
        "list",
        "inspect hello.tar",
        "explain hello.tar",
        "tag registry.example.com/team/hello:1.0 hello",
        "rm hello",
        "rm hello",
        "tag hello:none other",
        "build nothing.wasm",
        "build hello.wat --tag Hello",
        "build hello.wat --env COLOUR",
        "push hello@sha256:00",
        "inspect page.html",
        "verify hello --key nothing.pub",
        "sign hello --key hello.wat",
        "cache ls --root cache",
        "cache verify --root cache",
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let output = run(folder.path(), &args);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        said += &format!("$ wasm-image {line}\n{}{}", text(&output.stdout), text(&output.stderr));
        said += &match output.status.code() {
            Some(0) => "\n".to_owned(),
            code => format!("[ends with {}]\n\n", code.unwrap_or(-1)),
        };
    }
    let here = folder.path().display().to_string();
    holds("session.txt", &said.replace(&here, "FOLDER"));
}
