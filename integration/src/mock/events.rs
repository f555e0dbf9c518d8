//! The events that shims publish.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{self, Message};
use containerd_shim_protos::shim_async::Events;
use containerd_shim_protos::topics;
use ttrpc::asynchronous::TtrpcContext;

/// What a task event said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// With the pid.
    Create(String, u32),
    /// With the pid.
    Start(String, u32),
    /// It stands still.
    Paused(String),
    /// It goes on.
    Resumed(String),
    /// The kernel killed in it for want of memory.
    OutOfMemory(String),
    /// With the id of the process.
    ExecAdded(String, String),
    /// With the id of the process and its pid.
    ExecStarted(String, String, u32),
    /// Of a process that was executed: with its id, its pid and the exit status.
    ExecExit(String, String, u32, u32),
    /// Of the container's own process: with the pid and the exit status.
    Exit(String, u32, u32),
    /// With the pid and the exit status.
    Delete(String, u32, u32),
    /// Any other, by its topic.
    Other(String),
}

impl Event {
    pub(super) fn container(&self) -> Option<&str> {
        match self {
            Self::Create(id, ..)
            | Self::Start(id, ..)
            | Self::Paused(id)
            | Self::Resumed(id)
            | Self::OutOfMemory(id)
            | Self::ExecAdded(id, ..)
            | Self::ExecStarted(id, ..)
            | Self::ExecExit(id, ..)
            | Self::Exit(id, ..)
            | Self::Delete(id, ..) => Some(id),
            Self::Other(_) => None,
        }
    }

    fn read(topic: &str, body: &[u8]) -> protobuf::Result<Self> {
        Ok(match topic {
            topics::TASK_CREATE_EVENT_TOPIC => {
                let event = TaskCreate::parse_from_bytes(body)?;
                Self::Create(event.container_id, event.pid)
            }
            topics::TASK_START_EVENT_TOPIC => {
                let event = TaskStart::parse_from_bytes(body)?;
                Self::Start(event.container_id, event.pid)
            }
            topics::TASK_PAUSED_EVENT_TOPIC => {
                Self::Paused(TaskPaused::parse_from_bytes(body)?.container_id)
            }
            topics::TASK_RESUMED_EVENT_TOPIC => {
                Self::Resumed(TaskResumed::parse_from_bytes(body)?.container_id)
            }
            topics::TASK_OOM_EVENT_TOPIC => {
                Self::OutOfMemory(TaskOOM::parse_from_bytes(body)?.container_id)
            }
            topics::TASK_EXEC_ADDED_EVENT_TOPIC => {
                let event = TaskExecAdded::parse_from_bytes(body)?;
                Self::ExecAdded(event.container_id, event.exec_id)
            }
            topics::TASK_EXEC_STARTED_EVENT_TOPIC => {
                let event = TaskExecStarted::parse_from_bytes(body)?;
                Self::ExecStarted(event.container_id, event.exec_id, event.pid)
            }
            topics::TASK_EXIT_EVENT_TOPIC => {
                let event = TaskExit::parse_from_bytes(body)?;
                assert!(event.exited_at.seconds > 1_500_000_000, "no time of exit: {event:?}");
                if event.id == event.container_id {
                    Self::Exit(event.id, event.pid, event.exit_status)
                } else {
                    Self::ExecExit(event.container_id, event.id, event.pid, event.exit_status)
                }
            }
            topics::TASK_DELETE_EVENT_TOPIC => {
                let event = TaskDelete::parse_from_bytes(body)?;
                Self::Delete(event.container_id, event.pid, event.exit_status)
            }
            other => Self::Other(other.to_owned()),
        })
    }
}

/// The event service.
pub(super) struct Recorder(pub(super) Arc<Mutex<Vec<Event>>>);

#[async_trait]
impl Events for Recorder {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        let event = Event::read(&envelope.topic, &envelope.event.value)
            .expect("an event of the topic's type");
        self.0.lock().expect("the recorder does not panic").push(event);
        Ok(Empty::new())
    }
}
