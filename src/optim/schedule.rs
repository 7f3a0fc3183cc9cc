//! Learning-rate schedules: the factor of the maximal rate at each update.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A schedule over the updates of one training (or of one unfreezing step).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Schedule {
    /// The maximal rate throughout ("regular schedule").
    Constant,
    /// Slanted triangular (Howard & Ruder 2018, eq. 3; docs/SPEC.md §4.1).
    Stlr { cut_frac: f64, ratio: f64 },
    /// The cosine of the paper's Table 7 (`CosAnneal`, docs/SPEC.md §4.4).
    Cosine,
    /// One cycle with cosine legs (docs/SPEC.md §4.4).
    OneCycle(OneCycle),
    /// Learning-rate range test (Smith 2015): from `1/ratio` to 1, every update by the same factor.
    Range { ratio: f64 },
}

/// Rate: `1/div → 1` over the fraction `pct` of the updates, then `1 → 1/div_final`; momentum:
/// `start → middle → end`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneCycle {
    pub div: f64,
    pub pct: f64,
    pub div_final: f64,
    pub momentum: [f64; 3],
    /// fastai 1: the first leg has a whole number of updates, `⌊T·pct⌋`. fastai 2: it ends at the
    /// fraction itself.
    pub whole_steps: bool,
}

impl OneCycle {
    /// fastai 2 (`fit_one_cycle`), with the momenta of its text tutorial.
    pub const V2: OneCycle =
        OneCycle { div: 25.0, pct: 0.25, div_final: 1e5, momentum: [0.8, 0.7, 0.8], whole_steps: false };
    /// fastai 1 (`OneCycleScheduler`: `final_div = div·1e4`).
    pub const V1: OneCycle =
        OneCycle { div: 25.0, pct: 0.3, div_final: 25e4, momentum: [0.8, 0.7, 0.8], whole_steps: true };
}

/// A schedule's answer for one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Times the maximal learning rate (of each layer group).
    pub factor: f64,
    /// Momentum (β1), where the schedule has a say in it.
    pub momentum: Option<f64>,
}

impl Schedule {
    /// The slanted triangular schedule of the paper: cut_frac 0.1, ratio 32.
    pub const STLR: Schedule = Schedule::Stlr { cut_frac: 0.1, ratio: 32.0 };

    /// At update `step` (from 0) of `total`. Beyond the end the last update's values hold.
    pub fn at(&self, step: u64, total: u64) -> Point {
        let total = total.max(1);
        let step = step.min(total - 1);
        let only = |factor| Point { factor, momentum: None };
        match *self {
            Schedule::Constant => only(1.0),
            Schedule::Stlr { cut_frac, ratio } => only(stlr(step, total, cut_frac, ratio)),
            Schedule::Cosine => {
                let (i, n) = (step as f64, total as f64);
                only(if i < n / 20.0 { 0.01 } else { (1.0 + libm::cos(PI * i / n)) / 2.0 })
            }
            Schedule::OneCycle(cycle) => cycle.at(step, total),
            Schedule::Range { ratio } => {
                let left = (total - 1 - step) as f64 / (total - 1).max(1) as f64;
                only(libm::exp(-left * libm::log(ratio)))
            }
        }
    }
}

impl OneCycle {
    fn at(&self, step: u64, total: u64) -> Point {
        let (t, n) = (step as f64, total as f64);
        let rise = if self.whole_steps { (n * self.pct).floor() } else { n * self.pct };
        let [start, middle, end] = self.momentum;
        let (factor, momentum) = if t < rise {
            let x = t / rise;
            (cosine_leg(1.0 / self.div, 1.0, x), cosine_leg(start, middle, x))
        } else {
            let x = (t - rise) / (n - rise);
            (cosine_leg(1.0, 1.0 / self.div_final, x), cosine_leg(middle, end, x))
        };
        Point { factor, momentum: Some(momentum) }
    }
}

/// From `from` (x = 0) to `to` (x = 1) along half a cosine.
fn cosine_leg(from: f64, to: f64, x: f64) -> f64 {
    from + (1.0 + libm::cos(PI * (1.0 - x))) * (to - from) / 2.0
}

