//! The task service as containerd calls it: protobuf in and out, domain types within.
//!
//! `containerd.task.v2.Task` and `containerd.task.v3.Task` have the same messages, so the same
//! handlers serve both.

mod errors;
mod options;
mod publisher;
mod stats;

pub use publisher::Publisher;

use crate::launch::{Choice, Paths};
use crate::spec::RootfsPart;
use crate::sys::pty::Size;
use crate::task::{ExecRequest, Exit, Handle, Request, Status, Tasks};
use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::r#async::{Service as Methods, TtrpcContext};
use containerd_shim_protos::ttrpc::error::get_rpc_status;
use containerd_shim_protos::ttrpc::{self, Code};
use errors::{NotSupported, rpc};
use oci_spec::runtime::LinuxResources;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

type Result<T> = ttrpc::Result<T>;

/// The handlers of the task service.
pub struct Service {
    tasks: Tasks,
    shutdown: Arc<Notify>,
}

impl Service {
    /// Serves `tasks`; says `shutdown` when containerd asks for it and none is left.
    pub fn new(tasks: Tasks, shutdown: Arc<Notify>) -> Self {
        Self { tasks, shutdown }
    }

    /// The handlers under the names that containerd 1.x and 2.x call.
    pub fn methods(self) -> HashMap<String, Methods> {
        let service: Arc<dyn Task + Send + Sync> = Arc::new(self);
        let mut methods = HashMap::new();
        for name in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
            let one = create_task(service.clone()).into_values();
            methods.extend(one.map(|handlers| (name.to_owned(), handlers)));
        }
        methods
    }

    /// The container, or the process that was executed in it under `exec_id`.
    async fn task(&self, id: &str, exec_id: &str) -> Result<Handle> {
        let task = self.tasks.get(id).map_err(rpc)?;
        match exec_id {
            "" => Ok(task),
            exec => task.executed(exec.to_owned()).await.map_err(rpc),
        }
    }
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> Result<api::CreateTaskResponse> {
        if !request.checkpoint.is_empty() {
            return Err(NotSupported("restore").into());
        }
        let options = options::read(request.options.as_ref())
            .map_err(|e| get_rpc_status(Code::INVALID_ARGUMENT, format!("runtime options: {e}")))?;
        let part = |mount: api::Mount| RootfsPart {
            fstype: mount.type_,
            source: mount.source,
            options: mount.options,
        };
        let request = Request {
            id: request.id,
            bundle: PathBuf::from(request.bundle),
            rootfs: request.rootfs.into_iter().map(part).collect(),
            streams: Paths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
            terminal: request.terminal,
            cgroup: true,
            systemd_cgroup: options.systemd_cgroup,
            max_guest_memory: options.max_guest_memory,
            built_ins: options.exec_built_ins,
            code: Choice {
                compiler: options.compiler,
                max_cache: options.max_code_cache,
                keys: options.code_keys,
                image: None,
            },
            signed_images: options.signed_images,
        };
        let pid = self.tasks.create(request).await.map_err(rpc)?;
        Ok(api::CreateTaskResponse { pid: pid.as_raw() as u32, ..Default::default() })
    }

    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> Result<api::StartResponse> {
        let pid = self.task(&request.id, &request.exec_id).await?.start().await.map_err(rpc)?;
        Ok(api::StartResponse { pid: pid.as_raw() as u32, ..Default::default() })
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> Result<api::StateResponse> {
        let snapshot =
            self.task(&request.id, &request.exec_id).await?.snapshot().await.map_err(rpc)?;
        let status = match snapshot.status {
            Status::Created => api::Status::CREATED,
            Status::Running => api::Status::RUNNING,
            Status::Paused => api::Status::PAUSED,
            Status::Stopped => api::Status::STOPPED,
        };
        let (exit_status, exited_at) = exit_fields(snapshot.exit.as_ref());
        let id = if request.exec_id.is_empty() { request.id } else { request.exec_id.clone() };
        Ok(api::StateResponse {
            id,
            exec_id: request.exec_id,
            bundle: snapshot.bundle.display().to_string(),
            pid: snapshot.pid.map_or(0, |pid| pid.as_raw() as u32),
            status: status.into(),
            stdin: snapshot.streams.stdin,
            stdout: snapshot.streams.stdout,
            stderr: snapshot.streams.stderr,
            terminal: snapshot.terminal,
            exit_status,
            exited_at,
            ..Default::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> Result<api::WaitResponse> {
        let exit = self.task(&request.id, &request.exec_id).await?.wait().await.map_err(rpc)?;
        let (exit_status, exited_at) = exit_fields(Some(&exit));
        Ok(api::WaitResponse { exit_status, exited_at, ..Default::default() })
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> Result<api::Empty> {
        let task = self.task(&request.id, &request.exec_id).await?;
        task.kill(request.signal as i32, request.all).await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> Result<api::DeleteResponse> {
        let (pid, exit) =
            self.task(&request.id, &request.exec_id).await?.delete().await.map_err(rpc)?;
        let (exit_status, exited_at) = exit_fields(exit.as_ref());
        Ok(api::DeleteResponse {
            pid: pid.map_or(0, |pid| pid.as_raw() as u32),
            exit_status,
            exited_at,
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> Result<api::PidsResponse> {
        let pids = self.task(&request.id, "").await?.pids().await.map_err(rpc)?;
        let process = |(pid, exec): (nix::unistd::Pid, Option<String>)| api::ProcessInfo {
            pid: pid.as_raw() as u32,
            info: exec.map(|exec| details(&exec)).into(),
            ..Default::default()
        };
        Ok(api::PidsResponse {
            processes: pids.into_iter().map(process).collect(),
            ..Default::default()
        })
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> Result<api::Empty> {
        let task = self.task(&request.id, &request.exec_id).await?;
        if request.stdin {
            task.close_stdin().await.map_err(rpc)?;
        }
        Ok(api::Empty::new())
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> Result<api::StatsResponse> {
        let (version, stats) = self.task(&request.id, "").await?.stats().await.map_err(rpc)?;
        let metrics = stats::metrics(version, &stats)
            .map_err(|e| get_rpc_status(Code::INTERNAL, e.to_string()))?;
        Ok(api::StatsResponse { stats: MessageField::some(metrics), ..Default::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> Result<api::ConnectResponse> {
        // containerd also connects to a shim that has no container yet, as to one of a pod.
        let pid = match self.tasks.get(&request.id) {
            // It may be gone by the time it answers.
            Ok(task) => task.snapshot().await.ok().and_then(|snapshot| snapshot.pid),
            Err(_) => None,
        };
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: pid.map_or(0, |pid| pid.as_raw() as u32),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        })
    }

    async fn shutdown(
        &self,
        _: &TtrpcContext,
        request: api::ShutdownRequest,
    ) -> Result<api::Empty> {
        if self.tasks.is_empty() || request.now {
            self.shutdown.notify_one();
        }
        Ok(api::Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> Result<api::Empty> {
        let exec = ExecRequest {
            id: request.exec_id,
            process: request.spec.unwrap_or_default().value,
            streams: Paths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
            terminal: request.terminal,
        };
        self.task(&request.id, "").await?.exec(exec).await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> Result<api::Empty> {
        self.task(&request.id, "").await?.pause().await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> Result<api::Empty> {
        self.task(&request.id, "").await?.resume().await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> Result<api::Empty> {
        let task = self.task(&request.id, "").await?;
        let resources = resources(request.resources.as_ref())
            .map_err(|words| get_rpc_status(Code::INVALID_ARGUMENT, words))?;
        task.update(resources).await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: api::ResizePtyRequest,
    ) -> Result<api::Empty> {
        let whole = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
        let size = Size { columns: whole(request.width), rows: whole(request.height) };
        self.task(&request.id, &request.exec_id).await?.resize(size).await.map_err(rpc)?;
        Ok(api::Empty::new())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        request: api::CheckpointTaskRequest,
    ) -> Result<api::Empty> {
        self.task(&request.id, "").await?;
        Err(NotSupported("checkpoint").into())
    }
}

/// The limits of an update: the specification's, as JSON.
fn resources(any: Option<&Any>) -> std::result::Result<LinuxResources, String> {
    let any = any.ok_or("there are no resources to update")?;
    if !any.type_url.ends_with("LinuxResources") {
        return Err(format!("resources of the type {:?}, not LinuxResources", any.type_url));
    }
    serde_json::from_slice(&any.value).map_err(|e| format!("the resources are malformed: {e}"))
}

/// What `ctr task ps` shows of a process that was executed: runc's message for it, which has one
/// field, the id.
fn details(exec: &str) -> Any {
    let mut value = Vec::new();
    let mut output = CodedOutputStream::vec(&mut value);
    // A vector takes all that is written.
    let _ = output.write_string(1, exec).and_then(|()| output.flush());
    drop(output);
    Any { type_url: "containerd.runc.v1.ProcessDetails".into(), value, ..Default::default() }
}

/// The two fields that tell an exit; zero and nothing before there is one.
fn exit_fields(exit: Option<&Exit>) -> (u32, MessageField<Timestamp>) {
    match exit {
        Some(exit) => (exit.code, MessageField::some(timestamp(exit.at))),
        None => (0, MessageField::none()),
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
        ..Default::default()
    }
}
