//! How a GPU runs the recurrence, and why (DESIGN.md, "The recurrent core").

use std::ffi::OsStr;
use std::sync::{Mutex, Once};

use crate::device::cuda::{Context, Gpu, Grid};
use crate::device::{DType, Precision};
use crate::error::{Error, Result};

/// Direction of pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    Backward,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        })
    }
}

/// How the steps of a layer are run on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LstmPlan {
    /// One or two launches a step; W_hh is read again by each.
    StepWise,
    /// One cooperative launch for all steps; W_hh stays in shared memory, or a part of it in
    /// registers.
    Persistent(Persistent),
}

/// Sizes of the persistent plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistent {
    pub precision: Precision,
    /// Hidden units of a block.
    pub units: usize,
    /// Rows of the batch that are computed at a time.
    pub rows: usize,
    pub blocks: usize,
    /// Bytes of shared memory of a block.
    pub shared: usize,
    /// Bytes of W_hh that a block has in registers.
    pub in_registers: usize,
}

/// Units of a block that kernels/lstm_persistent.cu and kernels/lstm_persistent_bf16.cu are
/// compiled for.
pub const fn units(precision: Precision, pass: Pass) -> &'static [usize] {
    match (precision, pass) {
        (Precision::Full, _) => &[4, 9],
        (Precision::Bf16, Pass::Forward) => &[4, 10, 12],
        (Precision::Bf16, Pass::Backward) => &[8, 16],
    }
}

/// Rows at a time that kernels/lstm_persistent.cu is compiled for: few for small batches.
const ROWS: [usize; 2] = [16, 64];
/// Rows at a time of kernels/lstm_persistent_bf16.cu.
const ROWS_BF16: usize = 32;
/// Slices of 32 of the inner dimension that a block of `lstm_backward_bf16_16_registers` has in
/// registers: twelve of each of the four warps that share rows, so that twice 48 KiB of the 256 of
/// a multiprocessor hold what a block of 1150 units would lack in the 99 KiB of shared memory of an
/// RTX 4090.
const SLICES_IN_REGISTERS: usize = 48;

/// Whether there is a kernel that has a part of W_hh in registers.
///
/// Not in f32, where registers do not pay. Without tensor cores eight lanes need each weight, for
/// other rows, so registers would hold each weight eight times. And a step is bound by its
/// multiply-adds: 64 rows and 1150 units take 43 µs on a V100, 35 on an A100 and 8 on an RTX 4090
/// at their published peaks. To read W_hh anew, 21 MB, takes a V100 24 µs from memory, during the
/// product; on the other two it comes from the second-level cache.
fn has_registers(precision: Precision, pass: Pass, units: usize) -> bool {
    (precision, pass, units) == (Precision::Bf16, Pass::Backward, 16)
}

impl Persistent {
    /// The sizes of a block; shared memory as the kernels divide it. In f32: the block's weights,
    /// the inner dimension padded to whole chunks, and two chunks of the other operand. In bf16:
    /// the block's weights, the inner dimension padded to slices of 32, and the sums of its
    /// columns; the part for registers, if `registers`, passes through the memory of the rest.
    fn new(precision: Precision, pass: Pass, [units, batch, hidden]: [usize; 3], registers: bool) -> Self {
        let (inner, columns) = match pass {
            Pass::Forward => (hidden, 4 * units),
            Pass::Backward => (4 * hidden, units),
        };
        let (rows, shared, in_registers) = match precision {
            Precision::Full => {
                let rows = if batch <= ROWS[0] { ROWS[0] } else { ROWS[1] };
                let chunk = if pass == Pass::Forward { 64 } else { 128 };
                (rows, (columns * inner.next_multiple_of(chunk) + 2 * rows * chunk) * DType::F32.size(), 0)
            }
            Precision::Bf16 => {
                let (slices, of_slice) = (inner.div_ceil(32), columns * 32 * DType::BF16.size());
                let held = if registers { slices.min(SLICES_IN_REGISTERS) } else { 0 };
                let sums = columns * ROWS_BF16 * DType::F32.size();
                (ROWS_BF16, held.max(slices - held) * of_slice + sums, held * of_slice)
            }
        };
        Persistent { precision, units, rows, blocks: hidden.div_ceil(units), shared, in_registers }
    }

