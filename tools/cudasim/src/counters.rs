//! What kernels did, counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::class::CLASS_NAMES;
use crate::decode::Program;
use crate::exec_lanes;

/// Sums over the launches of one kernel. Counts of threads leave out lanes that are predicated off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    pub launches: u64,
    pub blocks: u64,
    pub threads: u64,
    pub warp_instructions: u64,
    pub thread_instructions: u64,
    /// Thread instructions by class, in the order of `CLASS_NAMES`.
    pub by_class: [u64; CLASS_NAMES.len()],
    /// Floating-point operations of scalar and packed instructions.
    pub flops: u64,
    pub tensor_flops: u64,
    /// Completed barriers of blocks.
    pub barriers: u64,
    pub memory: MemoryCounters,
}

/// A request is one memory instruction of one warp; a sector is 32 bytes; a wavefront is one pass through the banks of
/// shared memory, and `shared_ideal` what the requests would take without bank conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    pub global_load_requests: u64,
    pub global_load_sectors: u64,
    pub global_load_bytes: u64,
    pub global_store_requests: u64,
    pub global_store_sectors: u64,
    pub global_store_bytes: u64,
    pub atomic_requests: u64,
    pub atomic_sectors: u64,
    pub shared_load_requests: u64,
    pub shared_store_requests: u64,
    pub shared_bytes: u64,
    pub shared_wavefronts: u64,
    pub shared_ideal: u64,
}

/// Counters of a launch under way.
pub struct Counters {
    on: bool,
    /// Executions and lanes of each instruction.
    pub executed: Vec<[u64; 2]>,
    pub barriers: u64,
    pub memory: MemoryCounters,
}

impl Counters {
    pub fn new(instructions: usize, on: bool) -> Counters {
        Counters { on, executed: vec![[0; 2]; instructions], barriers: 0, memory: MemoryCounters::default() }
    }

    #[inline]
    pub fn global(&mut self, at: &[u64; 32], mask: u32, bytes: u64, store: bool) {
        if !self.on || mask == 0 {
            return;
        }
        let sectors = sectors(at, mask);
        let total = u64::from(mask.count_ones()) * bytes;
        let m = &mut self.memory;
        if store {
            m.global_store_requests += 1;
            m.global_store_sectors += sectors;
            m.global_store_bytes += total;
        } else {
            m.global_load_requests += 1;
            m.global_load_sectors += sectors;
            m.global_load_bytes += total;
        }
    }

    pub fn atomic(&mut self, at: &[u64; 32], mask: u32, _bytes: u64) {
        if self.on {
            self.memory.atomic_requests += 1;
            self.memory.atomic_sectors += sectors(at, mask);
        }
    }

    #[inline]
    pub fn shared(&mut self, at: &[u64; 32], mask: u32, bytes: u64, store: bool) {
        if !self.on || mask == 0 {
            return;
        }
        let (wavefronts, ideal) = wavefronts(at, mask, bytes);
        let m = &mut self.memory;
        if store {
            m.shared_store_requests += 1;
        } else {
            m.shared_load_requests += 1;
        }
        m.shared_bytes += u64::from(mask.count_ones()) * bytes;
        m.shared_wavefronts += wavefronts;
        m.shared_ideal += ideal;
    }

    /// Adds the launch to the sums of its kernel.
    pub fn add_to(&self, sums: &mut KernelCounters, program: &Program, blocks: u64, threads: u64) {
        sums.launches += 1;
        sums.blocks += blocks;
        sums.threads += blocks * threads;
        sums.barriers += self.barriers;
        for (inst, &[warps, lanes]) in program.insts.iter().zip(&self.executed) {
            sums.warp_instructions += warps;
            sums.thread_instructions += lanes;
            sums.by_class[inst.op.class() as usize] += lanes;
            sums.flops += lanes * inst.op.flops();
            sums.tensor_flops += warps * inst.op.tensor_flops();
        }
        sums.memory.add(&self.memory);
    }
}

/// Distinct sectors of 32 bytes.
fn sectors(at: &[u64; 32], mask: u32) -> u64 {
    let (mut n, mut last, mut sorted) = (0, None, true);
    for l in exec_lanes(mask) {
        let sector = at[l] >> 5;
        if last != Some(sector) {
            n += 1;
            sorted &= last.is_none_or(|last| last < sector);
            last = Some(sector);
        }
    }
    if sorted {
        return n;
    }
    let mut all: Vec<u64> = exec_lanes(mask).map(|l| at[l] >> 5).collect();
    all.sort_unstable();
    all.dedup();
    all.len() as u64
}

