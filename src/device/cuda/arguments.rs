//! The arguments and grid of a launch, and the parameters that the PTX declares.

use std::marker::PhantomData;

use crate::error::{Error, Result};

/// Bytes of the largest structure that is passed by value.
const PLAIN: usize = 320;

/// One argument of a kernel.
#[allow(clippy::large_enum_variant)] // lives for one call
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// Memory of the device.
    Memory(u64, PhantomData<&'a ()>),
    /// A size or a flag; must fit 32 bits.
    Count(usize),
    U32(u32),
    F32(f32),
    /// A structure by value, in the first bytes.
    Plain([u64; PLAIN / 8], usize),
}

impl Argument<'_> {
    /// A structure by value, laid out as the kernel's.
    pub fn plain<P: bytemuck::Pod>(value: P) -> Self {
        let mut words = [0; PLAIN / 8];
        let bytes = bytemuck::bytes_of(&value);
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Argument::Plain(words, bytes.len())
    }

    /// The address of memory, to be put into a structure.
    pub fn address(&self) -> u64 {
        match self {
            Argument::Memory(address, _) => *address,
            _ => panic!("only memory has an address"),
        }
    }

    fn parameter(&self) -> Parameter {
        match self {
            Argument::Memory(..) => Parameter::Bits64,
            Argument::Count(_) | Argument::U32(_) => Parameter::Bits32,
            Argument::F32(_) => Parameter::F32,
            Argument::Plain(_, bytes) => Parameter::Bytes(*bytes),
        }
    }
}

impl From<usize> for Argument<'_> {
    fn from(count: usize) -> Self {
        Argument::Count(count)
    }
}

impl From<u32> for Argument<'_> {
    fn from(value: u32) -> Self {
        Argument::U32(value)
    }
}

impl From<bool> for Argument<'_> {
    fn from(value: bool) -> Self {
        Argument::U32(u32::from(value))
    }
}

impl From<f32> for Argument<'_> {
    fn from(value: f32) -> Self {
        Argument::F32(value)
    }
}

/// Blocks, threads of a block (one-dimensional), and bytes of dynamic shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    pub blocks: [usize; 3],
    pub threads: usize,
    pub shared: usize,
}

impl Grid {
    /// Threads of a block of most kernels: `BLOCK` in `kernels/common.cuh`.
    pub const BLOCK: usize = 256;

    /// One thread an element.
    pub fn elements(n: usize) -> Self {
        Grid::blocks([n.div_ceil(Self::BLOCK), 1, 1])
    }

    /// Blocks of 256 threads.
    pub fn blocks(blocks: [usize; 3]) -> Self {
        Grid { blocks, threads: Self::BLOCK, shared: 0 }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

/// One parameter of a kernel, as its PTX declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Bits64,
    Bits32,
    F32,
    Bytes(usize),
}

/// The kernels of a PTX text and their parameters, in the order of the text. Panics on a
/// declaration that it does not know: the text is part of the program, and a test reads all of it.
pub(super) fn declared(ptx: &'static str) -> Vec<(&'static str, Vec<Parameter>)> {
    let mut all = Vec::new();
    for entry in ptx.split("\n.visible .entry ").skip(1) {
        let (name, rest) = entry.split_once('(').expect("an entry has parameters");
        let list = &rest[..rest.find(')').expect("an entry's parameters end")];
        let parameters = list.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
            let words: Vec<&str> = line.trim_end_matches(',').split_whitespace().collect();
            match words[..] {
                [".param", ".u64", _] => Parameter::Bits64,
                [".param", ".u32", _] => Parameter::Bits32,
                [".param", ".f32", _] => Parameter::F32,
                [".param", ".align", _, ".b8", array] => {
                    let size = array.split(['[', ']']).nth(1).and_then(|n| n.parse().ok());
                    Parameter::Bytes(size.expect("an array of bytes has a size"))
                }
                _ => panic!("kernel '{name}': unknown parameter '{line}'"),
            }
        });
        all.push((name, parameters.collect()));
    }
    all
}

/// Number and sizes of the arguments against the declaration; their values as the driver takes
/// them, of which structures are left in place.
pub(super) fn check(kernel: &str, declared: &[Parameter], given: &[Argument], values: &mut Vec<u64>) -> Result<()> {
    if declared.len() != given.len() {
        let (takes, has) = (declared.len(), given.len());
        return Err(Error::data(format!("kernel '{kernel}' takes {takes} arguments and is given {has}")));
    }
    for (i, (parameter, argument)) in declared.iter().zip(given).enumerate() {
        if *parameter != argument.parameter() {
            let found = argument.parameter();
            return Err(Error::data(format!(
                "kernel '{kernel}' declares argument {i} as {parameter:?} and is given {found:?}"
            )));
        }
        values.push(match *argument {
            Argument::Memory(address, _) => address,
            Argument::Count(count) => u64::from(u32::try_from(count).map_err(|_| {
                Error::data(format!("kernel '{kernel}' would need {count} of something, and counts in 32 bits"))
                    .hint("lower --batch-size, --bptt or the model's sizes")
            })?),
            Argument::U32(value) => u64::from(value),
            Argument::F32(value) => u64::from(value.to_bits()),
            Argument::Plain(..) => 0,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "// head\n.version 6.3\n\n.visible .entry one(\n\t.param .u64 one_param_0,\n\t.param .u32 one_param_1,\n\
                       \t.param .align 8 .b8 one_param_2[32],\n\t.param .f32 one_param_3\n)\n{\n}\n.visible .entry two(\n\n)\n{\n}\n";

    #[test]
    fn declarations_are_read() {
        use Parameter::{Bits32, Bits64, Bytes, F32};
        assert_eq!(declared(PTX), [("one", vec![Bits64, Bits32, Bytes(32), F32]), ("two", vec![])]);
    }

    #[test]
    fn wrong_arguments_are_seen() {
        let declared = &declared(PTX)[0].1;
        let memory = Argument::Memory(16, PhantomData);
        let right = [memory, Argument::Count(5), Argument::plain([1u64; 4]), Argument::F32(1.5)];
        let mut values = Vec::new();
        check("one", declared, &right, &mut values).unwrap();
        assert_eq!(values, [16, 5, 0, 0x3FC0_0000]);
        let wrong = |i: usize, argument| {
            let mut given = right;
            given[i] = argument;
            check("one", declared, &given, &mut Vec::new()).unwrap_err().to_string()
        };
        assert!(wrong(0, Argument::Count(1)).contains("declares argument 0 as Bits64 and is given Bits32"));
        assert!(wrong(1, Argument::F32(1.0)).contains("argument 1"));
        assert!(wrong(2, Argument::plain([1u64; 3])).contains("Bytes(32) and is given Bytes(24)"));
        assert!(wrong(1, Argument::Count(1 << 32)).contains("4294967296"));
        let short = check("one", declared, &right[..3], &mut Vec::new()).unwrap_err();
        assert!(short.to_string().contains("takes 4 arguments and is given 3"));
    }
}