    /// The grid that its kernels are launched with.
    pub fn grid(&self) -> Grid {
        Grid { shared: self.shared, ..Grid::blocks([self.blocks, 1, 1]) }
    }

    /// The kernel's name.
    pub fn kernel(&self, pass: Pass) -> &'static str {
        match (self.precision, pass, self.units, self.rows) {
            (Precision::Full, Pass::Forward, 4, 16) => "lstm_forward_4x16",
            (Precision::Full, Pass::Forward, 4, _) => "lstm_forward_4x64",
            (Precision::Full, Pass::Forward, _, 16) => "lstm_forward_9x16",
            (Precision::Full, Pass::Forward, ..) => "lstm_forward_9x64",
            (Precision::Full, Pass::Backward, 4, 16) => "lstm_backward_4x16",
            (Precision::Full, Pass::Backward, 4, _) => "lstm_backward_4x64",
            (Precision::Full, Pass::Backward, _, 16) => "lstm_backward_9x16",
            (Precision::Full, Pass::Backward, ..) => "lstm_backward_9x64",
            (Precision::Bf16, Pass::Forward, 4, _) => "lstm_forward_bf16_4",
            (Precision::Bf16, Pass::Forward, 10, _) => "lstm_forward_bf16_10",
            (Precision::Bf16, Pass::Forward, ..) => "lstm_forward_bf16_12",
            (Precision::Bf16, Pass::Backward, 8, _) => "lstm_backward_bf16_8",
            (Precision::Bf16, Pass::Backward, ..) if self.in_registers > 0 => "lstm_backward_bf16_16_registers",
            (Precision::Bf16, Pass::Backward, ..) => "lstm_backward_bf16_16",
        }
    }
}

impl LstmPlan {
    /// The plan for a layer of `hidden` units and a batch of `batch` rows, and the reason in words.
    /// The persistent one wherever it fits, because a step-wise step reads all of W_hh and pays for
    /// one or two launches.
    pub fn choose(gpu: &Gpu, precision: Precision, pass: Pass, batch: usize, hidden: usize) -> (LstmPlan, String) {
        match persistent(gpu, precision, pass, [batch, hidden], units(precision, pass), Registers::IfNeeded) {
            Ok(plan) => {
                let Persistent { units, blocks, shared, in_registers, .. } = plan;
                let mut reason =
                    format!("{blocks} blocks of {units} units keep W_hh in {} KiB each", shared.div_ceil(1024));
                if in_registers > 0 {
                    reason += &format!(", and in {} of registers", in_registers.div_ceil(1024));
                }
                (LstmPlan::Persistent(plan), reason)
            }
            Err(reason) => (LstmPlan::StepWise, reason),
        }
    }
}

/// The plan of one layer and pass, for people and scripts to read; serialises to an entry of `lstm`
/// in the JSON of `ulmfit info` and `ulmfit plan`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Described {
    pub hidden: usize,
    pub batch: usize,
    pub direction: &'static str,
    /// `persistent` or `step_wise`
    pub plan: &'static str,
    /// The blocks of the persistent plan.
    pub blocks: Option<usize>,
    pub units: Option<usize>,
    pub rows: Option<usize>,
    pub shared_bytes: Option<usize>,
    pub reason: String,
}

