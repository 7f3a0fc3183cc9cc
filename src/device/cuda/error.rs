//! The driver's errors as errors of this crate.

use super::driver::Code;
use crate::error::Error;

/// `doing`: the failed action, as the beginning of a sentence ("launching kernel 'gemm'").
pub(super) fn failed(doing: &str, error: Code) -> Error {
    let Code(code) = error;
    let why = match code {
        1 => "a value was refused",
        2 => return Error::data(format!("{doing}: the GPU's memory is used up")).hint(LESS),
        100 => "the driver finds no GPU",
        200 | 218 => "the driver cannot compile the kernel",
        209 => "the program has no kernel for this GPU",
        214 => "the GPU's memory has an error that it could not correct",
        222 => "the driver is too old for the kernel (CUDA 12.0, driver 525, is needed)",
        500 => "the driver lacks this function",
        700 => "a kernel reached outside its memory",
        701 => "the kernel needs more registers or shared memory than the GPU has",
        702 => "a kernel ran longer than the driver allows",
        716 => "a kernel used a misaligned address",
        // a trap is one or the other, by the driver's age
        715 | 719 => "a kernel failed, or gave up waiting for the other blocks of its grid",
        720 => "the grid is too large for a cooperative launch",
        801 => "the driver does not support this",
        _ => "the driver refused",
    };
    Error::data(format!("{doing}: {why} (CUDA error {code})"))
}

/// The hint against too little memory.
pub(super) const LESS: &str = "lower --batch-size, --bptt or the model's sizes, or use --device cpu";
