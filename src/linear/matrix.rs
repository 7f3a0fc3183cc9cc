//! TF-IDF: weights of the features of texts.

use super::counts::Counts;

/// How much a feature weighs: its inverse document frequency, 0 where the texts that were counted
/// do not have it often enough.
#[derive(Clone, Debug)]
pub struct Weighting {
    pub idf: Vec<f32>,
    /// The first features, words and pairs of words, are normalised apart from the rest.
    pub words: u32,
}

/// `1 + ln n` for the counts that occur.
#[derive(Clone, Debug)]
pub struct Frequencies([f32; 256]);

impl Default for Frequencies {
    fn default() -> Self {
        Frequencies(std::array::from_fn(|n| if n == 0 { 0.0 } else { 1.0 + libm::log(n as f64) as f32 }))
    }
}

impl Weighting {
    /// `idf = ln((1 + n) / (1 + df)) + 1` over the texts `rows`, 0 for features of fewer than
    /// `least_texts` of them.
    pub fn of(counts: &Counts, rows: &[u32], features: usize, words: u32, least_texts: u32) -> Self {
        let mut texts = vec![0u32; features];
        for &row in rows {
            counts.row(row as usize).0.iter().for_each(|&id| texts[id as usize] += 1);
        }
        let n = rows.len() as f64;
        let one = |&df: &u32| {
            if df < least_texts {
                return 0.0;
            }
            (libm::log((1.0 + n) / (1.0 + f64::from(df))) + 1.0) as f32
        };
        Weighting { idf: texts.iter().map(one).collect(), words }
    }

    /// The weights of one text: `(1 + ln count) · idf`, each block of length 1 (or 0 where it has
    /// nothing).
    pub fn weigh(&self, frequencies: &Frequencies, ids: &[u32], counts: &[u8], out: &mut Matrix) {
        let start = out.ids.len();
        let mut middle = start;
        let mut squares = [0.0f64; 2];
        for (&id, &count) in ids.iter().zip(counts) {
            let value = frequencies.0[count as usize] * self.idf[id as usize];
            if value == 0.0 {
                continue;
            }
            out.ids.push(id);
            out.values.push(value);
            squares[usize::from(id >= self.words)] += f64::from(value) * f64::from(value);
            if id < self.words {
                middle += 1;
            }
        }
        let scale = squares.map(|s| if s > 0.0 { (1.0 / s.sqrt()) as f32 } else { 0.0 });
        out.values[start..middle].iter_mut().for_each(|v| *v *= scale[0]);
        out.values[middle..].iter_mut().for_each(|v| *v *= scale[1]);
        out.starts.push(out.ids.len());
    }

    /// The weights of the texts `rows`.
    pub fn matrix(&self, counts: &Counts, rows: &[u32]) -> Matrix {
        let frequencies = Frequencies::default();
        let entries = rows.iter().map(|&row| counts.row(row as usize).0.len()).sum();
        let mut out = Matrix { ids: Vec::with_capacity(entries), values: Vec::with_capacity(entries), starts: vec![0] };
        for &row in rows {
            let (ids, n) = counts.row(row as usize);
            self.weigh(&frequencies, ids, n, &mut out);
        }
        out
    }
}

/// A sparse matrix of weights, a row for each text, features in ascending order.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub ids: Vec<u32>,
    pub values: Vec<f32>,
    pub starts: Vec<usize>,
}

impl Default for Matrix {
    fn default() -> Self {
        Matrix { ids: Vec::new(), values: Vec::new(), starts: vec![0] }
    }
}

impl Matrix {
    pub fn clear(&mut self) {
        self.ids.clear();
        self.values.clear();
        self.starts.truncate(1);
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.ids[range.clone()], &self.values[range])
    }
}

#[cfg(test)]
mod tests {
    use super::super::counts::{FeatureSet, Selection};
    use super::*;

    #[test]
    fn weights_are_those_of_the_formula() {
        let texts = ["a a b", "a c"];
        let set = FeatureSet::of(&texts, Selection { characters: true, least_texts: 1, most: 1000 });
        let counts = set.counts(&texts);
        let weighting = Weighting::of(&counts, &[0, 1], set.len(), set.words(), 1);
        // "a" and "⊢a" are in both texts: ln(3/3) + 1; the others in one: ln(3/2) + 1
        let (common, rare) = (1.0f64, 1.5f64.ln() + 1.0);
        assert_eq!(weighting.idf[..2], [1.0, 1.0]);
        assert!((f64::from(weighting.idf[2]) - rare).abs() < 1e-6);
        let x = weighting.matrix(&counts, &[0]);
        let (ids, values) = x.row(0);
        let of = |block: bool| {
            let inside = ids.iter().zip(values).filter(|(id, _)| (**id < set.words()) == block);
            inside.map(|(_, v)| f64::from(*v) * f64::from(*v)).sum::<f64>()
        };
        assert!((of(true) - 1.0).abs() < 1e-6 && (of(false) - 1.0).abs() < 1e-6, "each block has length 1");
        // a twice, ⊢a, b, aa, ab
        let raw = [(1.0 + 2f64.ln()) * common, common, rare, rare, rare];
        let length = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((f64::from(values[0]) - raw[0] / length).abs() < 1e-6, "{values:?}");
    }

    #[test]
    fn features_of_too_few_texts_weigh_nothing() {
        let texts = ["a b", "a c", "a b"];
        let set = FeatureSet::of(&texts, Selection { characters: false, least_texts: 1, most: 1000 });
        let counts = set.counts(&texts);
        // within the first two texts alone, b is in one
        let weighting = Weighting::of(&counts, &[0, 1], set.len(), set.words(), 2);
        let x = weighting.matrix(&counts, &[0, 2]);
        assert_eq!((x.rows(), x.row(0).0, x.row(1).0), (2, &[0, 1][..], &[0, 1][..]));
        assert!((f64::from(x.row(0).1[0]) - 0.5f64.sqrt()).abs() < 1e-6);
    }
}