/// The plans for layers of these sizes, forward and backward: what [`LstmPlan::choose`] takes, or
/// `ULMFIT_LSTM_PLAN` wants.
///
/// # Errors
/// A value of the variable that it does not have, or a plan that does not fit.
pub fn describe(gpu: &Gpu, precision: Precision, batch: usize, hidden: &[usize]) -> Result<Vec<Described>> {
    let wanted = Wanted::of_environment()?;
    let one = |hidden: usize, pass: Pass| {
        let (plan, reason) = wanted.choose(gpu, precision, pass, batch, hidden)?;
        let sizes = match plan {
            LstmPlan::Persistent(sizes) => Some(sizes),
            LstmPlan::StepWise => None,
        };
        Ok(Described {
            hidden,
            batch,
            direction: if pass == Pass::Forward { "forward" } else { "backward" },
            plan: if sizes.is_some() { "persistent" } else { "step_wise" },
            blocks: sizes.map(|s| s.blocks),
            units: sizes.map(|s| s.units),
            rows: sizes.map(|s| s.rows),
            shared_bytes: sizes.map(|s| s.shared),
            reason,
        })
    };
    hidden.iter().flat_map(|&h| [Pass::Forward, Pass::Backward].map(|pass| one(h, pass))).collect()
}

/// Name of the environment variable that decides on the plan.
const VARIABLE: &str = "ULMFIT_LSTM_PLAN";

/// The value of `ULMFIT_LSTM_PLAN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// `auto`, or nothing: the persistent plan where it fits and the driver runs it.
    Any,
    /// `step`
    StepWise,
    /// `persistent`: that plan or an error.
    Persistent,
}

impl Wanted {
    fn of_environment() -> Result<Self> {
        Self::of(std::env::var_os(VARIABLE).as_deref())
    }

    fn of(value: Option<&OsStr>) -> Result<Self> {
        match value.map(OsStr::to_string_lossy).as_deref() {
            None | Some("auto") => Ok(Wanted::Any),
            Some("step") => Ok(Wanted::StepWise),
            Some("persistent") => Ok(Wanted::Persistent),
            Some(other) => Err(Error::usage(format!("{VARIABLE}={other} is none of 'auto', 'persistent' and 'step'"))),
        }
    }

    fn choose(
        self,
        gpu: &Gpu,
        precision: Precision,
        pass: Pass,
        batch: usize,
        hidden: usize,
    ) -> Result<(LstmPlan, String)> {
        if self == Wanted::StepWise {
            return Ok((LstmPlan::StepWise, format!("{VARIABLE}=step")));
        }
        let (plan, reason) = LstmPlan::choose(gpu, precision, pass, batch, hidden);
        if self == Wanted::Persistent && plan == LstmPlan::StepWise {
            return Err(does_not_run(gpu, pass, &reason).hint(format!("leave {VARIABLE}=persistent out")));
        }
        Ok((plan, reason))
    }
}

fn does_not_run(gpu: &Gpu, pass: Pass, reason: &str) -> Error {
    Error::data(format!("the persistent LSTM does not run {pass} on {}: {reason}", gpu.name))
}

/// When to have a part of W_hh in registers, where there is a kernel for that.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registers {
    /// Where shared memory alone is too small; which is faster where both fit, nobody has measured
    /// on a GPU.
    IfNeeded,
    Never,
    Always,
}

/// The persistent plan with one of these numbers of units in a block, or what stands against it.
fn persistent(
    gpu: &Gpu,
    precision: Precision,
    pass: Pass,
    [batch, hidden]: [usize; 2],
    units: &[usize],
    registers: Registers,
) -> std::result::Result<Persistent, String> {
    if !gpu.cooperative_launch {
        return Err("the driver offers no cooperative launch".into());
    }
    let multiprocessors = gpu.multiprocessors.max(0) as usize;
    // the fewest units that leave every multiprocessor one block: a step takes as long as its
    // largest block
    let Some(&units) = units.iter().find(|&&units| hidden.div_ceil(units) <= multiprocessors) else {
        let most = units[units.len() - 1];
        return Err(format!(
            "{hidden} units on {multiprocessors} multiprocessors are more than the {most} that a block can have"
        ));
    };
    let limit = gpu.shared_bytes_per_block.max(0) as usize;
    let plan = |registers| Persistent::new(precision, pass, [units, batch, hidden], registers);
    let registers = has_registers(precision, pass, units)
        && (registers == Registers::Always || registers == Registers::IfNeeded && plan(false).shared > limit);
    let plan = plan(registers);
    if plan.shared > limit {
        return Err(format!(
            "a block of {units} units needs {} KiB of shared memory and may have {}",
            plan.shared.div_ceil(1024),
            limit / 1024
        ));
    }
    Ok(plan)
}

