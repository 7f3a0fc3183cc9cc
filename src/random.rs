//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), sites, and dropout masks.
//!
//! Every random number of a run is a pure function of logical indices, so results do not depend on threads, tiles,
//! devices or on where a run was stopped and resumed. Key: the run's seed mixed with stage and direction. Counter:
//! `[column / 4, row, step, site and chunk]`; the lane is the column mod 4 (DESIGN.md, "Randomness").

/// Ten rounds of Philox4x32.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_together(counter.map(|c| [c]), key).map(|[c]| c)
}

/// Ten rounds of `N` counters, `[word][counter]`, in loops that a compiler turns into vector instructions.
#[inline(always)]
fn philox_together<const N: usize>(counters: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
    let (mut c, mut k) = (counters, key);
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let [c0, c1, c2, c3] = c;
        for n in 0..N {
            let p0 = u64::from(c0[n]) * 0xD251_1F53;
            let p1 = u64::from(c2[n]) * 0xCD9E_8D57;
            c[0][n] = (p1 >> 32) as u32 ^ c1[n] ^ k[0];
            c[1][n] = p1 as u32;
            c[2][n] = (p0 >> 32) as u32 ^ c3[n] ^ k[1];
            c[3][n] = p0 as u32;
        }
    }
    c
}

/// The stages of the method; each has random streams of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Stage {
    Pretrain = 1,
    FinetuneLm = 2,
    Classifier = 3,
    /// Everything that is not training: splits, subsets, generated data, text generation, checks.
    Other = 4,
}

/// Reading direction of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Direction {
    Forward = 0,
    Backward = 1,
}

/// Key of all random streams of one training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u32; 2]);

impl Key {
    /// Mixes the seed with stage and direction (one Philox call, so that neighbouring seeds share nothing).
    pub fn new(seed: u64, stage: Stage, direction: Direction) -> Self {
        let r = philox4x32_10(
            [stage as u32, direction as u32, 0x756C_6D66, 0x6974_0001],
            [seed as u32, (seed >> 32) as u32],
        );
        Key([r[0], r[1]])
    }
}

/// What a random number is for. Two sites never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// Rows of the embedding matrix, (V, 1).
    EmbeddingRow,
    /// Embedded input, locked over time, (B, E).
    Input,
    /// Output of LSTM layer `l`, locked over time, (B, H).
    Hidden(u8),
    /// Hidden-to-hidden weight of layer `l`, (4H, H).
    Weight(u8),
    /// Decoder input of the language model, locked over time, (B, E).
    Output,
    /// Input of the `k`-th linear layer of the classifier's head, (B, features).
    Head(u8),
    /// Initial values of the `k`-th parameter.
    Initial(u8),
    /// Length of a BPTT window.
    Window,
    /// Order of documents or samples.
    Order,
    /// Negative samples of the sampled softmax.
    Negatives,
    /// Train / valid splits and low-shot subsets.
    Split,
    /// Sampling of generated text.
    Generate,
    /// Generated data (demo corpus).
    Synthetic,
    /// Free for tests and for users' own operations.
    Custom(u8),
}

impl Site {
    /// Number of the site: part of the file format, because a resumed run must meet the same stream.
    pub fn number(self) -> u8 {
        match self {
            Site::EmbeddingRow => 1,
            Site::Input => 2,
            Site::Output => 3,
            Site::Window => 4,
            Site::Order => 5,
            Site::Negatives => 6,
            Site::Split => 7,
            Site::Generate => 8,
            Site::Synthetic => 9,
            Site::Head(k) => 16 + (k & 15),
            Site::Hidden(l) => 32 + (l & 31),
            Site::Weight(l) => 64 + (l & 31),
            Site::Initial(k) => 96 + k.min(95),
            Site::Custom(k) => 192 + (k & 63),
        }
    }

    /// Site and chunk in one counter word: the site in the top byte, the chunk below.
    pub fn word(self, chunk: u32) -> u32 {
        (u32::from(self.number()) << 24) | (chunk & 0x00FF_FFFF)
    }
}

/// A dropout mask that is computed, never stored: element `(row, column)` is kept iff
/// `lane < floor((1-p)·2^32)`; kept elements are scaled by `1/(1-p)` (inverted dropout, docs/SPEC.md §1.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    pub key: Key,
    pub step: u32,
    /// [`Site::word`].
    pub site: u32,
    /// Probability of dropping, in [0, 1].
    pub p: f64,
}

impl Mask {
    pub fn new(key: Key, step: u32, site: Site, chunk: u32, p: f64) -> Self {
        Mask { key, step, site: site.word(chunk), p }
    }

