//! The client of a shim's task service.

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, KillRequest, PauseRequest, PidsRequest, PidsResponse, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, MessageField};
use nix::sys::signal::Signal;
use ttrpc::{Client, Code, Request};

use super::{DEADLINE, Mock};
use crate::bundle::Bundle;

/// A connection to a shim.
pub struct Shim {
    /// The address that `start` printed.
    pub address: String,
    /// The version of the task service that `start` announced; 2 where it printed an address alone.
    pub version: i32,
    client: Client,
}

/// Why a shim refused.
#[derive(Debug)]
pub struct Refusal {
    /// The ttrpc code, where there was an answer by ttrpc.
    pub code: Option<Code>,
    /// The words.
    pub message: String,
}

/// What a shim answers.
pub type Answer<T> = Result<T, Refusal>;

impl Shim {
    /// Connects to the shim at `address`, to speak the task service of `version`.
    pub fn at(address: String, version: i32) -> Self {
        let client = Client::connect(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        Self { address, version, client }
    }

    /// Calls a method of the task service, under the name that `start` announced.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn call<T: Message>(&self, method: &str, request: &impl Message) -> Answer<T> {
        self.call_version(self.version, method, request)
    }

    /// Calls a method of the task service of a version.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn call_version<T: Message>(
        &self,
        version: i32,
        method: &str,
        request: &impl Message,
    ) -> Answer<T> {
        let request = Request {
            service: format!("containerd.task.v{version}.Task"),
            method: method.to_owned(),
            timeout_nano: i64::try_from(DEADLINE.as_nanos()).expect("a short time"),
            payload: request.write_to_bytes().expect("a message can be written"),
            ..Default::default()
        };
        match self.client.request(request) {
            Ok(response) => {
                Ok(T::parse_from_bytes(&response.payload).expect("the answer has the right type"))
            }
            Err(ttrpc::Error::RpcStatus(status)) => {
                Err(Refusal { code: status.code.enum_value().ok(), message: status.message })
            }
            Err(error) => Err(Refusal { code: None, message: error.to_string() }),
        }
    }

    /// Create, without stdio.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn create(&self, bundle: &Bundle) -> Answer<u32> {
        self.create_with(bundle, CreateTaskRequest::new())
    }

    /// Create, with a request that is complete but for the id and the bundle.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn create_with(&self, bundle: &Bundle, mut request: CreateTaskRequest) -> Answer<u32> {
        request.id.clone_from(&bundle.id);
        request.bundle = bundle.path.to_string_lossy().into_owned();
        self.call::<CreateTaskResponse>("Create", &request).map(|response| response.pid)
    }

    /// Start.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn start(&self, id: &str) -> Answer<u32> {
        let request = StartRequest { id: id.to_owned(), ..Default::default() };
        self.call::<StartResponse>("Start", &request).map(|response| response.pid)
    }

    /// State.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn state(&self, id: &str) -> Answer<StateResponse> {
        self.call("State", &StateRequest { id: id.to_owned(), ..Default::default() })
    }

    /// Connect.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn connect(&self, id: &str) -> Answer<ConnectResponse> {
        self.call("Connect", &ConnectRequest { id: id.to_owned(), ..Default::default() })
    }

    /// Pids.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn pids(&self, id: &str) -> Answer<Vec<u32>> {
        let request = PidsRequest { id: id.to_owned(), ..Default::default() };
        let response: PidsResponse = self.call("Pids", &request)?;
        Ok(response.processes.into_iter().map(|process| process.pid).collect())
    }

    /// Kill, of the init alone.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn kill(&self, id: &str, signal: Signal) -> Answer<()> {
        self.send(id, signal, false)
    }

    /// Kill, of every process of the container.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn kill_all(&self, id: &str, signal: Signal) -> Answer<()> {
        self.send(id, signal, true)
    }

    fn send(&self, id: &str, signal: Signal, all: bool) -> Answer<()> {
        let request = KillRequest {
            id: id.to_owned(),
            signal: (signal as i32).cast_unsigned(),
            all,
            ..Default::default()
        };
        self.call::<Empty>("Kill", &request).map(|_| ())
    }

    /// Wait: the exit status.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn wait(&self, id: &str) -> Answer<u32> {
        let request = WaitRequest { id: id.to_owned(), ..Default::default() };
        let response: WaitResponse = self.call("Wait", &request)?;
        assert!(response.exited_at.seconds > 1_500_000_000, "no time of exit: {response:?}");
        Ok(response.exit_status)
    }

    /// Pause.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn pause(&self, id: &str) -> Answer<()> {
        let request = PauseRequest { id: id.to_owned(), ..Default::default() };
        self.call::<Empty>("Pause", &request).map(|_| ())
    }

    /// Resume.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn resume(&self, id: &str) -> Answer<()> {
        let request = ResumeRequest { id: id.to_owned(), ..Default::default() };
        self.call::<Empty>("Resume", &request).map(|_| ())
    }

    /// Update, with limits as the specification writes them.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn update(&self, id: &str, resources: &serde_json::Value) -> Answer<()> {
        let resources = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: resources.to_string().into_bytes(),
            ..Default::default()
        };
        let request = UpdateTaskRequest {
            id: id.to_owned(),
            resources: MessageField::some(resources),
            ..Default::default()
        };
        self.call::<Empty>("Update", &request).map(|_| ())
    }

    /// Delete.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn delete(&self, id: &str) -> Answer<DeleteResponse> {
        self.call("Delete", &DeleteRequest { id: id.to_owned(), ..Default::default() })
    }

    /// Stats.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn stats(&self, id: &str) -> Answer<Any> {
        let request = StatsRequest { id: id.to_owned(), ..Default::default() };
        self.call::<StatsResponse>("Stats", &request)
            .map(|response| response.stats.unwrap_or_default())
    }

    /// Shutdown.
    ///
    /// # Errors
    /// What the shim answered, or that it left without an answer.
    pub fn shutdown(&self, id: &str) -> Answer<()> {
        let request = ShutdownRequest { id: id.to_owned(), ..Default::default() };
        self.call::<Empty>("Shutdown", &request).map(|_| ())
    }

    /// Delete and Shutdown, and then containerd's run of `delete`; nothing may be left.
    #[track_caller]
    pub fn finish(self, mock: &Mock, bundle: &Bundle) -> DeleteResponse {
        let deleted = self.delete(&bundle.id).expect("a stopped task can be deleted");
        // The shim may be gone before its answer is.
        let _ = self.shutdown(&bundle.id);
        mock.delete(bundle);
        mock.nothing_left(bundle);
        deleted
    }
}

impl Refusal {
    /// Insists on words that the message must hold.
    #[track_caller]
    pub fn names(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.message.contains(word), "nothing about {word:?} in: {}", self.message);
        }
        self
    }
}
