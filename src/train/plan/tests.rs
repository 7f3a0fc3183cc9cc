use super::*;
use crate::autodiff::Graph;
use crate::device::cpu::isa::{isa, multiplies_bf16};
use crate::device::{Device, Precision};
use crate::nn::classifier::ChunkDropout;
use crate::nn::{Classifier, DocumentBatch, EncoderDropout, HeadDropout, LanguageModel, LossSettings, Softmax, State};
use crate::ops::activation_regularisation::{Regularisation, activation_regularisation};
use crate::ops::batch_norm::Mode;
use crate::ops::softmax_cross_entropy::softmax_cross_entropy;
use crate::ops::weighted_sum::weighted_sum;
use crate::random::{Direction, Key};
use crate::tensor::Tensor;
use crate::train::recipe::Builder;
use crate::train::stages::lm_task_settings;

const OPTIONS: PlanOptions = PlanOptions { classes: 3, length: None, threads: 1, precision: Precision::Full };

fn recipe(name: &str, settings: &[(&str, &str)]) -> Recipe {
    let mut builder = Builder::new(name).unwrap();
    for (key, value) in settings {
        builder.key(key, value, "test").unwrap();
    }
    builder.build().unwrap()
}

/// Bytes of the slabs, and bytes of the pool after two training steps of the largest size, as the engine has them.
fn language_model_bytes(recipe: &Recipe, plan: &Plan, precision: Precision) -> ([usize; 2], usize) {
    let settings = &recipe.pretrain;
    let (model, mut parameters) =
        LanguageModel::new(recipe.language_model(Stage::Pretrain, plan.sizes.vocabulary), DType::F32).unwrap();
    let mut g = Graph::new(Device::Cpu, DType::F32, None).with_precision(precision);
    let (t, b) = (plan.sizes.longest_window, plan.sizes.batch_size);
    let mut state = State::zeros(&model.settings.encoder, b, DType::F32).unwrap();
    let task = lm_task_settings(settings, plan.sizes.vocabulary);
    let LossSettings { alpha, .. } = task.losses;
    assert!(alpha > 0.0);
    let key = Key::new(1, Stage::Other, Direction::Forward);
    g.promise_unit_loss();
    for step in 0..2 {
        g.reset();
        parameters.clear_gradients();
        let tokens = g.zeros([t, b], DType::U32).unwrap();
        let targets = g.zeros([t, b], DType::U32).unwrap();
        let softmax = match task.negatives {
            None => Softmax::Full,
            Some(n) => Softmax::Sampled { negatives: g.zeros([n], DType::U32).unwrap() },
        };
        let dropout = EncoderDropout::Random { key, step, chunk: 0, rates: task.dropout };
        let before = state.clone();
        let out =
            model.window(&mut g, &parameters, &tokens, &targets, &mut state, &dropout, &softmax, &task.losses).unwrap();
        drop((tokens, targets, softmax));
        g.backward(out.total, &mut parameters).unwrap();
        if step == 0 {
            state = before;
        }
        g.pool().set_reserving(false);
    }
    (slabs(&parameters), g.pool_statistics().bytes)
}

fn slabs(parameters: &Parameters) -> [usize; 2] {
    let aligned = |values: usize| (4 * values).next_multiple_of(64);
    let all = parameters.ids().map(|id| aligned(parameters.value(id).len())).sum();
    let gradients = parameters.ids().filter(|&id| !parameters.is_buffer(id));
    [all, gradients.map(|id| aligned(parameters.value(id).len())).sum()]
}

fn close(planned: usize, found: usize) {
    let ratio = planned as f64 / found as f64;
    assert!((0.9..=1.1).contains(&ratio), "planned {planned}, found {found}");
}

