//! A server of HTTP that does what a test wants, lies included: one request for each connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// By its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What a client gets.
pub struct Reply {
    head: String,
    body: Body,
}

enum Body {
    /// With its length.
    Whole(Vec<u8>),
    /// As the head says.
    Raw(Vec<u8>, End),
}

/// What comes after the bytes.
pub enum End {
    /// The end of the connection.
    Cut,
    /// Nothing, until the client gives up.
    Stall,
    /// The same again, for ever.
    Again,
    /// The same again, a little of it ten times a second.
    Trickle,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { head: format!("HTTP/1.1 {status} so\r\n"), body: Body::Whole(Vec::new()) }
    }

    pub fn ok(media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let reply = Self::status(200).with(&format!("Content-Type: {media_type}"));
        Self { body: Body::Whole(body.into()), ..reply }
    }

    pub fn with(mut self, header: &str) -> Self {
        self.head += header;
        self.head += "\r\n";
        self
    }

    /// With another status.
    pub fn answering(mut self, status: u16) -> Self {
        self.head = self.head.replacen(" 200 ", &format!(" {status} "), 1);
        self
    }

    /// A body whose length the head says, or nobody.
    pub fn raw(mut self, body: impl Into<Vec<u8>>, end: End) -> Self {
        self.body = Body::Raw(body.into(), end);
        self
    }

    fn send(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let mut head = self.head + "Connection: close\r\n";
        match self.body {
            Body::Whole(body) => {
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body)
            }
            Body::Raw(body, end) => {
                stream.write_all((head + "\r\n").as_bytes())?;
                stream.write_all(&body)?;
                match end {
                    End::Cut => Ok(()),
                    End::Stall => stream.read(&mut [0]).map(drop),
                    End::Again => loop {
                        stream.write_all(&body)?;
                    },
                    End::Trickle => loop {
                        stream.write_all(&body[..1])?;
                        thread::sleep(Duration::from_millis(100));
                    },
                }
            }
        }
    }
}

type Behaviour = dyn Fn(&Request, SocketAddr) -> Reply + Send + Sync;

/// It ends with its value.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// `behaviour` is told a request and the server's own address.
    pub fn start(
        behaviour: impl Fn(&Request, SocketAddr) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (heard, end) = (requests.clone(), over.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (heard, behaviour) = (heard.clone(), behaviour.clone());
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    if let Some(request) = read(&stream) {
                        heard.lock().unwrap().push(request.clone());
                        // A client that goes away has its reasons.
                        let _ = behaviour(&request, address).send(&mut stream);
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                });
            }
        });
        Self { address, requests, over }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// All that were heard so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let pair = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    let headers = lines[1..].iter().filter_map(pair).collect();
    let mut request = Request { line: lines[0].clone(), headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    reader.take(length).read_to_end(&mut request.body).ok()?;
    (request.body.len() as u64 == length).then_some(request)
}
