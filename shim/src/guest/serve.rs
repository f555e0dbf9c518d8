//! A guest that answers HTTP requests: a component of the world `wasi:http/proxy` of WASI 0.2 or
//! `wasi:http/service` of 0.3. Each request has an instance of its own, which nothing of another
//! request is in, and a thread of its own while it is answered: the system's scheduler sees to it that
//! one that computes for long holds up no other, nor the server, whose thread does all that waits.
//!
//! HTTP/1.1, and HTTP/2 for clients that begin with it. The first SIGTERM or SIGINT lets what is
//! being answered be answered and takes nothing new; a second one does not wait.

use super::exit;
use super::host::Host;
use super::stdio::Streams;
use super::wasi::Grants;
use crate::sys;
use futures_channel::oneshot;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use nix::errno::Errno;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{AsContextMut, Result};
use wasmtime_wasi_http::handler::{Prepared, Proxy, ProxyPre};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

/// The variable that says where to listen, by the name that it has in other Wasm runtimes.
const ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";

/// Where to listen without it: everywhere, or where there is no IPv6, everywhere else.
const EVERYWHERE: [&str; 2] = ["[::]:8080", "0.0.0.0:8080"];

/// How many requests are answered at the same time. More wait, and their clients with them.
const ROOM: u32 = 512;

/// How many threads that takes, with some for the system's own (name lookups).
pub const THREADS: usize = ROOM as usize + 64;

/// How long a client may take for the head of a request, and between two of them.
const HEAD: Duration = Duration::from_secs(60);

/// How long to wait for descriptors or memory before taking the next connection.
const SHORT_OF: Duration = Duration::from_millis(50);

/// A server in front of a guest, which listens.
pub struct Server {
    guest: Arc<Guest>,
    listener: TcpListener,
}

struct Guest {
    pre: ProxyPre<Host>,
    grants: Grants,
    streams: Streams,
    ceiling: Option<u64>,
    room: Arc<Semaphore>,
    /// Whether it may have more threads than the server's.
    threads: bool,
}

impl Server {
    /// Listens for a guest. `ceiling` is of the memory of one instance, in bytes.
    ///
    /// # Errors
    /// When it cannot listen there; the words name the address.
    pub fn listen(
        pre: ProxyPre<Host>,
        grants: Grants,
        streams: Streams,
        ceiling: Option<u64>,
    ) -> Result<Self> {
        let listener = listen(grants.variable(ADDRESS))?;
        let room = Arc::new(Semaphore::new(ROOM as usize));
        // A limit of processes may forbid it.
        let threads = thread::Builder::new().spawn(|| {}).is_ok();
        let guest = Guest { pre, grants, streams, ceiling, room, threads };
        Ok(Self { guest: Arc::new(guest), listener })
    }

    /// Serves until the process is told to end, and then until nothing is left to be answered. Gives
    /// the guest's streams, and the exit code with words for a failure.
    pub async fn run(self) -> (Streams, (i32, Option<String>)) {
        let streams = self.guest.streams.clone();
        (streams, exit::of_serving(self.serve().await))
    }

    async fn serve(self) -> io::Result<()> {
        let Self { guest, listener } = self;
        let told = sys::signal::tell_first()?;
        let told = sys::polled::watch(told, Interest::READABLE).map_err(|(_, e)| e)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let connections = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = told.readable() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Without it the end of an answer waits for the client to acknowledge its beginning.
                    let _ = stream.set_nodelay(true);
                    guest.clone().connect(stream, &connections);
                }
                Err(e) if is_shortage(&e) => tokio::time::sleep(SHORT_OF).await,
                // The client's matter.
                Err(_) => {}
            }
        }
        drop(listener);
        connections.shutdown().await;
        // What goes on behind its answer, too.
        let _ = guest.room.acquire_many(ROOM).await;
        Ok(())
    }
}

