//! What a row computes in.

use crate::autodiff::Graph;
use crate::device::cpu::isa::{isa, multiplies_bf16};
use crate::device::{Device, Precision};
use crate::tensor::DType;

/// Type of the tensors, and format of the operands of large products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub tensors: DType,
    pub operands: Precision,
}

impl Format {
    pub const F32: Format = Format { tensors: DType::F32, operands: Precision::Full };
    pub const BF16: Format = Format { tensors: DType::F32, operands: Precision::Bf16 };
    pub const F64: Format = Format { tensors: DType::F64, operands: Precision::Full };

    /// Those that this processor has instructions for.
    pub fn of_processor() -> Vec<Format> {
        if multiplies_bf16(isa()) { vec![Self::F32, Self::BF16] } else { vec![Self::F32] }
    }

    /// Where operands are rounded: f64 with the same rounding. What it errs is what rounding costs at least.
    pub fn naive(self) -> Option<Self> {
        (self.operands == Precision::Bf16).then_some(Format { tensors: DType::F64, ..self })
    }

    /// A graph on the CPU.
    pub fn graph(self) -> Graph {
        Graph::new(Device::Cpu, self.tensors, None).with_precision(self.operands)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.operands {
            Precision::Full => self.tensors.fmt(f),
            Precision::Bf16 => DType::BF16.fmt(f),
        }
    }
}
