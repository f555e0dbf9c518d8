//! containerd 1.6, whose `start` gets no more than an address back.

mod images;

use std::sync::RwLockReadGuard;

use integration::bed::{Cgroup, Suite, bed};
use integration::ctr::Ctr;

fn ctr() -> (Ctr, RwLockReadGuard<'static, ()>) {
    let host = bed(Suite::Bookworm, Cgroup::V1);
    (Ctr(host), host.shared())
}

integration::ctr_core!(crate::ctr);
