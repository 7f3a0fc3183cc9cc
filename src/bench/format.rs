//! Device and precision of a row.

use crate::autodiff::{Graph, Parameters, ParametersBuilder};
use crate::device::cpu::isa::{isa, multiplies_bf16};
use crate::device::{Device, Precision, cuda};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Where the work is done, the type of the tensors, and the format of the operands of large
/// products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub device: Device,
    pub tensors: DType,
    pub operands: Precision,
    /// Whether weights have 8 bits (`device::cpu::int8`).
    pub int8: bool,
}

impl Format {
    /// f32 on the CPU, as the next ones.
    pub const F32: Format = Format { device: Device::Cpu, tensors: DType::F32, operands: Precision::Full, int8: false };
    pub const BF16: Format = Format { operands: Precision::Bf16, ..Self::F32 };
    pub const INT8: Format = Format { int8: true, ..Self::F32 };
    pub const F64: Format = Format { tensors: DType::F64, ..Self::F32 };

    /// f32, and bf16 where the device has instructions for it.
    ///
    /// # Errors
    /// The GPU cannot be opened.
    pub fn of_device(device: Device) -> Result<Vec<Format>> {
        let rounds = match device {
            Device::Cpu => multiplies_bf16(isa()),
            Device::Cuda(gpu) => cuda::context(gpu)?.check_precision(Precision::Bf16).is_ok(),
        };
        let formats = if rounds { &[Self::F32, Self::BF16][..] } else { &[Self::F32] };
        Ok(formats.iter().map(|format| format.on(device)).collect())
    }

    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Format { device, ..self }
    }

    /// Where operands are rounded: f64 with the same rounding, on the CPU. What it errs is what
    /// rounding costs at least.
    pub fn naive(self) -> Option<Self> {
        let rounds = self.operands == Precision::Bf16 || self.int8;
        rounds.then_some(Format { operands: self.operands, int8: self.int8, ..Self::F64 })
    }

    /// The memory of a model, and the graph that it computes in.
    ///
    /// # Errors
    /// No memory left.
    pub fn place(self, declared: ParametersBuilder) -> Result<(Parameters, Graph)> {
        Ok((declared.build_on(self.device, self.tensors)?, self.graph()))
    }

    pub fn graph(self) -> Graph {
        Graph::new(self.device, self.tensors, None).with_precision(self.operands).with_int8_weights(self.int8)
    }

    /// The values of a tensor of the CPU in this format, on its device; indices stay where they
    /// are.
    pub fn convert(self, tensor: &Tensor) -> Result<Tensor> {
        let dtype = if tensor.dtype() == DType::U32 { DType::U32 } else { self.tensors };
        let copy = Tensor::zeros(tensor.shape(), dtype)?;
        copy.set_f64(&tensor.to_f64());
        if dtype == DType::U32 { Ok(copy) } else { copy.to_device(self.device) }
    }

    /// Whether nothing is timed there: kernels are counted and their time is projected
    /// ([`super::projection`]).
    pub(super) fn is_counted(self) -> bool {
        self.device != Device::Cpu && cuda::is_simulated()
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.operands {
            Precision::Full if self.int8 => f.write_str("int8"),
            Precision::Full => self.tensors.fmt(f),
            Precision::Bf16 => DType::BF16.fmt(f),
        }
    }
}
