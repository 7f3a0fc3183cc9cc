//! Which GPUs this process could use, or why none.

use cudarc::driver::sys;

use super::driver::{self, Answer, Code};
use crate::device::Precision;
use crate::error::{Error, Result};

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

impl Gpu {
    /// Whether it multiplies in this precision.
    ///
    /// # Errors
    /// bf16 on a GPU that is too old for it.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        let (name, (major, minor)) = (&self.name, self.compute_capability);
        if precision == Precision::Full || major >= 8 {
            return Ok(());
        }
        let message =
            format!("--precision bf16 needs a GPU of compute capability 8.0 or newer, and {name} has {major}.{minor}");
        Err(Error::usage(message).hint("leave --precision out to compute in f32, or use --device cpu"))
    }
}

/// The GPUs that the CUDA driver presents.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Probe {
    /// Newest CUDA version that the driver supports, as `12.4`.
    pub driver: String,
    /// At least one.
    pub gpus: Vec<Gpu>,
}

/// The oldest CUDA version whose driver will do.
const DRIVER: (u32, u32) = (12, 0);

impl Probe {
    /// The GPU of that number, if this program can use it.
    ///
    /// # Errors
    /// An old driver, no such GPU, or one that is too old: one sentence each, that begins with the
    /// GPU's number.
    pub fn usable(&self, ordinal: usize) -> Result<&Gpu> {
        let version = self.driver.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        if version.is_none_or(|v: (u32, u32)| v < DRIVER) {
            let (driver, (major, minor)) = (&self.driver, DRIVER);
            return Err(Error::data(format!(
                "cuda:{ordinal}: the driver supports CUDA {driver}, and {major}.{minor} is needed"
            ))
            .hint("install an NVIDIA driver of version 525 or newer, or use --device cpu"));
        }
        let gpu = self.gpus.get(ordinal).ok_or_else(|| {
            let count = self.gpus.len();
            Error::data(format!("cuda:{ordinal}: the driver presents {count} GPU(s), counted from 0"))
        })?;
        let (major, minor) = gpu.compute_capability;
        if major < 7 {
            let name = &gpu.name;
            return Err(Error::data(format!(
                "cuda:{ordinal}: {name} has compute capability {major}.{minor}, and 7.0 (Volta) is needed"
            ))
            .hint("use --device cpu, or leave --device out"));
        }
        Ok(gpu)
    }
}

/// Asks the driver.
///
/// # Errors
/// Why there is no usable GPU, as part of a sentence ("no CUDA driver is installed").
pub fn probe() -> std::result::Result<Probe, String> {
    if !driver::is_present() {
        return Err("no CUDA driver is installed".into());
    }
    driver::init().map_err(reason)?;
    let version = driver::version().map_err(reason)?;
    let count = driver::device_count().map_err(reason)?;
    let gpus = (0..count).map(describe).collect::<Answer<Vec<_>>>().map_err(reason)?;
    if gpus.is_empty() {
        return Err("the CUDA driver finds no GPU".into());
    }
    Ok(Probe { driver: format!("{}.{}", version / 1000, version % 1000 / 10), gpus })
}

fn describe(ordinal: i32) -> Answer<Gpu> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = driver::device(ordinal)?;
    // SAFETY: `device` was just handed out by the initialised driver.
    let attribute = |which| unsafe { driver::device_attribute(device, which) };
    Ok(Gpu {
        ordinal: ordinal as usize,
        // SAFETY: as above.
        name: unsafe { driver::device_name(device) }?,
        // SAFETY: as above.
        memory_bytes: unsafe { driver::device_memory(device) }?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        cooperative_launch: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
    })
}

/// A driver's error in words.
fn reason(Code(code): Code) -> String {
    match code {
        34 => stub(driver::file().as_deref()),
        100 => "the CUDA driver finds no GPU".into(),
        500 => "the CUDA driver lacks functions that this program needs".into(),
        803 => "the CUDA driver and its library have different versions".into(),
        code => format!("the CUDA driver answers with error {code}"),
    }
}

/// A library to link with, in the place of a driver: its folder is usually on `LD_LIBRARY_PATH`.
fn stub(file: Option<&str>) -> String {
    let file = file.map_or_else(|| "the CUDA library".into(), |file| format!("the CUDA library {file}"));
    format!("{file} is a stub without a driver; take its folder out of LD_LIBRARY_PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_drivers_and_gpus_are_refused() {
        let gpu = |name: &str, compute_capability| Gpu {
            ordinal: 0,
            name: name.into(),
            memory_bytes: 1,
            compute_capability,
            multiprocessors: 1,
            shared_bytes_per_block: 98304,
            cooperative_launch: true,
        };
        let gpus = vec![gpu("new", (9, 0)), gpu("old", (6, 1))];
        let probe = Probe { driver: "12.4".into(), gpus: gpus.clone() };
        assert_eq!(probe.usable(0).unwrap().name, "new");
        let refused = |probe: &Probe, ordinal| probe.usable(ordinal).unwrap_err().to_string();
        assert!(refused(&probe, 1).starts_with("cuda:1: old has compute capability 6.1"));
        assert!(refused(&probe, 2).contains("presents 2 GPU(s)"));
        assert!(refused(&Probe { driver: "11.8".into(), gpus }, 0).contains("supports CUDA 11.8, and 12.0 is needed"));
    }

    #[test]
    fn a_stub_is_named() {
        let text = stub(Some("/usr/local/cuda/lib64/stubs/libcuda.so"));
        assert!(text.starts_with("the CUDA library /usr/local/cuda/lib64/stubs/libcuda.so is a stub"), "{text}");
        assert!(reason(Code(34)).contains("LD_LIBRARY_PATH"));
        // a code that nobody knows yet
        assert_eq!(reason(Code(98765)), "the CUDA driver answers with error 98765");
    }

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
