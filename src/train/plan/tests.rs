use super::*;
use crate::device::Precision;
use crate::device::cpu::isa::{isa, multiplies_bf16};
use crate::train::recipe::Builder;

const OPTIONS: PlanOptions = PlanOptions { classes: 3, length: None, threads: 1, precision: Precision::Full };

fn recipe(name: &str, settings: &[(&str, &str)]) -> Recipe {
    let mut builder = Builder::new(name).unwrap();
    for (key, value) in settings {
        builder.key(key, value, "test").unwrap();
    }
    builder.build().unwrap()
}

/// The size of the paper: 64 columns × 70 steps, 30,000 words.
#[test]
fn the_papers_step_is_865_gflop() {
    let settings = [("model.hidden", "1150"), ("pretrain.vocab_size", "30000"), ("pretrain.bptt", "70")];
    let recipe = recipe("paper", &settings);
    let plan = plan(&recipe, Stage::Pretrain, &OPTIONS).unwrap();
    assert!((plan.flop.per_step as f64 / 865e9 - 1.0).abs() < 0.01, "{}", plan.flop.per_step);
    assert_eq!(plan.flop.backward, 2 * plan.flop.forward);
    assert_eq!(plan.flop.per_step % (64 * 70), 0);
    assert_eq!((plan.sizes.bptt, plan.sizes.longest_window), (70, 95));
    assert_eq!(plan.bytes.optimiser, 8 * plan.sizes.parameters);
    // packed weights take half where pairs of bf16 are multiplied
    let half = super::plan(&recipe, Stage::Pretrain, &PlanOptions { precision: Precision::Bf16, ..OPTIONS }).unwrap();
    assert_eq!(half.flop, plan.flop);
    assert_eq!(
        half.bytes.pool < plan.bytes.pool,
        multiplies_bf16(isa()),
        "{} and {}",
        half.bytes.pool,
        plan.bytes.pool
    );
    // by hand: 30,000·400, and per layer 4H·(I + H + 2)
    let layers = 4600 * (400 + 1150 + 2) + 4600 * (1150 + 1150 + 2) + 1600 * (1150 + 400 + 2);
    assert_eq!(plan.sizes.parameters, 30_000 * 400 + layers);
}

/// What does not train has no backward: a gradually thawed classifier is planned for its last step,
/// one that never thaws for its head.
#[test]
fn frozen_layers_cost_less() {
    let with = |unfreezing| {
        let size =
            [("classifier.vocab_size", "500"), ("classifier.max_len", "140"), ("classifier.unfreezing", unfreezing)];
        plan(&recipe("fastai2", &size), Stage::Classifier, &OPTIONS).unwrap()
    };
    let (last, full) = (with("last"), with("full"));
    assert_eq!(with("gradual").flop, full.flop);
    assert_eq!(last.flop.forward, full.flop.forward);
    assert!(last.flop.backward < full.flop.backward / 100 && last.bytes.activations < full.bytes.activations / 2);
}

#[test]
fn what_cannot_be_planned_is_said() {
    let unlimited = recipe("paper", &[("pretrain.vocab_size", "none")]);
    let message = plan(&unlimited, Stage::Pretrain, &OPTIONS).unwrap_err().to_string();
    assert!(message.contains("vocabulary"), "{message}");
    let large = recipe("paper", &[("pretrain.batch_size", "10000000"), ("pretrain.vocab_size", "100")]);
    let message = plan(&large, Stage::Pretrain, &OPTIONS).unwrap_err().to_string();
    assert!(message.starts_with("a batch of 10000000 rows of 95 tokens cannot be planned"), "{message}");
    let long = PlanOptions { length: Some(1 << 40), ..OPTIONS };
    let small = recipe("paper", &[("classifier.vocab_size", "100")]);
    assert!(plan(&small, Stage::Classifier, &long).unwrap_err().to_string().contains("cannot be planned"));
}
