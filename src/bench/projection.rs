//! A training step on the simulated GPU: the counters of its kernels, and the time that a real
//! GPU would need at least by its published peaks. Nothing here is timed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::steps::{self, Next};
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::trace::Recorder;
use crate::train::Stage;
use crate::train::recipe::Recipe;
use crate::train::stages::Context;
use crate::train::trial::Trial;

/// The note of every projection.
const NOTE: &str = "projected from counts; nothing was timed";

/// Bytes of a sector, the unit in which a GPU moves memory.
const SECTOR: u64 = 32;
/// Warp instructions that a multiprocessor issues a clock (CUDA programming guide, compute
/// capabilities 7.0 to 9.0).
const ISSUED: f64 = 4.0;

/// The presented GPU and its published peaks (tools/cudasim/src/devices.rs).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gpu {
    pub model: String,
    pub name: String,
    pub multiprocessors: u64,
    pub clock_ghz: f64,
    pub f32_gflops: f64,
    pub tensor_gflops: f64,
    pub memory_gbs: f64,
    pub l2_bytes_per_clock: Option<f64>,
    pub launch_us: f64,
    pub source: String,
}

/// Sums of one kernel's launches for one operation; the names are those of tools/cudasim/README.md.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub launches: u64,
    pub blocks: u64,
    pub warp_instructions: u64,
    pub flops: u64,
    pub tensor_flops: u64,
    pub barriers: u64,
    pub global_load_requests: u64,
    pub global_load_sectors: u64,
    pub global_load_distinct: u64,
    pub global_store_requests: u64,
    pub global_store_sectors: u64,
    pub global_store_distinct: u64,
    pub atomic_sectors: u64,
    pub shared_wavefronts: u64,
    pub shared_ideal: u64,
}

/// The resource that a launch waits for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Every sector once, at the memory's rate.
    MemoryBandwidth,
    /// Every requested sector, at the L2 cache's rate.
    L2Bandwidth,
    F32Rate,
    TensorRate,
    InstructionIssue,
    SharedMemory,
    LaunchLatency,
}

impl Bound {
    pub fn name(self) -> &'static str {
        match self {
            Bound::MemoryBandwidth => "memory bandwidth",
            Bound::L2Bandwidth => "L2 bandwidth",
            Bound::F32Rate => "f32 rate",
            Bound::TensorRate => "tensor rate",
            Bound::InstructionIssue => "instruction issue",
            Bound::SharedMemory => "shared memory",
            Bound::LaunchLatency => "launch latency",
        }
    }
}

impl Gpu {
    /// The least milliseconds, and the resource that decides them: the largest of the times at each
    /// peak, plus the launches. Launches of fewer blocks than there are multiprocessors have only
    /// so many of these. Latencies of memory and of barriers, a last wave of blocks that fills no
    /// GPU, and what the L1 cache saves are left out.
    fn project(&self, c: &Counters) -> (f64, Bound) {
        let busy = match c.blocks {
            0 => self.multiprocessors as f64,
            blocks => (blocks as f64 / c.launches as f64).min(self.multiprocessors as f64),
        };
        let share = busy / self.multiprocessors as f64;
        // clocks and operations a millisecond
        let clocks = self.clock_ghz * 1e6;
        let distinct = (SECTOR * (c.global_load_distinct + c.global_store_distinct)) as f64;
        let requested = (SECTOR * (c.global_load_sectors + c.global_store_sectors + c.atomic_sectors)) as f64;
        let times = [
            (Bound::MemoryBandwidth, distinct / (self.memory_gbs * 1e6)),
            (Bound::L2Bandwidth, self.l2_bytes_per_clock.map_or(0.0, |bytes| requested / (bytes * clocks))),
            (Bound::F32Rate, c.flops as f64 / (self.f32_gflops * 1e6 * share)),
            (Bound::TensorRate, c.tensor_flops as f64 / (self.tensor_gflops * 1e6 * share)),
            (Bound::InstructionIssue, c.warp_instructions as f64 / (ISSUED * clocks * busy)),
            (Bound::SharedMemory, c.shared_wavefronts as f64 / (clocks * busy)),
        ];
        let launches = c.launches as f64 * self.launch_us / 1e3;
        let (bound, longest) =
            times.into_iter().fold((Bound::LaunchLatency, 0.0), |most, t| if t.1 > most.1 { t } else { most });
        (launches + longest, if launches > longest { Bound::LaunchLatency } else { bound })
    }
}

