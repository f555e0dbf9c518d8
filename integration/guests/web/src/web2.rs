//! A component of `wasi:http/proxy` 0.2. What the path says it does:
//! /            says hello
//! /echo        sends the body back as it comes
//! /trap        traps
//! /spin        never ends
//! /env/NAME    the variable NAME
//! /file/PATH   the file PATH
//! /count       how many requests this instance has answered
//! /get/HOST/…  the body of http://HOST/…

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    Scheme,
};

struct Web;

wasip2::http::proxy::export!(Web);

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (word, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("asked for {path}");
        match word {
            "" => say(out, 200, b"hello from wasi:http 0.2\n"),
            "echo" => echo(request, out),
            "trap" => panic!("asked to"),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "env" => say(out, 200, std::env::var(rest).unwrap_or_default().as_bytes()),
            "file" => match std::fs::read(format!("/{rest}")) {
                Ok(bytes) => say(out, 200, &bytes),
                Err(e) => say(out, 404, e.to_string().as_bytes()),
            },
            "count" => say(out, 200, count.to_string().as_bytes()),
            "get" => match get(rest) {
                Ok(body) => say(out, 200, &body),
                Err(e) => say(out, 502, e.as_bytes()),
            },
            _ => say(out, 404, b"no such path\n"),
        }
    }
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status code");
    let body = response.body().expect("its body, once");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn say(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let body = begin(out, status);
    let mut stream = body.write().expect("its stream, once");
    stream.write_all(bytes).expect("somebody reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("a whole body");
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("its body, once");
    let from = incoming.stream().expect("its stream, once");
    let body = begin(out, 200);
    let mut to = body.write().expect("its stream, once");
    while let Ok(chunk) = from.blocking_read(4096) {
        to.write_all(&chunk).expect("somebody reads");
        to.flush().expect("somebody reads");
    }
    drop(to);
    OutgoingBody::finish(body, None).expect("a whole body");
}

fn get(place: &str) -> Result<Vec<u8>, String> {
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "path")?;
    let answer = handle(request, None).map_err(|e| e.to_string())?;
    answer.subscribe().block();
    let response = match answer.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(e))) => return Err(e.to_string()),
        _ => return Err("no answer".into()),
    };
    let body = response.consume().map_err(|()| "no body")?;
    let mut bytes = Vec::new();
    let mut stream = body.stream().map_err(|()| "no stream")?;
    stream.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}
