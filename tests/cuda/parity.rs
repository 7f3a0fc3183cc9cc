//! What the tests of kernels share: the comparison is the library's (`ulmfit::check::compare`, which states the bound).

use ulmfit::device::{Precision, cuda};
use ulmfit::tensor::Device;

use super::sim::findings;

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
