//! Elementary functions of our own, so that bits do not depend on the C library.
//!
//! exp, tanh and sigmoid are straight-line code without branches or tables: inside a
//! [`Kernel`](super::isa::Kernel) the compiler turns a loop over them into vector instructions, and
//! an element's bits do not depend on its place in the slice.
//!
//! Bounds, in units in the last place of the true result (tests below hold them against a
//! reference):
//!
//! | | f32 | f64 |
//! |---|---|---|
//! | exp | 2 | 2 |
//! | tanh | 3 | 4 |
//! | sigmoid | 3 | 4 |
//!
//! All three are exact at ±0 and ±∞, let NaN pass, and underflow gradually. exp overflows to ∞ and
//! underflows to 0; tanh keeps the sign of zero, and of small numbers every bit.
//!
//! Method. `e^x = 2^n · e^r` with `n = round(x / ln 2)` and `|r| ≤ ln 2 / 2`, `e^r` by its Taylor
//! series (cut where the next term is below a tenth of a unit in the last place), as in Cephes
//! (Moshier 1989) and fdlibm. `tanh x = m / (m + 2)` with
//! `m = e^(2x) - 1 = 2^n · (e^r - 1) + (2^n - 1)`, which does not cancel. `sigmoid x` is
//! `1 / (1 + e^-|x|)` or, for negative `x`, `e^-|x| / (1 + e^-|x|)`, which neither overflows nor
//! cancels.