/// Which plan to take wherever there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    StepWise,
    /// With so many units in a block, forward and backward, of those that there are [`units`] for;
    /// all of W_hh in shared memory.
    Persistent([usize; 2]),
    /// The same with a part of W_hh in registers, wherever there is a kernel for it.
    Registers([usize; 2]),
}

static FORCED: Mutex<Option<Force>> = Mutex::new(None);

/// For tests: one plan for all executions of this process from now on, or the choice again. A
/// persistent plan that does not fit is then an error.
pub fn force(plan: Option<Force>) {
    *FORCED.lock().expect("nothing panics while it is held") = plan;
}

/// The plan to run: [`LstmPlan::choose`]'s, that of `ULMFIT_LSTM_PLAN`, or the forced one. A
/// persistent plan whose launch the driver refuses becomes the step-wise one, which is said once,
/// unless it was asked for.
pub(super) fn decide(
    context: &Context,
    precision: Precision,
    pass: Pass,
    batch: usize,
    hidden: usize,
) -> Result<LstmPlan> {
    let (gpu, wanted) = (context.gpu(), Wanted::of_environment()?);
    let forced = *FORCED.lock().expect("nothing panics while it is held");
    let plan = match forced {
        None => wanted.choose(gpu, precision, pass, batch, hidden)?.0,
        Some(Force::StepWise) => LstmPlan::StepWise,
        Some(Force::Persistent(units)) => {
            forced_persistent(gpu, precision, pass, [batch, hidden], units, Registers::Never)?
        }
        Some(Force::Registers(units)) => {
            forced_persistent(gpu, precision, pass, [batch, hidden], units, Registers::Always)?
        }
    };
    let LstmPlan::Persistent(sizes) = plan else { return Ok(plan) };
    match context.refuses_cooperation(sizes.kernel(pass), sizes.grid())? {
        None => Ok(plan),
        Some(reason) if forced.is_some() || wanted == Wanted::Persistent => Err(does_not_run(gpu, pass, &reason)),
        Some(reason) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| context.warn(&format!("{reason}; the LSTM runs step by step, as with {VARIABLE}=step")));
            Ok(LstmPlan::StepWise)
        }
    }
}

