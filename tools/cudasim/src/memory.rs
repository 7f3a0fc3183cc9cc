//! The memory of the simulated GPU. An allocation begins at an address of its own that is never
//! given out again, so every access outside of an allocation, or to a freed one, is seen. Fresh
//! memory holds 0xff bytes: NaN in every float format.

use std::fmt;

/// First address; above 32 bits, so that a truncated address is never valid.
const BASE: u64 = 0x7f10_0000_0000;
/// Allocations begin in a slot of their own of this many bytes.
const SLOT_BITS: u32 = 20;
/// An allocation begins this far into its slot: aligned to 256 bytes, as the driver promises, and
/// to no more.
const INSET: u64 = 0x1100;
/// What fresh memory holds.
pub const POISON: u8 = 0xff;

#[derive(Debug)]
pub struct Allocation {
    pub id: u32,
    pub base: u64,
    pub len: u64,
    pub data: Vec<u8>,
    /// One bit per byte; empty once all is initialised.
    init: Vec<u64>,
    all_init: bool,
    pub freed: bool,
    /// Who wrote and who read each word last, see `races.rs`; empty until a kernel comes by.
    pub writes: Vec<u64>,
    pub reads: Vec<u64>,
    /// A second reader of each word; empty unless the switch `readers` is 2.
    pub others: Vec<u64>,
    /// A variable of a module, or a call of the client.
    pub label: String,
}

/// Why an access is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress(pub String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Default)]
pub struct DeviceMemory {
    pub allocations: Vec<Allocation>,
    /// Index of the allocation in each slot, plus one; 0 where there is none.
    slots: Vec<u32>,
    pub used: u64,
}

impl DeviceMemory {
    /// Makes room for `len` bytes and returns the address: with `reuse` the lowest one that was
    /// freed by an allocation of this length, if there is one.
    pub fn allocate(&mut self, len: u64, label: &str, reuse: bool) -> u64 {
        let freed = |a: &Allocation| a.freed && a.len == len && self.index(a.base) == Some(a.id as usize);
        let again = if reuse { self.allocations.iter().filter(|a| freed(a)).map(|a| a.base).min() } else { None };
        let base = again.unwrap_or(BASE + ((self.slots.len() as u64) << SLOT_BITS) + INSET);
        let id = self.allocations.len() as u32;
        // one slot more than needed keeps a distance between neighbours
        let slots = ((INSET + len) >> SLOT_BITS) + 2;
        match again {
            Some(base) => {
                let first = ((base - BASE) >> SLOT_BITS) as usize;
                self.slots[first..first + slots as usize].fill(id + 1);
            }
            None => self.slots.extend(std::iter::repeat_n(id + 1, slots as usize)),
        }
        self.allocations.push(Allocation {
            id,
            base,
            len,
            data: vec![POISON; len as usize],
            init: vec![0; len.div_ceil(64) as usize],
            all_init: len == 0,
            freed: false,
            writes: Vec::new(),
            reads: Vec::new(),
            others: Vec::new(),
            label: label.to_string(),
        });
        self.used += len;
        base
    }

    /// Frees the allocation that begins at the address.
    pub fn free(&mut self, address: u64) -> Result<(), BadAddress> {
        let index = self.index(address).filter(|&i| self.allocations[i].base == address);
        let Some(index) = index else {
            return Err(BadAddress(format!("0x{address:x} was never allocated")));
        };
        let a = &mut self.allocations[index];
        if a.freed {
            return Err(BadAddress(format!("allocation #{} (0x{address:x}) was freed before", a.id)));
        }
        a.freed = true;
        self.used -= a.len;
        (a.data, a.init, a.writes, a.reads, a.others) = Default::default();
        Ok(())
    }

    #[inline]
    pub fn index(&self, address: u64) -> Option<usize> {
        let slot = address.checked_sub(BASE)? >> SLOT_BITS;
        let index = *self.slots.get(slot as usize)?;
        (index as usize).checked_sub(1)
    }

    /// The allocation and the offset of `size` bytes that lie wholly in it.
    #[inline]
    pub fn find(&self, address: u64, size: u64) -> Result<(usize, usize), BadAddress> {
        if let Some(index) = self.index(address) {
            let a = &self.allocations[index];
            let offset = address.wrapping_sub(a.base);
            if !a.freed && offset < a.len && size <= a.len - offset {
                return Ok((index, offset as usize));
            }
        }
        Err(self.explain(address, size))
    }

    #[cold]
    fn explain(&self, address: u64, size: u64) -> BadAddress {
        let Some(index) = self.index(address) else {
            let hint =
                if address < 1 << 32 { " (a null pointer, an offset, or an address cut to 32 bits)" } else { "" };
            return BadAddress(format!("0x{address:x} is no address of this GPU{hint}"));
        };
        let a = &self.allocations[index];
        let what = format!("allocation #{} ({}, {} bytes from 0x{:x})", a.id, a.label, a.len, a.base);
        if a.freed {
            BadAddress(format!("{what} was freed"))
        } else if address < a.base {
            BadAddress(format!("{size} bytes at 0x{address:x}: {} bytes before {what}", a.base - address))
        } else if address >= a.base + a.len {
            BadAddress(format!(
                "{size} bytes at 0x{address:x}: {} bytes past the end of {what}",
                address - a.base - a.len
            ))
        } else {
            BadAddress(format!("{size} bytes at 0x{address:x} reach beyond the end of {what}"))
        }
    }

