//! A shim that does nothing: it answers what containerd and its clients ask, sends the events, and
//! runs no container. What a client needs with it is the cost of containerd and of the client.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ForwardRequest,
    StartResponse, StateRequest, StateResponse, Status, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::topics;
use containerd_shim_protos::types::introspection::RuntimeInfo;
use integration::mock::raw::{Frame, Raw, Served};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag);
        at.and_then(|at| args.get(at + 1)).cloned().unwrap_or_default()
    };
    let has = |word: &str| args.iter().any(|arg| arg == word);
    if has("-info") {
        let name = "io.containerd.floor.v1".to_owned();
        say(&RuntimeInfo { name, ..Default::default() })
    } else if has("start") {
        start(&args[0], &value("-namespace"), &value("-id"))
    } else if has("delete") {
        say(&DeleteResponse { exited_at: now(), ..Default::default() })
    } else {
        serve(&value("-namespace"))
    }
}

fn say(message: &impl Message) -> Result<()> {
    Ok(std::io::stdout().write_all(&message.write_to_bytes()?)?)
}

fn start(program: &str, namespace: &str, id: &str) -> Result<()> {
    let socket = format!("/run/containerd/s/floor-{namespace}-{id}");
    fs::create_dir_all("/run/containerd/s")?;
    let listener = UnixListener::bind(&socket)?;
    Command::new(program)
        .args(["serve", "-namespace", namespace])
        .env("SOCKET", &socket)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    fs::write("address", format!("unix://{socket}"))?;
    print!("unix://{socket}");
    Ok(())
}

/// One connection is all that containerd makes; its end, or Shutdown, is the end.
fn serve(namespace: &str) -> Result<()> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut events = Events::new(namespace)?;
    let mut served = Served::new(listener.accept()?.0);
    let mut container = CreateTaskRequest::new();
    // Wait is asked before there is an end, and answered then.
    let (mut waiting, mut ended) = (Vec::new(), false);
    while let Ok(call) = served.call() {
        let (pid, id) = (std::process::id(), container.id.clone());
        match call.method.as_str() {
            "Create" => {
                container = CreateTaskRequest::parse_from_bytes(&call.payload)?;
                let id = container.id.clone();
                events.send(
                    topics::TASK_CREATE_EVENT_TOPIC,
                    "TaskCreate",
                    &TaskCreate { container_id: id, pid, ..Default::default() },
                )?;
                served.answer(&call, &CreateTaskResponse { pid, ..Default::default() })?;
            }
            "Start" => {
                events.send(
                    topics::TASK_START_EVENT_TOPIC,
                    "TaskStart",
                    &TaskStart { container_id: id.clone(), pid, ..Default::default() },
                )?;
                served.answer(&call, &StartResponse { pid, ..Default::default() })?;
                hello(&container)?;
                events.send(
                    topics::TASK_EXIT_EVENT_TOPIC,
                    "TaskExit",
                    &TaskExit {
                        container_id: id.clone(),
                        id,
                        pid,
                        exited_at: now(),
                        ..Default::default()
                    },
                )?;
                ended = true;
                for wait in waiting.drain(..) {
                    served
                        .answer(&wait, &WaitResponse { exited_at: now(), ..Default::default() })?;
                }
            }
            "Wait" if !ended => waiting.push(call),
            "Wait" => {
                served.answer(&call, &WaitResponse { exited_at: now(), ..Default::default() })?
            }
            "State" => {
                let StateRequest { id, .. } = StateRequest::parse_from_bytes(&call.payload)?;
                let status = if ended { Status::STOPPED } else { Status::CREATED };
                served.answer(
                    &call,
                    &StateResponse {
                        id,
                        bundle: container.bundle.clone(),
                        pid,
                        status: status.into(),
                        exited_at: now(),
                        ..Default::default()
                    },
                )?;
            }
            "Delete" => {
                let DeleteRequest { id, .. } = DeleteRequest::parse_from_bytes(&call.payload)?;
                events.send(
                    topics::TASK_DELETE_EVENT_TOPIC,
                    "TaskDelete",
                    &TaskDelete {
                        container_id: id.clone(),
                        pid,
                        exited_at: now(),
                        ..Default::default()
                    },
                )?;
                served.answer(
                    &call,
                    &DeleteResponse { pid, exited_at: now(), ..Default::default() },
                )?;
            }
            "Shutdown" => {
                served.answer(&call, &CreateTaskRequest::new())?;
                break;
            }
            // Kill, CloseIO, Connect, Pids: the empty message is an answer to each.
            _ => served.answer(&call, &CreateTaskRequest::new())?,
        }
    }
    Ok(fs::remove_file(std::env::var("SOCKET")?)?)
}

fn hello(container: &CreateTaskRequest) -> Result<()> {
    for (fifo, words) in [(&container.stdout, "hello\n"), (&container.stderr, "")] {
        if Path::new(fifo).exists() {
            let mut how = OpenOptions::new();
            how.write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(fifo)?
                .write_all(words.as_bytes())?;
        }
    }
    Ok(())
}

struct Events {
    namespace: String,
    containerd: Raw,
}

impl Events {
    fn new(namespace: &str) -> Result<Self> {
        let containerd = Raw::connect(&std::env::var("TTRPC_ADDRESS")?)?;
        Ok(Self { namespace: namespace.to_owned(), containerd })
    }

    fn send(&mut self, topic: &str, name: &str, event: &impl Message) -> Result<()> {
        let event = Any {
            type_url: format!("containerd.events.{name}"),
            value: event.write_to_bytes()?,
            ..Default::default()
        };
        let envelope = Envelope {
            timestamp: now(),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(event).into(),
            ..Default::default()
        };
        let request = ForwardRequest { envelope: Some(envelope).into(), ..Default::default() };
        let mut frame =
            Frame::new("containerd.services.events.ttrpc.v1.Events", "Forward", &request);
        self.containerd.call(&mut frame).map_err(|refusal| refusal.message)?;
        Ok(())
    }
}

fn now() -> MessageField<Timestamp> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp {
        seconds: now.as_secs().cast_signed(),
        nanos: now.subsec_nanos().cast_signed(),
        ..Default::default()
    })
    .into()
}
