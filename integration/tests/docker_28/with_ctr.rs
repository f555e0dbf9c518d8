//! containerd 2.1 of the same host, without docker.

integration::ctr_core!(crate::ctr);
