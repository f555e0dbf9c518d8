//! What a guest's host functions find in its store.

use super::ceiling::Ceiling;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// A module's.
pub struct ModuleHost {
    pub wasi: WasiP1Ctx,
    ceiling: Ceiling,
}

/// A component's.
pub struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    ceiling: Ceiling,
}

impl ModuleHost {
    /// A store for one guest that is granted `context`, with so many bytes of memory at most.
    pub fn store(
        engine: &Engine,
        context: &mut WasiCtxBuilder,
        ceiling: Option<u64>,
    ) -> Store<Self> {
        let host = Self { wasi: context.build_p1(), ceiling: Ceiling::new(ceiling) };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.ceiling);
        store
    }
}

impl Host {
    /// A store for one guest that is granted `context`, with so many bytes of memory at most.
    pub fn store(
        engine: &Engine,
        context: &mut WasiCtxBuilder,
        ceiling: Option<u64>,
    ) -> Store<Self> {
        let host = Self {
            wasi: context.build(),
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            ceiling: Ceiling::new(ceiling),
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.ceiling);
        store
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: wasmtime_wasi_http::default_hooks(),
        }
    }
}
