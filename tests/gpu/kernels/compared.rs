//! Shared by the tests of kernels: the comparison is the library's (`ulmfit::check::compare`,
//! which states the bound).

use ulmfit::device::cuda::gemm::{round_operand, rounded_pitch};
use ulmfit::device::{Precision, cuda};
use ulmfit::tensor::{DType, Device, Tensor};

use crate::sim::findings;

pub const GPU: Device = Device::Cuda(0);

/// Seeds of the order of blocks and warps: three where `ULMFIT_PARITY=full`, else one.
pub fn orders() -> &'static [&'static str] {
    match std::env::var("ULMFIT_PARITY").as_deref() {
        Ok("full") => &["1", "2", "3"],
        _ => &["1"],
    }
}

/// Those that the GPU multiplies in.
pub fn precisions() -> &'static [Precision] {
    match cuda::context(0).unwrap().check_precision(Precision::Bf16) {
        Ok(()) => &[Precision::Full, Precision::Bf16],
        Err(_) => &[Precision::Full],
    }
}

/// The simulator has found nothing.
pub fn no_findings() {
    let found = findings();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A matrix of f32 on the GPU as products take it.
pub fn operand(precision: Precision, t: &Tensor) -> Tensor {
    if precision == Precision::Full {
        return t.clone();
    }
    let [rows, columns] = [t.dims()[0], t.dims()[1]];
    let copy = Tensor::zeros_on(GPU, [rows, rounded_pitch(columns)], DType::BF16).unwrap();
    round_operand(cuda::context(0).unwrap(), t.argument(), copy.argument(), [rows, columns]).unwrap();
    copy
}
