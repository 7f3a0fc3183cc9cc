//! The peaks of the machine: multiply-adds on registers and memory bandwidth. Every share of
//! a peak is of one measured in the same run.

use std::hint::black_box;

use rayon::prelude::*;
use serde::Serialize;

use super::clock::seconds;
use super::format::Format;
use super::gpu_peaks::GpuPeaks;
use crate::device::cpu::isa::{Isa, Kernel, dispatch, isa, multiplies_bf16};
use crate::device::{Device, Precision, Real};

/// A rate of one thread and of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    pub one_thread: f64,
    pub all_threads: f64,
}

impl Rate {
    fn raise(&mut self, other: Rate) {
        self.one_thread = self.one_thread.max(other.one_thread);
        self.all_threads = self.all_threads.max(other.all_threads);
    }
}

/// Peaks of the CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Peaks {
    pub threads: usize,
    pub isa: &'static str,
    /// Fused multiply-adds of f32 on registers, GFLOP/s.
    pub f32: Rate,
    /// The same of pairs of bf16 that are added to f32; none where the processor has no instruction
    /// for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bf16: Option<Rate>,
    /// `a = b + s·c` over arrays that no cache holds, normal stores, three transfers an element,
    /// GB/s.
    pub triad: Rate,
}

/// By device.
#[derive(Clone, Debug, Serialize)]
pub struct AllPeaks {
    pub cpu: Peaks,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda: Option<GpuPeaks>,
}

impl AllPeaks {
    /// Share of the device's peak that bounds the work: of multiply-adds where it has any that
    /// count, else of bandwidth. `seconds` is the time taken.
    pub fn share(&self, format: Format, flop: u64, bytes: u64, seconds: f64) -> Option<f64> {
        let Some(gpu) = self.cuda.as_ref().filter(|_| format.device != Device::Cpu) else {
            return self.cpu.share(format, flop, bytes, seconds);
        };
        let peak = match format.operands {
            Precision::Full => gpu.f32,
            Precision::Bf16 => gpu.bf16.unwrap_or(gpu.f32),
        };
        share([peak, gpu.triad], flop, bytes, seconds)
    }
}

/// The share of the peaks of multiply-adds and of bandwidth.
fn share([flops, bandwidth]: [f64; 2], flop: u64, bytes: u64, seconds: f64) -> Option<f64> {
    let (amount, peak) = if flop > 0 { (flop as f64, flops) } else { (bytes as f64, bandwidth) };
    (amount > 0.0 && seconds > 0.0 && peak > 0.0).then(|| amount / seconds / 1e9 / peak)
}

/// Floats in each of the triad's arrays: 64 MiB.
const TRIAD: usize = 16 << 20;
/// Samples of which the median counts.
const SAMPLES: usize = 7;

/// Measures peaks, as often as asked: a peak is what the machine can do, so the highest of all
/// rounds counts, each round's being the median of its samples.
#[derive(Debug)]
pub struct Probe {
    pub peaks: Peaks,
    arrays: [Vec<f32>; 3],
}

impl Probe {
    /// Measures for the first time. `reduced`: over small arrays, which some cache may hold (for
    /// tests).
    pub fn new(reduced: bool) -> Self {
        let length = if reduced { TRIAD >> 6 } else { TRIAD };
        let peaks = Peaks {
            threads: rayon::current_num_threads(),
            isa: isa().name(),
            f32: Rate::default(),
            bf16: multiplies_bf16(isa()).then(Rate::default),
            triad: Rate::default(),
        };
        let mut this = Probe { peaks, arrays: [1.0, 2.0, 3.0].map(|x| vec![x; length]) };
        this.again();
        this
    }

    /// Measures once more.
    pub fn again(&mut self) {
        let threads = self.peaks.threads;
        self.peaks.f32.raise(Rate { one_thread: fma::<f32>(1), all_threads: fma::<f32>(threads) });
        if let Some(peak) = &mut self.peaks.bf16 {
            peak.raise(Rate { one_thread: pairs(1), all_threads: pairs(threads) });
        }
        let triad = Rate { one_thread: self.triad(1), all_threads: self.triad(threads) };
        self.peaks.triad.raise(triad);
    }

    fn triad(&mut self, parts: usize) -> f64 {
        let [a, b, c] = &mut self.arrays;
        let size = a.len().div_ceil(parts);
        let rate = 12e-9 * a.len() as f64;
        let sample = || {
            let s = black_box(3.0f32);
            seconds(|| {
                let parts = a.par_chunks_mut(size).zip(b.par_chunks(size)).zip(c.par_chunks(size)).with_max_len(1);
                parts.for_each(|((a, b), c)| dispatch(Triad { a, b, c, s }));
            })
        };
        rate / median(sample)
    }
}

struct Triad<'a> {
    a: &'a mut [f32],
    b: &'a [f32],
    c: &'a [f32],
    s: f32,
}

impl Kernel for Triad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((a, b), c) in self.a.iter_mut().zip(self.b).zip(self.c) {
            *a = *b + self.s * *c;
        }
    }
}

impl Peaks {
    /// Rate of all threads at the multiply-adds that products in a format are made of, GFLOP/s.
    pub fn flops(&self, format: Format) -> f64 {
        match format.operands {
            Precision::Full => self.f32.all_threads,
            Precision::Bf16 => self.bf16.unwrap_or(self.f32).all_threads,
        }
    }

