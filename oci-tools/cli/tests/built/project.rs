//! `wasm-image.toml`.

use std::fs;

use crate::desk::{Desk, HELLO, Layout};

const WHOLE: &str = r#"
modules = ["bin/hello.wasm", "bin/check.wasm"]
tags = ["web:1", "example.com/web:2"]
entrypoint = ["/hello.wasm", "-v"]
cmd = "serve"
workdir = "/srv"
user = "1000:1000"
expose = [8080, "53/udp"]
stop-signal = "int"
form = "index"

[files]
"/srv/data" = "data"
"/etc/" = "one"

[env]
B = "2"
A = "1"

[labels]
"org.example" = "x"
"#;

fn desk(toml: &str) -> Desk {
    Desk::new(&[
        ("bin/hello.wasm", HELLO),
        ("bin/check.wasm", HELLO),
        ("data/a", "a"),
        ("one", "1"),
        ("wasm-image.toml", toml),
    ])
}

#[test]
fn the_report_tells_of_modules_beside_the_one_that_runs_once() {
    let desk = desk(WHOLE);
    let output = desk.run(&["build", "--output", "out.tar", "--form", "image", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["beside", "image", "module", "next", "output", "warnings"]);
    assert_eq!(report["module"]["file"], "bin/hello.wasm");
    assert!(report["module"].get("beside").is_none(), "{report:#}");
    let beside = report["beside"].as_array().unwrap();
    assert_eq!((beside.len(), &beside[0]["path"]), (1, &"/check.wasm".into()));
}

const FLAGS: [&str; 38] = [
    "bin/hello.wasm",
    "bin/check.wasm",
    "--tag",
    "web:1",
    "--tag",
    "example.com/web:2",
    "--entrypoint",
    r#"["/hello.wasm","-v"]"#,
    "--cmd",
    "serve",
    "--workdir",
    "/srv",
    "--user",
    "1000:1000",
    "--expose",
    "8080",
    "--expose",
    "53/udp",
    "--stop-signal",
    "int",
    "--form",
    "index",
    "--add",
    "data:/srv/data",
    "--add",
    "one:/etc/",
    "--env",
    "B=2",
    "--env",
    "A=1",
    "--label",
    "org.example=x",
    "--strip=false",
    "--component=false",
    "--output",
    "flags.tar",
    "--format",
    "json",
];

#[test]
fn the_file_says_all_that_options_say_and_gives_the_same_bytes() {
    let desk = desk(WHOLE);
    let by_file = desk.build(&[]);
    let output = desk.run(&[&["build"], &FLAGS[..]].concat());
    assert!(output.status.success(), "{}", crate::desk::stderr(&output));
    assert!(by_file.bytes == fs::read(desk.path("flags.tar")).unwrap());
}

#[test]
fn the_file_is_found_in_the_current_folder_or_one_that_is_named_and_its_paths_start_there() {
    let desk = desk(WHOLE);
    let here = desk.build(&[]).bytes;
    fs::create_dir(desk.path("elsewhere")).unwrap();
    let run = |args: &[&str]| {
        let output = desk.run(&[&["build", "--output", "other.tar"], args].concat());
        assert!(output.status.success(), "{}", crate::desk::stderr(&output));
        fs::read(desk.path("other.tar")).unwrap()
    };
    assert!(run(&["."]) == here);
    assert!(run(&["--file", "wasm-image.toml"]) == here);
    let other = Desk::new(&[]);
    let folder = desk.path("").display().to_string();
    assert!(other.build(&[&folder]).bytes == here);
    let file = desk.path("wasm-image.toml").display().to_string();
    assert!(other.build(&["-f", &file]).bytes == here);
}

#[test]
fn options_are_laid_over_the_file() {
    let desk = desk(WHOLE);
    let layout = desk.build(&[
        "-f",
        "wasm-image.toml",
        "bin/check.wasm",
        "--entrypoint",
        "/check.wasm",
        "--env",
        "A=3",
        "--env",
        "C=4",
        "--label",
        "more=y",
        "--form",
        "image",
        "--tag",
        "x",
    ]);
    let config = layout.config();
    assert_eq!(config["Entrypoint"], serde_json::json!(["/check.wasm"]));
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(config["Env"], serde_json::json!(["B=2", "A=3", "C=4"]));
    assert_eq!(config["Labels"], serde_json::json!({ "org.example": "x", "more": "y" }));
    let names = layout.rootfs();
    assert!(names.contains_key("check.wasm") && !names.contains_key("hello.wasm"));
}

#[test]
fn the_module_that_the_entrypoint_names_is_the_one_described() {
    let desk = desk("modules = ['bin/hello.wasm', 'bin/check.wasm']\nentrypoint = '/check.wasm'");
    let output = desk.run(&["build"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.starts_with("bin/check.wasm: core module"), "{report}");
    assert!(report.contains("bin/hello.wasm: core module"), "{report}");
    assert!(desk.path("hello.tar").exists(), "the first gives the image its name");
}

#[test]
fn everything_wrong_is_told_with_file_and_line() {
    let start = "modules = [\n  'bin/hello.wasm',\n]\n";
    for (toml, words) in [
        ("moduls = []", "wasm-image.toml:1: unknown field `moduls`"),
        ("[files]\n'/x' = 'one'\n[fils]\n", "wasm-image.toml:6: unknown field `fils`"),
        ("tags = 'x'", "wasm-image.toml:4: invalid type: string \"x\", expected a sequence"),
        ("form = 'disk'", "wasm-image.toml:4: bad form `disk`: it must be one of image,"),
        ("\nexpose = [80,\n  0]", "wasm-image.toml:6: bad expose `0`: it must be a port"),
        ("user = 'a b'", "wasm-image.toml:4: bad user `a b`"),
        ("workdir = 'a'", "wasm-image.toml:4: bad workdir `a`: it must be an absolute path"),
        ("stop-signal = 'x'", "wasm-image.toml:4: bad stop-signal `x`"),
        ("tags = ['A']", "wasm-image.toml:4: bad tags `A`: the repository must be in lower case"),
        ("[env]\n'' = 'x'", "wasm-image.toml:5: bad env `=x`: it must be KEY=VALUE"),
        ("[files]\n'../x' = 'one'", "wasm-image.toml:5: bad files `../x`: DEST must not contain"),
        ("[files]\n'/x' = 'none'", "wasm-image.toml:5: cannot add none: No such file"),
        ("[files]\n'/hello.wasm' = 'one'", "wasm-image.toml:5: two different things would be at"),
        ("optimize = 5", "wasm-image.toml:4: bad optimize `5`: it must be one of 0, 1,"),
        ("optimize = []", "wasm-image.toml:4: expected true, or a level"),
        ("sbom = 'x'", "wasm-image.toml:4: bad sbom `x`: it must be one of spdx, cyclonedx"),
        ("entrypoint = [1]", "wasm-image.toml:4: expected an array of strings, or a string"),
        ("entrypoint = []", "wasm-image.toml:4: entrypoint is empty"),
        ("cmd = '[1'", "wasm-image.toml:4: bad cmd `[1`: not a JSON array"),
        ("linux = ['x']", "wasm-image.toml:4: linux needs an index"),
        ("form = 'artifact'\ncmd = 'x'", "wasm-image.toml:5: cmd has no place in an artifact"),
        ("cmd = ", "wasm-image.toml:4: "),
        ("cmd = 'a'\ncmd = 'b'", "wasm-image.toml:5: duplicate key"),
    ] {
        let desk =
            desk(&if words.contains(":1:") { toml.to_owned() } else { format!("{start}{toml}") });
        let said = desk.fail(1, &[]);
        assert!(said.contains(words), "{toml}: {said}");
    }
}

#[test]
fn a_module_that_cannot_be_had_is_told_with_its_line() {
    for (toml, words) in [
        ("modules = ['none.wasm']", "wasm-image.toml:1: cannot read none.wasm: No such file"),
        ("modules = [\n 'one']", "wasm-image.toml:2: cannot use one: it is not WebAssembly"),
        ("modules = ['/']", "wasm-image.toml:1: bad modules `/`: it does not name a file"),
        ("cmd = 'x'", "wasm-image.toml: it names no module: add modules"),
        ("modules = []", "wasm-image.toml: it names no module: add modules"),
        (
            "form = 'artifact'\nmodules = [\n'bin/hello.wasm',\n'bin/check.wasm']",
            "wasm-image.toml:4: bad modules `bin/check.wasm`: an artifact is one module",
        ),
    ] {
        let desk = desk(toml);
        let output = desk.run(&["build"]);
        let said = crate::desk::stderr(&output);
        assert!(!output.status.success() && said.contains(words), "{toml}: {said}");
    }
}

#[test]
fn a_file_that_is_no_text_or_too_much_of_it_is_refused() {
    let desk = desk("");
    desk.file("wasm-image.toml", b"a = '\xff'");
    assert!(desk.fail(1, &[]).contains("wasm-image.toml: it is not UTF-8"));
    desk.file("wasm-image.toml", "#".repeat((1 << 20) + 1));
    assert!(desk.fail(1, &[]).contains("wasm-image.toml: it has more than 1 MiB"));
    desk.file("wasm-image.toml", format!("modules = {}", "[".repeat(100_000)));
    desk.fail(1, &[]);
}

#[test]
fn nothing_to_go_by_is_told_with_what_is_looked_for() {
    let desk = Desk::new(&[("sub/x", "")]);
    let words = "it has no wasm-image.toml, Containerfile, Dockerfile; write one, or name a .wasm";
    assert!(desk.fail(2, &[]).contains(&format!("cannot build this folder: {words}")));
    assert!(desk.fail(2, &["sub"]).contains(&format!("cannot build sub: {words}")));
    assert!(desk.fail(2, &["sub", "x.wasm"]).contains("name one folder alone"));
    assert!(desk.fail(1, &["-f", "none.toml"]).contains("cannot read none.toml: No such file"));
    assert!(desk.fail(2, &["x.wasm", "--build-arg", "A=1"]).contains("--build-arg has no meaning"));
}

#[test]
fn the_output_may_be_said_too_and_starts_at_the_folder_of_the_file() {
    let desk = desk("modules = ['bin/hello.wasm']\noutput = 'made.tar'");
    let folder = desk.path("").display().to_string();
    assert!(Desk::new(&[]).run(&["build", &folder]).status.success());
    Layout::open(&desk.path("made.tar"));
}
