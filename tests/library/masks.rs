//! The random streams are part of what a resumed run relies on: keys and masks equal a table that
//! an implementation of its own made (`tests/golden/make_masks.py`), bit for bit.

use serde::Deserialize;
use ulmfit::nn::sites;
use ulmfit::ops::Dropout;
use ulmfit::random::{Key, Mask, NO_STAGE, Site, philox4x32_10};
use ulmfit::text::Direction;
use ulmfit::train::Stage;

#[derive(Deserialize)]
struct Table {
    philox: Vec<Known>,
    keys: Vec<KnownKey>,
    masks: Vec<KnownMask>,
}

#[derive(Deserialize)]
struct Known {
    counter: [u32; 4],
    key: [u32; 2],
    output: [u32; 4],
}

#[derive(Deserialize)]
struct KnownKey {
    seed: u64,
    stage: String,
    direction: String,
    key: [u32; 2],
}

#[derive(Deserialize)]
struct KnownMask {
    #[serde(flatten)]
    training: KnownKey,
    site: String,
    index: Option<usize>,
    chunk: u16,
    word: u32,
    step: u32,
    p: f64,
    threshold: u64,
    /// One string a row, '1' = kept.
    rows: Vec<String>,
}

impl KnownKey {
    fn computed(&self) -> Key {
        let stage = match self.stage.as_str() {
            "Pretrain" => Stage::Pretrain.into(),
            "FinetuneLm" => Stage::FinetuneLm.into(),
            "Classifier" => Stage::Classifier.into(),
            "Other" => NO_STAGE,
            other => panic!("stage {other} in the table is unknown"),
        };
        let direction = match self.direction.as_str() {
            "Forward" => Direction::Forward,
            "Backward" => Direction::Backward,
            other => panic!("direction {other} in the table is unknown"),
        };
        Key::new(self.seed, stage, direction)
    }
}

impl KnownMask {
    fn computed_site(&self) -> Site {
        match (self.site.as_str(), self.index) {
            ("EmbeddingRow", None) => sites::EMBEDDING_ROW,
            ("Input", None) => sites::INPUT,
            ("Output", None) => sites::OUTPUT,
            ("Hidden", Some(layer)) => sites::HIDDEN.site(layer).unwrap(),
            ("Weight", Some(layer)) => sites::WEIGHT.site(layer).unwrap(),
            ("Head", Some(block)) => sites::HEAD.site(block).unwrap(),
            ("Custom", Some(number)) => Site::CUSTOM[number],
            (site, index) => panic!("site {site} {index:?} in the table is unknown"),
        }
    }
}

fn table() -> Table {
    serde_json::from_str(include_str!("../golden/masks.json")).expect("tests/golden/masks.json has the form of Table")
}

#[test]
fn philox_equals_the_table() {
    let known = table().philox;
    assert!(!known.is_empty());
    for k in known {
        assert_eq!(philox4x32_10(k.counter, k.key), k.output, "counter {:x?} key {:x?}", k.counter, k.key);
    }
}

#[test]
fn keys_equal_the_table() {
    let known = table().keys;
    assert!(!known.is_empty());
    for k in known {
        assert_eq!(k.computed().0, k.key, "seed {} {} {}", k.seed, k.stage, k.direction);
    }
}

#[test]
fn masks_equal_the_table() {
    let known = table().masks;
    assert!(known.len() >= 12);
    for k in known {
        let name = format!("{} {:?} step {} chunk {} p {}", k.site, k.index, k.step, k.chunk, k.p);
        let mask = Mask::new(k.training.computed(), k.step, k.computed_site(), k.chunk, k.p);
        assert_eq!(mask.key.0, k.training.key, "{name}: key");
        assert_eq!(mask.site, k.word, "{name}: site and chunk");
        assert_eq!(mask.threshold(), k.threshold, "{name}: threshold");
        for (row, expected) in (0u32..).zip(&k.rows) {
            let one_by_one: String =
                (0..expected.len() as u32).map(|column| if mask.keeps(row, column) { '1' } else { '0' }).collect();
            assert_eq!(&one_by_one, expected, "{name}: row {row}, by element");

            let factors: Vec<f32> =
                expected.bytes().map(|kept| if kept == b'1' { (1.0 / (1.0 - k.p)) as f32 } else { 0.0 }).collect();
            let mut filled = vec![f32::NAN; (row as usize + 1) * expected.len()];
            Dropout::Random(mask).fill(expected.len(), &mut filled);
            assert_eq!(filled[row as usize * expected.len()..], factors, "{name}: row {row}, as factors");
        }
    }
}
