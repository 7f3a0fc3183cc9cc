//! Blocks of memory with run-time borrow rules, so that tensors can share them safely.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::cuda::{Argument, Buffer};
use super::pages::{ALIGN, Pages};
use super::refusal::no_memory;
use super::{DType, Device, Element};
use crate::error::Result;

/// One allocation. Blocks are disjoint parts of it.
enum Memory {
    /// Zeroed when made.
    Host(Pages),
    /// With undefined content.
    Gpu(Buffer),
    /// A size alone, of a dry graph. Indices may be kept in it: then there is memory for them,
    /// zeroed.
    Dry(OnceLock<Pages>),
}

// SAFETY: Memory is only an allocation; access to it is ruled by the borrow counters of the blocks.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(device: Device, bytes: usize) -> Result<Self> {
        match device {
            Device::Cpu => Pages::new(bytes).map(Memory::Host),
            Device::Cuda(ordinal) => Buffer::new(ordinal, bytes.max(ALIGN)).map(Memory::Gpu),
        }
    }
}

/// A part of an allocation that no other block overlaps. Any number of readers or one writer at a
/// time, checked at run time.
pub struct Block {
    memory: Arc<Memory>,
    offset: usize,
    bytes: usize,
    /// Readers (> 0), a writer (-1), or nobody (0).
    borrow: AtomicIsize,
}

impl Block {
    /// A block of its own: zeroed on the host, undefined on a GPU.
    pub fn new(device: Device, bytes: usize) -> Result<Self> {
        Ok(Block { memory: Arc::new(Memory::new(device, bytes)?), offset: 0, bytes, borrow: AtomicIsize::new(0) })
    }

    /// A block of a size without memory, for a dry graph
    /// ([`Graph::dry`](crate::autodiff::Graph::dry)): what is written to it is forgotten, and to
    /// read from it is a bug, but for indices, which are kept.
    pub fn dry(bytes: usize) -> Self {
        let memory = Arc::new(Memory::Dry(OnceLock::new()));
        Block { memory, offset: 0, bytes, borrow: AtomicIsize::new(0) }
    }

    /// Whether this is a size alone.
    pub fn is_dry(&self) -> bool {
        matches!(*self.memory, Memory::Dry(_))
    }

    /// One allocation divided into consecutive blocks of the given sizes, each aligned: a slab.
    /// Zeroed on every device.
    pub fn slab(device: Device, sizes: &[usize]) -> Result<Vec<Self>> {
        let rounded = |n: usize| n.div_ceil(ALIGN) * ALIGN;
        let total = sizes.iter().map(|&n| rounded(n)).sum();
        let memory = Arc::new(Memory::new(device, total)?);
        if let Memory::Gpu(buffer) = &*memory {
            buffer.context().zero(buffer.address(), total)?;
        }
        let mut offset = 0;
        Ok(sizes
            .iter()
            .map(|&bytes| {
                let block = Block { memory: memory.clone(), offset, bytes, borrow: AtomicIsize::new(0) };
                offset += rounded(bytes);
                block
            })
            .collect())
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn host(&self, dtype: DType) -> *mut u8 {
        match &*self.memory {
            // SAFETY: the offset lies within the allocation.
            Memory::Host(pages) => unsafe { pages.pointer().add(self.offset) },
            Memory::Gpu(_) => panic!("memory of a GPU is used as memory of the host"),
            Memory::Dry(indices) => {
                assert_eq!(dtype, DType::U32, "a dry graph has no numbers: ask `computes()` before arithmetic");
                indices.get_or_init(|| Pages::new(self.bytes).unwrap_or_else(|_| no_memory(self.bytes))).pointer()
            }
        }
    }

    /// The first `len` elements, shared. Panics if the block is being written, or is not on the
    /// host (bugs in an operation).
    pub fn read<T: Element>(&self, len: usize) -> Read<'_, T> {
        assert!(len * size_of::<T>() <= self.bytes, "read past the end of a block");
        let pointer = self.host(T::DTYPE);
        let previous = self.borrow.fetch_add(1, Ordering::Acquire);
        if previous < 0 {
            self.borrow.fetch_sub(1, Ordering::Release);
            panic!("a block is read while it is written");
        }
        // SAFETY: the range was checked; the memory is initialised (zeroed at birth) and aligned to
        // 64; T is Pod; no writer exists while the counter is positive.
        let slice = unsafe { std::slice::from_raw_parts(pointer.cast::<T>(), len) };
        Read { slice, borrow: &self.borrow }
    }