/// Equation 3 of the paper as it stands: η_t/η_max at update `t` of `total`. Where `total·cut_frac`
/// is no whole number the end falls below zero, and below `1/cut_frac` updates there is no value at
/// all (NaN). Fixtures hold this; training uses [`stlr`].
pub fn stlr_raw(t: u64, total: u64, cut_frac: f64, ratio: f64) -> f64 {
    let cut = (total as f64 * cut_frac).floor();
    let t = t as f64;
    let p = if t < cut { t / cut } else { 1.0 - (t - cut) / (cut * (1.0 / cut_frac - 1.0)) };
    (1.0 + p * (ratio - 1.0)) / ratio
}

/// Equation 3 for every length of training: `cut = max(1, ⌊T·cut_frac⌋)`, `p` kept within [0, 1], a
/// single update takes η_max (docs/SPEC.md §4.1).
pub fn stlr(t: u64, total: u64, cut_frac: f64, ratio: f64) -> f64 {
    if total <= 1 {
        return 1.0;
    }
    let cut = (total as f64 * cut_frac).floor().max(1.0);
    let t = t as f64;
    let p = if t < cut { t / cut } else { 1.0 - (t - cut) / (cut * (1.0 / cut_frac - 1.0)) };
    (1.0 + p.clamp(0.0, 1.0) * (ratio - 1.0)) / ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stlr_holds_for_every_length() {
        for total in [1, 2, 3, 9, 10, 57, 100, 1000] {
            let factors: Vec<f64> = (0..total).map(|t| Schedule::STLR.at(t, total).factor).collect();
            assert!(factors.iter().all(|&f| (1.0 / 32.0..=1.0).contains(&f)), "{total}: {factors:?}");
            assert!(factors.contains(&1.0), "T = {total} never reaches the maximal rate");
        }
        assert_eq!(Schedule::STLR.at(0, 1).factor, 1.0);
        assert_eq!(Schedule::STLR.at(0, 100).factor, 1.0 / 32.0);
        assert_eq!(Schedule::STLR.at(10, 100).factor, 1.0);
        // whole tenths: the trainer's variant is the paper's formula
        for t in 0..100 {
            assert_eq!(stlr(t, 100, 0.1, 32.0), stlr_raw(t, 100, 0.1, 32.0));
        }
        // the classifier's first unfreezing steps in the authors' scripts: ratio 8, a third up
        let clr = Schedule::Stlr { cut_frac: 1.0 / 3.0, ratio: 8.0 };
        assert_eq!((clr.at(0, 30).factor, clr.at(10, 30).factor), (0.125, 1.0));
    }

    #[test]
    fn one_cycle_has_its_corners() {
        let v2 = Schedule::OneCycle(OneCycle::V2);
        let close = |p: Point, factor: f64, momentum: f64| {
            assert!((p.factor - factor).abs() < 1e-12 && (p.momentum.unwrap() - momentum).abs() < 1e-12, "{p:?}");
        };
        close(v2.at(0, 100), 1.0 / 25.0, 0.8);
        close(v2.at(25, 100), 1.0, 0.7);
        // half way down: the mean of both ends
        close(v2.at(50, 80), (1.0 + 1e-5) / 2.0, 0.75);
        assert!(v2.at(99, 100).factor < 2e-3 && v2.at(99, 100).momentum.unwrap() > 0.799);
        let v1 = Schedule::OneCycle(OneCycle::V1);
        close(v1.at(2, 9), 1.0, 0.7);
        assert!(v1.at(1, 9).factor < 1.0 && v1.at(3, 9).factor < 1.0);
    }

    #[test]
    fn cosine_warms_up_and_falls() {
        let at = |t| Schedule::Cosine.at(t, 100).factor;
        assert_eq!((at(0), at(4)), (0.01, 0.01));
        assert!((at(50) - 0.5).abs() < 1e-15 && at(5) > 0.99 && at(99) < 1e-3);
        assert_eq!(Schedule::Constant.at(7, 8), Point { factor: 1.0, momentum: None });
    }
}
