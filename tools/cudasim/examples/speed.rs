//! Thread instructions a second of the interpreter, with and without checks:
//! `cargo run -p cudasim --example speed`.

use std::collections::HashMap;
use std::time::Instant;

use cudasim::config::{Checks, Config};
use cudasim::memory::DeviceMemory;
use cudasim::{Launch, decode::decode, ptx::parse, run};

fn main() {
    let text = include_str!("../tests/kernels/sgemm.ptx");
    let program = decode(&parse(text).expect("the kernel parses"), &HashMap::new()).expect("and decodes").remove(0);
    let n = 256u32;
    let mut memory = DeviceMemory::default();
    let buffers: Vec<u64> = (0..3).map(|_| memory.allocate(u64::from(n * n * 4), "matrix")).collect();
    for &b in &buffers {
        memory.fill(b, 0x3c, u64::from(n * n * 4)).expect("the buffer is there");
    }
    let mut params: Vec<u8> = buffers.iter().flat_map(|b| b.to_le_bytes()).collect();
    params.extend([n; 3].iter().flat_map(|v| v.to_le_bytes()));
    for (number, on) in [(1, false), (2, true)] {
        let config = Config { checks: Checks { init: on, races: on }, counters: on, ..Config::default() };
        let grid = [n / 64, n / 64, 1];
        let launch =
            Launch { grid, block: [256, 1, 1], dynamic_shared: 0, params: params.clone(), cooperative: false, number };
        let start = Instant::now();
        let outcome = run(&program, &mut memory, &launch, &config);
        let seconds = start.elapsed().as_secs_f64();
        assert!(outcome.finding.is_none());
        let lanes: u64 = outcome.counters.executed.iter().map(|e| e[1]).sum();
        let checks = if on { "all checks and counters" } else { "no checks, no counters" };
        println!(
            "sgemm {n}: {lanes} thread instructions, {:.0} million a second, {checks}",
            lanes as f64 / seconds / 1e6
        );
    }
}
