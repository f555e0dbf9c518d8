//! A ceiling for the linear memory of a guest, all of its memories together. What would go above it
//! fails as the specification of WebAssembly has it: `memory.grow` gives -1.

use wasmtime::{ResourceLimiter, Result};

/// What is left below the ceiling.
pub struct Ceiling {
    left: usize,
    /// What was taken last, which a failure gives back.
    taken: usize,
}

impl Ceiling {
    /// Of so many bytes, or none.
    pub fn new(bytes: Option<u64>) -> Self {
        let left = bytes.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self { left, taken: 0 }
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        most: Option<usize>,
    ) -> Result<bool> {
        let more = desired.saturating_sub(current);
        if more > self.left || most.is_some_and(|most| desired > most) {
            self.taken = 0;
            return Ok(false);
        }
        self.left -= more;
        self.taken = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> Result<()> {
        self.left += std::mem::take(&mut self.taken);
        Ok(())
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_are_below_one_ceiling() {
        let mut ceiling = Ceiling::new(Some(100));
        assert!(ceiling.memory_growing(0, 60, None).unwrap());
        assert!(!ceiling.memory_growing(0, 60, None).unwrap());
        assert!(ceiling.memory_growing(0, 40, None).unwrap());
        assert!(!ceiling.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn what_could_not_be_had_is_given_back_once() {
        let mut ceiling = Ceiling::new(Some(100));
        assert!(ceiling.memory_growing(0, 100, None).unwrap());
        for _ in 0..2 {
            ceiling.memory_grow_failed(wasmtime::format_err!("no pages")).unwrap();
        }
        assert!(ceiling.memory_growing(0, 100, None).unwrap());
        assert!(!ceiling.memory_growing(100, 101, Some(100)).unwrap());
    }
}
