//! Credentials: kept where Docker's tools keep them, shown to nobody but the registry they are for.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::harness::{Desk, Registry, USER, Wants, stderr};
use crate::server::{Reply, Server};

fn private() -> Registry {
    Registry::with(Wants { password: true, tls: false })
}

fn login(desk: &Desk, host: &str, password: &str) -> Output {
    let args = ["login", host, "--username", USER.0, "--password-stdin"];
    let mut command = desk.command(&args);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    for said in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(said).contains(password), "a password was shown");
    }
    output
}

#[test]
fn a_login_opens_the_registry_for_us_and_for_skopeo_until_logout() {
    let (desk, registry) = (Desk::new(), private());
    let (host, name) = (registry.address().to_string(), registry.name("secret"));
    let digest = desk.build(&name, 1000);
    let words = desk.fail(&["push", &name]);
    assert!(
        words.contains(&format!("refuses access without credentials: `wasm-image login {host}`")),
        "{words}"
    );

    let output = login(&desk, &host, "open barley");
    assert!(!output.status.success() && stderr(&output).contains("refuses the credentials"));
    let config = desk.path("docker/config.json");
    assert!(!config.exists());

    let output = login(&desk, &host, USER.1);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    desk.ok(&["push", &name]);
    desk.ok(&["rm", &name]);
    assert_eq!(desk.json(&["pull", &name])["digest"], digest);
    let authfile = format!("--authfile={}", config.display());
    assert_eq!(desk.judged(&name, &["--src-tls-verify=false", &authfile]), digest);

    desk.ok(&["logout", &host]);
    desk.fail(&["pull", &name]);
    assert!(desk.ok(&["logout", &host]).contains("no credentials were kept"));
}

#[test]
fn credentials_that_are_refused_are_said_so_once() {
    let (desk, registry) = (Desk::new(), private());
    let host = registry.address().to_string();
    // base64 of `ali:wrong`
    let auths = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"YWxpOndyb25n\"}}}}}}");
    desk.file("docker/config.json", auths);
    let words = desk.fail(&["pull", &registry.name("x")]);
    assert!(words.contains("refuses the credentials that are kept for it"), "{words}");
    assert!(!words.contains("wrong") && !words.contains("YWxp"), "{words}");
}

/// Keeps one credential in a file beside it.
const HELPER: &str = r#"#!/bin/bash
kept=$(dirname "$0")/kept
case $1 in
store) cat >"$kept" ;;
get) cat "$kept" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm "$kept" ;;
esac
"#;

#[test]
fn a_credential_helper_keeps_what_it_is_given() {
    let (desk, registry) = (Desk::new(), private());
    let (host, name) = (registry.address().to_string(), registry.name("secret"));
    desk.program("docker-credential-box", HELPER);
    desk.file("docker/config.json", format!("{{\"credHelpers\":{{\"{host}\":\"box\"}}}}"));
    desk.build(&name, 1000);
    desk.fail(&["push", &name]);
    assert!(login(&desk, &host, USER.1).status.success());
    assert!(desk.path("bin/kept").exists());
    assert!(!fs::read_to_string(desk.path("docker/config.json")).unwrap().contains("auths"));
    desk.ok(&["push", &name]);
    desk.ok(&["logout", &host]);
    assert!(!desk.path("bin/kept").exists());
}

