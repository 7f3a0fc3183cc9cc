//! From the syntax tree of a kernel to instructions that run fast: registers become slots, literals
//! constants, labels indices, and every modifier is either understood or refused.

mod arith;
mod control;
mod memory;
mod operands;

use std::collections::HashMap;

use crate::op::{Inst, NONE, Op, Slot};
use crate::ptx::{Kernel, Module, Param, PtxError, Space};

pub(crate) use operands::Decoder;

/// Registers that every warp has filled before it starts, in the order of their slots.
pub const SPECIAL: [&str; 22] = [
    "%tid.x",
    "%tid.y",
    "%tid.z",
    "%ntid.x",
    "%ntid.y",
    "%ntid.z",
    "%ctaid.x",
    "%ctaid.y",
    "%ctaid.z",
    "%nctaid.x",
    "%nctaid.y",
    "%nctaid.z",
    "%laneid",
    "%warpid",
    "%nwarpid",
    "%lanemask_eq",
    "%lanemask_lt",
    "%lanemask_le",
    "%lanemask_gt",
    "%lanemask_ge",
    "%dynamic_smem_size",
    "%total_smem_size",
];

/// Where shared memory begins in its own space: an address of 0 is never valid.
pub const SHARED_BASE: u32 = 1024;
/// Where local memory begins in its own space.
pub const LOCAL_BASE: u32 = 64;

/// A kernel ready to run.
#[derive(Debug)]
pub struct Program {
    pub name: String,
    pub params: Vec<Param>,
    /// Offset of each parameter, and the bytes of all.
    pub param_offsets: Vec<u32>,
    pub param_bytes: u32,
    pub insts: Vec<Inst>,
    /// Registers that instructions read, which must be initialised: slots, or predicates with the
    /// top bit set.
    pub reads: Vec<u32>,
    /// Slots of registers; constants follow.
    pub registers: u32,
    pub predicates: u32,
    pub constants: Vec<[u32; 32]>,
    pub static_shared: u32,
    /// Where dynamic shared memory begins, from the start of the block's memory.
    pub dynamic_offset: u32,
    pub uses_dynamic: bool,
    pub local_bytes: u32,
    pub max_threads: Option<u32>,
    pub required_threads: Option<[u32; 3]>,
    /// Registers a thread needs at most at once, in 32-bit units: an estimate of what the assembler
    /// would give it.
    pub register_estimate: u32,
    pub line: u32,
    /// The PTX text and its source files, for reports.
    pub text: std::sync::Arc<Vec<String>>,
    pub files: std::sync::Arc<Vec<(u32, String)>>,
    pub version: (u32, u32),
    pub target: u32,
}

/// Flag of a predicate in `Program::reads`.
pub const READ_PREDICATE: u32 = 1 << 31;

/// Decodes every kernel of a module. `globals` holds the addresses of its `.global` and `.const`
/// variables.
pub fn decode(module: &Module, globals: &HashMap<String, u64>) -> Result<Vec<Program>, PtxError> {
    let text = std::sync::Arc::new(module.text.clone());
    let files = std::sync::Arc::new(module.files.clone());
    module.kernels.iter().map(|k| decode_kernel(module, k, globals, &text, &files)).collect()
}

fn decode_kernel(
    module: &Module,
    kernel: &Kernel,
    globals: &HashMap<String, u64>,
    text: &std::sync::Arc<Vec<String>>,
    files: &std::sync::Arc<Vec<(u32, String)>>,
) -> Result<Program, PtxError> {
    let mut symbols = globals.clone();
    let (mut shared, mut local, mut dynamic_align, mut uses_dynamic) = (0u32, 0u32, 1u32, false);
    let mut dynamic_names = Vec::new();
    // shared memory that stands outside of kernels belongs to those that name it
    let named = operands::names(kernel);
    let outside = module.variables.iter().filter(|v| v.space != Space::Shared || named.contains(&v.name));
    for v in outside.chain(&kernel.variables) {
        let align = v.align.max(1);
        match v.space {
            Space::Shared if v.size == 0 => {
                dynamic_align = dynamic_align.max(align);
                dynamic_names.push(v.name.clone());
            }
            Space::Shared => {
                shared = shared.next_multiple_of(align);
                symbols.insert(v.name.clone(), u64::from(SHARED_BASE + shared));
                shared += v.size;
            }
            Space::Local => {
                local = local.next_multiple_of(align);
                symbols.insert(v.name.clone(), u64::from(LOCAL_BASE + local));
                local += v.size;
            }
            Space::Global | Space::Const => {
                if !symbols.contains_key(&v.name) {
                    return Err(PtxError::new(kernel.line, format!("{} must be declared outside of kernels", v.name)));
                }
            }
        }
    }
    let dynamic_offset = shared.next_multiple_of(dynamic_align);
    for name in dynamic_names {
        uses_dynamic = true;
        symbols.insert(name, u64::from(SHARED_BASE + dynamic_offset));
    }
    let (mut param_bytes, mut param_offsets) = (0u32, Vec::new());
    for p in &kernel.params {
        param_bytes = param_bytes.next_multiple_of(p.align.max(1));
        param_offsets.push(param_bytes);
        param_bytes += p.size;
    }
    let mut decoder = Decoder::new(kernel, symbols, &param_offsets)?;
    let mut insts = Vec::with_capacity(kernel.body.len() + 1);
    for instruction in &kernel.body {
        let first = decoder.reads.len() as u32;
        let (guard, guard_negated) = match &instruction.guard {
            Some((name, negated)) => (decoder.read_predicate(name, instruction)?, *negated),
            None => (NONE, false),
        };
        let op = decoder.instruction(instruction)?;
        let reads = (first, decoder.reads.len() as u32);
        insts.push(Inst { op, guard, guard_negated, reads, line: instruction.line, location: instruction.location });
    }
    // a kernel may end without ret
    let (line, location) = kernel.body.last().map_or((kernel.line, Default::default()), |i| (i.line, i.location));
    let end = decoder.reads.len() as u32;
    insts.push(Inst { op: Op::Ret, guard: NONE, guard_negated: false, reads: (end, end), line, location });
    let register_estimate = decoder.pressure(kernel);
    Ok(Program {
        name: kernel.name.clone(),
        params: kernel.params.clone(),
        param_offsets,
        param_bytes,
        insts,
        registers: decoder.register_count,
        predicates: decoder.predicate_count,
        constants: decoder.constants,
        reads: decoder.reads,
        static_shared: shared,
        dynamic_offset,
        uses_dynamic,
        local_bytes: local,
        max_threads: kernel.max_threads,
        required_threads: kernel.required_threads,
        register_estimate,
        line: kernel.line,
        text: text.clone(),
        files: files.clone(),
        version: module.version,
        target: module.target,
    })
}

impl Program {
    /// The text of an instruction, as it stands in the PTX.
    pub fn text_of(&self, line: u32) -> &str {
        self.text.get(line as usize - 1).map_or("", |t| t.trim())
    }

    /// `file:line` of the source, where the PTX says it.
    pub fn source_of(&self, inst: &Inst) -> Option<String> {
        let file = self.files.iter().find(|(n, _)| *n == inst.location.file)?;
        let path = file.1.trim_start_matches("./");
        Some(format!("{path}:{}", inst.location.line))
    }

    /// Whether a slot is a register and no constant.
    pub fn is_register(&self, slot: Slot) -> bool {
        u32::from(slot) < self.registers
    }
}