impl Guest {
    fn connect(self: Arc<Self>, stream: TcpStream, connections: &GracefulShutdown) {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
        server.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD);
        let service = hyper::service::service_fn(move |request| self.clone().answer(request));
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            // What goes wrong on a connection is the client's matter.
            let _ = connection.await;
        });
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>, Infallible> {
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            return Ok(without_body(StatusCode::BAD_REQUEST));
        }
        let Ok(permit) = self.room.clone().acquire_owned().await else {
            return Ok(without_body(StatusCode::SERVICE_UNAVAILABLE));
        };
        let request = request.map(|body| body.map_err(Error::from).boxed_unsync());
        let (reply, answer) = oneshot::channel();
        if !self.clone().begin(request, reply, permit) {
            return Ok(without_body(StatusCode::SERVICE_UNAVAILABLE));
        }
        Ok(match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => {
                self.streams.error.say(exit::words(&e));
                without_body(StatusCode::INTERNAL_SERVER_ERROR)
            }
            // It trapped, and has said so.
            Err(oneshot::Canceled) => without_body(StatusCode::INTERNAL_SERVER_ERROR),
        })
    }

    /// Begins a call on a thread of its own; or says that there is none.
    fn begin(
        self: Arc<Self>,
        request: Request<WasiBody>,
        reply: oneshot::Sender<Result<Response<WasiBody>>>,
        permit: OwnedSemaphorePermit,
    ) -> bool {
        let threads = self.threads;
        let call = self.call(request, reply, permit);
        if !threads {
            tokio::spawn(call);
            return true;
        }
        let server = Handle::current();
        let begin = || tokio::task::spawn_blocking(move || server.block_on(call));
        // It panics where the system refuses a thread.
        catch_unwind(AssertUnwindSafe(begin)).is_ok()
    }

    /// Lets the guest answer, and go on as long as it likes.
    async fn call(
        self: Arc<Self>,
        request: Request<WasiBody>,
        reply: oneshot::Sender<Result<Response<WasiBody>>>,
        permit: OwnedSemaphorePermit,
    ) {
        if let Err(e) = self.try_call(request, reply).await {
            self.streams.error.say(exit::words(&e));
        }
        drop(permit);
    }

    async fn try_call(
        &self,
        request: Request<WasiBody>,
        reply: oneshot::Sender<Result<Response<WasiBody>>>,
    ) -> Result<()> {
        let mut context = self.grants.context(&self.streams)?;
        let engine = match &self.pre {
            ProxyPre::P2(pre) => pre.engine(),
            ProxyPre::P3(pre) => pre.engine(),
        };
        let mut store = Host::store(engine, &mut context, self.ceiling);
        match self.pre.instantiate_async(&mut store).await? {
            Proxy::P2(proxy) => {
                let mut http = store.data_mut().http();
                let request = http.new_incoming_request(Scheme::Http, request)?;
                let out = http.new_response_outparam_from_callback(move |answer| {
                    let _ = reply.send(answer.map_err(Into::into));
                })?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
            }
            service @ Proxy::P3(_) => {
                let view = <Host as WasiHttpView>::http;
                let call = Prepared::new(store.as_context_mut(), &service, request, view, reply)?;
                store
                    .run_concurrent(async |guest| {
                        call.run(guest, pending()).await?;
                        // The body of the answer comes from tasks that go on.
                        poll_fn(|context| guest.poll_no_interesting_tasks(context)).await;
                        Ok(())
                    })
                    .await?
            }
        }
    }
}

fn listen(address: Option<&str>) -> Result<TcpListener> {
    let mut refusal = None;
    let given = address.as_slice();
    for address in if given.is_empty() { &EVERYWHERE[..] } else { given } {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(e) => {
                let next = is_errno(&e, &[Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL]);
                refusal = Some(wasmtime::format_err!(
                    "cannot listen on {address}: {e}; {ADDRESS}=IP:PORT in its environment says \
                     where it shall"
                ));
                if !next {
                    break;
                }
            }
        }
    }
    Err(refusal.unwrap_or_else(|| wasmtime::format_err!("no address to listen on")))
}

fn is_shortage(error: &io::Error) -> bool {
    is_errno(error, &[Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM])
}

fn is_errno(error: &io::Error, some: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| some.contains(&Errno::from_raw(code)))
}

fn without_body(status: StatusCode) -> Response<WasiBody> {
    let body = Empty::new().map_err(Error::from).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
