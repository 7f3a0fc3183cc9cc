//! Blocks of memory with run-time borrow rules, so that tensors can share them safely.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use super::Element;
use super::pages::{ALIGN, Pages};
use crate::error::Result;

/// A part of an allocation that no other block overlaps. Any number of readers or one writer at a time, checked at run time.
pub struct Block {
    memory: Arc<Pages>,
    offset: usize,
    bytes: usize,
    /// Readers (> 0), a writer (-1), or nobody (0).
    borrow: AtomicIsize,
}

impl Block {
    /// A zeroed block of its own.
    pub fn new(bytes: usize) -> Result<Self> {
        Ok(Block { memory: Arc::new(Pages::new(bytes)?), offset: 0, bytes, borrow: AtomicIsize::new(0) })
    }

    /// One allocation divided into consecutive blocks of the given sizes, each aligned: a slab.
    pub fn slab(sizes: &[usize]) -> Result<Vec<Self>> {
        let rounded = |n: usize| n.div_ceil(ALIGN) * ALIGN;
        let memory = Arc::new(Pages::new(sizes.iter().map(|&n| rounded(n)).sum())?);
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

    /// The first `len` elements, shared. Panics if the block is being written (a bug in an operation).
    pub fn read<T: Element>(&self, len: usize) -> Read<'_, T> {
        assert!(len * size_of::<T>() <= self.bytes, "read past the end of a block");
        let previous = self.borrow.fetch_add(1, Ordering::Acquire);
        if previous < 0 {
            self.borrow.fetch_sub(1, Ordering::Release);
            panic!("a block is read while it is written");
        }
        // SAFETY: the range was checked; the memory is initialised (zeroed at birth) and aligned to 64; T is Pod; no writer exists
        // while the counter is positive.
        let slice = unsafe { std::slice::from_raw_parts(self.memory.pointer().add(self.offset).cast::<T>(), len) };
        Read { slice, borrow: &self.borrow }
    }

    /// The first `len` elements, exclusive. Panics if the block is being read or written (a bug in an operation).
    pub fn write<T: Element>(&self, len: usize) -> Write<'_, T> {
        assert!(len * size_of::<T>() <= self.bytes, "write past the end of a block");
        self.borrow
            .compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed)
            .expect("a block is written while somebody else uses it");
        // SAFETY: the range was checked; memory initialised and aligned; T is Pod; the counter of -1 keeps everybody else out, and
        // blocks of one allocation are disjoint.
        let slice = unsafe { std::slice::from_raw_parts_mut(self.memory.pointer().add(self.offset).cast::<T>(), len) };
        Write { slice, borrow: &self.borrow, _not_send: PhantomData }
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