fn forced_persistent(
    gpu: &Gpu,
    precision: Precision,
    pass: Pass,
    sizes: [usize; 2],
    units: [usize; 2],
    registers: Registers,
) -> Result<LstmPlan> {
    persistent(gpu, precision, pass, sizes, &[units[pass as usize]], registers)
        .map(LstmPlan::Persistent)
        .map_err(|reason| does_not_run(gpu, pass, &reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str) -> Gpu {
        // multiprocessors, and KiB of shared memory a block may ask for
        let (compute_capability, multiprocessors, shared) = match name {
            "V100" => ((7, 0), 80, 96),
            "A100" => ((8, 0), 108, 163),
            "H100" => ((9, 0), 132, 227),
            _ => ((8, 9), 128, 99),
        };
        Gpu {
            ordinal: 0,
            name: name.into(),
            memory_bytes: 16 << 30,
            compute_capability,
            multiprocessors,
            shared_bytes_per_block: shared * 1024,
            cooperative_launch: true,
        }
    }
    const GPUS: [&str; 4] = ["V100", "A100", "H100", "RTX 4090"];

    /// As one line: blocks x units, rows, shared memory; or the reason against.
    fn line(name: &str, precision: Precision, pass: Pass, batch: usize, hidden: usize) -> String {
        match LstmPlan::choose(&gpu(name), precision, pass, batch, hidden) {
            (LstmPlan::Persistent(p), reason) => {
                assert!(reason.starts_with(&format!("{} blocks of {} units", p.blocks, p.units)), "{reason}");
                let registers =
                    if p.in_registers > 0 { format!(", {} in registers", p.in_registers) } else { String::new() };
                format!("{} x {} units, {} rows, {} bytes{registers}", p.blocks, p.units, p.rows, p.shared)
            }
            (LstmPlan::StepWise, reason) => format!("step-wise: {reason}"),
        }
    }

    /// Forward and backward on every GPU that multiplies in a precision.
    fn table(precision: Precision, batch: usize, hidden: usize) -> Vec<String> {
        let gpus = GPUS.iter().filter(|name| precision == Precision::Full || **name != "V100");
        let one = |name: &str, pass| format!("{name} {pass}: {}", line(name, precision, pass, batch, hidden));
        gpus.flat_map(|name| [Pass::Forward, Pass::Backward].map(|pass| one(name, pass))).collect()
    }

    #[test]
    fn plans_at_the_paper_s_sizes() {
        let many = |at: usize| {
            format!("step-wise: 1150 units on {at} multiprocessors are more than the 9 that a block can have")
        };
        assert_eq!(
            table(Precision::Full, 64, 1150),
            [
                format!("V100 forward: {}", many(80)),
                format!("V100 backward: {}", many(80)),
                format!("A100 forward: {}", many(108)),
                format!("A100 backward: {}", many(108)),
                "H100 forward: 128 x 9 units, 64 rows, 198656 bytes".into(),
                "H100 backward: 128 x 9 units, 64 rows, 231424 bytes".into(),
                "RTX 4090 forward: step-wise: a block of 9 units needs 194 KiB of shared memory and may have 99".into(),
                "RTX 4090 backward: step-wise: a block of 9 units needs 226 KiB of shared memory and may have 99"
                    .into(),
            ]
        );
        assert_eq!(
            table(Precision::Bf16, 64, 1150),
            [
                "A100 forward: 96 x 12 units, 32 rows, 116736 bytes",
                "A100 backward: 72 x 16 units, 32 rows, 149504 bytes",
                "H100 forward: 115 x 10 units, 32 rows, 97280 bytes",
                "H100 backward: 72 x 16 units, 32 rows, 149504 bytes",
                "RTX 4090 forward: 115 x 10 units, 32 rows, 97280 bytes",
                "RTX 4090 backward: 72 x 16 units, 32 rows, 100352 bytes, 49152 in registers",
            ]
        );
    }

    #[test]
    fn plans_of_the_last_layer() {
        // it has the embedding's size
        assert_eq!(
            table(Precision::Full, 64, 400),
            [
                "V100 forward: 45 x 9 units, 64 rows, 97280 bytes",
                "V100 backward: step-wise: a block of 9 units needs 123 KiB of shared memory and may have 96",
                "A100 forward: 100 x 4 units, 64 rows, 61440 bytes",
                "A100 backward: 100 x 4 units, 64 rows, 92160 bytes",
                "H100 forward: 100 x 4 units, 64 rows, 61440 bytes",
                "H100 backward: 100 x 4 units, 64 rows, 92160 bytes",
                "RTX 4090 forward: 100 x 4 units, 64 rows, 61440 bytes",
                "RTX 4090 backward: 100 x 4 units, 64 rows, 92160 bytes",
            ]
        );
        let of = |name: &str, forward: &str| {
            [format!("{name} forward: {forward}"), format!("{name} backward: 50 x 8 units, 32 rows, 26624 bytes")]
        };
        let forward = "100 x 4 units, 32 rows, 15360 bytes";
        assert_eq!(table(Precision::Bf16, 64, 400), ["A100", "H100", "RTX 4090"].map(|gpu| of(gpu, forward)).concat());
    }

    #[test]
    fn plans_of_small_batches_and_other_sizes() {
        let full = |name, pass, batch, hidden| line(name, Precision::Full, pass, batch, hidden);
        assert_eq!(full("V100", Pass::Backward, 16, 400), "45 x 9 units, 16 rows, 76288 bytes");
        assert_eq!(full("H100", Pass::Forward, 20, 1152), "128 x 9 units, 64 rows, 198656 bytes");
        assert!(full("H100", Pass::Backward, 64, 1184).contains("may have 227"));
        assert_eq!(full("H100", Pass::Forward, 1, 1), "1 x 4 units, 16 rows, 12288 bytes");
        let rounded = |name, pass, hidden| line(name, Precision::Bf16, pass, 1, hidden);
        assert_eq!(rounded("A100", Pass::Forward, 1152), "96 x 12 units, 32 rows, 116736 bytes");
        assert_eq!(rounded("H100", Pass::Backward, 1055), "132 x 8 units, 32 rows, 68608 bytes");
        assert!(rounded("H100", Pass::Forward, 1585).contains("more than the 12 that a block can have"));
        assert_eq!(rounded("H100", Pass::Backward, 1), "1 x 8 units, 32 rows, 1536 bytes");
        assert_eq!(
            rounded("RTX 4090", Pass::Backward, 1152),
            "72 x 16 units, 32 rows, 100352 bytes, 49152 in registers"
        );
        assert!(rounded("RTX 4090", Pass::Backward, 1184).contains("needs 102 KiB of shared memory and may have 99"));
        // the part for registers passes through shared memory, which may be larger or smaller
        let plan = |hidden| Persistent::new(Precision::Bf16, Pass::Backward, [16, 1, hidden], true);
        assert_eq!((plan(1).shared, plan(1).in_registers), (3072, 1024));
        assert_eq!((plan(500).shared, plan(500).in_registers), (51200, 49152));
    }

    #[test]
    fn the_variable_decides() {
        let of = |value: &str| Wanted::of(Some(OsStr::new(value)));
        assert!(matches!(Wanted::of(None), Ok(Wanted::Any)));
        assert_eq!(
            ["auto", "step", "persistent"].map(|v| of(v).unwrap()),
            [Wanted::Any, Wanted::StepWise, Wanted::Persistent]
        );
        let error = of("steps").unwrap_err();
        assert!(error.exit_status() == 2 && error.to_string().contains("ULMFIT_LSTM_PLAN=steps"), "{error}");
        let choose = |wanted: Wanted, name: &str| wanted.choose(&gpu(name), Precision::Full, Pass::Forward, 64, 1150);
        assert_eq!(choose(Wanted::StepWise, "H100").unwrap(), (LstmPlan::StepWise, "ULMFIT_LSTM_PLAN=step".into()));
        assert!(matches!(choose(Wanted::Persistent, "H100").unwrap().0, LstmPlan::Persistent(_)));
        assert_eq!(choose(Wanted::Any, "V100").unwrap().0, LstmPlan::StepWise);
        let error = choose(Wanted::Persistent, "V100").unwrap_err().to_string();
        assert!(error.starts_with("the persistent LSTM does not run forward on V100: "), "{error}");
    }

    #[test]
    fn without_cooperative_launches() {
        let gpu = Gpu { cooperative_launch: false, ..gpu("H100") };
        let (plan, reason) = LstmPlan::choose(&gpu, Precision::Full, Pass::Forward, 64, 1150);
        assert_eq!((plan, reason.as_str()), (LstmPlan::StepWise, "the driver offers no cooperative launch"));
    }
}