/// Elementary functions; `FMA` says whether the caller is compiled for fused multiply-add.
pub trait Math: Copy {
    /// `self · a + b`, with one rounding if `FMA`, otherwise with two.
    fn mul_add<const FMA: bool>(self, a: Self, b: Self) -> Self;
    /// `e^self`.
    fn exp<const FMA: bool>(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh<const FMA: bool>(self) -> Self;
    /// Logistic function `1 / (1 + e^-self)`.
    fn sigmoid<const FMA: bool>(self) -> Self;
    /// Natural logarithm (through libm's f64 code: the same bits everywhere, but not vectorised).
    fn ln(self) -> Self;
}

macro_rules! math {
    (
        $t:ident, $bits:ident,
        mantissa: $mantissa:literal, bias: $bias:literal,
        round: $round:literal, ln_2: $ln_2_high:literal + $ln_2_low:literal,
        exp: $lowest:literal ..= $highest:literal, tanh: $saturated:literal,
        series: [$last:literal $(, $factor:literal)*]
    ) => {
        impl Math for $t {
            #[inline(always)]
            fn mul_add<const FMA: bool>(self, a: Self, b: Self) -> Self {
                if FMA { <$t>::mul_add(self, a, b) } else { self * a + b }
            }

            #[inline(always)]
            fn exp<const FMA: bool>(self) -> Self {
                // Comparisons, not min and max: those would turn NaN into a number.
                let x = if self < $lowest { $lowest } else { self };
                let x: $t = if x > $highest { $highest } else { x };
                let (n, e) = $t::reduce::<FMA>(x);
                // 2^n leaves the range of normal numbers at both ends of the domain, so it is
                // multiplied in two halves; the offset makes the shifted number positive, because
                // AVX2 has no arithmetic shift of 64 bits.
                let half = (n.wrapping_add(4096) >> 1).wrapping_sub(2048);
                (e + 1.0) * $t::power(half) * $t::power(n.wrapping_sub(half))
            }

            #[inline(always)]
            fn tanh<const FMA: bool>(self) -> Self {
                let x = self.abs();
                let x: $t = if x > $saturated { $saturated } else { x };
                let (n, e) = $t::reduce::<FMA>(x + x);
                let scale = $t::power(n);
                let m = Math::mul_add::<FMA>(scale, e, scale - 1.0);
                (m / (m + 2.0)).copysign(self)
            }

            #[inline(always)]
            fn sigmoid<const FMA: bool>(self) -> Self {
                let e = Math::exp::<FMA>(-self.abs());
                (if self < 0.0 { e } else { 1.0 }) / (1.0 + e)
            }

            #[inline(always)]
            fn ln(self) -> Self {
                libm::log(self as f64) as $t
            }
        }

        mod $t {
            use super::Math;

            /// `(n, e^r - 1)` with `x = n·ln 2 + r` and `n` the nearest integer; `n` as a two's
            /// complement number.
            #[inline(always)]
            pub fn reduce<const FMA: bool>(x: $t) -> ($bits, $t) {
                // Adding 1.5·2^mantissa leaves the nearest integer in the low bits.
                let shifted = Math::mul_add::<FMA>(x, std::$t::consts::LOG2_E, $round);
                let n = shifted - $round;
                let r = Math::mul_add::<FMA>(n, -$ln_2_high, x);
                let r = Math::mul_add::<FMA>(n, -$ln_2_low, r);
                let mut p: $t = 1.0 / $last;
                $(p = Math::mul_add::<FMA>(p, r, 1.0 / $factor);)*
                (shifted.to_bits().wrapping_sub(<$t>::to_bits($round)), Math::mul_add::<FMA>(p, r * r, r))
            }

            /// `2^n` for a two's complement `n` in the range of normal numbers.
            #[inline(always)]
            pub fn power(n: $bits) -> $t {
                <$t>::from_bits(n.wrapping_add($bias) << $mantissa)
            }
        }
    };
}

// The first part of ln 2 has few bits, so that its product with n is exact even without fused
// multiply-add. The ends of exp's domain lie just beyond the points where the result rounds to 0
// and to infinity. The series are factorials, from the last term to r²/2!.
math!(
    f32, u32,
    mantissa: 23, bias: 127,
    round: 12_582_912.0, ln_2: 0.693_359_4 + -2.121_944_4e-4,
    exp: -104.0 ..= 89.0, tanh: 10.0,
    series: [5040.0, 720.0, 120.0, 24.0, 6.0, 2.0]
);
math!(
    f64, u64,
    mantissa: 52, bias: 1023,
    round: 6_755_399_441_055_744.0, ln_2: 6.931_471_803_691_238e-1 + 1.908_214_929_270_587_7e-10,
    exp: -746.0 ..= 710.0, tanh: 20.0,
    series: [
        6_227_020_800.0, 479_001_600.0, 39_916_800.0, 3_628_800.0, 362_880.0, 40_320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0
    ]
);

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, Kernel, dispatch_on, for_each_isa};
    use super::*;
    use crate::device::Real;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Tanh,
        Sigmoid,
    }
    use Function::*;

    struct Apply<'a, T> {
        function: Function,
        x: &'a [T],
        y: &'a mut [T],
    }

    impl<T: Real> Kernel for Apply<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            let pairs = self.y.iter_mut().zip(self.x);
            match self.function {
                Exp => pairs.for_each(|(y, x)| *y = x.exp::<FMA>()),
                Tanh => pairs.for_each(|(y, x)| *y = x.tanh::<FMA>()),
                Sigmoid => pairs.for_each(|(y, x)| *y = x.sigmoid::<FMA>()),
            }
        }
    }

    fn apply<T: Real>(isa: Isa, function: Function, x: &[T]) -> Vec<T> {
        let mut y = vec![T::ZERO; x.len()];
        dispatch_on(isa, Apply { function, x, y: &mut y });
        y
    }

    /// In f64, with an error below one unit in its last place (twice that for the logistic
    /// function).
    fn reference(function: Function, x: f64) -> f64 {
        match function {
            Exp => libm::exp(x),
            Tanh => libm::tanh(x),
            Sigmoid if x < 0.0 => libm::exp(x) / (1.0 + libm::exp(x)),
            Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        }
    }

    /// Largest error in units in the last place of the reference, and where.
    fn largest_error(isa: Isa, function: Function, x: &[f32]) -> (f64, f64) {
        let y = apply(isa, function, x);
        let errors = x.iter().zip(&y).map(|(&x, &y)| {
            let r = reference(function, f64::from(x));
            if r > f64::from(f32::MAX) {
                // rounds to infinity, or within the bound of it to the largest number
                return (if y >= f32::MAX { 0.0 } else { f64::INFINITY }, f64::from(x));
            }
            let exponent = (r.abs().log2().floor() as i32).max(-126) - 23;
            let y = if y == f32::INFINITY { 2f64.powi(128) } else { f64::from(y) };
            ((y - r).abs() / 2f64.powi(exponent), f64::from(x))
        });
        errors.fold((0.0, 0.0), |a, b| if b.0 <= a.0 { a } else { b })
    }

    fn largest_error_f64(isa: Isa, function: Function, x: &[f64]) -> (f64, f64) {
        let y = apply(isa, function, x);
        let errors = x.iter().zip(&y).map(|(&x, &y)| {
            let r = reference(function, x);
            if y == r {
                return (0.0, x);
            }
            let next = f64::from_bits(r.abs().to_bits() + 1);
            ((y - r).abs() / (next - r.abs()), x)
        });
        errors.fold((0.0, 0.0), |a, b| if b.0 <= a.0 { a } else { b })
    }

    #[test]
    fn f32_errors_are_within_the_bounds() {
        // every 997th of all bit patterns whose value is a number in the interesting range, and a
        // dense grid
        let patterns = (0..=u32::MAX).step_by(997).map(f32::from_bits).filter(|x| x.abs() < 120.0);
        let grid = (-1_300_000..=1_300_000).map(|i| i as f32 * 1e-4 * 0.87);
        let x: Vec<f32> = patterns.chain(grid).collect();
        for_each_isa(|isa| {
            for (function, bound) in [(Exp, 2.0), (Tanh, 3.0), (Sigmoid, 3.0)] {
                let (error, at) = largest_error(isa, function, &x);
                eprintln!("{isa} {function:?} f32: {error:.3} at {at}");
                assert!(error <= bound, "{isa} {function:?}: {error} units in the last place at {at}");
            }
        });
    }

    #[test]
    fn f64_errors_are_within_the_bounds() {
        let patterns = (0..1_000_000u64).map(|i| f64::from_bits(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let grid = (-800_000..=720_000).map(|i| i as f64 * 0.000_987);
        let dense = (-1_000_000..=1_000_000).map(|i| i as f64 * 2.2e-5);
        let x: Vec<f64> = patterns.filter(|x| x.abs() < 800.0).chain(grid).chain(dense).collect();
        for_each_isa(|isa| {
            // one unit more than the bounds promised, because the reference is itself off by up to
            // that
            for (function, bound) in [(Exp, 3.0), (Tanh, 5.0), (Sigmoid, 5.0)] {
                let (error, at) = largest_error_f64(isa, function, &x);
                eprintln!("{isa} {function:?} f64: {error:.3} at {at}");
                assert!(error <= bound, "{isa} {function:?}: {error} units in the last place at {at}");
            }
        });
    }

    fn special<T: Real>() {
        let infinity = -T::NEG_INFINITY;
        let nan = T::from_f64(f64::NAN);
        let tiny = T::from_f64(if std::mem::size_of::<T>() == 4 { 1e-45 } else { 5e-324 });
        for_each_isa(|isa| {
            let one = |f, x: T| apply(isa, f, &[x])[0];
            for f in [Exp, Tanh, Sigmoid] {
                assert!(one(f, nan).to_f64().is_nan(), "{f:?} of NaN");
            }
            assert_eq!(one(Exp, T::ZERO), T::ONE);
            assert_eq!(one(Exp, infinity), infinity);
            assert_eq!(one(Exp, -infinity), T::ZERO);
            assert_eq!(one(Exp, T::from_f64(800.0)), infinity);
            assert_eq!(one(Exp, T::from_f64(-800.0)), T::ZERO);
            for sign in [T::ONE, -T::ONE] {
                assert_eq!(one(Tanh, sign * infinity), sign);
                assert_eq!(one(Tanh, sign * T::from_f64(25.0)), sign);
                assert_eq!(one(Tanh, sign * tiny), sign * tiny);
                let small = sign * T::from_f64(1e-12);
                assert_eq!(one(Tanh, small), small);
                let zero = one(Tanh, sign * T::ZERO).to_f64();
                assert!(zero == 0.0 && zero.is_sign_negative() == (sign.to_f64() < 0.0));
            }
            assert_eq!(one(Sigmoid, T::ZERO), T::from_f64(0.5));
            assert_eq!(one(Sigmoid, infinity), T::ONE);
            assert_eq!(one(Sigmoid, -infinity), T::ZERO);
        });
    }

    #[test]
    fn special_values() {
        special::<f32>();
        special::<f64>();
    }

    #[test]
    fn subnormal_results_are_kept() {
        for_each_isa(|isa| {
            let y = apply(isa, Exp, &[-90.0f32, -103.0]);
            assert!(y[0] > 0.0 && y[0] < f32::MIN_POSITIVE && y[1] > 0.0);
            assert!(apply(isa, Sigmoid, &[-103.0f32])[0] > 0.0);
            assert!(apply(isa, Exp, &[-744.0f64])[0] > 0.0);
        });
    }

    fn same_bits_anywhere<T: Real>() {
        let x: Vec<T> = (0..103).map(|i| T::from_f64((i as f64 - 51.0) * 0.37)).collect();
        for_each_isa(|isa| {
            for f in [Exp, Tanh, Sigmoid] {
                let whole = apply(isa, f, &x);
                for length in (1..40).chain([103]) {
                    for from in [0, 1, 7] {
                        let part = apply(isa, f, &x[from..(from + length).min(103)]);
                        assert_eq!(part, whole[from..from + part.len()], "{isa} {f:?} {length} elements from {from}");
                    }
                }
                for (x, &y) in x.iter().zip(&whole) {
                    assert_eq!(apply(isa, f, &[*x])[0], y);
                }
            }
        });
    }

    #[test]
    fn bits_do_not_depend_on_the_place_in_a_slice() {
        same_bits_anywhere::<f32>();
        same_bits_anywhere::<f64>();
    }

    #[test]
    fn vector_instruction_sets_agree() {
        if !Isa::Avx512.supported() {
            eprintln!("skipped: this processor has no AVX-512 to compare AVX2 with");
            return;
        }
        let x: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 6e-4).collect();
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x) * 7.0).collect();
        for f in [Exp, Tanh, Sigmoid] {
            assert_eq!(apply(Isa::Avx2, f, &x), apply(Isa::Avx512, f, &x), "{f:?}");
            assert_eq!(apply(Isa::Avx2, f, &wide), apply(Isa::Avx512, f, &wide), "{f:?}");
        }
    }
}
