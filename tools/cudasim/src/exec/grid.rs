//! Runs the blocks of a grid: one after the other in a drawn order, or all in turn for a
//! cooperative launch.

use std::sync::Arc;

use super::races::{self, MAX_BLOCKS, Published};
use super::shared::Shared;
use super::step::{Turn, has_fast};
use super::warp::{Clock, Lanes, State, Warp};
use super::{Fault, Res, fault, lanes};
use crate::config::{Checks, Config};
use crate::counters::Counters;
use crate::decode::{Program, SPECIAL};
use crate::memory::DeviceMemory;
use crate::op::{NONE, Slot};
use crate::report::{Finding, Kind, Place};
use crate::rng::Rng;

/// x, y, z.
pub type Dim = [u32; 3];

pub struct Launch {
    pub grid: Dim,
    pub block: Dim,
    /// Bytes.
    pub dynamic_shared: u32,
    /// The parameters, as laid out in `Program::param_offsets`.
    pub params: Vec<u8>,
    pub cooperative: bool,
    /// From 1 to `MAX_LAUNCH`; the memory must have forgotten accesses of earlier launches with the
    /// same number.
    pub number: u64,
}

pub struct Outcome {
    pub counters: Counters,
    pub finding: Option<Finding>,
}

/// Shared by all blocks of a launch.
pub(crate) struct Machine<'a> {
    pub program: &'a Program,
    pub mem: &'a mut DeviceMemory,
    pub params: &'a [u8],
    pub check: Checks,
    pub readers: u32,
    pub truncate: bool,
    pub counters: Counters,
    pub published: Published,
    pub rng: Rng,
    pub launch: u64,
    pub blocks: u32,
    pub fast: bool,
    /// Warp instructions so far.
    pub clock: u64,
    /// Counts writes, so that it can be seen when nothing happens any more.
    pub progress: u64,
    /// The instruction under way.
    pub pc: u32,
    /// Registers of warps that are done, for others: most kernels have hundreds, and fresh memory
    /// costs more than filling it.
    spare: Vec<Vec<Lanes>>,
}

#[derive(Clone, Copy, Default)]
struct Barrier {
    /// Threads that came, and that must come.
    here: u32,
    need: u32,
    /// The instruction, for a barrier of the whole block.
    pc: u32,
}

/// A block under way, without its warps.
pub(crate) struct Block {
    pub index: u32,
    pub at: Dim,
    pub shared: Shared,
    pub known: Option<Clock>,
    threads: u32,
    barriers: [Barrier; 16],
    /// A barrier is complete.
    open: Option<u32>,
}

struct Running {
    block: Block,
    warps: Vec<Warp>,
    order: Vec<usize>,
    done: bool,
}

impl Machine<'_> {
    /// A warp comes to a barrier; true if it has to wait.
    pub(super) fn arrive(&mut self, b: &mut Block, w: &mut Warp, at: (Slot, Slot), waits: bool) -> Res<bool> {
        let lane = w.mask.trailing_zeros();
        let uniform = |slot: Slot| {
            let value = w.src(slot);
            let first = value[lane as usize];
            lanes(w.mask).all(|l| value[l] == first).then_some(first)
        };
        let id = uniform(at.0).filter(|&id| id < 16);
        let need = if at.1 == NONE { Some(b.threads.next_multiple_of(32)) } else { uniform(at.1) };
        let (Some(id), Some(need)) = (id, need) else {
            return fault(
                Kind::DivergentBarrier,
                lane,
                None,
                "barrier number (0 to 15) and count must be the same in a warp",
            );
        };
        if need == 0 || need % 32 != 0 || need > b.threads.next_multiple_of(32) {
            let text = format!("{need} threads: a barrier counts whole warps of the block ({} threads)", b.threads);
            return fault(Kind::DivergentBarrier, lane, None, text);
        }
        let whole = at.1 == NONE;
        let barrier = &mut b.barriers[id as usize];
        if barrier.here > 0 && (barrier.need != need || (whole && barrier.pc != self.pc)) {
            let line = self.program.insts[barrier.pc as usize].line;
            let text = format!("other threads of the block wait at another barrier, PTX line {line}");
            return fault(Kind::DivergentBarrier, lane, None, text);
        }
        *barrier = Barrier { here: barrier.here + 32, need, pc: self.pc };
        let full = barrier.here >= need;
        self.progress += 1;
        if full {
            *barrier = Barrier::default();
            b.open = Some(id);
            self.counters.barriers += 1;
        }
        if waits {
            w.state = State::Barrier(id);
        }
        Ok(waits || full)
    }
}

