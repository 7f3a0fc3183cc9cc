//! Thread instructions (instructions of active threads) a second of the interpreter, on one core,
//! for kernels that the engine ships: `cargo run --release -p cudasim --example speed [KERNEL]`,
//! with and without checks, the best of several runs.

use std::collections::HashMap;
use std::time::Instant;

use cudasim::config::{Checks, Config};
use cudasim::decode::{Program, decode};
use cudasim::memory::DeviceMemory;
use cudasim::{Launch, ptx::parse, run};

const RUNS: u64 = 7;

/// An argument of a kernel.
enum Arg {
    /// The address of so many bytes, each of this value.
    Buffer(u64, u8),
    U32(u32),
    F32(f32),
}
use Arg::{Buffer, F32, U32};

struct Work {
    kernel: &'static str,
    ptx: &'static str,
    grid: [u32; 3],
    args: Vec<Arg>,
}

/// A byte that makes numbers which are neither zero nor large: 0.0115 as f32 and as bf16.
const SMALL: u8 = 0x3c;

fn works() -> Vec<Work> {
    let n = 256u32;
    let square = u64::from(n * n);
    let (batch, hidden) = (64u32, 512u32);
    let state = u64::from(4 * batch * hidden);
    let (rows, words) = (32u32, 20_000u32);
    vec![
        Work {
            kernel: "gemm_nt_large",
            ptx: include_str!("../../../kernels/ptx/gemm.sm_80.ptx"),
            grid: [n / 128, n / 128, 1],
            args: vec![
                Buffer(4 * square, SMALL),
                Buffer(4 * square, SMALL),
                Buffer(4 * square, SMALL),
                Buffer(4 * square, SMALL),
                U32(n),
                U32(n),
                U32(n),
                U32(0),
            ],
        },
        Work {
            kernel: "lstm_step",
            ptx: include_str!("../../../kernels/ptx/lstm.sm_80.ptx"),
            grid: [hidden / 16, batch / 64, 1],
            args: vec![
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                Buffer(u64::from(16 * hidden * hidden), SMALL),
                Buffer(4 * state, SMALL),
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                U32(batch),
                U32(hidden),
            ],
        },
        Work {
            kernel: "lstm_cell_backward",
            ptx: include_str!("../../../kernels/ptx/lstm.sm_80.ptx"),
            grid: [batch * hidden / 256, 1, 1],
            args: vec![
                Buffer(4 * state, SMALL),
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                Buffer(state, SMALL),
                U32(batch),
                U32(hidden),
                U32(1),
                // a rounded copy that there is none of
                Buffer(16, 0),
                U32(0),
            ],
        },
        Work {
            kernel: "softmax_rows",
            ptx: include_str!("../../../kernels/ptx/tied_softmax.sm_80.ptx"),
            grid: [rows, 1, 1],
            args: vec![
                Buffer(u64::from(4 * rows * words), SMALL),
                // what a product has told about tiles of 64 logits
                Buffer(u64::from(16 * rows * words.div_ceil(64)), SMALL),
                U32(words.div_ceil(64)),
                U32(64),
                Buffer(u64::from(4 * rows), 0),
                Buffer(u64::from(4 * rows), 0),
                Buffer(u64::from(4 * rows), 0),
                U32(words),
                F32(1.0),
                U32(1),
                Buffer(16, 0),
                U32(0),
            ],
        },
        Work {
            kernel: "gemm_bf16_nt_large",
            ptx: include_str!("../../../kernels/ptx/gemm_bf16.sm_80.ptx"),
            grid: [2 * n / 128, 2 * n / 128, 1],
            args: vec![
                Buffer(8 * square, SMALL),
                Buffer(8 * square, SMALL),
                Buffer(16 * square, SMALL),
                Buffer(16 * square, SMALL),
                U32(2 * n),
                U32(2 * n),
                U32(2 * n),
                U32(2 * n),
                U32(2 * n),
                U32(0),
            ],
        },
    ]
}

/// Thread instructions of a launch and the least seconds that one took.
fn measure(work: &Work, program: &Program, checks: bool) -> (u64, f64) {
    let config = Config { checks: Checks { init: checks, races: checks }, counters: checks, ..Config::default() };
    let mut memory = DeviceMemory::default();
    let mut params: Vec<u8> = Vec::new();
    for arg in &work.args {
        match *arg {
            Buffer(bytes, value) => {
                let address = memory.allocate(bytes, "buffer", false);
                memory.fill(address, value, bytes).expect("the buffer is there");
                params.resize(params.len().next_multiple_of(8), 0);
                params.extend(address.to_le_bytes());
            }
            U32(value) => params.extend(value.to_le_bytes()),
            F32(value) => params.extend(value.to_le_bytes()),
        }
    }
    params.resize(program.param_bytes as usize, 0);
    let (mut lanes, mut seconds) = (0, f64::INFINITY);
    for number in 1..=RUNS {
        let launch = Launch {
            grid: work.grid,
            block: [256, 1, 1],
            dynamic_shared: 0,
            params: params.clone(),
            cooperative: false,
            number,
        };
        let start = Instant::now();
        let outcome = run(program, &mut memory, &launch, &config);
        seconds = start.elapsed().as_secs_f64().min(seconds);
        assert!(outcome.finding.is_none(), "{}: {:?}", work.kernel, outcome.finding);
        lanes = outcome.counters.executed.iter().map(|e| e[1]).sum();
    }
    (lanes, seconds)
}

fn main() {
    let only = std::env::args().nth(1);
    println!("million thread instructions a second; the best of {RUNS} runs");
    println!("{:20} {:>12} {:>10} {:>22}", "kernel", "instructions", "no checks", "all checks, counters");
    let (mut all, mut fast, mut slow) = (0, 0.0, 0.0);
    for work in works().iter().filter(|w| only.as_deref().is_none_or(|name| name == w.kernel)) {
        let programs = decode(&parse(work.ptx).expect("the kernels parse"), &HashMap::new()).expect("and decode");
        let program = programs.into_iter().find(|p| p.name == work.kernel).expect("the kernel is there");
        let (lanes, unchecked) = measure(work, &program, false);
        let (_, checked) = measure(work, &program, true);
        let rate = |seconds: f64| lanes as f64 / seconds / 1e6;
        println!("{:20} {lanes:12} {:10.0} {:22.0}", work.kernel, rate(unchecked), rate(checked));
        all += lanes;
        fast += unchecked;
        slow += checked;
    }
    let rate = |seconds: f64| all as f64 / seconds / 1e6;
    println!("{:20} {all:12} {:10.0} {:22.0}", "all of them", rate(fast), rate(slow));
}
