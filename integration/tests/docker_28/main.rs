//! docker 28 over containerd 2.1: what `docker run` promises, line by line.

mod buildx;
mod cache;
mod command_line;
mod exec;
mod exit_codes;
mod faults;
mod guests;
mod harness;
mod health;
mod identity;
mod images;
mod limits;
mod mounts;
mod network;
mod options;
mod parallel;
mod pause;
mod refusals;
mod restart;
mod serving;
mod signals;
mod stdio;
mod store;
mod terminal;
mod trust;
mod verbs;
mod with_ctr;

use std::sync::RwLockReadGuard;

use integration::bed::{Bed, Cgroup, Suite, bed};
use integration::ctr::Ctr;
use integration::docker::Docker;

/// The bed of these tests.
#[track_caller]
fn host() -> &'static Bed {
    bed(Suite::Forky, Cgroup::V1)
}

/// docker, for a test that others may run beside; the second is held as long as the test runs.
#[track_caller]
fn docker() -> (Docker, RwLockReadGuard<'static, ()>) {
    let host = host();
    (Docker(host), host.shared())
}

/// ctr, for a test that others may run beside.
#[track_caller]
fn ctr() -> (Ctr, RwLockReadGuard<'static, ()>) {
    let host = host();
    (Ctr(host), host.shared())
}
