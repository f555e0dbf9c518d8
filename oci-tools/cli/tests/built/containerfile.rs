//! Containerfiles.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::desk::{Desk, HELLO, stderr};

const WHOLE: &str = r#"# syntax=docker/dockerfile:1
# A comment.
ARG FOLDER=srv
FROM --platform=wasi/wasm scratch AS web
ARG FOLDER
ARG COLOUR=blue
LABEL org.example="x y" \
      # within
      other=z
ENV COLOUR=$COLOUR A="1 2"
ENV LEGACY some words
copy bin/*.wasm /
COPY --chown=1000:1000 --chmod=600 ["data", "/${FOLDER}/data/"]
WORKDIR /$FOLDER
COPY one two/
USER 1000:1000
EXPOSE 8080 53/udp
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --retries=2 CMD ["/check.wasm", "--fast"]
ENTRYPOINT ["/hello.wasm", "-v"]
CMD ["$A"]
"#;

fn desk(containerfile: &str) -> Desk {
    Desk::new(&[
        ("bin/hello.wasm", HELLO),
        ("bin/check.wasm", HELLO),
        ("data/a", "a"),
        ("data/b.log", "b"),
        ("data/d/c.log", "c"),
        ("one", "1"),
        ("Containerfile", containerfile),
    ])
}

/// What goes before an instruction that is looked at.
fn with(instructions: &str) -> String {
    format!("FROM scratch\nCOPY bin/hello.wasm /\n{instructions}\nENTRYPOINT [\"/hello.wasm\"]\n")
}

#[test]
fn every_instruction_of_the_subset_is_in_the_image() {
    let layout = desk(WHOLE).build(&[]);
    let expected = json!({
        "Entrypoint": ["/hello.wasm", "-v"],
        "Cmd": ["$A"],
        "Env": ["COLOUR=blue", "A=1 2", "LEGACY=some words"],
        "Labels": { "org.example": "x y", "other": "z" },
        "WorkingDir": "/srv",
        "User": "1000:1000",
        "ExposedPorts": { "8080/tcp": {}, "53/udp": {} },
        "StopSignal": "SIGINT",
        "Healthcheck": { "Test": ["CMD", "/check.wasm", "--fast"], "Interval": 30_000_000_000_u64, "Retries": 2 },
    });
    assert_eq!(layout.config(), expected);
    let expected = [
        "check.wasm 755 0:0",
        "hello.wasm 755 0:0",
        "srv 755 1000:1000",
        "srv/data 755 1000:1000",
        "srv/data/a 600 1000:1000",
        "srv/data/b.log 600 1000:1000",
        "srv/data/d 755 1000:1000",
        "srv/data/d/c.log 600 1000:1000",
        "srv/two 755 0:0",
        "srv/two/one 644 0:0",
    ];
    assert_eq!(layout.listing(), expected);
}

#[test]
fn it_gives_the_same_bytes_as_the_options_that_say_the_same() {
    let desk = desk(
        "FROM scratch\nCOPY bin/check.wasm bin/hello.wasm /\nCOPY data /srv/data\nENV B=2 A=1\n\
         WORKDIR /srv\nUSER 1\nLABEL a=b\nEXPOSE 80\nSTOPSIGNAL term\n\
         ENTRYPOINT [\"/hello.wasm\"]\nCMD [\"x\"]\n",
    );
    let by_file = desk.build(&[]).bytes;
    let by_options = desk.build(&[
        "bin/hello.wasm",
        "bin/check.wasm",
        "--add",
        "data:/srv/data",
        "-e",
        "B=2",
        "-e",
        "A=1",
        "-w",
        "/srv",
        "-u",
        "1",
        "-l",
        "a=b",
        "--expose",
        "80",
        "--stop-signal",
        "term",
        "--cmd",
        "x",
    ]);
    assert!(by_file == by_options.bytes);
}

#[test]
fn the_folder_is_the_context_and_the_file_may_be_elsewhere() {
    let desk = desk(&with("COPY one /x"));
    let here = desk.build(&["."]).bytes;
    desk.file("other/Dockerfile", with("COPY one /x"));
    assert!(desk.build(&["-f", "other/Dockerfile"]).bytes == here);
    assert!(desk.build(&["-f", "other/Dockerfile", "."]).bytes == here);
    let said = desk.fail(1, &["other"]);
    assert!(
        said.contains("other/Dockerfile:2: COPY bin/hello.wasm: cannot read other/bin/hello"),
        "{said}"
    );
    fs::remove_file(desk.path("Containerfile")).unwrap();
    fs::rename(desk.path("other/Dockerfile"), desk.path("Dockerfile")).unwrap();
    assert!(desk.build(&[]).bytes == here);
}

#[test]
fn arguments_come_from_the_command_line_and_have_to_be_declared() {
    let desk = desk(&with("ARG V=1\nARG TARGETARCH\nENV V=$V ARCH=$TARGETARCH NONE=${X:-y}"));
    assert_eq!(desk.build(&[]).config()["Env"], json!(["V=1", "ARCH=wasm", "NONE=y"]));
    let layout = desk.build(&["--build-arg", "V=2"]);
    assert_eq!(layout.config()["Env"][0], "V=2");
    let said = desk.fail(1, &["--build-arg", "W=2"]);
    assert!(said.contains("Containerfile: no ARG declares the --build-arg `W`"), "{said}");
    assert!(desk.fail(2, &["--build-arg", "W"]).contains("it must be NAME=VALUE"));
}

#[test]
fn options_are_laid_over_the_containerfile() {
    let desk = desk(WHOLE);
    let config = desk.build(&["--cmd", "y", "--env", "A=3", "--user", "0"]).config();
    assert_eq!((&config["Cmd"], &config["User"]), (&json!(["y"]), &json!("0")));
    assert_eq!(config["Env"][1], "A=3");
}

#[test]
fn a_module_may_be_the_command_or_be_found_in_the_path_or_the_working_folder() {
    for (end, path) in [
        ("COPY bin/hello.wasm /app/x.wasm\nCMD [\"/app/x.wasm\"]", "app/x.wasm"),
        ("COPY bin/hello.wasm /bin/x\nENV PATH=/sbin:/bin\nENTRYPOINT [\"x\"]", "bin/x"),
        ("WORKDIR /app\nCOPY bin/hello.wasm .\nENTRYPOINT [\"./hello.wasm#f\"]", "app/hello.wasm"),
    ] {
        let desk = desk(&format!("FROM scratch\n{end}"));
        let output = desk.run(&["build", "-o", "out.tar"]);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
        let listing = crate::desk::Layout::open(&desk.path("out.tar")).listing();
        assert!(listing.contains(&format!("{path} 755 0:0")), "{listing:?}");
    }
}

#[test]
fn what_is_left_out_of_the_context_is_not_copied() {
    let desk = desk(&with("COPY . /app"));
    desk.file(
        ".dockerignore",
        "# not these\n*.tar\ndata\n!data/d/*.log\nbin\n.dockerignore\n!bin/hello.wasm",
    );
    let names: Vec<_> = desk.build(&[]).rootfs().into_keys().collect();
    let expected = [
        "app",
        "app/Containerfile",
        "app/bin",
        "app/bin/hello.wasm",
        "app/data",
        "app/data/d",
        "app/data/d/c.log",
        "app/one",
        "hello.wasm",
    ];
    assert_eq!(names, expected);
    desk.file("Containerfile.containerignore", "data\nbin/*\n!bin/hello.wasm\n*.tar");
    assert!(!desk.build(&[]).rootfs().contains_key("app/data"));
    desk.file("Containerfile", with("COPY data/a /x"));
    let said = desk.fail(1, &[]);
    assert!(
        said.contains("Containerfile:3: COPY data/a: Containerfile.containerignore leaves it out"),
        "{said}"
    );
}

#[test]
fn the_image_itself_is_not_taken_in_by_the_next_build() {
    let desk = desk(&with("COPY . /app"));
    desk.build(&[]);
    let output = desk.run(&["build", "--output", "out.tar"]);
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains("it is copied into the image, to /app/out.tar"), "{words}");
}

#[test]
fn a_later_copy_takes_the_place_of_an_earlier_one() {
    let desk = desk(&with("COPY one /x\nCOPY data/a /x\nCOPY data /y\nCOPY one /y\nCOPY one /y/a"));
    let files = desk.build(&[]).rootfs();
    assert_eq!((files["x"].as_slice(), files["y/a"].as_slice()), (&b"a"[..], &b"1"[..]));
    assert_eq!(files["y/one"], b"1", "a folder that is there is copied into");
}

#[test]
fn nothing_outside_the_context_is_read() {
    let outside = Desk::new(&[("secret", "s")]);
    for (copy, words) in [
        ("../secret", "COPY ../secret: it leads out of the context"),
        ("data/../../secret", "it leads out of the context"),
        ("/etc/hostname", "cannot read ./etc/hostname: No such file"),
        ("link", "link is a link out of the context, to "),
        ("link/secret", "link/secret is a link out of the context"),
        ("l*", "link is a link out of the context"),
        ("links", "links/out: it is a link to "),
    ] {
        let desk = desk(&with(&format!("COPY {copy} /x/")));
        symlink(outside.path(""), desk.path("link")).unwrap();
        fs::create_dir(desk.path("links")).unwrap();
        symlink(outside.path("secret"), desk.path("links/out")).unwrap();
        let said = desk.fail(1, &[]);
        assert!(said.contains("Containerfile:3: ") && said.contains(words), "{copy}: {said}");
    }
}

#[test]
fn links_within_the_context_are_followed_when_named_and_kept_below() {
    let desk = desk(&with("COPY alias /x\nCOPY data /data"));
    symlink("one", desk.path("alias")).unwrap();
    symlink("a", desk.path("data/l")).unwrap();
    let listing = desk.build(&[]).listing();
    assert!(listing.contains(&"data/l 777 0:0 -> a".to_owned()), "{listing:?}");
    assert!(listing.contains(&"x 644 0:0".to_owned()), "{listing:?}");
}

#[test]
fn what_is_not_known_is_refused_with_its_line_and_what_to_do() {
    for (line, words) in [
        ("RUN make", "RUN is not known here: nothing is run while an image is built"),
        ("ADD http://x /x", "ADD is not known here: use COPY"),
        ("VOLUME /x", "VOLUME is not known here: give the folder a volume where it is run"),
        ("SHELL [\"x\"]", "there is no shell"),
        ("ONBUILD COPY a b", "ONBUILD is not known"),
        ("MAINTAINER me", "use LABEL org.opencontainers.image.authors"),
        ("FROM scratch", "a second FROM, after line 1: there are no stages here"),
        ("COPY --from=x a b", "COPY --from is not known here: there are no stages"),
        ("COPY --exclude=x a b", "leave things out in .dockerignore"),
        ("COPY --x a b", "it takes --chown, --chmod, --link"),
        ("COPY --chown=me one /x", "--chown=me: give numbers"),
        ("COPY --chmod=u+x one /x", "--chmod=u+x: it must be an octal number"),
        ("COPY one", "COPY takes at least one SRC and a DST"),
        ("COPY none /x", "COPY none: cannot read ./none: No such file"),
        ("COPY *.none /x", "COPY *.none: nothing in . matches it"),
        ("COPY one data /x", "COPY of 2 things into one: end DST with a slash, as in /x/"),
        ("COPY [one] /x", "not a JSON array of strings"),
        ("COPY one /../x", "DEST must not contain `..`"),
        (
            "COPY one /one/\nCOPY data /one/one",
            "cannot copy to /one/one: a folder and something else",
        ),
        ("COPY <<END /x\nEND", "put the text into a file of the context"),
        (
            "CMD serve 80",
            "CMD in the shell form: there is no shell in a Wasm image that could read it; write CMD [\"serve\",\"80\"]",
        ),
        ("CMD ['x']", "not a JSON array of strings, which have double quotes"),
        ("HEALTHCHECK CMD /check.wasm || exit 1", "HEALTHCHECK CMD in the shell form"),
        ("HEALTHCHECK --interval=5 CMD [\"x\"]", "--interval=5: it must be a duration"),
        ("HEALTHCHECK x", "HEALTHCHECK takes NONE, or CMD"),
        ("ENV", "ENV says nothing"),
        ("ENV A", "ENV: `A` has no value: write A=VALUE"),
        ("ENV A=1 B", "ENV: `B` is no KEY=VALUE"),
        ("ENV A=\"1", "a \" is not closed"),
        ("ENV A=${B", "${B is not closed"),
        ("LABEL =x", "bad LABEL `=x`"),
        ("EXPOSE x", "bad EXPOSE `x`: it must be a port"),
        ("USER a b", "bad USER `a b`"),
        ("STOPSIGNAL x", "bad STOPSIGNAL `x`"),
        ("WORKDIR /a/../b", "bad WORKDIR `/a/../b`"),
        ("WORKDIR --x /a", "WORKDIR --x is not known here: it takes no flags"),
        ("FETCH x", "there is no instruction FETCH"),
    ] {
        let said = desk(&with(line)).fail(1, &[]);
        let number = if line.contains("\nCOPY") { 4 } else { 3 };
        assert!(said.contains(&format!("Containerfile:{number}: ")), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
}

#[test]
fn what_is_no_image_of_wasm_is_refused() {
    for (text, words) in [
        ("", "Containerfile: it has no FROM: begin it with FROM scratch"),
        ("COPY one /x", "Containerfile:1: COPY stands before FROM"),
        ("FROM alpine", "Containerfile:1: FROM alpine: a Wasm image begins with nothing"),
        ("ARG B=alpine:3\nFROM $B", "Containerfile:2: FROM alpine:3: "),
        ("FROM --platform=linux/amd64 scratch", "the platform linux/amd64 is not made here"),
        ("# syntax=other/frontend\nFROM scratch", "Containerfile:1: the syntax other/frontend is"),
        ("FROM scratch\nCOPY one /", "nothing says what to run"),
        ("FROM scratch\nCMD [\"/x.wasm\"]", "the image has no file for `/x.wasm`"),
        ("FROM scratch\nCOPY one /\nCMD [\"/one\"]", "one: it is not WebAssembly"),
    ] {
        let desk = desk(text);
        let output = desk.run(&["build"]);
        let said = stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains(words), "{text}: {said}");
    }
}

#[test]
fn the_same_context_gives_the_same_bytes_whoever_made_it_and_when() {
    let build = |mode| {
        let desk = desk(&with("COPY data /data"));
        fs::set_permissions(desk.path("data/a"), fs::Permissions::from_mode(mode)).unwrap();
        desk.build(&[]).bytes
    };
    assert!(build(0o644) == build(0o600));
}
