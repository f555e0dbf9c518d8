//! Names for what tests make.

use std::sync::atomic::{AtomicU32, Ordering};

/// A name that begins with `stem` and that nothing else in this test binary has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
