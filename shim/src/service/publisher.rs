//! Events to containerd, strictly in order: one at a time, each until it is taken.

use super::timestamp;
use crate::task::Event;
use containerd_shim_protos::api;
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageDyn, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::asynchronous::transport::Socket;
use containerd_shim_protos::ttrpc::{self, context};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// How long containerd may take for one event. What it takes later it may get twice, so it is long; one
/// that is on its way out may never answer, so it is not longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How often containerd may answer that it cannot take an event, before it is given up.
const REFUSALS: u32 = 30;

/// How long it may take from containerd to those whom it tells. Docker takes the end of the output of
/// `docker exec` for the end of the process and asks dockerd for the exit code at once: one that has
/// not heard of the end says 0.
const HEARD: Duration = Duration::from_millis(25);

/// Where events go.
pub struct Publisher {
    address: String,
    namespace: String,
    client: Option<EventsClient>,
}

impl Publisher {
    /// To the containerd at `address` (`TTRPC_ADDRESS`), as of `namespace`.
    pub fn new(address: &str, namespace: &str) -> Self {
        let address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
        Self { address, namespace: namespace.to_owned(), client: None }
    }

    /// Publishes what arrives until the last sender is gone. While containerd is away events wait, as
    /// long as it takes; only it makes containers, and each has few, so they are not many.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            match request(&self.namespace, event.clone()) {
                Ok(request) => self.publish(&request).await,
                Err(e) => log::error!("cannot encode an event: {e}"),
            }
            // It may hold something open until those behind containerd have heard it too.
            tokio::spawn(async move {
                tokio::time::sleep(HEARD).await;
                drop(event);
            });
        }
    }

    async fn publish(&mut self, request: &api::ForwardRequest) {
        let topic = &request.envelope.topic;
        let mut pause = PAUSE / 16;
        let mut refusals = 0;
        while let Err(e) = self.forward(request).await {
            if let ttrpc::Error::RpcStatus(_) = e {
                refusals += 1;
                if refusals == REFUSALS {
                    log::error!("event {topic} is lost: {e}");
                    return;
                }
            } else {
                self.client = None;
            }
            if pause < PAUSE {
                log::warn!("event {topic} not taken yet: {e}");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    async fn forward(&mut self, request: &api::ForwardRequest) -> ttrpc::Result<()> {
        let client = match &self.client {
            Some(client) => client,
            None => {
                let socket = Socket::connect_unix(&self.address)
                    .await
                    .map_err(|e| ttrpc::Error::Others(format!("{}: {e}", self.address)))?;
                self.client.insert(EventsClient::new(Client::new(socket)))
            }
        };
        client.forward(context::with_duration(PATIENCE), request).await?;
        Ok(())
    }
}

fn request(
    namespace: &str,
    event: Event,
) -> containerd_shim_protos::protobuf::Result<api::ForwardRequest> {
    let (topic, any) = encode(event)?;
    let envelope = Envelope {
        timestamp: MessageField::some(timestamp(SystemTime::now())),
        namespace: namespace.to_owned(),
        topic: topic.to_owned(),
        event: MessageField::some(any),
        ..Default::default()
    };
    Ok(api::ForwardRequest { envelope: MessageField::some(envelope), ..Default::default() })
}

fn encode(event: Event) -> containerd_shim_protos::protobuf::Result<(&'static str, Any)> {
    Ok(match event {
        Event::Created { request, pid } => {
            let io = events::TaskIO {
                stdin: request.streams.stdin,
                stdout: request.streams.stdout,
                stderr: request.streams.stderr,
                terminal: request.terminal,
                ..Default::default()
            };
            let event = events::TaskCreate {
                container_id: request.id,
                bundle: request.bundle.display().to_string(),
                io: MessageField::some(io),
                pid: pid.as_raw() as u32,
                ..Default::default()
            };
            (topics::TASK_CREATE_EVENT_TOPIC, pack(&event)?)
        }
        Event::Started { id, pid } => {
            let event = events::TaskStart {
                container_id: id,
                pid: pid.as_raw() as u32,
                ..Default::default()
            };
            (topics::TASK_START_EVENT_TOPIC, pack(&event)?)
        }
        Event::Paused { id } => {
            let event = events::TaskPaused { container_id: id, ..Default::default() };
            (topics::TASK_PAUSED_EVENT_TOPIC, pack(&event)?)
        }
        Event::Resumed { id } => {
            let event = events::TaskResumed { container_id: id, ..Default::default() };
            (topics::TASK_RESUMED_EVENT_TOPIC, pack(&event)?)
        }
        Event::OutOfMemory { id } => {
            let event = events::TaskOOM { container_id: id, ..Default::default() };
            (topics::TASK_OOM_EVENT_TOPIC, pack(&event)?)
        }
        Event::ExecAdded { id, exec } => {
            let event =
                events::TaskExecAdded { container_id: id, exec_id: exec, ..Default::default() };
            (topics::TASK_EXEC_ADDED_EVENT_TOPIC, pack(&event)?)
        }
        Event::ExecStarted { id, exec, pid } => {
            let event = events::TaskExecStarted {
                container_id: id,
                exec_id: exec,
                pid: pid.as_raw() as u32,
                ..Default::default()
            };
            (topics::TASK_EXEC_STARTED_EVENT_TOPIC, pack(&event)?)
        }
        Event::Exited { id, exec, pid, exit, outputs: _ } => {
            let event = events::TaskExit {
                container_id: id.clone(),
                id: exec.unwrap_or(id),
                pid: pid.as_raw() as u32,
                exit_status: exit.code,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            };
            (topics::TASK_EXIT_EVENT_TOPIC, pack(&event)?)
        }
        Event::Deleted { id, pid, exit } => {
            let event = events::TaskDelete {
                container_id: id,
                pid: pid.as_raw() as u32,
                exit_status: exit.code,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            };
            (topics::TASK_DELETE_EVENT_TOPIC, pack(&event)?)
        }
    })
}

/// As containerd registers its events: by full name, without a host.
fn pack<M: Message + MessageDyn>(event: &M) -> containerd_shim_protos::protobuf::Result<Any> {
    Ok(Any {
        type_url: event.descriptor_dyn().full_name().to_owned(),
        value: event.write_to_bytes()?,
        ..Default::default()
    })
}
