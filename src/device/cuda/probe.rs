//! Which GPUs this process could use, or why none (docs/CUDA.md §3).

use std::panic;

use cudarc::driver::{result, sys};

/// A GPU that the driver presents.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gpu {
    pub ordinal: usize,
    pub name: String,
    pub memory_bytes: usize,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    pub multiprocessors: i32,
    /// Shared memory that a block may have where it asks for it.
    pub shared_bytes_per_block: i32,
    /// Whether all blocks of a launch can be made to run at the same time.
    pub cooperative_launch: bool,
}

/// What the CUDA driver presents.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Probe {
    /// Newest CUDA version that the driver supports, as `12.4`.
    pub driver: String,
    /// At least one.
    pub gpus: Vec<Gpu>,
}

/// Asks the driver.
///
/// # Errors
/// Why there is no usable GPU, as part of a sentence ("no CUDA driver is installed").
pub fn probe() -> Result<Probe, String> {
    // A driver that lacks an entry point makes cudarc panic: say so instead, and keep the message off the screen.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = panic::catch_unwind(ask);
    panic::set_hook(hook);
    found.unwrap_or_else(|_| Err("the CUDA driver lacks functions that this program needs".into()))
}

fn ask() -> Result<Probe, String> {
    // SAFETY: loads the driver's library; the name is cudarc's own, and nothing else of it is called here.
    if !unsafe { sys::is_culib_present() } {
        return Err("no CUDA driver is installed".into());
    }
    result::init().map_err(reason)?;
    let mut version = 0;
    // SAFETY: the library is present, and the driver writes one integer to a valid place.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(reason)?;
    let count = result::device::get_count().map_err(reason)?;
    let gpus = (0..count).map(describe).collect::<Result<Vec<_>, _>>().map_err(reason)?;
    if gpus.is_empty() {
        return Err("the CUDA driver finds no GPU".into());
    }
    Ok(Probe { driver: format!("{}.{}", version / 1000, version % 1000 / 10), gpus })
}

fn describe(ordinal: i32) -> Result<Gpu, cudarc::driver::DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` was just handed out by the initialised driver.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    Ok(Gpu {
        ordinal: ordinal as usize,
        name: result::device::get_name(device)?,
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        cooperative_launch: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
    })
}

/// A driver's error in words. (Formatting a `DriverError` asks the driver for its text, which may panic.)
fn reason(error: cudarc::driver::DriverError) -> String {
    match error.0 as u32 {
        34 => "the CUDA library is a stub without a driver".into(),
        100 => "the CUDA driver finds no GPU".into(),
        803 => "the CUDA driver and its library have different versions".into(),
        code => format!("the CUDA driver answers with error {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_there_or_why_not() {
        match probe() {
            Ok(found) => {
                assert!(!found.gpus.is_empty() && found.driver.contains('.'), "{found:?}");
                assert!(found.gpus.iter().all(|gpu| !gpu.name.is_empty() && gpu.memory_bytes > 0), "{found:?}");
            }
            Err(reason) => {
                assert!(reason.contains("CUDA") && !reason.ends_with('.'), "{reason}");
                assert_ne!(std::env::var("ULMFIT_REQUIRE_CUDA").as_deref(), Ok("1"), "no usable GPU: {reason}");
            }
        }
    }
}
