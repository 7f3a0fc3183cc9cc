//! The machine and program of a run: the rows of [`Event::Environment`] and part of `ulmfit info`.

use crate::device::Precision;
use crate::train::observer::Event;

/// Model name of the processor, or its architecture where the system does not tell.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |line: &str| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_string());
    info.lines().find_map(value).unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

/// The environment of this process; `isa` is the instruction set in use and `device` the device
/// chosen, in words.
pub fn event(isa: &str, device: &str, precision: Precision) -> Event {
    let products = match precision {
        Precision::Full => "f32",
        Precision::Bf16 => "bf16",
    };
    let rows = [
        ("version", format!("ulmfit {}", env!("CARGO_PKG_VERSION"))),
        ("device", device.to_string()),
        ("processor", processor()),
        ("instruction set", isa.to_string()),
        ("precision of products", products.to_string()),
        ("threads", rayon::current_num_threads().to_string()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
    ];
    Event::Environment { rows: rows.into_iter().map(|(k, v)| (k.to_string(), v)).collect() }
}
