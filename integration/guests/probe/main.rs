//! What the tests run inside a container: each command shows one thing that the shim gives a guest.
//! One source, built as a wasip1 module and as a wasip2 component.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, process, thread};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const MIB: usize = 1 << 20;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&args) {
        eprintln!("{}: {e}", args.join(" "));
        process::exit(1);
    }
}

fn run(args: &[String]) -> Result {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => say("hello from wasm"),
        ["args", ..] => env::args().try_for_each(say),
        ["env"] => {
            let mut vars: Vec<_> = env::vars().map(|(k, v)| format!("{k}={v}")).collect();
            vars.sort();
            vars.iter().try_for_each(say)
        }
        ["cwd"] => say(env::current_dir()?.display()),
        ["cat", file] => copy(&mut File::open(file)?),
        ["write", file, text] => Ok(fs::write(file, text)?),
        ["append", file, text] => {
            let mut file = OpenOptions::new().append(true).create(true).open(file)?;
            Ok(file.write_all(text.as_bytes())?)
        }
        ["ls", dir] => {
            let names = fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort();
            names.iter().try_for_each(say)
        }
        ["mkdir", dir] => Ok(fs::create_dir(dir)?),
        ["rm", file] => Ok(fs::remove_file(file)?),
        ["stat", file] => {
            let meta = fs::symlink_metadata(file)?;
            let kind = match meta.file_type() {
                t if t.is_dir() => "dir",
                t if t.is_file() => "file",
                t if t.is_symlink() => "symlink",
                _ => "other",
            };
            say(format!("{kind} {}", meta.len()))
        }
        ["terminals"] => {
            let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
            let all = [input.is_terminal(), output.is_terminal(), error.is_terminal()];
            say(format!("{all:?}"))
        }
        ["count"] => say(io::copy(&mut io::stdin(), &mut io::sink())?),
        ["echo-stdin"] => copy(&mut io::stdin()),
        ["exit", code] => process::exit(code.parse()?),
        ["sleep", seconds] => {
            say("sleeping")?;
            thread::sleep(Duration::from_secs_f64(seconds.parse()?));
            Ok(())
        }
        ["spin"] => {
            say("spinning")?;
            let mut n = 0u64;
            loop {
                n = black_box(n.wrapping_add(1));
            }
        }
        ["trap"] => {
            trap_a(1);
            Ok(())
        }
        ["panic"] => panic!("a panic was asked for"),
        ["alloc", mib] => allocate(mib.parse()?).map(drop),
        ["hold", mib] => {
            let memory = allocate(mib.parse()?)?;
            loop {
                thread::sleep(Duration::from_secs(3600));
                black_box(&memory);
            }
        }
        ["burn", seconds] => {
            let end = Duration::from_secs_f64(seconds.parse()?);
            let start = Instant::now();
            let mut n = 0u64;
            while start.elapsed() < end {
                for _ in 0..100_000 {
                    n = black_box(n + 1);
                }
            }
            say(n)
        }
        ["random"] => {
            let mut bytes = [0u8; 16];
            // SAFETY: the buffer is as long as said.
            if unsafe { getentropy(bytes.as_mut_ptr(), bytes.len()) } != 0 {
                return Err(io::Error::last_os_error().into());
            }
            say(bytes.map(|b| format!("{b:02x}")).concat())
        }
        ["clock"] => say(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
        ["both"] => {
            eprintln!("to stderr");
            say("to stdout")
        }
        ["flood", bytes] => flood(bytes.parse()?),
        ["listen", port] => serve(port, |stream| {
            let mut line = String::new();
            BufReader::new(&mut *stream).read_line(&mut line)?;
            Ok(stream.write_all(format!("hello {}\n", line.trim_end()).as_bytes())?)
        }),
        ["serve-http", port] => serve(port, |stream| {
            for line in BufReader::new(&mut *stream).lines() {
                if line?.is_empty() {
                    break;
                }
            }
            let body = "hello from wasm\n";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            Ok(stream.write_all(answer.as_bytes())?)
        }),
        ["connect", host, port, text] => {
            let mut stream = TcpStream::connect((host, port.parse()?))?;
            stream.write_all(format!("{text}\n").as_bytes())?;
            copy(&mut stream)
        }
        ["resolve", host] => (host, 0).to_socket_addrs()?.try_for_each(|a| say(a.ip())),
        _ => Err("unknown command".into()),
    }
}

/// One line, seen at once by whoever waits for it.
fn say(what: impl std::fmt::Display) -> Result {
    let mut out = io::stdout();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// Copies to stdout as it arrives.
fn copy(from: &mut impl Read) -> Result {
    let (mut buf, mut out) = ([0; 4096], io::stdout());
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buf[..n])?;
        out.flush()?;
    }
}

fn allocate(mib: usize) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for i in 0..mib {
        let mut one = Vec::new();
        one.try_reserve_exact(MIB).map_err(|e| format!("after {i} MiB: {e}"))?;
        one.resize(MIB, 1);
        all.push(black_box(one));
    }
    say(format!("allocated {mib}"))?;
    Ok(all)
}

fn flood(mut bytes: usize) -> Result {
    let mut line = [b'x'; 4096];
    line[4095] = b'\n';
    let mut out = io::stdout();
    while bytes > 0 {
        let n = bytes.min(line.len());
        out.write_all(&line[line.len() - n..])?;
        bytes -= n;
    }
    Ok(out.flush()?)
}

fn serve(port: &str, answer: impl Fn(&mut TcpStream) -> Result) -> Result {
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?))?;
    say(format!("listening on {port}"))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client that goes away does not end the server.
        if let Err(e) = answer(&mut stream) {
            eprintln!("{e}");
        }
    }
}

// SAFETY: declared as WASI and its libc define them.
unsafe extern "C" {
    // wasi-libc's, over wasi's own source of randomness.
    fn getentropy(buffer: *mut u8, length: usize) -> i32;
}

// Named, and not inlined, so that a test can look for them in the backtrace.
#[inline(never)]
#[unsafe(no_mangle)]
fn trap_a(n: u32) -> u32 {
    black_box(trap_b(black_box(n))) + 1
}

#[inline(never)]
#[unsafe(no_mangle)]
fn trap_b(n: u32) -> u32 {
    black_box(trap_c(black_box(n))) + 1
}

#[inline(never)]
#[unsafe(no_mangle)]
fn trap_c(n: u32) -> u32 {
    if black_box(n) > 0 {
        core::arch::wasm32::unreachable()
    }
    n
}
