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

    /// What results are compared with: the same operands, all arithmetic in f64.
    pub fn oracle(self) -> Self {
        Format { tensors: DType::F64, ..self }
    }

    /// A graph on the CPU.
    pub fn graph(self) -> Graph {
        Graph::new(Device::Cpu, self.tensors, None).with_precision(self.operands)
    }

    /// Largest difference allowed from the [`oracle`](Self::oracle), relative to the largest value: far above rounding, far below any mistake. (An
    /// operand on the edge between two numbers of bf16 may become one here and the other there, and those are 2⁻⁸ apart.)
    pub fn tolerance(self) -> f64 {
        match self.operands {
            Precision::Full => 1e-4,
            Precision::Bf16 => 1.0 / 128.0,
        }
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
