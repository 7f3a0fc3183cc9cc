//! The GPU models that can be simulated, from the tables of the CUDA C programming guide and the
//! vendors' data sheets.

/// What of a GPU a program can see.
#[derive(Clone, Debug)]
pub struct Device {
    /// Name by which it is chosen.
    pub key: &'static str,
    pub name: &'static str,
    pub major: i32,
    pub minor: i32,
    pub sms: i32,
    pub memory: usize,
    /// Bytes of shared memory a block may have after it asked for more than 48 KiB.
    pub shared_per_block: u32,
    pub shared_per_sm: u32,
    pub threads_per_sm: u32,
    pub blocks_per_sm: u32,
    pub l2: i32,
    /// kHz.
    pub clock: i32,
    pub memory_clock: i32,
    /// Bits.
    pub bus: i32,
    pub peaks: Peaks,
}

/// What the vendor publishes as the most that the GPU can do, at the boost clock. Beside it hold
/// for all of them, from the CUDA programming guide: four warp instructions a clock and
/// multiprocessor, and one wavefront (32 banks of 4 bytes) of shared memory.
///
/// Checked: rates of cores, tensor cores and memories follow from their number and clocks (a test
/// computes them); limits of a multiprocessor are those of its compute capability (CUDA C++
/// programming guide, "Technical specifications per compute capability"); the two L2 rates stand in
/// the ratio of 2.3 that the A100's paper names, and are those that a comparison of both cards in
/// Ultrasonics Sonochemistry 99 (2023), 106546, table 3, gives. Not checked: the papers themselves
/// were not at hand, only what others print from them.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// GFLOP/s of f32 outside of the tensor cores.
    pub f32_gflops: f64,
    /// GFLOP/s of products of f16, and of bf16 from compute capability 8.0 on (older tensor cores
    /// have no bf16), with f32 sums on the tensor cores, without sparsity.
    pub tensor_gflops: f64,
    /// kHz at which the tensor cores reach it.
    pub tensor_clock: i32,
    /// GB/s of the memory.
    pub memory_gbs: f64,
    /// Bytes a clock that the L2 cache reads; `None` where nothing is published.
    pub l2_bytes_per_clock: Option<f64>,
    /// Where the numbers stand.
    pub source: &'static str,
}

/// Microseconds that a launch costs beside its kernel's own time, where launches follow each other
/// in a stream: 3.8 µs a kernel for kernels of 2.9 µs, on a V100 ("Getting Started with CUDA
/// Graphs", NVIDIA technical blog, 2019; in a graph 3.4). Taken for every model.
pub const LAUNCH_MICROSECONDS: f64 = 0.9;

/// Bytes of shared memory that the driver keeps for itself in every block from compute capability
/// 8.0 on.
pub const RESERVED_SHARED: u32 = 1024;
pub const REGISTERS_PER_SM: u32 = 65536;
pub const MAX_THREADS: u32 = 1024;
/// Shared memory a block may have without asking.
pub const DEFAULT_SHARED: u32 = 48 * 1024;

const GIB: usize = 1 << 30;
const KIB: u32 = 1024;

