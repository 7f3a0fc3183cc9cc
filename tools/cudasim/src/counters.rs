//! What kernels did, counted.

use std::collections::{BTreeMap, HashMap};
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

/// A request is one memory instruction of one warp; a sector is 32 bytes; `ideal` sectors are those
/// that the lanes' bytes fill, each lane's counted; `distinct` sectors are those that a launch
/// touches, each counted once: what a cache without limit would leave. A wavefront is one pass
/// through the banks of shared memory, and `shared_ideal` what the requests would take without bank
/// conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounters {
    pub global_load_requests: u64,
    pub global_load_sectors: u64,
    pub global_load_bytes: u64,
    pub global_load_ideal: u64,
    pub global_load_distinct: u64,
    pub global_store_requests: u64,
    pub global_store_sectors: u64,
    pub global_store_bytes: u64,
    pub global_store_ideal: u64,
    pub global_store_distinct: u64,
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
    loaded: Touched,
    stored: Touched,
}

/// The sectors that a launch touched: a bit each, by pieces of memory.
#[derive(Default)]
struct Touched(HashMap<u64, Box<[u64; 64]>>);

impl Touched {
    /// Notes a sector; whether it is a new one.
    #[inline]
    fn note(&mut self, sector: u64) -> u64 {
        let piece = self.0.entry(sector >> 12).or_insert_with(|| Box::new([0; 64]));
        let (word, bit) = (&mut piece[(sector >> 6 & 63) as usize], 1 << (sector & 63));
        let fresh = u64::from(*word & bit == 0);
        *word |= bit;
        fresh
    }
}

impl Counters {
    pub fn new(instructions: usize, on: bool) -> Counters {
        Counters {
            on,
            executed: vec![[0; 2]; instructions],
            barriers: 0,
            memory: MemoryCounters::default(),
            loaded: Touched::default(),
            stored: Touched::default(),
        }
    }

    #[inline]
    pub fn global(&mut self, at: &[u64; 32], mask: u32, bytes: u64, store: bool) {
        if !self.on || mask == 0 {
            return;
        }
        let total = u64::from(mask.count_ones()) * bytes;
        let (m, touched) = (&mut self.memory, if store { &mut self.stored } else { &mut self.loaded });
        let mut distinct = 0;
        let sectors = sectors(at, mask, |sector| distinct += touched.note(sector));
        if store {
            m.global_store_requests += 1;
            m.global_store_sectors += sectors;
            m.global_store_bytes += total;
            m.global_store_ideal += total.div_ceil(32);
            m.global_store_distinct += distinct;
        } else {
            m.global_load_requests += 1;
            m.global_load_sectors += sectors;
            m.global_load_bytes += total;
            m.global_load_ideal += total.div_ceil(32);
            m.global_load_distinct += distinct;
        }
    }

