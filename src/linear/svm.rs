//! Linear support vector machines with squared hinge loss, many side by side.
//!
//! A machine minimises `P(w) = ½ Σ (w_j / r_j)² + C Σ max(0, 1 − y f(x))²` with `f(x) = w·x + b`,
//! where `b` is the weight of a feature that every text has, and `r_j` says how large a weight may
//! be (`scales.rs`; 1 everywhere in the usual machine). Dual coordinate descent (Hsieh et al. 2008,
//! "A Dual Coordinate Descent Method for Large-scale Linear SVM", algorithm 1) on `D(α) = Σα − ½ Σ
//! (w_j / r_j)² − Σα²/4C` with `w_j = r_j² Σ α y x_j` and α ≥ 0. `P(w) − D(α)` bounds how far
//! either is from the optimum: it is the stopping rule.
//!
//! The machines of several classes and strengths `C` see the same texts: `L` of them run in lanes,
//! so that a text is read once and the weights of a feature lie side by side. A text at which no
//! lane moves is visited more rarely; the gap, over all texts, decides whether that was right.

use super::matrix::Matrix;
use super::scales::Scales;
use crate::random::{Key, Site, Stream};

/// One machine: which class is against the rest and how strongly errors count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    pub class: u32,
    pub c: f64,
}

/// Most machines of one training.
pub const LANES: usize = 8;
/// Passes over the texts at most.
const PASSES: u32 = 200;
/// Passes between two looks at the gap.
const LOOK: u32 = 4;
/// Most passes in which a text is left out after it moved nothing.
const MOST_REST: u8 = 4;

/// Weights of machines: a row of them for every feature, the last row the biases.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub weights: Vec<f32>,
    pub machines: usize,
    pub passes: u32,
    /// Largest `(P − D) / P` of the machines.
    pub gap: f64,
}

/// Trains at most [`LANES`] machines until the duality gap of each is at most the share `gap` of
/// its primal value.
pub fn train(x: &Matrix, labels: &[u32], scales: &Scales, machines: &[Machine], gap: f64) -> Trained {
    match machines.len() {
        1 => Lanes::<1>::new(x, labels, scales, machines).train(gap),
        2 => Lanes::<2>::new(x, labels, scales, machines).train(gap),
        3..=4 => Lanes::<4>::new(x, labels, scales, machines).train(gap),
        n => {
            assert!(n <= LANES, "{n} machines");
            Lanes::<LANES>::new(x, labels, scales, machines).train(gap)
        }
    }
}

/// Machines side by side; those that are not there have `C = 0` and stay at zero.
struct Lanes<'a, const L: usize> {
    x: &'a Matrix,
    labels: &'a [u32],
    machines: usize,
    classes: [u32; L],
    /// `1 / 2C`
    ridge: [f32; L],
    /// `r²` of every feature.
    scales: Vec<[f32; L]>,
    /// Weights of every feature, and the biases.
    w: Vec<[f32; L]>,
    /// The dual variables of every text.
    alpha: Vec<[f32; L]>,
    /// `Σ r² x² + 1` of every text.
    lengths: Vec<[f32; L]>,
}

impl<'a, const L: usize> Lanes<'a, L> {
    fn new(x: &'a Matrix, labels: &'a [u32], scales: &Scales, machines: &[Machine]) -> Self {
        let mut squares = vec![[1.0; L]; scales.features()];
        for (l, machine) in machines.iter().enumerate() {
            let of_class = scales.squares(machine.class);
            squares.iter_mut().zip(of_class).for_each(|(row, &square)| row[l] = square);
        }
        let length = |i: usize| {
            let (ids, values) = x.row(i);
            let mut sum = [1.0; L];
            for (&id, &value) in ids.iter().zip(values) {
                let row = &squares[id as usize];
                (0..L).for_each(|l| sum[l] += value * value * row[l]);
            }
            sum
        };
        Lanes {
            x,
            labels,
            machines: machines.len(),
            classes: std::array::from_fn(|l| machines.get(l).map_or(u32::MAX, |m| m.class)),
            ridge: std::array::from_fn(|l| machines.get(l).map_or(0.0, |m| (0.5 / m.c) as f32)),
            lengths: (0..x.rows()).map(length).collect(),
            w: vec![[0.0; L]; squares.len() + 1],
            alpha: vec![[0.0; L]; x.rows()],
            scales: squares,
        }
    }

