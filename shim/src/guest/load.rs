//! From compiled code to something that only waits to be called.

use super::exit::RunFailed;
use super::host::{Host, ModuleHost};
use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use wasmtime::component::{self, Component, Val, types::ComponentItem};
use wasmtime::{
    Engine, ExternType, InstancePre, Linker, Module, Precompiled, ResourcesRequired, Result,
};
use wasmtime_wasi::{WasiCtxBuilder, p0, p1, p2, p3};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2 as http2, p3 as http3};

/// Why a guest cannot be run, before any of it ran.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compiled code does not load: damaged, or not of this engine.
    #[error("the compiled code cannot be loaded: {0}")]
    Code(String),
    /// It wants something that nobody here provides.
    #[error(
        "an import cannot be satisfied: {0}; this runtime provides WASI preview 1 and the interfaces of wasi:cli and wasi:http, 0.2 and 0.3"
    )]
    Import(String),
    /// The export that should be called is not there.
    #[error("{wanted}; it exports {exports}")]
    Export {
        /// What was looked for.
        wanted: String,
        /// What is there.
        exports: String,
    },
    /// It begins with more memory than it may ever have.
    #[error(
        "it begins with {0} bytes of memory in one piece, which is above its ceiling of {1} bytes (MaxGuestMemory)"
    )]
    Memory(u64, u64),
    /// Its memory is shared between threads.
    #[error("its memory is shared between threads, of which a guest has one")]
    Shared,
    /// A kind of component that this runtime does not run.
    #[error("the world of this component is not supported: {0}")]
    World(String),
}

/// A guest, linked; none of its code has run.
pub struct Loaded {
    pub(super) work: Work,
    /// Of its memory, in bytes.
    pub(super) ceiling: Option<u64>,
}

/// What a guest is for.
pub(super) enum Work {
    /// To be called once.
    Call(Call),
    /// To answer requests.
    Serve(ProxyPre<Host>),
}

/// What is called.
pub(super) enum Call {
    Module(InstancePre<ModuleHost>, String),
    Command2(p2::bindings::CommandPre<Host>),
    Command3(p3::bindings::CommandPre<Host>),
    Export(component::InstancePre<Host>, String),
}

/// All that guests of one engine can import; each kind made once, ahead or when it is needed.
pub struct Linkers {
    engine: Engine,
    module: OnceCell<Linker<ModuleHost>>,
    component: OnceCell<component::Linker<Host>>,
}

impl Linkers {
    /// For code of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine, module: OnceCell::new(), component: OnceCell::new() }
    }

    /// Makes those that were not needed yet.
    ///
    /// # Errors
    /// When a name is defined twice; a bug.
    pub fn make_all(&self) -> Result<(), Error> {
        self.module()?;
        self.component()?;
        Ok(())
    }

    fn module(&self) -> Result<&Linker<ModuleHost>, Error> {
        if let Some(linker) = self.module.get() {
            return Ok(linker);
        }
        let mut linker: Linker<ModuleHost> = Linker::new(&self.engine);
        p1::add_to_linker_async(&mut linker, |host| &mut host.wasi).map_err(import)?;
        p0::add_to_linker_async(&mut linker, |host| &mut host.wasi).map_err(import)?;
        Ok(self.module.get_or_init(|| linker))
    }

    fn component(&self) -> Result<&component::Linker<Host>, Error> {
        if let Some(linker) = self.component.get() {
            return Ok(linker);
        }
        let mut linker = component::Linker::new(&self.engine);
        p2::add_to_linker_async(&mut linker).map_err(import)?;
        p3::add_to_linker(&mut linker).map_err(import)?;
        http2::add_only_http_to_linker_async(&mut linker).map_err(import)?;
        http3::add_to_linker(&mut linker).map_err(import)?;
        Ok(self.component.get_or_init(|| linker))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Loaded {
    /// Maps `code`, a file of the code cache, and links it. `export` names a function to call
    /// instead of the command's own entry point; its memory never gets above `ceiling`, in bytes.
    /// Needs `/proc`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        linkers: &Linkers,
        code: &File,
        export: Option<&str>,
        ceiling: Option<u64>,
    ) -> Result<Self, Error> {
        let engine = &linkers.engine;
        let path = format!("/proc/self/fd/{}", code.as_raw_fd());
        let damaged = |e: wasmtime::Error| Error::Code(format!("{e:#}"));
        let work = match Engine::detect_precompiled_file(&path).map_err(damaged)? {
            Some(Precompiled::Module) => {
                let module = artifact::engine::load_module(engine, &path).map_err(damaged)?;
                check_memory(Some(module.resources_required()), ceiling)?;
                Work::Call(link_module(linkers, &module, export)?)
            }
            Some(Precompiled::Component) => {
                let component = artifact::engine::load_component(engine, &path).map_err(damaged)?;
                check_memory(component.resources_required(), ceiling)?;
                link_component(linkers, &component, export)?
            }
            None => return Err(Error::Code("it is not Wasmtime's".into())),
        };
        Ok(Self { work, ceiling })
    }
}

