//! Which instructions this process uses, and how a loop is compiled for each of them.
//!
//! A numerical loop is written once, as a [`Kernel`]; [`dispatch`] compiles it once per [`Isa`] and
//! runs the one that this process uses. The two vector instruction sets round in the same way
//! (fused multiply-add) and give the same bits; [`Isa::Portable`] rounds after every
//! multiplication.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Name of the environment variable that overrides the choice.
pub const VARIABLE: &str = "ULMFIT_ISA";

/// A set of instructions that kernels are compiled for. The order is by preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// The instructions that every processor of the target has; no fused multiply-add.
    Portable,
    /// AVX2 and FMA: 256-bit vectors.
    Avx2,
    /// AVX-512 F, VL, BW and DQ: 512-bit vectors.
    Avx512,
}

impl Isa {
    /// All of them, the plainest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The name in `ULMFIT_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor (and its operating system) can run it.
    pub fn supported(self) -> bool {
        self <= best()
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The best instruction set of this processor.
fn best() -> Isa {
    static BEST: OnceLock<Isa> = OnceLock::new();
    *BEST.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        Isa::Portable
    } else if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
    {
        Isa::Avx512
    } else {
        Isa::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

/// Whether an instruction set comes with products of bf16 on this processor.
pub fn multiplies_bf16(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa == Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The features of this processor that matter here, for `ulmfit info`.
pub fn features() -> Vec<&'static str> {
    #[allow(unused_mut)]
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! list {
            ($($name:tt),*) => { $(if is_x86_feature_detected!($name) { found.push($name); })* };
        }
        list!(
            "sse4.2",
            "avx",
            "f16c",
            "fma",
            "avx2",
            "avx512f",
            "avx512vl",
            "avx512bw",
            "avx512dq",
            "avx512bf16",
            "avx512vnni",
            "avxvnni"
        );
    }
    found
}

/// The instruction set that `ULMFIT_ISA` asks for, or else the best one.
///
/// # Errors
/// Wrong usage if the variable names none, or one that this processor lacks.
pub fn isa_from_environment() -> Result<Isa> {
    // empty as without it, like every variable of this program
    match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        None => Ok(best()),
        Some(value) => parse(&value.to_string_lossy(), best()),
    }
}

fn parse(value: &str, best: Isa) -> Result<Isa> {
    let Some(isa) = Isa::ALL.into_iter().find(|isa| isa.name() == value) else {
        return Err(Error::usage(format!("{VARIABLE}={value} names no instruction set"))
            .hint(format!("set {VARIABLE} to portable, avx2 or avx512, or unset it to get the best one")));
    };
    if isa > best {
        return Err(Error::usage(format!(
            "{VARIABLE}={value} asks for instructions that this processor does not have"
        ))
        .hint(format!("the best that it has is {best}; unset {VARIABLE} to get that")));
    }
    Ok(isa)
}

/// The instruction set of this process: chosen once, by [`isa_from_environment`]. (A wrong
/// `ULMFIT_ISA` counts as unset here; programs check it at the start.)
#[inline]
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| isa_from_environment().unwrap_or_else(|_| best()))
}

/// A piece of straight numerical code that is compiled for every [`Isa`].
///
/// Write `#[inline(always)]` on `run`, and plain loops over slices in it: the compiler turns those
/// into the vector instructions of the function that they are inlined into. The compiler never
/// reorders floating-point arithmetic, so bits depend on `FMA` alone.
pub trait Kernel {
    type Output;
    /// `FMA` says whether multiplication and addition may be fused: pass it on to
    /// [`super::math::Math`].
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a kernel with the instructions of this process.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_on(isa(), kernel)
}

/// Runs a kernel with given instructions (to compare them).
///
/// # Panics
/// If this processor does not have them.
#[inline]
pub fn dispatch_on<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.supported(), "this processor does not have {isa}");
    match isa {
        Isa::Portable => kernel.run::<false>(),
        // SAFETY: the processor has the features, as was just asserted.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { run_avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("only x86-64 has these"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// Calls `test` with every instruction set of this processor, and says on standard error which it
/// cannot.
#[cfg(test)]
pub(crate) fn for_each_isa(mut test: impl FnMut(Isa)) {
    for isa in Isa::ALL {
        if isa.supported() {
            test(isa);
        } else {
            eprintln!("skipped {isa}: this processor does not have it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_unknown_ones_do_not() {
        for isa in Isa::ALL {
            assert_eq!(parse(isa.name(), Isa::Avx512).unwrap(), isa);
        }
        for wrong in ["", "AVX2", "sse", "avx2 "] {
            let error = parse(wrong, Isa::Avx512).unwrap_err();
            assert_eq!(error.exit_status(), 2);
            assert!(error.to_string().contains("names no instruction set"), "{error}");
        }
    }

    #[test]
    fn an_unsupported_set_is_wrong_usage() {
        let error = parse("avx512", Isa::Avx2).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.hint_text().unwrap().contains("avx2"));
        assert_eq!(parse("portable", Isa::Avx2).unwrap(), Isa::Portable);
    }

    #[test]
    fn dispatch_runs_the_kernel() {
        struct Fused;
        impl Kernel for Fused {
            type Output = bool;
            #[inline(always)]
            fn run<const FMA: bool>(self) -> bool {
                FMA
            }
        }
        for_each_isa(|isa| assert_eq!(dispatch_on(isa, Fused), isa != Isa::Portable));
        assert!(isa().supported());
    }
}