    fn train(mut self, gap: f64) -> Trained {
        let n = self.x.rows();
        let mut order: Vec<u32> = (0..n as u32).collect();
        let mut open: [bool; L] = std::array::from_fn(|l| l < self.machines);
        // how many passes a text is left out after it moved nothing, and how many of them are to
        // come
        let (mut rest, mut wait) = (vec![0u8; n], vec![0u8; n]);
        let (mut passes, mut reached) = (0, f64::INFINITY);
        while passes < PASSES && open.contains(&true) {
            let key = Key::apart(0);
            Stream::new(key, Site::ORDER, passes, 0).shuffle(&mut order);
            for &i in &order {
                let i = i as usize;
                if wait[i] > 0 {
                    wait[i] -= 1;
                } else if self.visit(i, &open) {
                    rest[i] = 0;
                } else {
                    rest[i] = (rest[i] + 1).min(MOST_REST);
                    wait[i] = rest[i];
                }
            }
            passes += 1;
            if passes % LOOK == 0 || passes == PASSES {
                let gaps = self.gaps();
                reached = gaps[..self.machines].iter().copied().fold(0.0, f64::max);
                (0..self.machines).for_each(|l| open[l] = gaps[l] > gap);
            }
        }
        let weights = self.w.iter().flat_map(|row| row[..self.machines].iter().copied()).collect();
        Trained { weights, machines: self.machines, passes, gap: reached }
    }

    /// One step of every open lane in the coordinate of text `i`: whether any moved.
    fn visit(&mut self, i: usize, open: &[bool; L]) -> bool {
        let (ids, values) = self.x.row(i);
        let f = self.outputs(ids, values);
        let mut step = [0.0f32; L];
        let mut moved = false;
        let alpha = &mut self.alpha[i];
        for l in 0..L {
            let y = if self.labels[i] == self.classes[l] { 1.0 } else { -1.0 };
            let gradient = y * f[l] - 1.0 + self.ridge[l] * alpha[l];
            let new = (alpha[l] - gradient / (self.lengths[i][l] + self.ridge[l])).max(0.0);
            let change = if open[l] { new - alpha[l] } else { 0.0 };
            alpha[l] += change;
            step[l] = y * change;
            moved |= change != 0.0;
        }
        if moved {
            for (&id, &value) in ids.iter().zip(values) {
                let (w, r) = (&mut self.w[id as usize], &self.scales[id as usize]);
                (0..L).for_each(|l| w[l] += value * r[l] * step[l]);
            }
            let bias = self.w.last_mut().expect("the biases");
            (0..L).for_each(|l| bias[l] += step[l]);
        }
        moved
    }

    /// `f(x)` of every lane.
    fn outputs(&self, ids: &[u32], values: &[f32]) -> [f32; L] {
        let mut sum = *self.w.last().expect("the biases");
        for (&id, &value) in ids.iter().zip(values) {
            let row = &self.w[id as usize];
            (0..L).for_each(|l| sum[l] += value * row[l]);
        }
        sum
    }

