//! Values that no training can work with are refused before any work starts.

use super::Recipe;
use super::choices::{Splits, TaskName, ThresholdsName};
use super::settings::{ClassifierSettings, LmSettings, MOST_FOLDS, TrainingSettings};

/// A key and the fault of its value, as the end of a sentence.
pub(super) type Fault = (String, String);

/// Finds the first value out of its range.
pub(super) fn check(recipe: &Recipe) -> Result<(), Fault> {
    let model = &recipe.model;
    for (key, size, limit) in
        [("emb", model.emb, 1 << 24), ("hidden", model.hidden, 1 << 24), ("layers", model.layers, 256)]
    {
        require(size >= 1 && size <= limit, "model", key, || format!("must be from 1 to {limit}, not {size}"))?;
    }
    require((0.0..1.0).contains(&model.zoneout), "model", "zoneout", || {
        format!("must be at least 0 and less than 1, not {}", model.zoneout)
    })?;
    at_least_1("text", "vocab_multiple", recipe.text.vocab_multiple)?;
    let coverage = recipe.text.coverage;
    require(coverage > 0.0 && coverage <= 1.0, "text", "coverage", || {
        format!("must be above 0 and at most 1, not {coverage}")
    })?;
    check_lm("pretrain", &recipe.pretrain)?;
    require(!recipe.pretrain.test_text, "pretrain", "test_text", || {
        "cannot be on: texts of the test set can join fine-tuning alone".into()
    })?;
    check_lm("finetune", &recipe.finetune)?;
    check_classifier("classifier", &recipe.classifier)
}

fn require(holds: bool, stage: &str, key: &str, message: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((format!("{stage}.{key}"), message())) }
}

fn at_least_1(stage: &str, key: &str, value: usize) -> Result<(), Fault> {
    require(value >= 1, stage, key, || "must be at least 1, not 0".into())
}

fn in_range(stage: &str, key: &str, values: &[f64], low: f64, high: f64) -> Result<(), Fault> {
    require(!values.is_empty(), stage, key, || "needs at least one value".into())?;
    match values.iter().find(|x| !(low..=high).contains(*x)) {
        Some(x) if high == f64::MAX => Err((format!("{stage}.{key}"), format!("must be at least {low}, not {x}"))),
        Some(x) => Err((format!("{stage}.{key}"), format!("must be from {low} to {high}, not {x}"))),
        None => Ok(()),
    }
}

fn positive(stage: &str, key: &str, values: &[f64]) -> Result<(), Fault> {
    require(!values.is_empty(), stage, key, || "needs at least one value".into())?;
    let bad = values.iter().find(|x| !(x.is_finite() && **x > 0.0));
    bad.map_or(Ok(()), |x| Err((format!("{stage}.{key}"), format!("must be a positive number, not {x}"))))
}

fn check_training(stage: &str, t: &TrainingSettings) -> Result<(), Fault> {
    if let Some(size) = t.vocab_size {
        require(size >= 16, stage, "vocab_size", || {
            format!("must be at least 16 (special tokens are among them), not {size}")
        })?;
    }
    require(t.min_freq >= 1, stage, "min_freq", || "must be at least 1, not 0".into())?;
    require((0.0..1.0).contains(&t.valid_fraction), stage, "valid_fraction", || {
        format!("must be at least 0 and less than 1, not {}", t.valid_fraction)
    })?;
    for (key, size) in [
        ("batch_size", t.batch_size),
        ("valid_batch_size", t.valid_batch_size),
        ("bptt", t.bptt),
        ("window_min", t.window_min),
    ] {
        require((1..=1 << 24).contains(&size), stage, key, || format!("must be from 1 to {}, not {size}", 1 << 24))?;
    }
    require(t.epochs.iter().any(|&n| n > 0), stage, "epochs", || "asks for no epoch at all".into())?;
    require(t.epochs.iter().all(|&n| n <= 1_000_000), stage, "epochs", || "must be at most 1000000".into())?;
    require(t.max_steps != Some(0), stage, "max_steps", || "must be at least 1, not 0".into())?;
    let (least, most) = (t.updates_least.unwrap_or(1), t.updates_most.unwrap_or(u64::MAX));
    require(least >= 1 && most >= least, stage, "updates_most", || {
        format!("must be at least updates_least, which is {least}, and that at least 1")
    })?;
    positive(stage, "effort", &[t.effort])?;
    positive(stage, "patience", &t.patience.map_or(vec![1.0], |share| vec![share]))?;
    positive(stage, "lr", &t.lr)?;
    positive(stage, "ladder_factor", &[t.ladder_factor])?;
    in_range(stage, "stlr_cut_frac", &t.stlr_cut_frac, 1e-6, 1.0 - 1e-6)?;
    in_range(stage, "stlr_ratio", &t.stlr_ratio, 1.0, f64::MAX)?;
    in_range(stage, "one_cycle_div", &[t.one_cycle_div], 1.0, f64::MAX)?;
    in_range(stage, "one_cycle_div_final", &[t.one_cycle_div_final], 1.0, f64::MAX)?;
    in_range(stage, "one_cycle_pct", &[t.one_cycle_pct], 0.0, 1.0)?;
    in_range(stage, "one_cycle_momentum", &t.one_cycle_momentum, 0.0, 1.0 - 1e-6)?;
    in_range(stage, "beta1", &[t.beta1], 0.0, 1.0 - 1e-6)?;
    in_range(stage, "beta2", &[t.beta2], 0.0, 1.0 - 1e-9)?;
    in_range(stage, "momentum", &[t.momentum], 0.0, 1.0 - 1e-6)?;
    in_range(stage, "window_half_p", &[t.window_half_p], 0.0, 1.0)?;
    for (key, value) in [
        ("eps", t.eps),
        ("weight_decay", t.weight_decay),
        ("window_sd", t.window_sd),
        ("drop_mult", t.drop_mult),
        ("alpha", t.alpha),
        ("beta", t.beta),
    ] {
        in_range(stage, key, &[value], 0.0, f64::MAX)?;
    }
    if let Some(clip) = t.clip {
        positive(stage, "clip", &[clip])?;
    }
    for (key, rate) in [
        ("drop_input", t.drop_input),
        ("drop_weight", t.drop_weight),
        ("drop_embedding", t.drop_embedding),
        ("drop_hidden", t.drop_hidden),
    ] {
        drop_rate(stage, key, rate, t.drop_mult)?;
    }
    Ok(())
}

