//! The calls about a process that is executed in a container.

use containerd_shim_protos::api::{
    CloseIORequest, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest,
    ResizePtyRequest, StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Answer, Shim};

/// A process of a container, or with an empty id of its own the container's.
#[derive(Clone, Copy)]
pub struct Process<'a> {
    shim: &'a Shim,
    id: &'a str,
    exec: &'a str,
}

impl Shim {
    /// The process of the container `id` that was, or shall be, executed as `exec`.
    pub fn process<'a>(&'a self, id: &'a str, exec: &'a str) -> Process<'a> {
        Process { shim: self, id, exec }
    }
}

impl Process<'_> {
    /// Exec, without stdio.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn exec(&self, spec: &Value) -> Answer<()> {
        self.exec_with(spec, ExecProcessRequest::new())
    }

    /// Exec, with a request that is complete but for the ids and the process.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn exec_with(&self, spec: &Value, mut request: ExecProcessRequest) -> Answer<()> {
        request.id = self.id.to_owned();
        request.exec_id = self.exec.to_owned();
        request.spec = MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: spec.to_string().into_bytes(),
            ..Default::default()
        });
        self.shim.call::<Empty>("Exec", &request).map(|_| ())
    }

    /// Start: the pid.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn start(&self) -> Answer<u32> {
        let request = StartRequest { id: self.id(), exec_id: self.exec_id(), ..Default::default() };
        self.shim.call::<StartResponse>("Start", &request).map(|response| response.pid)
    }

    /// State.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn state(&self) -> Answer<StateResponse> {
        let request = StateRequest { id: self.id(), exec_id: self.exec_id(), ..Default::default() };
        self.shim.call("State", &request)
    }

    /// Kill.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn kill(&self, signal: Signal) -> Answer<()> {
        let request = KillRequest {
            id: self.id(),
            exec_id: self.exec_id(),
            signal: (signal as i32).cast_unsigned(),
            ..Default::default()
        };
        self.shim.call::<Empty>("Kill", &request).map(|_| ())
    }

    /// Wait: the exit status.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn wait(&self) -> Answer<u32> {
        let request = WaitRequest { id: self.id(), exec_id: self.exec_id(), ..Default::default() };
        let response: WaitResponse = self.shim.call("Wait", &request)?;
        assert!(response.exited_at.seconds > 1_500_000_000, "no time of exit: {response:?}");
        Ok(response.exit_status)
    }

    /// Delete.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn delete(&self) -> Answer<DeleteResponse> {
        let request =
            DeleteRequest { id: self.id(), exec_id: self.exec_id(), ..Default::default() };
        self.shim.call("Delete", &request)
    }

    /// CloseIO of standard input.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn close_stdin(&self) -> Answer<()> {
        let request = CloseIORequest {
            id: self.id(),
            exec_id: self.exec_id(),
            stdin: true,
            ..Default::default()
        };
        self.shim.call::<Empty>("CloseIO", &request).map(|_| ())
    }

    /// ResizePty.
    ///
    /// # Errors
    /// What the shim answered.
    pub fn resize(&self, columns: u32, rows: u32) -> Answer<()> {
        let request = ResizePtyRequest {
            id: self.id(),
            exec_id: self.exec_id(),
            width: columns,
            height: rows,
            ..Default::default()
        };
        self.shim.call::<Empty>("ResizePty", &request).map(|_| ())
    }

    fn id(&self) -> String {
        self.id.to_owned()
    }

    fn exec_id(&self) -> String {
        self.exec.to_owned()
    }
}