/// One kernel, for one operation of one layer. The keys are those of docs/CLI.md; there is no time.
#[derive(Clone, Debug, Serialize)]
pub struct KernelRow {
    pub op: String,
    pub layer: String,
    pub direction: String,
    /// The kernel, or the kind of copy.
    pub phase: String,
    /// Nothing was timed.
    pub ms: Option<f64>,
    pub projected_ms: f64,
    pub bound: Bound,
    /// Operations that instructions did, useful or not.
    pub flop: u64,
    /// Bytes of every sector, once a launch.
    pub bytes: u64,
    /// Share of the f32 or tensor peak, at the projected time.
    pub peak_fraction: Option<f64>,
    pub calls: u64,
    /// Bytes of every sector that was asked for.
    pub requested_bytes: u64,
    pub bank_conflicts: u64,
    pub counters: Counters,
}

/// The sizes that were counted.
#[derive(Clone, Debug, Serialize)]
pub struct CountedSizes {
    pub batch_size: usize,
    pub bptt: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub layers: usize,
    /// The sizes that are smaller than in the recipe, so that counting takes minutes.
    pub reduced: Vec<String>,
}

/// A projection; serialises to the JSON of `ulmfit profile --device cudasim`.
#[derive(Clone, Debug, Serialize)]
pub struct Projection {
    pub rows: Vec<KernelRow>,
    /// Nothing was timed.
    pub step_ms: Option<f64>,
    pub projected: bool,
    pub note: &'static str,
    pub projected_step_ms: f64,
    /// Launches of kernels.
    pub launches: u64,
    /// Copies and fills of memory.
    pub copies: u64,
    pub flop: u64,
    pub bytes: u64,
    /// Projected milliseconds by what decides them.
    pub bounds: BTreeMap<Bound, f64>,
    pub gpu: Gpu,
    pub sizes: CountedSizes,
    pub stage: &'static str,
    pub vocabulary: usize,
    pub tokens: u64,
    pub documents: u64,
}

/// The most steps of a window, and documents of a classifier's batch, that are counted unless the
/// user asks for others.
const STEPS: usize = 2;
const DOCUMENTS: usize = 2;

/// Makes a recipe so small that the simulator counts a step of it within minutes, but for lines
/// that the user gave. Returns what is smaller now, in words.
pub fn reduce(recipe: &mut Recipe, stage: Stage) -> Result<Vec<String>> {
    let (key, most) = match stage {
        // a document is read whole, in chunks: there are fewer of them
        Stage::Classifier => ("classifier.batch_size", DOCUMENTS),
        Stage::FinetuneLm => ("finetune.bptt", STEPS),
        _ => ("pretrain.bptt", STEPS),
    };
    let table = Recipe::named(&recipe.name)?;
    let row = recipe.row(key).ok_or_else(|| Error::data(format!("the recipe has no line '{key}'")))?;
    let before = row.value.as_u64().unwrap_or(0) as usize;
    if before <= most || table.row(key).is_none_or(|of_table| of_table.source != row.source) {
        return Ok(Vec::new());
    }
    recipe.set(key, most.into(), "profile, on the simulator")?;
    Ok(vec![format!("{key} {most} instead of {before}")])
}

/// Counts the second update of a stage that stands ready. `reduced`: what [`reduce`] said.
pub fn measure(context: &mut Context, trial: Trial, reduced: &[String]) -> Result<Projection> {
    let Trial { stage, training, task, parameters, graph, step, vocabulary, .. } = trial;
    let model = &context.recipe.model;
    let sizes = CountedSizes {
        batch_size: training.batch_size,
        bptt: training.bptt,
        embedding: model.emb,
        hidden: model.hidden,
        layers: model.layers,
        reduced: reduced.to_vec(),
    };
    // the tests find the faults that a check finds; here a check would only take time
    cuda::switch("checks", "off")?;
    let mut outcome = (0, 0, Ok(String::new()));
    let mut updates = 0;
    // launches have names from the first update on: they may be kept for later ones
    let settled = || cuda::context(0)?.synchronise();
    let _recorder = Recorder::start().ok_or_else(|| Error::data("something else is being recorded"))?;
    steps::run(stage, training, step, task, graph, parameters, &mut |done| {
        updates += 1;
        if updates == 1 {
            outcome.2 = settled().and_then(|()| cuda::reset_counters()).map(|()| String::new());
            return if outcome.2.is_ok() { Next::Plain } else { Next::Stop };
        }
        outcome = (done.tokens, done.documents, settled().and_then(|()| cuda::counters()));
        Next::Stop
    })?;
    let (tokens, documents, counted) = outcome;
    let gpu = presented()?;
    let rows = rows(&gpu, &parse::<Vec<Counted>>(&counted?)?);
    let mut bounds = BTreeMap::new();
    rows.iter().for_each(|row| *bounds.entry(row.bound).or_insert(0.0) += row.projected_ms);
    let (kernels, copies): (Vec<&KernelRow>, Vec<&KernelRow>) = rows.iter().partition(|row| row.counters.blocks > 0);
    let calls = |of: &[&KernelRow]| of.iter().map(|row| row.calls).sum();
    Ok(Projection {
        step_ms: None,
        projected: true,
        note: NOTE,
        projected_step_ms: rows.iter().map(|row| row.projected_ms).sum(),
        launches: calls(&kernels),
        copies: calls(&copies),
        flop: rows.iter().map(|row| row.flop).sum(),
        bytes: rows.iter().map(|row| row.bytes).sum(),
        bounds,
        gpu,
        sizes,
        stage: stage.command(),
        vocabulary,
        tokens,
        documents,
        rows,
    })
}

