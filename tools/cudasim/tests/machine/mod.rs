//! Runs PTX straight on the interpreter, without the driver.
// a finding is large, and tests are few
#![allow(dead_code, clippy::result_large_err)]

use std::collections::HashMap;

use cudasim::config::Config;
use cudasim::decode::decode;
use cudasim::devices::Device;
use cudasim::memory::DeviceMemory;
use cudasim::ptx::parse;
use cudasim::report::Finding;
use cudasim::{Launch, run};

/// A kernel body around which parameters, registers and a return are put. `%rd1` is the address of
/// the output, `%rd2` that of the input, `%rd3` and `%rd4` those of this thread's 32 bytes of
/// output and 32 bytes of input.
pub fn kernel(body: &str) -> String {
    format!(
        ".version 7.8\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 out, .param .u64 in)\n{{\n\
         .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<33>; .reg .f32 %f<33>; .reg .b64 %rd<17>; .reg .f64 %fd<9>;\n\
         ld.param.u64 %rd1, [out];\nld.param.u64 %rd2, [in];\nmov.u32 %r31, %ctaid.x;\nmov.u32 %r30, %ntid.x;\n\
         mov.u32 %r29, %tid.x;\nmad.lo.u32 %r32, %r31, %r30, %r29;\nmul.wide.u32 %rd5, %r32, 32;\n\
         add.s64 %rd3, %rd1, %rd5;\nadd.s64 %rd4, %rd2, %rd5;\n{body}\nret;\n}}\n"
    )
}

pub struct Run {
    pub blocks: u32,
    pub threads: u32,
    pub shared: u32,
    pub cooperative: bool,
    pub seed: u64,
    pub config: Config,
    /// Bytes of the output that are zeroed before; the rest is uninitialised.
    pub zeroed: bool,
}

impl Default for Run {
    fn default() -> Self {
        let config = Config { device: Device::find("h100").unwrap(), ..Config::default() };
        Run { blocks: 1, threads: 32, shared: 0, cooperative: false, seed: 1, config, zeroed: false }
    }
}

impl Run {
    /// Runs a whole PTX text on 32 bytes a thread of input and output, by both forms of the
    /// interpreter, which must agree.
    pub fn text(&self, ptx: &str, input: &[u8]) -> Result<Vec<u8>, Finding> {
        let [wide, plain] = [true, false].map(|avx2| self.once(ptx, input, avx2));
        let outcome = |run: &Result<Vec<u8>, Finding>| run.clone().map_err(|finding| finding.kind);
        assert!(outcome(&wide) == outcome(&plain), "the two forms of the interpreter differ: {ptx}");
        wide
    }

    fn once(&self, ptx: &str, input: &[u8], avx2: bool) -> Result<Vec<u8>, Finding> {
        let module = parse(ptx).unwrap_or_else(|e| panic!("{e}"));
        let programs = decode(&module, &HashMap::new()).unwrap_or_else(|e| panic!("{e}"));
        let mut memory = DeviceMemory::default();
        let len = 32 * (self.threads * self.blocks) as usize;
        let out = memory.allocate(len as u64, "out", false);
        if self.zeroed {
            memory.fill(out, 0, len as u64).unwrap();
        }
        let from = memory.allocate(len as u64, "in", false);
        memory.write(from, input).unwrap();
        let launch = Launch {
            grid: [self.blocks, 1, 1],
            block: [self.threads, 1, 1],
            dynamic_shared: self.shared,
            params: [out.to_le_bytes(), from.to_le_bytes()].concat(),
            cooperative: self.cooperative,
            number: 1,
        };
        let mut config = self.config.clone();
        (config.seed, config.avx2) = (self.seed, avx2);
        if let Some(finding) = run(&programs[0], &mut memory, &launch, &config).finding {
            return Err(finding);
        }
        let mut bytes = vec![0; len];
        memory.read(out, &mut bytes).unwrap();
        Ok(bytes)
    }

    /// Runs a kernel body.
    pub fn body(&self, body: &str, input: &[u8]) -> Result<Vec<u8>, Finding> {
        self.text(&kernel(body), input)
    }
}

/// One operation of 32-bit operands: lane `l` computes `code` of its inputs `%r1 %r2 %r3` (also as
/// `%f1`...) into `%r0`.
pub fn op32(code: &str, inputs: &[[u32; 3]]) -> Vec<u32> {
    let mut bytes = vec![0u8; 1024];
    for (l, input) in inputs.iter().enumerate() {
        for (i, v) in input.iter().enumerate() {
            bytes[32 * l + 4 * i..32 * l + 4 * i + 4].copy_from_slice(&v.to_le_bytes());
        }
    }
    let body = format!(
        "ld.global.u32 %r1, [%rd4];\nld.global.u32 %r2, [%rd4+4];\nld.global.u32 %r3, [%rd4+8];\n\
         mov.b32 %f1, %r1;\nmov.b32 %f2, %r2;\nmov.b32 %f3, %r3;\n{code}\nst.global.u32 [%rd3], %r0;"
    );
    let out = Run::default().body(&body, &bytes).unwrap_or_else(|f| panic!("{code}: {f}"));
    (0..inputs.len()).map(|l| u32::from_le_bytes(out[32 * l..32 * l + 4].try_into().unwrap())).collect()
}

/// The same with 64-bit operands `%rd6 %rd7 %rd8` (also `%fd6`...) into `%rd9`.
pub fn op64(code: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let mut bytes = vec![0u8; 1024];
    for (l, input) in inputs.iter().enumerate() {
        for (i, v) in input.iter().enumerate() {
            bytes[32 * l + 8 * i..32 * l + 8 * i + 8].copy_from_slice(&v.to_le_bytes());
        }
    }
    let body = format!(
        "ld.global.u64 %rd6, [%rd4];\nld.global.u64 %rd7, [%rd4+8];\nld.global.u64 %rd8, [%rd4+16];\n\
         mov.b64 %fd6, %rd6;\nmov.b64 %fd7, %rd7;\nmov.b64 %fd8, %rd8;\n{code}\nst.global.u64 [%rd3], %rd9;"
    );
    let out = Run::default().body(&body, &bytes).unwrap_or_else(|f| panic!("{code}: {f}"));
    (0..inputs.len()).map(|l| u64::from_le_bytes(out[32 * l..32 * l + 8].try_into().unwrap())).collect()
}