pub const DEVICES: [Device; 5] = [
    Device {
        key: "v100",
        name: "Tesla V100-SXM2-16GB",
        major: 7,
        minor: 0,
        sms: 80,
        memory: 16 * GIB,
        shared_per_block: 96 * KIB,
        shared_per_sm: 96 * KIB,
        threads_per_sm: 2048,
        blocks_per_sm: 32,
        l2: 6 << 20,
        clock: 1_530_000,
        memory_clock: 877_000,
        bus: 4096,
        peaks: Peaks {
            f32_gflops: 15_700.0,
            tensor_gflops: 125_000.0,
            tensor_clock: 1_530_000,
            memory_gbs: 900.0,
            l2_bytes_per_clock: Some(2048.0),
            source: "NVIDIA Tesla V100 GPU architecture, 2017 (WP-08608); L2: NVIDIA A100 tensor core GPU architecture, 2020",
        },
    },
    Device {
        key: "t4",
        name: "Tesla T4",
        major: 7,
        minor: 5,
        sms: 40,
        memory: 15 * GIB,
        shared_per_block: 64 * KIB,
        shared_per_sm: 64 * KIB,
        threads_per_sm: 1024,
        blocks_per_sm: 16,
        l2: 4 << 20,
        clock: 1_590_000,
        memory_clock: 5_001_000,
        bus: 256,
        peaks: Peaks {
            f32_gflops: 8_100.0,
            tensor_gflops: 65_000.0,
            tensor_clock: 1_590_000,
            memory_gbs: 320.0,
            l2_bytes_per_clock: None,
            source: "NVIDIA Turing GPU architecture, 2018 (WP-09183)",
        },
    },
    Device {
        key: "a100",
        name: "NVIDIA A100-SXM4-40GB",
        major: 8,
        minor: 0,
        sms: 108,
        memory: 40 * GIB,
        shared_per_block: 163 * KIB,
        shared_per_sm: 164 * KIB,
        threads_per_sm: 2048,
        blocks_per_sm: 32,
        l2: 40 << 20,
        clock: 1_410_000,
        memory_clock: 1_215_000,
        bus: 5120,
        peaks: Peaks {
            f32_gflops: 19_500.0,
            tensor_gflops: 312_000.0,
            tensor_clock: 1_410_000,
            memory_gbs: 1_555.0,
            l2_bytes_per_clock: Some(5120.0),
            source: "NVIDIA A100 tensor core GPU architecture, 2020",
        },
    },
    Device {
        key: "h100",
        name: "NVIDIA H100 80GB HBM3",
        major: 9,
        minor: 0,
        sms: 132,
        memory: 80 * GIB,
        shared_per_block: 227 * KIB,
        shared_per_sm: 228 * KIB,
        threads_per_sm: 2048,
        blocks_per_sm: 32,
        l2: 50 << 20,
        clock: 1_980_000,
        memory_clock: 2_619_000,
        bus: 5120,
        peaks: Peaks {
            f32_gflops: 66_900.0,
            tensor_gflops: 989_400.0,
            // below the boost clock of the other cores
            tensor_clock: 1_830_000,
            memory_gbs: 3_350.0,
            l2_bytes_per_clock: None,
            source: "NVIDIA H100 tensor core GPU architecture, 2022 (SXM5; final numbers, not the preliminary ones of the first edition)",
        },
    },
    Device {
        key: "rtx4090",
        name: "NVIDIA GeForce RTX 4090",
        major: 8,
        minor: 9,
        sms: 128,
        memory: 24 * GIB,
        shared_per_block: 99 * KIB,
        shared_per_sm: 100 * KIB,
        threads_per_sm: 1536,
        blocks_per_sm: 24,
        l2: 72 << 20,
        clock: 2_520_000,
        memory_clock: 10_501_000,
        bus: 384,
        peaks: Peaks {
            f32_gflops: 82_600.0,
            tensor_gflops: 165_200.0,
            tensor_clock: 2_520_000,
            memory_gbs: 1_008.0,
            l2_bytes_per_clock: None,
            source: "NVIDIA Ada GPU architecture, version 2.01",
        },
    },
];

