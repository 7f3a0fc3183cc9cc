//! Functions that a real driver does not have: `cudasim_*`. See the README.

use std::ffi::{c_char, c_uint};

use super::{ARGUMENTS, Handle, INVALID_VALUE, NOT_FOUND, Needs, State, bytes_mut, call, lock, put, refuse, text};
use crate::counters;
use crate::report::{Finding, Kind};

/// Writes a string with its zero into a buffer, cut where it is too long; the length without the
/// zero goes to `needed`.
fn give(value: &str, to: *mut c_char, len: usize, needed: *mut usize) -> super::Answer {
    if !needed.is_null() {
        put(needed, value.len())?;
    }
    if len > 0 {
        let to = bytes_mut(to.cast(), len)?;
        let n = value.len().min(len - 1);
        to[..n].copy_from_slice(&value.as_bytes()[..n]);
        to[n] = 0;
    }
    Ok(())
}

/// Sets a switch, by the name of its environment variable in lower case without `CUDASIM_`.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_set(key: *const c_char, value: *const c_char) -> u32 {
    call("cudasim_set", Needs::Nothing, |s| {
        let (key, value) = (text(key)?, text(value)?);
        s.config.set(&key, &value).map_err(|e| refuse(INVALID_VALUE, e))
    })
}

/// The number of findings so far.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_finding_count() -> c_uint {
    lock().as_ref().map_or(0, |s| s.findings.len() as c_uint)
}

/// The text of a finding.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_finding(n: c_uint, to: *mut c_char, len: usize, needed: *mut usize) -> u32 {
    call("cudasim_finding", Needs::Nothing, |s| {
        let finding = s.findings.get(n as usize).ok_or_else(|| refuse(NOT_FOUND, ""))?;
        give(&finding.to_string(), to, len, needed)
    })
}

/// Forgets findings and the error of the context, which a real GPU does only when the process ends.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_clear() -> u32 {
    call("cudasim_clear", Needs::Nothing, |s| {
        s.findings.clear();
        (s.sticky, s.delayed) = (None, None);
        Ok(())
    })
}

/// A counter of a kernel by name; see the README for the names.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_counter(kernel: *const c_char, counter: *const c_char, value: *mut u64) -> u32 {
    call("cudasim_counter", Needs::Nothing, |s| {
        let (kernel, counter) = (text(kernel)?, text(counter)?);
        let Some(k) = s.kernels.get(&kernel) else {
            return Err(refuse(NOT_FOUND, format!("kernel `{kernel}` was never launched")));
        };
        let found = k.fields().into_iter().find(|(name, _)| *name == counter);
        let (_, n) = found.ok_or_else(|| refuse(NOT_FOUND, format!("there is no counter `{counter}`")))?;
        put(value, n)
    })
}

/// All counters as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_counters_json(to: *mut c_char, len: usize, needed: *mut usize) -> u32 {
    call("cudasim_counters_json", Needs::Nothing, |s| give(&counters::json(&s.kernels), to, len, needed))
}

/// What the client calls its launches from now on; they are counted by it, too, unless it is empty.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_label(label: *const c_char) -> u32 {
    call("cudasim_label", Needs::Nothing, |s| {
        s.label = text(label)?.into();
        Ok(())
    })
}

/// All counters by label and kernel as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_labelled_json(to: *mut c_char, len: usize, needed: *mut usize) -> u32 {
    call("cudasim_labelled_json", Needs::Nothing, |s| give(&counters::labelled_json(&s.labelled), to, len, needed))
}

/// The GPU that is presented, and its published peaks, as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_device_json(to: *mut c_char, len: usize, needed: *mut usize) -> u32 {
    call("cudasim_device_json", Needs::Nothing, |s| give(&s.config.device.json(), to, len, needed))
}

#[unsafe(no_mangle)]
pub extern "C" fn cudasim_reset_counters() -> u32 {
    call("cudasim_reset_counters", Needs::Nothing, |s| {
        s.kernels.clear();
        s.labelled.clear();
        Ok(())
    })
}

/// What is allocated, loaded or created and not given back, one a line.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_leaks(to: *mut c_char, len: usize, needed: *mut usize) -> u32 {
    call("cudasim_leaks", Needs::Nothing, |s| give(&s.leaks().join("\n"), to, len, needed))
}

/// Says how many arguments this thread's next launch passes, which the driver cannot see by itself.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_expect_arguments(count: c_uint) -> u32 {
    ARGUMENTS.set(Some(count));
    0
}

/// The number of parameters of a function.
#[unsafe(no_mangle)]
pub extern "C" fn cudasim_parameter_count(function: Handle, count: *mut c_uint) -> u32 {
    call("cudasim_parameter_count", Needs::Init, |s| {
        let n = s.function(function)?.program.params.len();
        put(count, n as c_uint)
    })
}

/// Offset and bytes of a parameter.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamInfo(function: Handle, n: usize, offset: *mut usize, size: *mut usize) -> u32 {
    call("cuFuncGetParamInfo", Needs::Context, |s| {
        let p = &s.function(function)?.program;
        let (Some(param), Some(&at)) = (p.params.get(n), p.param_offsets.get(n)) else {
            return Err(refuse(INVALID_VALUE, ""));
        };
        put(offset, at as usize)?;
        if size.is_null() { Ok(()) } else { put(size, param.size as usize) }
    })
}

/// Lists leaks, and errors nobody asked for; writes the counters.
pub(super) extern "C" fn at_exit() {
    let Ok(mut guard) = super::STATE.try_lock() else { return };
    let Some(s) = guard.as_mut() else { return };
    finish(s);
}

fn finish(s: &mut State) {
    for leak in s.leaks() {
        s.found(Finding::outside(Kind::Leak, 0, format!("never given back: {leak}")));
    }
    if let Some(code) = s.delayed {
        s.found(Finding::outside(Kind::Call, code, format!("error {code} of a kernel was never asked for")));
    }
    if let Some(path) = &s.config.json
        && let Err(e) = std::fs::write(path, counters::json(&s.kernels))
    {
        eprintln!("cudasim: cannot write the counters to {path}: {e}");
    }
}