impl Call {
    /// Calls it, in a store of its own.
    pub async fn call(self, mut context: WasiCtxBuilder, ceiling: Option<u64>) -> Result<()> {
        match self {
            Call::Module(pre, export) => {
                let mut store = ModuleHost::store(pre.module().engine(), &mut context, ceiling);
                let instance = pre.instantiate_async(&mut store).await?;
                let function = instance
                    .get_func(&mut store, &export)
                    .ok_or_else(|| wasmtime::format_err!("no function {export:?}"))?;
                let mut results = vec![wasmtime::Val::I32(0); function.ty(&store).results().len()];
                function.call_async(&mut store, &[], &mut results).await
            }
            Call::Command2(pre) => {
                let mut store = Host::store(pre.engine(), &mut context, ceiling);
                let command = pre.instantiate_async(&mut store).await?;
                succeeded(command.wasi_cli_run().call_run(&mut store).await?)
            }
            Call::Command3(pre) => {
                let mut store = Host::store(pre.engine(), &mut context, ceiling);
                let command = pre.instantiate_async(&mut store).await?;
                let run = async |guest: &_| command.wasi_cli_run().call_run(guest).await;
                succeeded(store.run_concurrent(run).await??)
            }
            Call::Export(pre, export) => {
                let mut store = Host::store(pre.engine(), &mut context, ceiling);
                let instance = pre.instantiate_async(&mut store).await?;
                let function = instance
                    .get_func(&mut store, &export)
                    .ok_or_else(|| wasmtime::format_err!("no function {export:?}"))?;
                let mut results = vec![Val::Bool(false); function.ty(&store).results().len()];
                function.call_async(&mut store, &[], &mut results).await?;
                match results.first() {
                    Some(Val::Result(Err(_))) => Err(RunFailed.into()),
                    _ => Ok(()),
                }
            }
        }
    }
}

fn succeeded(run: Result<(), ()>) -> Result<()> {
    run.map_err(|()| RunFailed.into())
}

fn check_memory(needs: Option<ResourcesRequired>, ceiling: Option<u64>) -> Result<(), Error> {
    const PAGE: u64 = 64 << 10;
    let first = needs.and_then(|needs| needs.max_initial_memory_size).unwrap_or(0);
    match ceiling {
        Some(most) if first.saturating_mul(PAGE) > most => {
            Err(Error::Memory(first.saturating_mul(PAGE), most))
        }
        _ => Ok(()),
    }
}

fn link_module(linkers: &Linkers, module: &Module, export: Option<&str>) -> Result<Call, Error> {
    let wanted = export.unwrap_or("_start");
    let callable = match module.get_export(wanted) {
        Some(ExternType::Func(ty)) if ty.params().len() == 0 => true,
        Some(ExternType::Func(_)) => {
            let wanted =
                format!("the function {wanted:?} takes parameters, so it cannot be called");
            return Err(Error::Export { wanted, exports: functions(module) });
        }
        _ => false,
    };
    if !callable {
        let wanted = match export {
            Some(name) => format!("the module exports no function {name:?}"),
            None => "the module exports no _start, so it is not a command; build it as one, or \
                     name another function with ENTRYPOINT [\"FILE#FUNCTION\"]"
                .into(),
        };
        return Err(Error::Export { wanted, exports: functions(module) });
    }
    // One that is not exported either is a trap.
    let is_shared = |ty: ExternType| matches!(ty, ExternType::Memory(memory) if memory.is_shared());
    if module.exports().any(|export| is_shared(export.ty())) {
        return Err(Error::Shared);
    }
    let pre = linkers.module()?.instantiate_pre(module).map_err(import)?;
    Ok(Call::Module(pre, wanted.to_owned()))
}

fn link_component(
    linkers: &Linkers,
    component: &Component,
    export: Option<&str>,
) -> Result<Work, Error> {
    let engine = &linkers.engine;
    let names: Vec<String> =
        component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
    let pre = linkers.component()?.instantiate_pre(component).map_err(import)?;
    let exports = || if names.is_empty() { "nothing".into() } else { some(&names) };
    let Some(name) = export else {
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        let work = if has("wasi:cli/run@0.2.") {
            p2::bindings::CommandPre::new(pre).map(Call::Command2).map(Work::Call)
        } else if has("wasi:cli/run@0.3.") {
            p3::bindings::CommandPre::new(pre).map(Call::Command3).map(Work::Call)
        } else if has("wasi:http/incoming-handler@0.2.") {
            http2::bindings::ProxyPre::new(pre).map(ProxyPre::P2).map(Work::Serve)
        } else if has("wasi:http/handler@0.3.") {
            http3::bindings::ServicePre::new(pre).map(ProxyPre::P3).map(Work::Serve)
        } else {
            let runs = "wasi:cli/run, wasi:http/incoming-handler or wasi:http/handler";
            return Err(Error::World(format!(
                "it exports nothing of {runs} of WASI 0.2 or 0.3, but {}",
                exports()
            )));
        };
        return work.map_err(|e| Error::World(format!("{e:#}")));
    };
    match component.component_type().get_export(engine, name).map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(ty)) if ty.params().len() == 0 => {
            Ok(Work::Call(Call::Export(pre, name.to_owned())))
        }
        Some(ComponentItem::ComponentFunc(_)) => Err(Error::Export {
            wanted: format!("the function {name:?} takes parameters, so it cannot be called"),
            exports: exports(),
        }),
        _ => Err(Error::Export {
            wanted: format!("the component exports no function {name:?}"),
            exports: exports(),
        }),
    }
}

fn import(error: wasmtime::Error) -> Error {
    Error::Import(format!("{error:#}"))
}

fn functions(module: &Module) -> String {
    let names: Vec<String> = module
        .exports()
        .filter(|e| matches!(e.ty(), ExternType::Func(_)))
        .map(|e| e.name().to_owned())
        .collect();
    if names.is_empty() { "no functions".into() } else { some(&names) }
}

/// The first of many names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{} and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}