    /// Copies from the host.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BadAddress> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (index, offset) = self.find(address, bytes.len() as u64)?;
        let a = &mut self.allocations[index];
        a.data[offset..offset + bytes.len()].copy_from_slice(bytes);
        a.set_init(offset, bytes.len());
        Ok(())
    }

    pub fn fill(&mut self, address: u64, value: u8, len: u64) -> Result<(), BadAddress> {
        if len == 0 {
            return Ok(());
        }
        let (index, offset) = self.find(address, len)?;
        let a = &mut self.allocations[index];
        a.data[offset..offset + len as usize].fill(value);
        a.set_init(offset, len as usize);
        Ok(())
    }

    /// Copies to the host; what was never written comes out as poison.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), BadAddress> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (index, offset) = self.find(address, bytes.len() as u64)?;
        bytes.copy_from_slice(&self.allocations[index].data[offset..offset + bytes.len()]);
        Ok(())
    }

    /// Copies within the device, with what is initialised.
    pub fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), BadAddress> {
        if len == 0 {
            return Ok(());
        }
        let (source, offset) = self.find(from, len)?;
        let (target, at) = self.find(to, len)?;
        let bytes = self.allocations[source].data[offset..offset + len as usize].to_vec();
        let init: Vec<bool> = (0..len as usize).map(|i| self.allocations[source].is_init(offset + i, 1)).collect();
        let a = &mut self.allocations[target];
        a.data[at..at + len as usize].copy_from_slice(&bytes);
        if init.iter().all(|&i| i) {
            a.set_init(at, len as usize);
        } else {
            init.iter().enumerate().for_each(|(i, &init)| a.mark(at + i, init));
        }
        Ok(())
    }

    /// First byte of a range that was never written, if there is one.
    pub fn uninitialised(&self, address: u64, len: u64) -> Option<u64> {
        let (index, offset) = self.find(address, len).ok()?;
        let a = &self.allocations[index];
        (!a.all_init).then(|| (0..len as usize).find(|i| !a.is_init(offset + i, 1)))?.map(|i| address + i as u64)
    }

    /// Forgets who read and wrote, when launch numbers begin anew.
    pub fn forget_accesses(&mut self) {
        for a in &mut self.allocations {
            (a.writes, a.reads) = Default::default();
        }
    }

    pub fn live(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.iter().filter(|a| !a.freed)
    }
}

impl Allocation {
    /// Whether `n` bytes (at most 8, aligned to their number) are initialised.
    #[inline]
    pub fn is_init(&self, offset: usize, n: usize) -> bool {
        self.all_init || {
            let bits = ((1u64 << n) - 1) << (offset % 64);
            self.init[offset / 64] & bits == bits
        }
    }

    fn mark(&mut self, offset: usize, init: bool) {
        if init {
            self.set_init(offset, 1);
        } else if !self.all_init {
            self.init[offset / 64] &= !(1 << (offset % 64));
        } else {
            self.all_init = false;
            self.init = vec![u64::MAX; self.len.div_ceil(64) as usize];
            self.init[offset / 64] &= !(1 << (offset % 64));
        }
    }

    #[inline]
    pub fn set_init(&mut self, offset: usize, n: usize) {
        if self.all_init {
            return;
        }
        if n as u64 == self.len {
            self.all_init = true;
            self.init = Vec::new();
            return;
        }
        if offset % 64 + n <= 64 {
            let bits = if n == 64 { u64::MAX } else { ((1u64 << n) - 1) << (offset % 64) };
            self.init[offset / 64] |= bits;
            return;
        }
        let mut at = offset;
        let end = offset + n;
        while at < end {
            let step = (64 - at % 64).min(end - at);
            let bits = if step == 64 { u64::MAX } else { ((1u64 << step) - 1) << (at % 64) };
            self.init[at / 64] |= bits;
            at += step;
        }
    }

    /// Makes room for the record of accesses.
    pub fn track(&mut self, readers: u32) {
        let words = self.len.div_ceil(4) as usize;
        if self.writes.is_empty() {
            self.writes = vec![0; words];
            self.reads = vec![0; words];
        }
        if readers > 1 && self.others.is_empty() {
            self.others = vec![0; words];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_lifetime() {
        let mut m = DeviceMemory::default();
        let a = m.allocate(100, "a", false);
        let b = m.allocate(3 << 20, "b", false);
        assert_eq!(a % 256, 0);
        assert!(m.find(a, 100).is_ok() && m.find(a + 96, 4).is_ok() && m.find(b + (3 << 20) - 1, 1).is_ok());
        assert!(m.find(a + 97, 4).unwrap_err().0.contains("reach beyond the end of allocation #0"));
        assert!(m.find(a + 104, 4).unwrap_err().0.contains("4 bytes past the end"));
        assert!(m.find(b - 4, 4).unwrap_err().0.contains("4 bytes before allocation #1"));
        assert!(m.find(0, 4).unwrap_err().0.contains("null pointer"));
        assert_eq!(m.uninitialised(a, 100), Some(a));
        m.write(a, &[1; 50]).unwrap();
        assert_eq!(m.uninitialised(a, 100), Some(a + 50));
        m.copy(b + 3, a + 40, 60).unwrap();
        assert_eq!(m.uninitialised(b + 3, 60), Some(b + 13));
        m.free(a).unwrap();
        assert!(m.free(a).unwrap_err().0.contains("freed before"));
        assert!(m.free(b + 4).is_err());
        assert!(m.find(a, 1).unwrap_err().0.contains("was freed"));
        assert!(m.allocate(100, "c", false) > b);
        assert_eq!(m.allocate(100, "d", true), a);
        assert!(m.find(a, 100).is_ok() && m.allocate(100, "e", true) > b);
    }
}
