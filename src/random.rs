//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), sites, and dropout masks.
//!
//! Every random number of a run is a pure function of logical indices, so results do not depend on
//! threads, tiles, devices or on where a run was stopped and resumed. Key: the run's seed mixed
//! with the numbers of stage and direction. Counter: `[column / 4, row, step, site and chunk]`; the
//! lane is the column mod 4 (DESIGN.md, "Randomness"). A number that does not fit into a counter is
//! an error, never masked.

use crate::error::{Error, Result};

/// Ten rounds of Philox4x32.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_together(counter.map(|c| [c]), key).map(|[c]| c)
}

/// Ten rounds of `N` counters, `[word][counter]`, in loops that a compiler turns into vector
/// instructions.
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

/// Number of the stage in keys of random numbers that belong to no training.
pub const NO_STAGE: u32 = 4;

/// Key of all random streams of one training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u32; 2]);

impl Key {
    /// Mixes the seed with the numbers of a stage of training (not [`NO_STAGE`]) and of a reading
    /// direction, in one Philox call, so that neighbouring seeds share nothing.
    pub fn new(seed: u64, stage: impl Into<u32>, direction: impl Into<u32>) -> Self {
        let r = philox4x32_10(
            [stage.into(), direction.into(), 0x756C_6D66, 0x6974_0001],
            [seed as u32, (seed >> 32) as u32],
        );
        Key([r[0], r[1]])
    }

    /// The key of everything that is no training: splits, subsets, generated data and text, checks.
    pub fn apart(seed: u64) -> Self {
        Key::new(seed, NO_STAGE, 0u32)
    }
}

/// The purpose of a random number, as a number. Two sites never share a stream.
///
/// The numbers are part of the file format, because a resumed run must meet the same streams. Those
/// that the floors up to the text need are here; a model lists its own (`nn::sites`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(u16);

impl Site {
    /// Length of a window.
    pub const WINDOW: Site = Site(4);
    /// Order of documents or samples.
    pub const ORDER: Site = Site(5);
    /// Negative samples.
    pub const NEGATIVES: Site = Site(6);
    /// Train / valid splits and low-shot subsets.
    pub const SPLIT: Site = Site(7);
    /// Sampling of generated text.
    pub const GENERATE: Site = Site(8);
    /// Generated data (demo corpus).
    pub const SYNTHETIC: Site = Site(9);
    /// Free for tests and for users' own operations.
    pub const CUSTOM: [Site; 64] = {
        let mut all = [Site(192); 64];
        let mut k = 0;
        while k < all.len() {
            all[k] = Site(192 + k as u16);
            k += 1;
        }
        all
    };

    pub const fn new(number: u16) -> Self {
        Site(number)
    }

    pub const fn number(self) -> u16 {
        self.0
    }

    /// Site and chunk in one counter word: the site's low byte on top, then its high byte, then the
    /// chunk. Different pairs have different words.
    pub const fn word(self, chunk: u16) -> u32 {
        (self.0 as u32 & 255) << 24 | (self.0 as u32 >> 8) << 16 | chunk as u32
    }
}

/// The sites of things that are counted from 0: dropouts of layers, initial values of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Sites {
    /// One of the things, for messages.
    of: &'static str,
    /// First number and count, below 256 and above.
    low: (u16, u16),
    high: (u16, u16),
}

impl Sites {
    /// The first things have the numbers from `low.0` on, `low.1` of them; those after them the
    /// numbers from `high.0` on.
    pub const fn new(of: &'static str, low: (u16, u16), high: (u16, u16)) -> Self {
        assert!(low.0 + low.1 <= 256 && high.0 >= 256 && high.0 as u32 + high.1 as u32 <= 1 << 16);
        Sites { of, low, high }
    }

    /// The site of the `k`-th thing.
    ///
    /// # Errors
    /// [`Error::Data`]: there are no numbers for so many.
    pub fn site(&self, k: usize) -> Result<Site> {
        let (low, high) = (usize::from(self.low.1), usize::from(self.high.1));
        match k {
            k if k < low => Ok(Site(self.low.0 + k as u16)),
            k if k < low + high => Ok(Site(self.high.0 + (k - low) as u16)),
            _ => {
                Err(Error::data(format!("{} {} has no random numbers of its own: {} can", self.of, k + 1, low + high)))
            }
        }
    }

    /// All numbers, for tests that none is given twice.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        let ((low, n), (high, m)) = (self.low, self.high);
        (0..n).map(move |k| low + k).chain((0..m).map(move |k| high + k))
    }
}