fn drop_rate(stage: &str, key: &str, rate: f64, multiplier: f64) -> Result<(), Fault> {
    in_range(stage, key, &[rate], 0.0, 1.0)?;
    require(rate * multiplier <= 1.0, stage, "drop_mult", || {
        format!("makes {key} {}, and a rate is at most 1", rate * multiplier)
    })
}

fn check_lm(stage: &str, lm: &LmSettings) -> Result<(), Fault> {
    check_training(stage, &lm.training)?;
    drop_rate(stage, "drop_output", lm.drop_output, lm.training.drop_mult)?;
    at_least_1(stage, "negatives", lm.negatives)?;
    let Splits::At(splits) = &lm.splits else { return Ok(()) };
    require(splits.first() != Some(&0) && splits.is_sorted_by(|a, b| a < b), stage, "splits", || {
        format!("must be above 0 and ascend, not {splits:?}")
    })
}

fn check_classifier(stage: &str, c: &ClassifierSettings) -> Result<(), Fault> {
    check_training(stage, &c.training)?;
    at_least_1(stage, "max_len", c.max_len)?;
    require(c.head_sizes.iter().all(|&n| (1..=1 << 24).contains(&n)), stage, "head_sizes", || {
        "must be sizes of at least 1".into()
    })?;
    require(c.head_drops.len() == c.head_sizes.len() + 1, stage, "head_drops", || {
        format!("must have one value for each of the {} blocks of the head", c.head_sizes.len() + 1)
    })?;
    in_range(stage, "head_drops", &c.head_drops, 0.0, 1.0)?;
    require((0.0..1.0).contains(&c.label_smoothing), stage, "label_smoothing", || {
        format!("must be at least 0 and less than 1, not {}", c.label_smoothing)
    })?;
    require((1..=MOST_FOLDS).contains(&c.folds), stage, "folds", || {
        format!("must be from 1 to {MOST_FOLDS}, not {}", c.folds)
    })?;
    in_range(stage, "focal", &[c.focal], 0.0, 100.0)?;
    in_range(stage, "auxiliary_lm", &[c.auxiliary_lm], 0.0, 1e6)?;
    let weighs = c.class_weights != "none";
    require(
        !weighs || matches!(c.task, TaskName::Class | TaskName::Pair | TaskName::Labels),
        stage,
        "class_weights",
        || format!("has no meaning for --task {}", c.task.name()),
    )?;
    require(
        c.focal == 0.0 || matches!(c.task, TaskName::Class | TaskName::Pair | TaskName::Labels),
        stage,
        "focal",
        || format!("has no meaning for --task {}", c.task.name()),
    )?;
    require(c.thresholds == ThresholdsName::Half || c.task == TaskName::Labels, stage, "thresholds", || {
        format!("are tuned for --task labels, not for --task {}", c.task.name())
    })?;
    require(c.label_smoothing == 0.0 || c.task != TaskName::Regression, stage, "label_smoothing", || {
        "has no meaning for --task regression".into()
    })?;
    require(c.auxiliary_lm == 0.0 || c.task != TaskName::Tags, stage, "auxiliary_lm", || {
        "has no meaning for --task tags".into()
    })?;
    drop_rate(stage, "head_drops", c.head_drops[0], c.training.drop_mult)?;
    require(c.norm_bias_init.is_finite(), stage, "norm_bias_init", || "must be a number".into())?;
    positive(stage, "chain_thaw_factor", &[c.chain_thaw_factor])
}