#[test]
fn a_helper_that_misbehaves_is_named_and_its_secrets_are_not_shown() {
    let (desk, registry) = (Desk::new(), private());
    let name = registry.name("x");
    desk.file("docker/config.json", r#"{"credsStore":"box"}"#);
    let words = desk.fail(&["pull", &name]);
    assert!(words.contains("docker-credential-box is not in PATH"), "{words}");
    for (script, expected) in [
        ("#!/bin/bash\ncat /dev/zero", "says more than credentials"),
        ("#!/bin/bash\necho '{ \"Secret\": \"hush\" '", "answers with no credentials"),
        ("#!/bin/bash\necho the box is locked; exit 1", "fails: the box is locked"),
    ] {
        desk.program("docker-credential-box", script);
        let words = desk.fail(&["pull", &name]);
        assert!(words.contains(expected) && !words.contains("hush"), "{words}");
    }
    desk.file("docker/config.json", r#"{"credsStore":"../box"}"#);
    assert!(desk.fail(&["pull", &name]).contains("cannot be the name of a credential helper"));
}

/// A registry that wants a token of its own token service for everything.
fn with_tokens() -> Server {
    Server::start(|request, host| {
        if request.path().starts_with("/token") {
            return Reply::ok("application/json", r#"{"token":"let me in","expires_in":300}"#);
        }
        if request.header("authorization") != Some("Bearer let me in") {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"the shop\",scope=\"repository:x:pull\""
            );
            return Reply::status(401).with(&challenge);
        }
        Reply::status(404)
    })
}

#[test]
fn a_token_is_asked_for_as_docker_does_and_used() {
    let (desk, server) = (Desk::new(), with_tokens());
    let name = server.name("a/b");
    assert!(desk.fail(&["pull", &name]).contains("not found"));
    let token = &server.requests()[1];
    assert_eq!(token.line, "GET /token?service=the+shop&scope=repository%3Aa%2Fb%3Apull HTTP/1.1");
    assert_eq!(token.header("authorization"), None);

    // With a password: it goes to the token service alone.
    let host = server.address().to_string();
    let auths = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"YWxpOnB3\"}}}}}}");
    desk.file("docker/config.json", auths);
    desk.fail(&["pull", &name]);
    let requests = server.requests();
    let (first, token, last) = (&requests[3], &requests[4], &requests[5]);
    assert_eq!(first.header("authorization"), None);
    assert_eq!(token.header("authorization"), Some("Basic YWxpOnB3"));
    assert!(token.line.contains("account=ali"), "{}", token.line);
    assert_eq!(last.header("authorization"), Some("Bearer let me in"));

    // With an identity token: by POST.
    let auths = format!("{{\"auths\":{{\"{host}\":{{\"identitytoken\":\"it is me\"}}}}}}");
    desk.file("docker/config.json", auths);
    desk.fail(&["pull", &name]);
    let token = &server.requests()[7];
    assert_eq!(token.line, "POST /token HTTP/1.1");
    let body = String::from_utf8(token.body.clone()).unwrap();
    assert!(body.contains("grant_type=refresh_token&refresh_token=it+is+me&scope="), "{body}");
}

#[test]
fn credentials_are_not_for_a_token_service_without_tls_elsewhere() {
    let desk = Desk::new();
    let server = Server::start(|_, _| {
        let challenge = "WWW-Authenticate: Bearer realm=\"http://192.0.2.1/token\"";
        Reply::status(401).with(challenge)
    });
    let words = desk.fail(&["pull", &server.name("x")]);
    assert!(words.contains("the token service `http://192.0.2.1/token` is without TLS"), "{words}");
}

#[test]
fn a_redirect_does_not_take_credentials_along() {
    let (desk, elsewhere) = (Desk::new(), Server::start(|_, _| Reply::status(404)));
    let target = elsewhere.address();
    let server = Server::start(move |request, _| match request.header("authorization") {
        None => Reply::status(401).with("WWW-Authenticate: Basic realm=\"r\""),
        Some(_) => Reply::status(307).with(&format!("Location: http://{target}/blob")),
    });
    let auths = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"YWxpOnB3\"}}}}}}", server.address());
    desk.file("docker/config.json", auths);
    desk.fail(&["pull", &server.name("x")]);
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
}

#[test]
fn a_proxy_is_used_for_other_machines_and_not_for_this_one() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let proxy = Server::start(|_, _| Reply::status(404));
    let address = format!("http://{}", proxy.address());
    let name = registry.name("x");
    let output = desk.command(&["pull", &name]).env("http_proxy", &address).output().unwrap();
    assert!(stderr(&output).contains("manifest unknown"), "{}", stderr(&output));
    assert!(proxy.requests().is_empty());
    let args = ["pull", "registry.invalid/x", "--plain-http"];
    desk.command(&args).env("http_proxy", &address).output().unwrap();
    let line = &proxy.requests()[0].line;
    assert_eq!(line, "GET http://registry.invalid/v2/x/manifests/latest HTTP/1.1");
}