    pub fn atomic(&mut self, at: &[u64; 32], mask: u32, _bytes: u64) {
        if self.on {
            self.memory.atomic_requests += 1;
            self.memory.atomic_sectors += sectors(at, mask, |_| ());
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

/// Distinct sectors of 32 bytes; `note` hears of each at least once.
#[inline]
fn sectors(at: &[u64; 32], mask: u32, mut note: impl FnMut(u64)) -> u64 {
    let (mut n, mut last, mut sorted) = (0, None, true);
    for l in exec_lanes(mask) {
        let sector = at[l] >> 5;
        if last != Some(sector) {
            n += 1;
            note(sector);
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

/// (wavefronts, wavefronts without conflicts): 8-byte accesses go by half warps, 16-byte ones by
/// quarters; in each the bank with the most distinct words decides.
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
        if conflict_free(at, part, words) {
            total += 1;
            continue;
        }
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

/// Whether no bank has two words; the common case made short.
#[inline]
fn conflict_free(at: &[u64; 32], mask: u32, words: u64) -> bool {
    let (mut used, mut of_bank) = (0u32, [0u64; 32]);
    for l in exec_lanes(mask) {
        for word in at[l] / 4..at[l] / 4 + words {
            let bank = (word % 32) as usize;
            if used >> bank & 1 != 0 && of_bank[bank] != word {
                return false;
            }
            used |= 1 << bank;
            of_bank[bank] = word;
        }
    }
    true
}

impl MemoryCounters {
    fn add(&mut self, o: &MemoryCounters) {
        for ((_, to), (_, from)) in self.fields_mut().into_iter().zip(o.fields()) {
            *to += from;
        }
    }

    /// Adds a copy or fill of `bytes` that reads and writes the GPU's memory so many times.
    pub fn copied(&mut self, bytes: u64, reads: u64, writes: u64) {
        let sectors = bytes.div_ceil(32);
        self.global_load_bytes += reads * bytes;
        self.global_load_sectors += reads * sectors;
        self.global_load_ideal += reads * sectors;
        self.global_load_distinct += reads * sectors;
        self.global_store_bytes += writes * bytes;
        self.global_store_sectors += writes * sectors;
        self.global_store_ideal += writes * sectors;
        self.global_store_distinct += writes * sectors;
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 17] {
        [
            ("global_load_requests", &mut self.global_load_requests),
            ("global_load_sectors", &mut self.global_load_sectors),
            ("global_load_bytes", &mut self.global_load_bytes),
            ("global_load_ideal", &mut self.global_load_ideal),
            ("global_load_distinct", &mut self.global_load_distinct),
            ("global_store_requests", &mut self.global_store_requests),
            ("global_store_sectors", &mut self.global_store_sectors),
            ("global_store_bytes", &mut self.global_store_bytes),
            ("global_store_ideal", &mut self.global_store_ideal),
            ("global_store_distinct", &mut self.global_store_distinct),
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
    let each = kernels.iter().map(|(name, k)| format!("\n  {}: {}", quoted(name), object(k)));
    format!("{{{}\n}}\n", each.collect::<Vec<_>>().join(","))
}

/// Kernels by label as a JSON list of objects with `label`, `kernel` and the counters.
pub fn labelled_json(kernels: &BTreeMap<(String, String), KernelCounters>) -> String {
    let each = kernels.iter().map(|((label, kernel), k)| {
        format!("\n{{\"label\": {}, \"kernel\": {}, \"counters\": {}}}", quoted(label), quoted(kernel), object(k))
    });
    format!("[{}\n]\n", each.collect::<Vec<_>>().join(","))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace(['"', '\\'], "_"))
}

fn object(k: &KernelCounters) -> String {
    let mut out = String::from("{");
    for (j, (field, value)) in k.fields().iter().enumerate() {
        let _ = write!(out, "{}\n    \"{field}\": {value}", if j > 0 { "," } else { "" });
    }
    out + "\n  }"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_distinct_once() {
        let mut counters = Counters::new(0, true);
        let lane = |first: u64| std::array::from_fn(|l| 0x7f10_0000_1100 + first + 4 * l as u64);
        counters.global(&lane(0), u32::MAX, 4, false);
        counters.global(&lane(64), u32::MAX, 4, false);
        counters.global(&lane(64), u32::MAX, 4, true);
        let m = &counters.memory;
        assert_eq!((m.global_load_sectors, m.global_load_ideal, m.global_load_distinct), (8, 8, 6));
        counters.global(&lane(4), u32::MAX, 4, false);
        counters.global(&lane(4), 1, 4, false);
        let m = &counters.memory;
        assert_eq!((m.global_load_sectors, m.global_load_ideal, m.global_load_distinct), (14, 13, 6));
        assert_eq!((m.global_store_sectors, m.global_store_distinct), (4, 4));
    }

    #[test]
    fn sectors_and_banks() {
        let lane = |f: &dyn Fn(u64) -> u64| std::array::from_fn(|l| f(l as u64));
        let sectors = |at: &[u64; 32], mask| sectors(at, mask, |_| ());
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
        // half warps, lanes that take no part, bytes of one word
        assert_eq!(wavefronts(&lane(&|l| 8 * l), u32::MAX, 8), (2, 2));
        assert_eq!(wavefronts(&lane(&|l| 128 * l), 0b1011, 4), (3, 1));
        assert_eq!(wavefronts(&lane(&|l| l), u32::MAX, 1), (1, 1));
        assert_eq!(wavefronts(&lane(&|l| 64 * l), 0xffff, 16), (8, 2));
    }

    /// By the definition: in each part of a warp the bank with the most words that differ.
    #[test]
    fn wavefronts_of_any_addresses() {
        let mut rng = crate::rng::Rng::new(1);
        for round in 0..2000 {
            let bytes = [1, 2, 4, 8, 16][round % 5];
            let spread = [4, 32, 200][round % 3];
            let at: [u64; 32] = std::array::from_fn(|_| bytes * rng.below(spread));
            let mask = rng.below(1 << 32) as u32;
            let (lanes, words) = if bytes == 16 {
                (8, 4)
            } else if bytes == 8 {
                (16, 2)
            } else {
                (32, 1)
            };
            let (mut total, mut ideal) = (0, 0);
            for part in (0..32).step_by(lanes) {
                let mut banks = [const { std::collections::BTreeSet::new() }; 32];
                for l in (part..part + lanes).filter(|l| mask >> l & 1 != 0) {
                    for word in at[l] / 4..at[l] / 4 + words {
                        banks[(word % 32) as usize].insert(word);
                    }
                }
                let most = banks.iter().map(|bank| bank.len() as u64).max().unwrap_or(0);
                (total, ideal) = (total + most, ideal + u64::from(most > 0));
            }
            assert_eq!(wavefronts(&at, mask, bytes), (total, ideal), "{bytes} bytes, lanes {mask:08x} at {at:?}");
        }
    }

    #[test]
    fn sums_have_every_counter_once() {
        let mut counters = Counters::new(0, true);
        counters.global(&[0; 32], 1, 4, false);
        counters.shared(&[0; 32], 1, 4, true);
        counters.atomic(&[0; 32], 1, 4);
        let mut sums = MemoryCounters::default();
        sums.add(&counters.memory);
        sums.add(&counters.memory);
        sums.copied(33, 1, 2);
        let all = KernelCounters { launches: 2, memory: sums, ..KernelCounters::default() };
        let text = json(&BTreeMap::from([("k".to_string(), all.clone())]));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fields = all.fields();
        assert_eq!(parsed["k"].as_object().unwrap().len(), fields.len(), "a name comes twice");
        let counter = |name: &str| parsed["k"][name].as_u64().unwrap();
        assert_eq!((counter("launches"), counter("atomic_requests"), counter("atomic_sectors")), (2, 2, 2));
        assert_eq!((counter("global_load_bytes"), counter("global_store_bytes")), (2 * 4 + 33, 66));
        assert_eq!((counter("global_load_sectors"), counter("global_store_distinct")), (2 + 2, 4));
        assert_eq!(
            (counter("shared_store_requests"), counter("shared_load_requests"), counter("shared_bytes")),
            (2, 0, 8)
        );
    }
}
