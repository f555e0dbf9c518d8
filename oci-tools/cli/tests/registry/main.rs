//! The verbs that move images, against the real `docker-registry`, with `skopeo` as the judge of what
//! arrives; and against servers that lie and connections that break, which are made here.

mod access;
mod broken;
mod harness;
mod lies;
mod moving;
mod server;
mod signing;
mod store;
mod uploads;