    /// As [`AllPeaks::share`], of the CPU.
    pub fn share(&self, format: Format, flop: u64, bytes: u64, seconds: f64) -> Option<f64> {
        share([self.flops(format), self.triad.all_threads], flop, bytes, seconds)
    }
}

fn median(mut sample: impl FnMut() -> f64) -> f64 {
    sample();
    let mut all: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    all.sort_by(f64::total_cmp);
    all[SAMPLES / 2]
}

/// GFLOP/s of independent multiply-adds in the registers of so many threads (one, or all of the
/// pool).
pub fn fma<T: Real>(threads: usize) -> f64 {
    const STEPS: usize = 1 << 20;
    let (lanes, vectors) = match isa() {
        Isa::Portable => (4, 8),
        Isa::Avx2 => (32 / size_of::<T>(), 12),
        Isa::Avx512 => (64 / size_of::<T>(), 24),
    };
    let single = size_of::<T>() == 4;
    let burst = || match isa() {
        Isa::Portable => portable::<T>(STEPS),
        // SAFETY: the processor has the instructions, or `isa` would not say so.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { if single { x86::avx2_f32(STEPS) } else { x86::avx2_f64(STEPS) } },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { if single { x86::avx512_f32(STEPS) } else { x86::avx512_f64(STEPS) } },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only x86-64 has these"),
    };
    (2 * STEPS * lanes * vectors * threads) as f64 / bursts(threads, burst) / 1e9
}

/// The same for multiply-adds of pairs of bf16.
fn pairs(threads: usize) -> f64 {
    const STEPS: usize = 1 << 20;
    let burst = || {
        // SAFETY: asked for only where the processor has the instruction.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            x86::avx512_bf16(STEPS);
        }
    };
    (2 * STEPS * 32 * 24 * threads) as f64 / bursts(threads, burst) / 1e9
}

/// Seconds that so many threads take for a burst each.
fn bursts(threads: usize, burst: impl Fn() + Sync) -> f64 {
    median(|| {
        seconds(|| {
            if threads == 1 {
                burst();
            } else {
                rayon::broadcast(|_| burst());
            }
        })
    })
}

fn portable<T: Real>(steps: usize) {
    let x = black_box([T::from_f64(0.5); 4]);
    let mut sums = black_box([[T::ZERO; 4]; 8]);
    for _ in 0..steps {
        for sum in &mut sums {
            for (sum, &x) in sum.iter_mut().zip(&x) {
                *sum = *sum * x + x;
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    macro_rules! peak {
        ($name:ident, $feature:literal, $vectors:literal, $set:ident, $x:literal, $multiply_add:ident) => {
            #[target_feature(enable = $feature)]
            pub fn $name(steps: usize) {
                let x = black_box($set($x));
                // chains that the compiler cannot know to be alike
                let mut sums = black_box([x; $vectors]);
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $multiply_add(*sum, x, x);
                    }
                }
                black_box(sums);
            }
        };
    }
    peak!(avx2_f32, "avx2,fma", 12, _mm256_set1_ps, 0.5, _mm256_fmadd_ps);
    peak!(avx2_f64, "avx2,fma", 12, _mm256_set1_pd, 0.5, _mm256_fmadd_pd);
    peak!(avx512_f32, "avx512f", 24, _mm512_set1_ps, 0.5, _mm512_fmadd_ps);
    peak!(avx512_f64, "avx512f", 24, _mm512_set1_pd, 0.5, _mm512_fmadd_pd);
    // a pair of 0.5 and 0
    peak!(avx512_bf16, "avx512f,avx512bf16", 24, _mm512_set1_ps, 0.5, dot);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot(sum: __m512, x: __m512, y: __m512) -> __m512 {
        // SAFETY: as many bits, of which any are valid.
        let [x, y] = unsafe { [x, y].map(|pairs| std::mem::transmute::<__m512, __m512bh>(pairs)) };
        _mm512_dpbf16_ps(sum, x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_bounds_the_work() {
        let rate = |all_threads| Rate { one_thread: 1.0, all_threads };
        let peaks = Peaks { threads: 2, isa: "x", f32: rate(100.0), bf16: None, triad: rate(10.0) };
        assert_eq!(peaks.share(Format::F32, 50_000_000_000, 1, 1.0), Some(0.5));
        assert_eq!(peaks.share(Format::F32, 0, 5_000_000_000, 1.0), Some(0.5));
        assert_eq!(peaks.share(Format::F32, 0, 0, 1.0), None);
        assert_eq!(peaks.share(Format::BF16, 50_000_000_000, 1, 1.0), Some(0.5));
        let peaks = Peaks { bf16: Some(rate(200.0)), ..peaks };
        assert_eq!(peaks.share(Format::BF16, 50_000_000_000, 1, 1.0), Some(0.25));
    }

    #[test]
    fn a_probe_finds_rates_and_never_lowers_them() {
        let mut probe = Probe::new(true);
        let first = probe.peaks.clone();
        probe.again();
        for (before, after) in [(first.f32, probe.peaks.f32), (first.triad, probe.peaks.triad)] {
            assert!(before.one_thread > 0.0 && before.all_threads > 0.0);
            assert!(after.one_thread >= before.one_thread && after.all_threads >= before.all_threads);
        }
    }
}