impl Running {
    fn new(m: &mut Machine, launch: &Launch, index: u32, constants: &Arc<Vec<Lanes>>) -> Running {
        let [gx, gy, _] = launch.grid;
        let at = [index % gx, index / gx % gy, index / (gx * gy)];
        let threads: u32 = launch.block.iter().product();
        let p = m.program;
        let shared_bytes = p.dynamic_offset.max(p.static_shared) + launch.dynamic_shared;
        let warps: Vec<Warp> = (0..threads.div_ceil(32))
            .map(|id| {
                let count = (threads - id * 32).min(32);
                let live = if count == 32 { u32::MAX } else { (1 << count) - 1 };
                let regs = m.spare.pop().unwrap_or_default();
                let mut w = Warp::new(id, live, (p.registers, p.predicates), constants.clone(), regs);
                specials(&mut w, launch, at, shared_bytes);
                w
            })
            .collect();
        let mut order: Vec<usize> = (0..warps.len()).collect();
        m.rng.shuffle(&mut order);
        let block = Block {
            index,
            at,
            shared: Shared::new(shared_bytes, threads, p.local_bytes),
            known: None,
            threads,
            barriers: [Barrier::default(); 16],
            open: None,
        };
        Running { block, warps, order, done: false }
    }

    /// A turn for every warp. True if some warp did more than look at memory.
    fn round(&mut self, m: &mut Machine) -> Result<bool, (Box<Fault>, usize)> {
        let mut worked = false;
        for i in 0..self.order.len() {
            let n = self.order[i];
            if self.warps[n].state != State::Ready {
                continue;
            }
            let turn = 200 + m.rng.below(1000);
            let end = m.turn(&mut self.block, &mut self.warps[n], turn).map_err(|f| (f, n))?;
            worked |= end != Turn::Polls;
            if let Some(id) = self.block.open.take() {
                self.block.shared.epoch += 1;
                if m.check.races {
                    let epoch = self.block.shared.epoch;
                    races::barrier(&mut self.warps, &mut self.block.known, self.block.index, epoch);
                }
                for w in &mut self.warps {
                    if w.state == State::Barrier(id) {
                        w.state = State::Ready;
                    }
                }
            }
        }
        self.done = self.warps.iter().all(|w| w.state == State::Done);
        if !self.done && self.warps.iter().all(|w| w.state != State::Ready) {
            let n = self.warps.iter().position(|w| matches!(w.state, State::Barrier(_))).unwrap_or(0);
            let waiting = self.warps.iter().filter(|w| w.state != State::Done).count();
            let message = format!(
                "{waiting} of {} warps wait at a barrier that the others never reach: {} have ended",
                self.warps.len(),
                self.warps.len() - waiting
            );
            let lane = self.warps[n].live.trailing_zeros();
            m.pc = self.warps[n].pc - 1;
            return Err((Box::new(Fault { kind: Kind::DivergentBarrier, lane, address: None, message }), n));
        }
        m.rng.shuffle(&mut self.order);
        Ok(worked)
    }
}

/// Fills the special registers, in the order of `SPECIAL`.
fn specials(w: &mut Warp, launch: &Launch, at: Dim, shared: u32) {
    let [bx, by, bz] = launch.block;
    let first = w.id * 32;
    let tid = |f: &dyn Fn(u32) -> u32| -> Lanes { std::array::from_fn(|l| f(first + l as u32)) };
    let lane = |f: &dyn Fn(u32) -> u32| -> Lanes { std::array::from_fn(|l| f(l as u32)) };
    let values: [Lanes; SPECIAL.len()] = [
        tid(&|t| t % bx),
        tid(&|t| t / bx % by),
        tid(&|t| t / (bx * by)),
        [bx; 32],
        [by; 32],
        [bz; 32],
        [at[0]; 32],
        [at[1]; 32],
        [at[2]; 32],
        [launch.grid[0]; 32],
        [launch.grid[1]; 32],
        [launch.grid[2]; 32],
        lane(&|l| l),
        [w.id; 32],
        [(bx * by * bz).div_ceil(32); 32],
        lane(&|l| 1 << l),
        lane(&|l| (1 << l) - 1),
        lane(&|l| ((1u64 << (l + 1)) - 1) as u32),
        lane(&|l| !(((1u64 << (l + 1)) - 1) as u32)),
        lane(&|l| !((1 << l) - 1)),
        [launch.dynamic_shared; 32],
        [shared; 32],
    ];
    for (slot, value) in values.iter().enumerate() {
        w.put(slot as Slot, value, u32::MAX);
    }
}

