//! Memory of this process as the operating system counts it.

use std::io::Read;

use crate::device::Device;

/// High-water mark of the resident set in MiB (`VmHWM` of /proc/self/status); 0 where the system
/// does not tell. Takes nothing from the heap, so that it may be called in every training step.
pub fn peak_rss_mb() -> f64 {
    of_status(b"VmHWM:").map_or(0.0, |kib| kib as f64 / 1024.0)
}

/// Resident set in bytes (`VmRSS` of /proc/self/status), where the system tells. Takes nothing from
/// the heap.
pub fn resident_bytes() -> Option<usize> {
    usize::try_from(of_status(b"VmRSS:")?).ok()?.checked_mul(1024)
}

/// Bytes that a limit of the process's memory (`--memory-limit`) leaves for tensors. On a CPU the
/// process itself counts; on a GPU the tensors alone do.
pub fn left(limit: Option<usize>, device: Device) -> Option<usize> {
    let taken = if device == Device::Cpu { resident_bytes().unwrap_or(0) } else { 0 };
    limit.map(|limit| limit.saturating_sub(taken))
}

/// A number of KiB in /proc/self/status.
fn of_status(name: &[u8]) -> Option<u64> {
    let mut buffer = [0u8; 4096];
    let mut filled = 0;
    let mut file = std::fs::File::open("/proc/self/status").ok()?;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => filled += n,
        }
    }
    kib_after(name, &buffer[..filled])
}

/// Memory in bytes that the system can give to a process without swapping (`MemAvailable` of
/// /proc/meminfo), where it tells.
pub(super) fn available_bytes() -> Option<usize> {
    let kib = kib_after(b"MemAvailable:", &std::fs::read("/proc/meminfo").ok()?)?;
    usize::try_from(kib).ok()?.checked_mul(1024)
}

fn kib_after(name: &[u8], status: &[u8]) -> Option<u64> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name))?;
    let digits = line.iter().filter(|b| b.is_ascii_digit());
    digits.map(|b| u64::from(b - b'0')).reduce(|value, digit| value * 10 + digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_high_water_mark() {
        let status = b"VmPeak:\t 99 kB\nVmHWM:\t   10240 kB\nVmRSS:\t 5 kB\n";
        assert_eq!((kib_after(b"VmHWM:", status), kib_after(b"VmRSS:", status)), (Some(10_240), Some(5)));
        assert_eq!(kib_after(b"VmHWM:", b"VmPeak:\t 99 kB\n"), None);
        if cfg!(target_os = "linux") {
            let before = peak_rss_mb();
            let block = vec![1u8; 64 << 20];
            assert!(std::hint::black_box(&block).iter().all(|&b| b == 1));
            assert!(peak_rss_mb() >= 64.0 && peak_rss_mb() >= before, "{before}");
        }
    }
}
