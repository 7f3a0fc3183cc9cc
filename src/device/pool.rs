//! The memory pool: blocks are kept and given out again, so that a training step after the first
//! makes no heap call.

use std::sync::Arc;

use super::{Block, Device};
use crate::error::{Error, Result};

/// Counts of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PoolStatistics {
    /// Blocks made since the pool exists.
    pub allocations: usize,
    /// Bytes of all blocks of the pool.
    pub bytes: usize,
}

/// Largest block that a request takes while the pool is filled. (2.5 times: of the factors from
/// 1.25 to 8 the one with which the paper's two models need the least memory.)
fn shared_limit(bytes: usize) -> usize {
    bytes.saturating_add(bytes / 2 * 3 + 256)
}

/// Blocks of one device. A block is free when nobody but the pool holds it.
#[derive(Debug)]
pub struct Pool {
    device: Device,
    limit: Option<usize>,
    /// Ascending by size.
    blocks: Vec<Arc<Block>>,
    statistics: PoolStatistics,
    reserving: bool,
    /// Whether the pool keeps sizes alone.
    dry: bool,
    /// Requests so far, and their bytes.
    requests: (u64, u64),
}

impl Pool {
    /// An empty pool; `limit` bounds the bytes it may hold.
    pub fn new(device: Device, limit: Option<usize>) -> Self {
        Pool {
            device,
            limit,
            blocks: Vec::with_capacity(256),
            statistics: PoolStatistics::default(),
            reserving: true,
            dry: false,
            requests: (0, 0),
        }
    }

    /// The pool of a dry graph, which computes nothing, of the CPU: the same blocks, without
    /// memory.
    pub fn dry() -> Self {
        Pool { dry: true, ..Pool::new(Device::Cpu, None) }
    }

    /// Whether blocks are sizes alone.
    pub fn is_dry(&self) -> bool {
        self.dry
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn statistics(&self) -> PoolStatistics {
        self.statistics
    }

    /// Requests since the pool exists, and the sum of their bytes.
    pub fn requests(&self) -> (u64, u64) {
        self.requests
    }

    /// Bytes of the blocks that somebody holds.
    pub fn used_bytes(&self) -> usize {
        self.blocks.iter().filter(|b| Arc::strong_count(b) > 1).map(|b| b.bytes()).sum()
    }

    /// While reserving (the first step of a stage, run at its largest sizes) blocks are only shared
    /// between requests of similar size (at most 2.5 times as large), so that the pool ends up with
    /// a fitting block for every request; afterwards any block that is large enough will do.
    pub fn set_reserving(&mut self, reserving: bool) {
        self.reserving = reserving;
    }

    /// A block of at least `bytes`; its content is undefined.
    pub fn take(&mut self, bytes: usize) -> Result<Arc<Block>> {
        self.requests.0 += 1;
        self.requests.1 += bytes as u64;
        let from = self.blocks.partition_point(|b| b.bytes() < bytes);
        let limit = if self.reserving { shared_limit(bytes) } else { usize::MAX };
        for block in &self.blocks[from..] {
            if block.bytes() > limit {
                break;
            }
            if Arc::strong_count(block) == 1 {
                return Ok(block.clone());
            }
        }
        if let Some(limit) = self.limit {
            let left = limit.saturating_sub(self.statistics.bytes);
            if bytes > left {
                return Err(Error::Memory { what: "a tensor".into(), needed: bytes, limit, left });
            }
        }
        let block = Arc::new(if self.dry { Block::dry(bytes) } else { Block::new(self.device, bytes)? });
        self.statistics.allocations += 1;
        self.statistics.bytes += bytes;
        self.blocks.insert(from, block.clone());
        Ok(block)
    }

    /// Gives unused blocks back to the system (between stages).
    pub fn trim(&mut self) {
        self.blocks.retain(|b| Arc::strong_count(b) > 1);
        self.statistics.bytes = self.blocks.iter().map(|b| b.bytes()).sum();
        self.reserving = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        let mut pool = Pool::new(Device::Cpu, Some(4096));
        let a = pool.take(1024).unwrap();
        drop(a);
        let b = pool.take(1000).unwrap();
        assert_eq!(pool.statistics().allocations, 1);
        let _c = pool.take(1000).unwrap();
        assert_eq!(pool.statistics().allocations, 2);
        assert!(matches!(pool.take(10_000), Err(Error::Memory { needed: 10_000, .. })));
        drop(b);
        pool.set_reserving(false);
        let _small = pool.take(16).unwrap();
        assert_eq!(pool.statistics().allocations, 2, "any large enough block will do");
    }

    #[test]
    #[should_panic(expected = "written while somebody else")]
    fn a_block_has_one_writer() {
        let block = Block::new(Device::Cpu, 64).unwrap();
        let _read = block.read::<f32>(4);
        block.write::<f32>(4);
    }
}