#[test]
fn a_language_models_memory_is_what_the_engine_takes() {
    let small = [("model.emb", "20"), ("model.hidden", "36"), ("pretrain.vocab_size", "150")];
    let with = |more: &[(&'static str, &'static str)]| [&small, more].concat();
    let cases = [
        recipe("paper", &with(&[("pretrain.batch_size", "4"), ("pretrain.bptt", "10")])),
        recipe("fastai2", &with(&[("pretrain.batch_size", "3"), ("pretrain.bptt", "21"), ("model.layers", "2")])),
        recipe(
            "paper",
            &with(&[("pretrain.loss", "sampled"), ("pretrain.negatives", "30"), ("pretrain.batch_size", "5")]),
        ),
        recipe(
            "awd",
            &with(&[
                ("pretrain.splits", "40,90"),
                ("pretrain.batch_size", "5"),
                ("pretrain.bptt", "10"),
                ("pretrain.windows", "fixed"),
            ]),
        ),
        // most of it is the loss's
        recipe(
            "fastai2",
            &[
                ("model.emb", "20"),
                ("model.hidden", "24"),
                ("pretrain.vocab_size", "6000"),
                ("pretrain.batch_size", "2"),
                ("pretrain.bptt", "5"),
            ],
        ),
        recipe(
            "fastai1",
            &with(&[("pretrain.batch_size", "16"), ("pretrain.bptt", "30"), ("pretrain.drop_mult", "0")]),
        ),
    ];
    for recipe in cases {
        for precision in [Precision::Full, Precision::Bf16] {
            let plan = plan(&recipe, Stage::Pretrain, &PlanOptions { precision, ..OPTIONS }).unwrap();
            let ([values, gradients], pool) = language_model_bytes(&recipe, &plan, precision);
            assert_eq!((plan.bytes.parameters, plan.bytes.gradients), (values, gradients), "{}", recipe.name);
            close(plan.bytes.activations + plan.bytes.workspace, pool);
        }
    }
}

#[test]
fn a_classifiers_memory_is_what_the_engine_takes() {
    for name in ["paper", "scripts", "fastai2"] {
        let recipe = recipe(
            name,
            &[
                ("model.emb", "20"),
                ("model.hidden", "36"),
                ("classifier.vocab_size", "150"),
                ("classifier.batch_size", "4"),
                ("classifier.bptt", "7"),
                ("classifier.max_len", "28"),
                ("classifier.unfreezing", "full"),
                ("classifier.epochs", "1"),
            ],
        );
        let plan = plan(&recipe, Stage::Classifier, &OPTIONS).unwrap();
        let architecture = recipe.classifier_architecture(plan.sizes.vocabulary, OPTIONS.classes);
        let (model, mut parameters) = Classifier::new(architecture, DType::F32).unwrap();
        let settings = &recipe.classifier;
        let (head, key) = (settings.head_drops(), Key::new(1, Stage::Other, Direction::Forward));
        let mut g = Graph::new(Device::Cpu, DType::F32, None);
        let document = vec![5u32; plan.sizes.length.unwrap()];
        for step in 0..2 {
            g.reset();
            let batch = DocumentBatch::new(vec![&document[..]; plan.sizes.batch_size]).unwrap();
            let dropout = ChunkDropout::Random { key, step, rates: settings.drops() };
            let drops = HeadDropout::Random { key, step, rates: &head };
            let out = model.forward(&mut g, &parameters, &batch, Mode::Train, &dropout, &drops).unwrap();
            let labels = g.constant(Tensor::from_slice([batch.len()], &vec![0u32; batch.len()]).unwrap());
            let mut loss = softmax_cross_entropy(&mut g, out.logits, labels).unwrap();
            let (alpha, beta) = (settings.training.alpha, settings.training.beta);
            if alpha != 0.0 || beta != 0.0 {
                let guard = settings.training.tar_guard.into();
                let r = Regularisation { alpha, beta, guard };
                let r = activation_regularisation(&mut g, &out.chunks, &out.chunks, r).unwrap();
                loss = weighted_sum(&mut g, &[(loss, 1.0), (r, 1.0)]).unwrap();
            }
            g.backward(loss, &mut parameters).unwrap();
            g.pool().set_reserving(false);
        }
        assert_eq!([plan.bytes.parameters, plan.bytes.gradients], slabs(&parameters), "{name}");
        assert_eq!(plan.sizes.parameters, parameters.trainable_values());
        close(plan.bytes.activations + plan.bytes.workspace, g.pool_statistics().bytes);
    }
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

/// What does not train has no backward: a gradually thawed classifier is planned for its last step, one that never thaws for its head.
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
}