    /// The first `len` elements, exclusive. Panics if the block is being read or written, or is not
    /// on the host (bugs in an operation).
    pub fn write<T: Element>(&self, len: usize) -> Write<'_, T> {
        assert!(len * size_of::<T>() <= self.bytes, "write past the end of a block");
        let pointer = self.host(T::DTYPE);
        self.borrow
            .compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed)
            .expect("a block is written while somebody else uses it");
        // SAFETY: the range was checked; memory initialised and aligned; T is Pod; the counter of
        // -1 keeps everybody else out, and blocks of one allocation are disjoint.
        let slice = unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>(), len) };
        Write { slice, borrow: &self.borrow, _not_send: PhantomData }
    }
}

/// Blocks of a GPU.
impl Block {
    fn gpu(&self) -> &Buffer {
        match &*self.memory {
            Memory::Gpu(buffer) => buffer,
            Memory::Host(_) | Memory::Dry(_) => panic!("memory of the host is used as memory of a GPU"),
        }
    }

    fn address(&self, offset: usize) -> u64 {
        self.gpu().address() + (self.offset + offset) as u64
    }

    /// The block from byte `offset` on, as an argument of a kernel.
    pub fn argument(&self, offset: usize) -> Argument<'_> {
        assert!(offset <= self.bytes, "an argument past the end of a block");
        Argument::Memory(self.address(offset), PhantomData)
    }

    /// Sets the first bytes to zero. Here and below: an error of the driver is kept for the next
    /// call that can return it.
    pub(crate) fn zero(&self, bytes: usize) {
        assert!(bytes <= self.bytes, "zeroed past the end of a block");
        let context = self.gpu().context();
        context.keep(context.zero(self.address(0), bytes));
    }

    /// Copies bytes of the host into the block, from `offset` on.
    pub(crate) fn upload(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes, "written past the end of a block");
        let context = self.gpu().context();
        context.keep(context.upload(self.address(offset), bytes));
    }

    /// Copies the block from `offset` on to the host. Where that fails the bytes stay as they are.
    pub(crate) fn download(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.bytes, "read past the end of a block");
        let context = self.gpu().context();
        context.keep(context.download(self.address(offset), bytes));
    }

    /// Copies bytes of another block of the same GPU.
    pub(crate) fn copy(&self, offset: usize, other: &Block, other_offset: usize, bytes: usize) {
        assert!(offset + bytes <= self.bytes && other_offset + bytes <= other.bytes, "copied past the end of a block");
        let context = self.gpu().context();
        context.keep(context.copy(self.address(offset), other.address(other_offset), bytes));
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes)", self.bytes)
    }
}

/// Shared view of a block.
pub struct Read<'a, T> {
    slice: &'a [T],
    borrow: &'a AtomicIsize,
}

impl<T> Deref for Read<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.slice
    }
}

impl<T> Drop for Read<'_, T> {
    fn drop(&mut self) {
        self.borrow.fetch_sub(1, Ordering::Release);
    }
}

/// Exclusive view of a block.
pub struct Write<'a, T> {
    slice: &'a mut [T],
    borrow: &'a AtomicIsize,
    _not_send: PhantomData<*mut ()>,
}

impl<T> Deref for Write<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.slice
    }
}

impl<T> DerefMut for Write<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.slice
    }
}

impl<T> Drop for Write<'_, T> {
    fn drop(&mut self) {
        self.borrow.store(0, Ordering::Release);
    }
}