    /// `(P − D) / P` of every lane.
    fn gaps(&self) -> [f64; L] {
        let bias = self.w.last().expect("the biases");
        let mut squares: [f64; L] = bias.map(|b| f64::from(b) * f64::from(b));
        for (w, r) in self.w.iter().zip(&self.scales) {
            for l in 0..L {
                if w[l] != 0.0 {
                    squares[l] += f64::from(w[l]) * f64::from(w[l]) / f64::from(r[l]);
                }
            }
        }
        let (mut loss, mut sum, mut ridges) = ([0.0; L], [0.0; L], [0.0; L]);
        for (i, alpha) in self.alpha.iter().enumerate() {
            let (ids, values) = self.x.row(i);
            let f = self.outputs(ids, values);
            for l in 0..L {
                let y = if self.labels[i] == self.classes[l] { 1.0 } else { -1.0 };
                let (slack, a) = (f64::from(1.0 - y * f[l]).max(0.0), f64::from(alpha[l]));
                loss[l] += slack * slack;
                sum[l] += a;
                ridges[l] += a * a;
            }
        }
        std::array::from_fn(|l| {
            let ridge = f64::from(self.ridge[l]);
            if ridge == 0.0 {
                return 0.0;
            }
            let primal = 0.5 * squares[l] + 0.5 / ridge * loss[l];
            let dual = sum[l] - 0.5 * squares[l] - 0.5 * ridge * ridges[l];
            if primal > 0.0 { (primal - dual) / primal } else { 0.0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(row: u32) -> Stream {
        Stream::new(Key::apart(1), Site::CUSTOM[1], 0, row)
    }

    /// Texts of five of twenty features; classes 0, 1, 2 with a feature of their own, which one
    /// text in ten lacks.
    fn toy(n: usize) -> (Matrix, Vec<u32>) {
        let (mut stream, mut x, mut labels) = (random(0), Matrix::default(), Vec::new());
        for k in 0..n {
            let label = k as u32 % 3;
            let mut ids: Vec<u32> = (0..5).map(|_| stream.below(20)).collect();
            ids.extend((k % 10 != 0).then_some(20 + label));
            ids.sort_unstable();
            ids.dedup();
            x.values.extend(ids.iter().map(|_| 0.2 + 0.5 * stream.uniform() as f32));
            x.ids.extend(ids);
            x.starts.push(x.ids.len());
            labels.push(label);
        }
        (x, labels)
    }

    /// The primal value of weights and a bias, in f64.
    fn primal(x: &Matrix, labels: &[u32], scales: &Scales, machine: Machine, w: &[f64]) -> f64 {
        let r = scales.squares(machine.class);
        let squares = w.iter().zip(r.iter().chain(&[1.0])).map(|(w, r)| w * w / f64::from(*r)).sum::<f64>();
        let loss = |i: usize| {
            let (ids, values) = x.row(i);
            let f = w[w.len() - 1] + ids.iter().zip(values).map(|(&id, &v)| f64::from(v) * w[id as usize]).sum::<f64>();
            let y = if labels[i] == machine.class { 1.0 } else { -1.0 };
            (1.0 - y * f).max(0.0).powi(2)
        };
        0.5 * squares + machine.c * (0..x.rows()).map(loss).sum::<f64>()
    }

    /// Within the gap that the dual promises, no point is better: not those of a long gradient
    /// descent in f64 either.
    #[test]
    fn the_minimum_is_reached() {
        let (x, labels) = toy(60);
        let scales = Scales::of(&x, &labels, 23, &[0, 1, 2]);
        for c in [0.1, 1.0, 10.0] {
            let machines: Vec<Machine> = (0..3).map(|class| Machine { class, c }).collect();
            let trained = train(&x, &labels, &scales, &machines, 1e-4);
            assert!(trained.gap <= 1e-4, "C {c}: gap {}", trained.gap);
            for (m, &machine) in machines.iter().enumerate() {
                let column = trained.weights.chunks(3).map(|row| f64::from(row[m])).collect::<Vec<_>>();
                let reached = primal(&x, &labels, &scales, machine, &column);
                // gradient descent from there by differences, with halving steps
                let (mut w, mut value, mut step) = (column, reached, 0.1);
                for _ in 0..300 {
                    let gradient: Vec<f64> = (0..w.len())
                        .map(|j| {
                            let at = |d: f64| {
                                let mut moved = w.clone();
                                moved[j] += d;
                                primal(&x, &labels, &scales, machine, &moved)
                            };
                            (at(1e-5) - at(-1e-5)) / 2e-5
                        })
                        .collect();
                    let next: Vec<f64> = w.iter().zip(&gradient).map(|(w, g)| w - step * g).collect();
                    let there = primal(&x, &labels, &scales, machine, &next);
                    if there < value { (w, value) = (next, there) } else { step *= 0.5 }
                }
                assert!(reached - value <= 1e-4 * reached, "C {c}: {reached} against {value}");
            }
        }
    }

    #[test]
    fn lanes_agree_with_single_machines() {
        let (x, labels) = toy(60);
        let scales = Scales::of(&x, &labels, 23, &[0, 1, 2]);
        let machines: Vec<Machine> =
            [0.1, 1.0].iter().flat_map(|&c| (0..3).map(move |class| Machine { class, c })).collect();
        let together = train(&x, &labels, &scales, &machines, 1e-4);
        for (m, machine) in machines.iter().enumerate() {
            let alone = train(&x, &labels, &scales, &[*machine], 1e-4);
            for (row, w) in together.weights.chunks(6).zip(&alone.weights) {
                // both are within the gap of the one minimum: ‖Δw‖² ≤ 2·gap·P, of each
                assert!((row[m] - w).abs() < 0.1, "{} {w}", row[m]);
            }
        }
    }

    #[test]
    fn texts_without_features_leave_the_bias() {
        let mut x = Matrix::default();
        (0..4).for_each(|_| x.starts.push(0));
        let scales = Scales::of(&x, &[0, 0, 0, 1], 2, &[0]);
        let trained = train(&x, &[0, 0, 0, 1], &scales, &[Machine { class: 0, c: 1.0 }], 1e-5);
        // ½b² + 3(1 − b)² + (1 + b)²: b = 4/9
        assert_eq!(trained.weights[..2], [0.0, 0.0]);
        assert!((trained.weights[2] - 4.0 / 9.0).abs() < 1e-3, "{:?}", trained.weights);
    }
}