/// Seconds projected from everything that was counted.
pub fn seconds() -> Result<f64> {
    let gpu = presented()?;
    let kernels: BTreeMap<String, Counters> = parse(&cuda::kernel_counters()?)?;
    let labelled: Vec<Counted> = parse(&cuda::counters()?)?;
    let copies = labelled.iter().map(|one| &one.counters).filter(|c| c.blocks == 0);
    Ok(1e-3 * kernels.values().chain(copies).map(|counters| gpu.project(counters).0).sum::<f64>())
}

/// The GPU that the simulator presents.
pub fn presented() -> Result<Gpu> {
    parse(&cuda::presented()?)
}

/// One entry of the simulator's list.
#[derive(Deserialize)]
struct Counted {
    label: String,
    kernel: String,
    counters: Counters,
}

fn parse<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::data(format!("cannot read what the simulator counted: {e}")))
}

/// The largest first.
fn rows(gpu: &Gpu, counted: &[Counted]) -> Vec<KernelRow> {
    let row = |one: &Counted| {
        let mut names = one.label.split('|').map(str::to_string);
        let op = names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| crate::trace::STEP.to_string());
        let (layer, direction) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        let c = one.counters;
        let (projected_ms, bound) = gpu.project(&c);
        let share = |flop: u64, peak: f64| (flop > 0).then(|| flop as f64 / (peak * 1e6 * projected_ms));
        KernelRow {
            op,
            layer,
            direction,
            phase: one.kernel.clone(),
            ms: None,
            projected_ms,
            bound,
            flop: c.flops + c.tensor_flops,
            bytes: SECTOR * (c.global_load_distinct + c.global_store_distinct),
            peak_fraction: share(c.tensor_flops, gpu.tensor_gflops).or(share(c.flops, gpu.f32_gflops)),
            calls: c.launches,
            requested_bytes: SECTOR * (c.global_load_sectors + c.global_store_sectors + c.atomic_sectors),
            bank_conflicts: c.shared_wavefronts - c.shared_ideal,
            counters: c,
        }
    };
    let mut rows: Vec<KernelRow> = counted.iter().map(row).collect();
    rows.sort_by(|a, b| b.projected_ms.total_cmp(&a.projected_ms));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        Gpu {
            model: "x".into(),
            name: "X".into(),
            multiprocessors: 10,
            clock_ghz: 1.0,
            f32_gflops: 1000.0,
            tensor_gflops: 8000.0,
            memory_gbs: 100.0,
            l2_bytes_per_clock: Some(1000.0),
            launch_us: 1.0,
            source: "a test".into(),
        }
    }

    /// A hundredth of a second at one peak after another: each decides in its turn, and the launch
    /// comes on top.
    #[test]
    fn the_slowest_part_decides() {
        let some = Counters { launches: 1, blocks: 20, ..Counters::default() };
        let sectors = |ms: f64, gbs: f64| (ms * gbs * 1e6 / 32.0) as u64;
        let cases = [
            (
                Bound::MemoryBandwidth,
                Counters {
                    global_load_distinct: sectors(6.0, 100.0),
                    global_store_distinct: sectors(4.0, 100.0),
                    ..some
                },
            ),
            (
                Bound::L2Bandwidth,
                Counters {
                    global_load_sectors: sectors(5.0, 1000.0),
                    global_store_sectors: sectors(3.0, 1000.0),
                    atomic_sectors: sectors(2.0, 1000.0),
                    ..some
                },
            ),
            (Bound::F32Rate, Counters { flops: 10_000_000_000, ..some }),
            (Bound::TensorRate, Counters { tensor_flops: 80_000_000_000, ..some }),
            (Bound::InstructionIssue, Counters { warp_instructions: 400_000_000, ..some }),
            (Bound::SharedMemory, Counters { shared_wavefronts: 100_000_000, ..some }),
        ];
        for &(expected, counters) in &cases {
            let (ms, bound) = gpu().project(&counters);
            assert!(bound == expected && (ms - 10.001).abs() < 1e-9, "{expected:?}: {bound:?}, {ms}");
            // a copy has no blocks
            let (of_copy, _) = gpu().project(&Counters { blocks: 0, ..counters });
            assert!((of_copy - ms).abs() < 1e-9, "{expected:?}: {of_copy}");
        }
        let unpublished = Gpu { l2_bytes_per_clock: None, ..gpu() };
        assert_eq!(unpublished.project(&cases[1].1).1, Bound::LaunchLatency);
        assert_eq!(gpu().project(&Counters { flops: 1000, ..some }).1, Bound::LaunchLatency);
        let (ms, _) = gpu().project(&Counters { launches: 7, blocks: 7, ..Counters::default() });
        assert!((ms - 0.007).abs() < 1e-12);
    }

    #[test]
    fn few_blocks_have_few_multiprocessors() {
        // five of ten
        let some = Counters { launches: 2, blocks: 10, ..Counters::default() };
        let cases = [
            (Bound::F32Rate, Counters { flops: 10_000_000_000, ..some }),
            (Bound::TensorRate, Counters { tensor_flops: 80_000_000_000, ..some }),
            (Bound::InstructionIssue, Counters { warp_instructions: 400_000_000, ..some }),
            (Bound::SharedMemory, Counters { shared_wavefronts: 100_000_000, ..some }),
        ];
        for (expected, counters) in cases {
            let (ms, bound) = gpu().project(&counters);
            assert!(bound == expected && (ms - 20.002).abs() < 1e-9, "{expected:?}: {bound:?}, {ms}");
        }
    }

    #[test]
    fn rows_are_named_by_what_launched_them() {
        let text = r#"[{"label": "lstm|lstm2|backward", "kernel": "gemm_nn_small", "counters": {"launches": 2, "blocks": 8,
            "warp_instructions": 0, "flops": 64, "tensor_flops": 0, "barriers": 0, "global_load_requests": 0, "global_load_sectors": 9,
            "global_load_distinct": 5, "global_store_requests": 0, "global_store_sectors": 3, "global_store_distinct": 2,
            "atomic_sectors": 1, "shared_wavefronts": 7, "shared_ideal": 4, "anything": 1}},
            {"label": "", "kernel": "(fill)", "counters": {"launches": 1, "blocks": 0, "warp_instructions": 0, "flops": 0,
            "tensor_flops": 0, "barriers": 0, "global_load_requests": 0, "global_load_sectors": 0, "global_load_distinct": 0,
            "global_store_requests": 0, "global_store_sectors": 4, "global_store_distinct": 4, "atomic_sectors": 0,
            "shared_wavefronts": 0, "shared_ideal": 0}}]"#;
        let rows = rows(&gpu(), &parse::<Vec<Counted>>(text).unwrap());
        let row = &rows[0];
        let names = [&row.op, &row.layer, &row.direction, &row.phase].map(String::as_str);
        assert_eq!(names, ["lstm", "lstm2", "backward", "gemm_nn_small"]);
        assert_eq!((row.bytes, row.requested_bytes, row.bank_conflicts, row.calls), (7 * 32, 13 * 32, 3, 2));
        // of the f32 peak: operations a millisecond
        let share = |row: &KernelRow| row.peak_fraction.unwrap() * row.projected_ms;
        assert!(row.ms.is_none() && row.flop == 64 && (share(row) * 1e9 - 64.0).abs() < 1e-9);
        assert!(rows[1].peak_fraction.is_none());
        assert_eq!((rows[1].op.as_str(), rows[1].layer.as_str(), rows[1].bytes), ("step", "", 128));
        // with products on tensor cores these decide
        let counters = Counters { launches: 1, blocks: 1, flops: 5, tensor_flops: 80, ..Counters::default() };
        let counted = Counted { label: String::new(), kernel: "k".into(), counters };
        let row = &super::rows(&gpu(), &[counted])[0];
        assert!(row.flop == 85 && (share(row) * 8e9 - 80.0).abs() < 1e-9);
    }
}
