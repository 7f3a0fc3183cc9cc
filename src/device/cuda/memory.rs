//! Memory of a GPU.

use super::context::Context;
use crate::error::Result;

/// One allocation on a GPU, with undefined content.
pub struct Buffer {
    context: &'static Context,
    address: u64,
    bytes: usize,
}

impl Buffer {
    /// `ordinal`: of the GPU.
    pub fn new(ordinal: usize, bytes: usize) -> Result<Self> {
        let context = super::context(ordinal)?;
        Ok(Buffer { context, address: context.allocate(bytes)?, bytes })
    }

    pub fn context(&self) -> &'static Context {
        self.context
    }

    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.context.free(self.address, self.bytes);
    }
}