/// Runs a grid to its end or to the first finding. Limits of the launch were checked before.
pub fn run(program: &Program, mem: &mut DeviceMemory, launch: &Launch, config: &Config) -> Outcome {
    let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
    let mut check = config.checks;
    check.races &= blocks < u64::from(MAX_BLOCKS);
    let mut m = Machine {
        program,
        mem,
        params: &launch.params,
        check,
        readers: config.readers,
        truncate: config.truncate,
        counters: Counters::new(program.insts.len(), config.counters),
        published: Published::default(),
        rng: Rng::new(config.seed.wrapping_add(launch.number)),
        launch: launch.number,
        blocks: blocks.min(u64::from(u32::MAX)) as u32,
        fast: config.avx2 && has_fast(),
        clock: 0,
        progress: 0,
        pc: 0,
        spare: Vec::new(),
    };
    let constants = Arc::new(program.constants.clone());
    let mut order: Vec<u32> = (0..m.blocks).collect();
    m.rng.shuffle(&mut order);
    let together = if launch.cooperative { order.len().max(1) } else { 1 };
    for group in order.chunks(together) {
        let mut running: Vec<Running> = group.iter().map(|&i| Running::new(&mut m, launch, i, &constants)).collect();
        if let Some(finding) = rounds(&mut m, &mut running, launch, config) {
            return Outcome { counters: m.counters, finding: Some(finding) };
        }
    }
    Outcome { counters: m.counters, finding: None }
}

/// Rounds in which nothing happens, after which nothing ever will.
const IDLE_ROUNDS: u32 = 100;

fn rounds(m: &mut Machine, running: &mut Vec<Running>, launch: &Launch, config: &Config) -> Option<Finding> {
    let mut idle = 0;
    while !running.is_empty() {
        let before = m.progress;
        let mut worked = false;
        m.rng.shuffle(running);
        for r in running.iter_mut() {
            match r.round(m) {
                Ok(w) => worked |= w,
                Err((fault, warp)) => return Some(finding(m, launch, &r.block, &r.warps[warp], *fault)),
            }
        }
        idle = if worked || m.progress != before { 0 } else { idle + 1 };
        let over = m.clock > config.limit;
        if idle > IDLE_ROUNDS || over {
            let r = &running[0];
            let ready = r.warps.iter().find(|w| w.state == State::Ready).unwrap_or(&r.warps[0]);
            m.pc = ready.pc;
            let message = if over {
                format!("more than {} warp instructions", config.limit)
            } else if launch.cooperative {
                "every thread that could go on waits for a change of memory that no thread will make".to_string()
            } else {
                "the thread waits for another block, which a launch that is not cooperative need not run at the same time"
                    .to_string()
            };
            let kind = if over { Kind::Timeout } else { Kind::Deadlock };
            let fault = Fault { kind, lane: ready.live.trailing_zeros(), address: None, message };
            return Some(finding(m, launch, &r.block, ready, fault));
        }
        for done in running.extract_if(.., |r| r.done) {
            m.spare.extend(done.warps.into_iter().map(|w| w.regs));
        }
    }
    None
}

fn finding(m: &Machine, launch: &Launch, b: &Block, w: &Warp, f: Fault) -> Finding {
    let inst = &m.program.insts[m.pc as usize];
    let [bx, by, _] = launch.block;
    let t = w.id * 32 + f.lane.min(31);
    let place = Place {
        kernel: m.program.name.clone(),
        ptx_line: inst.line,
        ptx: m.program.text_of(inst.line).to_string(),
        source: m.program.source_of(inst),
        block: b.at,
        thread: [t % bx, t / bx % by, t / (bx * by)],
        address: f.address,
    };
    Finding { kind: f.kind, message: f.message, place: Some(place), code: f.kind.code() }
}