/// (wavefronts, wavefronts without conflicts): 8-byte accesses go by half warps, 16-byte ones by quarters; in each the
/// bank with the most distinct words decides.
fn wavefronts(at: &[u64; 32], mask: u32, bytes: u64) -> (u64, u64) {
    let (group, words) = match bytes {
        0..=4 => (32, 1),
        8 => (16, 2),
        _ => (8, 4),
    };
    let (mut total, mut ideal) = (0, 0);
    for first in (0..32).step_by(group) {
        let part = mask & ((((1u64 << group) - 1) << first) as u32);
        if part == 0 {
            continue;
        }
        ideal += 1;
        // the distinct words of each bank, as lists in one array
        let (mut head, mut load) = ([u8::MAX; 32], [0u64; 32]);
        let mut list = [(0u64, u8::MAX); 32];
        let mut used = 0usize;
        for l in exec_lanes(part) {
            for word in at[l] / 4..at[l] / 4 + words {
                let bank = (word % 32) as usize;
                let mut next = head[bank];
                while next != u8::MAX && list[next as usize].0 != word {
                    next = list[next as usize].1;
                }
                if next == u8::MAX {
                    list[used] = (word, head[bank]);
                    head[bank] = used as u8;
                    used += 1;
                    load[bank] += 1;
                }
            }
        }
        total += load.into_iter().max().unwrap_or(0);
    }
    (total, ideal)
}

impl MemoryCounters {
    fn add(&mut self, o: &MemoryCounters) {
        for ((_, to), (_, from)) in self.fields_mut().into_iter().zip(o.fields()) {
            *to += from;
        }
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("global_load_requests", &mut self.global_load_requests),
            ("global_load_sectors", &mut self.global_load_sectors),
            ("global_load_bytes", &mut self.global_load_bytes),
            ("global_store_requests", &mut self.global_store_requests),
            ("global_store_sectors", &mut self.global_store_sectors),
            ("global_store_bytes", &mut self.global_store_bytes),
            ("atomic_requests", &mut self.atomic_requests),
            ("atomic_sectors", &mut self.atomic_sectors),
            ("shared_load_requests", &mut self.shared_load_requests),
            ("shared_store_requests", &mut self.shared_store_requests),
            ("shared_bytes", &mut self.shared_bytes),
            ("shared_wavefronts", &mut self.shared_wavefronts),
            ("shared_ideal", &mut self.shared_ideal),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, u64)> {
        self.clone().fields_mut().into_iter().map(|(name, value)| (name, *value)).collect()
    }
}

impl KernelCounters {
    /// Every counter with its name; classes are `instructions_<class>`.
    pub fn fields(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = [
            ("launches", self.launches),
            ("blocks", self.blocks),
            ("threads", self.threads),
            ("warp_instructions", self.warp_instructions),
            ("thread_instructions", self.thread_instructions),
            ("flops", self.flops),
            ("tensor_flops", self.tensor_flops),
            ("barriers", self.barriers),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec();
        all.extend(self.memory.fields().into_iter().map(|(name, value)| (name.to_string(), value)));
        let classes = CLASS_NAMES.iter().zip(self.by_class);
        all.extend(classes.map(|(name, value)| (format!("instructions_{name}"), value)));
        all
    }
}

/// All kernels as a JSON object: name to counters.
pub fn json(kernels: &BTreeMap<String, KernelCounters>) -> String {
    let mut out = String::from("{");
    for (i, (name, k)) in kernels.iter().enumerate() {
        let _ = write!(out, "{}\n  \"{}\": {{", if i > 0 { "," } else { "" }, name.replace(['"', '\\'], "_"));
        for (j, (field, value)) in k.fields().iter().enumerate() {
            let _ = write!(out, "{}\n    \"{field}\": {value}", if j > 0 { "," } else { "" });
        }
        out.push_str("\n  }");
    }
    out.push_str("\n}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_and_banks() {
        let lane = |f: &dyn Fn(u64) -> u64| std::array::from_fn(|l| f(l as u64));
        assert_eq!(sectors(&lane(&|l| 4 * l), u32::MAX), 4);
        assert_eq!(sectors(&lane(&|l| 4 * (31 - l)), u32::MAX), 4);
        assert_eq!(sectors(&lane(&|l| 32 * l), u32::MAX), 32);
        assert_eq!(sectors(&lane(&|l| 4 * (l % 2) + 64 * (l % 3)), u32::MAX), 3);
        assert_eq!(wavefronts(&lane(&|l| 4 * l), u32::MAX, 4), (1, 1));
        assert_eq!(wavefronts(&lane(&|_| 64), u32::MAX, 4), (1, 1));
        assert_eq!(wavefronts(&lane(&|l| 8 * l), u32::MAX, 4), (2, 1));
        assert_eq!(wavefronts(&lane(&|l| 128 * l), u32::MAX, 4), (32, 1));
        assert_eq!(wavefronts(&lane(&|l| 16 * l), u32::MAX, 16), (4, 4));
        assert_eq!(wavefronts(&lane(&|l| 80 * l), u32::MAX, 16), (4, 4));
        assert_eq!(wavefronts(&lane(&|l| 64 * l), u32::MAX, 16), (16, 4));
    }
}