impl Device {
    pub fn find(key: &str) -> Option<&'static Device> {
        DEVICES.iter().find(|d| d.key.eq_ignore_ascii_case(key))
    }

    /// 80 for compute capability 8.0.
    pub fn capability(&self) -> u32 {
        (self.major * 10 + self.minor) as u32
    }

    /// Shared memory that the driver adds to every block.
    pub fn reserved_shared(&self) -> u32 {
        if self.major >= 8 { RESERVED_SHARED } else { 0 }
    }

    /// Blocks that fit one multiprocessor at once: the lowest of the limits on blocks, threads,
    /// registers (given out in pieces of 256 a warp) and shared memory.
    pub fn blocks_per_sm(&self, threads: u32, shared: u32, registers: u32) -> u32 {
        if threads == 0 || threads > MAX_THREADS {
            return 0;
        }
        let warps = threads.div_ceil(32);
        let by_threads = self.threads_per_sm / 32 / warps;
        let per_warp = (registers.max(1) * 32).next_multiple_of(256);
        let by_registers = REGISTERS_PER_SM / (per_warp * warps);
        let granule = if self.major >= 8 { 128 } else { 256 };
        let per_block = (shared + self.reserved_shared()).next_multiple_of(granule);
        let by_shared = self.shared_per_sm.checked_div(per_block).unwrap_or(u32::MAX);
        self.blocks_per_sm.min(by_threads).min(by_registers).min(by_shared)
    }

    /// What a projection from counts needs, as one JSON object.
    pub fn json(&self) -> String {
        let Peaks { f32_gflops, tensor_gflops, memory_gbs, l2_bytes_per_clock, source, .. } = self.peaks;
        let l2 = l2_bytes_per_clock.map_or("null".to_string(), |bytes| bytes.to_string());
        format!(
            "{{\"model\": \"{}\", \"name\": \"{}\", \"multiprocessors\": {}, \"clock_ghz\": {}, \"f32_gflops\": {f32_gflops}, \
             \"tensor_gflops\": {tensor_gflops}, \"memory_gbs\": {memory_gbs}, \"l2_bytes_per_clock\": {l2}, \
             \"launch_us\": {LAUNCH_MICROSECONDS}, \"source\": \"{source}\"}}",
            self.key,
            self.name,
            self.sms,
            f64::from(self.clock) / 1e6,
        )
    }

    /// The value of a `CUdevice_attribute`; attributes of features that are not simulated are 0.
    pub fn attribute(&self, attribute: i32) -> i32 {
        match attribute {
            1..=3 => MAX_THREADS as i32,
            4 => 64,
            5 => i32::MAX,
            6 | 7 => 65535,
            8 => DEFAULT_SHARED as i32,
            9 => 65536,
            10 => 32,
            11 => i32::MAX,
            12 | 82 => REGISTERS_PER_SM as i32,
            13 => self.clock,
            14 => 512,
            15 | 31 | 41 => 1,
            16 => self.sms,
            36 => self.memory_clock,
            37 => self.bus,
            38 => self.l2,
            39 => self.threads_per_sm as i32,
            40 => 2,
            75 => self.major,
            76 => self.minor,
            78..=80 => 1,
            81 => self.shared_per_sm as i32,
            95 => 1,
            97 => self.shared_per_block as i32,
            106 => self.blocks_per_sm as i32,
            111 => self.reserved_shared() as i32,
            115 => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published rates are those of the cores and clocks in the table: a typing error shows
    /// here.
    #[test]
    fn peaks_follow_from_cores_and_clocks() {
        for d in &DEVICES {
            // f32 cores of a multiprocessor, and operations that its tensor cores do a clock:
            // GeForce cards have half the rate with f32 sums
            let (cores, tensor) = match (d.major, d.minor) {
                (7, 0 | 5) => (64.0, 1024.0),
                (8, 0) => (64.0, 2048.0),
                (8, 9) => (128.0, 512.0),
                (9, 0) => (128.0, 4096.0),
                other => panic!("{}: {other:?}", d.key),
            };
            let f32_gflops = 2.0 * cores * f64::from(d.sms) * f64::from(d.clock) / 1e6;
            assert!((f32_gflops / d.peaks.f32_gflops - 1.0).abs() < 0.01, "{}: {f32_gflops}", d.key);
            let tensor_gflops = tensor * f64::from(d.sms) * f64::from(d.peaks.tensor_clock) / 1e6;
            assert!((tensor_gflops / d.peaks.tensor_gflops - 1.0).abs() < 0.01, "{}: {tensor_gflops}", d.key);
            // two transfers a clock of the memory
            let memory_gbs = 2.0 * f64::from(d.memory_clock) * f64::from(d.bus) / 8e6;
            assert!((memory_gbs / d.peaks.memory_gbs - 1.0).abs() < 0.01, "{}: {memory_gbs}", d.key);
        }
    }

    /// What the programming guide says of a compute capability: shared memory of a multiprocessor
    /// and the most of it for a block (KiB), threads, blocks.
    #[test]
    fn limits_are_those_of_the_compute_capability() {
        for d in &DEVICES {
            let (shared, of_block, threads, blocks) = match (d.major, d.minor) {
                (7, 0) => (96, 96, 2048, 32),
                (7, 5) => (64, 64, 1024, 16),
                (8, 0) => (164, 163, 2048, 32),
                (8, 9) => (100, 99, 1536, 24),
                (9, 0) => (228, 227, 2048, 32),
                other => panic!("{}: {other:?}", d.key),
            };
            let found = (d.shared_per_sm, d.shared_per_block, d.threads_per_sm, d.blocks_per_sm);
            assert_eq!(found, (shared * KIB, of_block * KIB, threads, blocks), "{}", d.key);
        }
    }

    #[test]
    fn occupancy() {
        let h100 = Device::find("H100").unwrap();
        assert_eq!(h100.blocks_per_sm(1024, 0, 32), 2);
        assert_eq!(h100.blocks_per_sm(256, 0, 255), 1);
        assert_eq!(h100.blocks_per_sm(32, 184 * 1024, 32), 1);
        assert_eq!(h100.blocks_per_sm(32, 113 * 1024, 32), 2);
        assert_eq!(h100.blocks_per_sm(32, 114 * 1024, 32), 1);
        assert_eq!(h100.blocks_per_sm(32, 0, 16), 32);
        assert_eq!(h100.blocks_per_sm(2000, 0, 16), 0);
    }
}
