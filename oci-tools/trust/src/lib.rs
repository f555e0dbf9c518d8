//! Who vouches for what: [`key`]s, [`image`] signatures in the forms of cosign's, compiled [`code`] that
//! comes with an image, and the [`policy`] that says whose word counts for which images.
//!
//! A registry only carries signatures. What it sends is hostile until a key has said otherwise, and
//! nothing of it is parsed before that but base64, the manifest or bundle that it comes in, and of a
//! bundle, what kind of statement is in it.

pub mod bundle;
pub mod code;
pub mod image;
pub mod kept;
pub mod key;
pub mod policy;