    /// Lanes below this are kept. `p = 0` keeps all (2^32), `p = 1` none.
    pub fn threshold(&self) -> u64 {
        ((1.0 - self.p) * 4_294_967_296.0).floor() as u64
    }

    /// What a kept element is multiplied by.
    pub fn scale(&self) -> f64 {
        if self.p >= 1.0 { 0.0 } else { 1.0 / (1.0 - self.p) }
    }

    /// The four lanes of columns `4·quad .. 4·quad+4` of a row.
    #[inline]
    pub fn lanes(&self, row: u32, quad: u32) -> [u32; 4] {
        philox4x32_10([quad, row, self.step, self.site], self.key.0)
    }

    /// The lanes of `N` quads from `quad` on: `[lane][quad]`. The same numbers as [`lanes`](Self::lanes), drawn together.
    #[inline(always)]
    pub fn lanes_of<const N: usize>(&self, row: u32, quad: u32) -> [[u32; N]; 4] {
        let quads = std::array::from_fn(|n| quad.wrapping_add(n as u32));
        philox_together([quads, [row; N], [self.step; N], [self.site; N]], self.key.0)
    }

    /// Whether one element is kept.
    pub fn keeps(&self, row: u32, column: u32) -> bool {
        self.p <= 0.0 || u64::from(self.lanes(row, column / 4)[(column % 4) as usize]) < self.threshold()
    }
}

/// A sequential reader of one stream: numbers are taken in order from consecutive counters.
#[derive(Clone, Debug)]
pub struct Stream {
    key: Key,
    step: u32,
    site: u32,
    row: u32,
    position: u64,
    block: [u32; 4],
}

impl Stream {
    /// The stream of a site at a step; `row` separates streams within it.
    pub fn new(key: Key, site: Site, step: u32, row: u32) -> Self {
        Stream { key, step, site: site.word(0), row, position: 0, block: [0; 4] }
    }

    pub fn next_u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.block = philox4x32_10([(self.position / 4) as u32, self.row, self.step, self.site], self.key.0);
        }
        self.position += 1;
        self.block[lane]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        (high * 67_108_864 + low) as f64 / 9_007_199_254_740_992.0
    }

    /// Uniform integer in `0..n` (`n > 0`), without bias (Lemire's rejection).
    pub fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0);
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if (product as u32) >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box-Muller with the portable `libm`, so that bits do not depend on the C library).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.uniform();
        let v = self.uniform();
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(2.0 * std::f64::consts::PI * v)
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (kat_vectors, philox 4x32 10).
    #[test]
    fn philox_known_answers() {
        let known = [
            ([0, 0, 0, 0], [0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ];
        for (counter, key, answer) in known {
            assert_eq!(philox4x32_10(counter, key), answer);
        }
    }

    #[test]
    fn mask_limits_and_rate() {
        let key = Key::new(7, Stage::Other, Direction::Forward);
        let kept = |p| {
            let m = Mask::new(key, 3, Site::Input, 0, p);
            (0..10_003).filter(|&c| m.keeps(5, c)).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (10_003, 0));
        let share = kept(0.4) as f64 / 10_003.0;
        assert!((share - 0.6).abs() < 4.0 * (0.24f64 / 10_003.0).sqrt(), "kept {share}");
    }

    #[test]
    fn many_quads_at_once_are_the_same_numbers() {
        let mask = Mask::new(Key([7, u32::MAX]), 3, Site::Weight(1), 2, 0.5);
        for (row, quad) in [(0, 0), (4599, 271), (u32::MAX, u32::MAX - 3)] {
            let many = mask.lanes_of::<16>(row, quad);
            for n in 0..16 {
                assert_eq!(many.map(|lane| lane[n]), mask.lanes(row, quad.wrapping_add(n as u32)));
            }
        }
    }

    #[test]
    fn streams_differ_by_every_coordinate() {
        let key = |s, st, d| Key::new(s, st, d);
        let base = key(1, Stage::Pretrain, Direction::Forward);
        let others = [
            key(2, Stage::Pretrain, Direction::Forward),
            key(1, Stage::FinetuneLm, Direction::Forward),
            key(1, Stage::Pretrain, Direction::Backward),
        ];
        assert!(others.iter().all(|k| *k != base));
        let first = |site, step, row| Stream::new(base, site, step, row).next_u32();
        let a = first(Site::Order, 0, 0);
        assert!([first(Site::Split, 0, 0), first(Site::Order, 1, 0), first(Site::Order, 0, 1)].iter().all(|&b| b != a));
    }

    #[test]
    fn below_is_in_range_and_reaches_all() {
        let mut s = Stream::new(Key([1, 2]), Site::Order, 0, 0);
        let mut seen = [0u32; 7];
        (0..7000).for_each(|_| seen[s.below(7) as usize] += 1);
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
