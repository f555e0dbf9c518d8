//! docker 26, which makes networks in a prestart hook, over containerd 1.7.

mod images;
mod trust;

use std::sync::RwLockReadGuard;

use integration::bed::{Bed, Cgroup, Suite, bed};
use integration::ctr::Ctr;
use integration::docker::Docker;

fn host() -> &'static Bed {
    bed(Suite::Trixie, Cgroup::V1)
}

fn docker() -> (Docker, RwLockReadGuard<'static, ()>) {
    (Docker(host()), host().shared())
}

fn ctr() -> (Ctr, RwLockReadGuard<'static, ()>) {
    (Ctr(host()), host().shared())
}

mod with_docker {
    integration::docker_core!(crate::docker);
}

mod with_ctr {
    integration::ctr_core!(crate::ctr);
}