/// A chunk's or part's number as the counters hold it.
///
/// # Errors
/// [`Error::Data`]: more chunks than can be numbered.
pub fn chunk_number(chunk: usize) -> Result<u16> {
    u16::try_from(chunk).map_err(|_| {
        Error::data(format!("a document has more chunks than the {} that masks can be numbered for", 1u32 << 16))
            .hint("make the chunks longer with --bptt, or the documents shorter")
    })
}

/// A dropout mask that is computed, never stored: element `(row, column)` is kept iff
/// `lane < floor((1-p)·2^32)`; kept elements are scaled by `1/(1-p)` (inverted dropout,
/// docs/SPEC.md §1.2).
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
    pub fn new(key: Key, step: u32, site: Site, chunk: u16, p: f64) -> Self {
        Mask { key, step, site: site.word(chunk), p }
    }

    /// Lanes below this are kept. `p = 0` keeps all (2^32), `p = 1` none.
    pub fn threshold(&self) -> u64 {
        ((1.0 - self.p) * 4_294_967_296.0).floor() as u64
    }

    /// The factor of a kept element.
    pub fn scale(&self) -> f64 {
        if self.p >= 1.0 { 0.0 } else { 1.0 / (1.0 - self.p) }
    }

    /// The four lanes of columns `4·quad .. 4·quad+4` of a row.
    #[inline]
    pub fn lanes(&self, row: u32, quad: u32) -> [u32; 4] {
        philox4x32_10([quad, row, self.step, self.site], self.key.0)
    }

    /// The lanes of `N` quads from `quad` on: `[lane][quad]`. The same numbers as
    /// [`lanes`](Self::lanes), drawn together.
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

    fn next_u32(&mut self) -> u32 {
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

    /// Standard normal (Box-Muller with the portable `libm`, so that bits do not depend on the C
    /// library).
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
        let key = Key::apart(7);
        let kept = |p| {
            let m = Mask::new(key, 3, Site::new(2), 0, p);
            (0..10_003).filter(|&c| m.keeps(5, c)).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (10_003, 0));
        let share = kept(0.4) as f64 / 10_003.0;
        assert!((share - 0.6).abs() < 4.0 * (0.24f64 / 10_003.0).sqrt(), "kept {share}");
    }

    #[test]
    fn many_quads_at_once_are_the_same_numbers() {
        let mask = Mask::new(Key([7, u32::MAX]), 3, Site::new(65), 2, 0.5);
        for (row, quad) in [(0, 0), (4599, 271), (u32::MAX, u32::MAX - 3)] {
            let many = mask.lanes_of::<16>(row, quad);
            for n in 0..16 {
                assert_eq!(many.map(|lane| lane[n]), mask.lanes(row, quad.wrapping_add(n as u32)));
            }
        }
    }

    #[test]
    fn streams_differ_by_every_coordinate() {
        let key = |seed, stage: u32, direction: u32| Key::new(seed, stage, direction);
        let base = key(1, 1, 0);
        let others = [key(2, 1, 0), key(1, 2, 0), key(1, 1, 1), Key::apart(1)];
        assert!(others.iter().all(|k| *k != base));
        let first = |site, step, row| Stream::new(base, site, step, row).next_u32();
        let a = first(Site::ORDER, 0, 0);
        assert!([first(Site::SPLIT, 0, 0), first(Site::ORDER, 1, 0), first(Site::ORDER, 0, 1)].iter().all(|&b| b != a));
    }

    #[test]
    fn words_keep_site_and_chunk_apart() {
        // numbers below 256 stand where they always stood
        assert_eq!(Site::new(65).word(77), 65 << 24 | 77);
        assert_eq!(Site::new(0x1203).word(0xABCD), 0x0312_ABCD);
        let mut seen = std::collections::HashSet::new();
        let numbers = (0..=u16::MAX).step_by(7);
        assert!(numbers.flat_map(|n| [0, 1, u16::MAX].map(|c| Site::new(n).word(c))).all(|word| seen.insert(word)));
    }

    #[test]
    fn sites_end_with_an_error() {
        let sites = Sites::new("layer", (32, 2), (256, 3));
        let numbers: Vec<u16> = (0..5).map(|k| sites.site(k).unwrap().number()).collect();
        assert_eq!(numbers, [32, 33, 256, 257, 258]);
        assert_eq!(sites.numbers().collect::<Vec<_>>(), numbers);
        let error = sites.site(5).unwrap_err().to_string();
        assert!(error.contains("layer 6 has no random numbers of its own: 5 can"), "{error}");
        assert_eq!(chunk_number(65_535).unwrap(), u16::MAX);
        assert!(chunk_number(65_536).is_err());
    }

    #[test]
    fn below_is_in_range_and_reaches_all() {
        let mut s = Stream::new(Key([1, 2]), Site::ORDER, 0, 0);
        let mut seen = [0u32; 7];
        (0..7000).for_each(|_| seen[s.below(7) as usize] += 1);
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
