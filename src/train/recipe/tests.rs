use super::*;
use crate::nn;
use crate::optim::Schedule;
use crate::text::Windows;

fn build(recipe: &str, flags: &[(Option<Stage>, &str, &str)]) -> Result<Recipe> {
    let mut builder = Builder::new(recipe)?;
    for (stage, flag, value) in flags {
        builder.flag(*stage, flag, value, COMMAND_LINE)?;
    }
    builder.build()
}

fn refused(recipe: &str, flags: &[(Option<Stage>, &str, &str)]) -> String {
    let error = build(recipe, flags).unwrap_err();
    assert_eq!(error.exit_status(), 2);
    error.to_string()
}

const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier];

#[test]
fn every_recipe_resolves_and_every_value_has_a_source() {
    let expected: Vec<String> = Recipe::named("paper").unwrap().rows.iter().map(|r| r.key.clone()).collect();
    for name in names() {
        let recipe = Recipe::named(name).unwrap();
        for row in recipe.rows() {
            assert!(!row.source.trim().is_empty(), "{name}: {} has no source", row.key);
        }
        // the same keys in every recipe
        let mut keys: Vec<String> = recipe.rows.iter().map(|r| r.key.clone()).collect();
        let mut expected = expected.clone();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected, "{name}");
        // every row reaches a setting, and no setting has a value that is in no row
        let Recipe { model, text, pretrain, finetune, classifier, .. } = recipe.clone();
        let settings = serde_json::to_value(Settings { model, text, pretrain, finetune, classifier }).unwrap();
        let mut from_settings = Vec::new();
        for (section, fields) in settings.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                let key = format!("{section}.{field}");
                assert_eq!(recipe.row(&key).map(|r| &r.value), Some(value), "{name}: {key}");
                from_settings.push(key);
            }
        }
        from_settings.sort();
        assert_eq!(keys, from_settings, "{name}");
    }
}

#[test]
fn no_row_of_a_table_is_written_twice() {
    for (name, tables) in RECIPES {
        for table in tables {
            for (i, (key, ..)) in table.iter().enumerate() {
                assert!(!table[..i].iter().any(|(k, ..)| k == key), "{name}: {key} stands twice in one table");
            }
        }
    }
}

/// docs/SPEC.md §9, number by number.
#[test]
fn the_recipes_differ_where_paper_and_code_do() {
    let [paper, scripts] = ["paper", "scripts"].map(|name| Recipe::named(name).unwrap());
    let (p, s) = (&paper.classifier, &scripts.classifier);
    assert_eq!((p.training.beta1, s.training.beta1), (0.7, 0.8));
    assert_eq!((paper.finetune.training.drop_weight, scripts.finetune.training.drop_weight), (0.5, 0.2));
    assert_eq!(scripts.finetune.steps(4)[0].lr, [4e-3 / 6.0, 4e-3 / 3.0, 4e-3, 2e-3]);
    assert_eq!(paper.finetune.steps(4)[0].lr[3] / paper.finetune.steps(4)[0].lr[2], 2.6);
    assert_eq!((p.steps(5).len(), s.steps(5).len()), (5, 3));
    assert_eq!(p.steps(5)[0].schedule, Schedule::STLR);
    let clr = |cut_frac| Schedule::Stlr { cut_frac, ratio: 8.0 };
    let schedules: Vec<_> = s.steps(5).iter().map(|step| step.schedule).collect();
    assert_eq!(schedules, [clr(1.0 / 3.0), clr(1.0 / 3.0), clr(0.125)]);
    assert_eq!((p.training.batch_size, s.training.batch_size, s.training.valid_batch_size), (64, 32, 64));
    assert_eq!((p.training.clip, s.training.clip), (Some(0.25), Some(25.0)));
    assert_eq!((p.training.weight_decay, s.training.weight_decay), (1.2e-6, 1e-6));
    assert_eq!((scripts.finetune.training.weight_decay, scripts.finetune.training.clip), (1e-7, Some(0.3)));
    assert_eq!((p.training.alpha, s.training.alpha, s.training.beta), (0.0, 2.0, 1.0));
    assert!(p.masking != s.masking);
    assert_eq!((p.training.windows, s.training.windows), (Windows::Variable, Windows::Fixed));
    assert_eq!((p.max_len_strict, s.max_len_strict, s.max_len), (false, true, 1400));
    assert!(paper.finetune.ar_on_dropped && !scripts.finetune.ar_on_dropped);
    assert!(paper.finetune.training.lr_rescale && !scripts.finetune.training.lr_rescale);
    assert_eq!((paper.pretrain.loss, scripts.pretrain.loss), (LossName::Full, LossName::Sampled));
    assert_eq!((p.training.vocab_size, s.training.vocab_size), (Some(60_002), Some(30_002)));
    assert!(!p.training.reset_optimiser && s.training.reset_optimiser);
    for recipe in names().map(|name| Recipe::named(name).unwrap()) {
        assert!(!recipe.finetune.test_text, "{} is transductive", recipe.name);
    }
}

#[test]
fn the_other_recipes_have_their_published_numbers() {
    let v1 = Recipe::named("fastai1").unwrap();
    let head: Vec<f64> = v1.classifier.steps(5).iter().map(|step| step.lr[4]).collect();
    assert_eq!(head, [0.1, 0.05, 0.025, 0.005]);
    assert_eq!((v1.model.hidden, v1.pretrain.training.bptt, v1.classifier.training.clip), (1152, 80, Some(0.1)));

    let v2 = Recipe::named("fastai2").unwrap();
    assert_eq!(v2.classifier.training.schedule(0, 4), Schedule::OneCycle(crate::optim::schedule::OneCycle::V2));
    let lowest = v2.classifier.steps(5)[1].lr[0];
    assert!((lowest - 1e-2 / 2.6f64.powi(4)).abs() < 1e-12);
    let t = &v2.classifier.training;
    assert_eq!((t.eps, t.weight_decay, t.weight_decay_decoupled, t.clip), (1e-5, 0.01, true, None));
    assert_eq!((v2.classifier.norm_bias_init, v2.classifier.linear_bias, v2.classifier.max_len), (1e-3, false, 1440));
    assert_eq!(v2.classifier.head_drops(), [0.2, 0.1]);
    assert_eq!(v2.classifier.drops().weight, 0.25);

    let awd = Recipe::named("awd").unwrap().pretrain;
    let t = &awd.training;
    assert_eq!((t.lr[0], t.weight_decay, t.batch_size, t.optimiser), (30.0, 1.2e-6, 80, OptimiserName::NtAsgd));
    assert_eq!((awd.drops().input, awd.drops().output, t.nonmono), (0.65, 0.4, 5));
    assert_eq!(awd.steps(4), Recipe::named("awd").unwrap().pretrain.steps(4));
    assert_eq!(awd.steps(4)[0].lr, [30.0; 4]);
}

#[test]
fn the_recipes_of_the_qrnn() {
    let [awd, multifit] = ["awd-qrnn", "multifit"].map(|name| Recipe::named(name).unwrap());
    for recipe in [&awd, &multifit] {
        let m = &recipe.model;
        assert_eq!((m.encoder, m.emb, m.hidden, m.layers, m.zoneout), (EncoderName::Qrnn, 400, 1550, 4, 0.0));
        let expected =
            nn::QrnnSettings { vocabulary: 9, embedding: 400, hidden: 1550, layers: 4, pad: Some(1), zoneout: 0.0 };
        assert_eq!(recipe.encoder(9), expected.into());
    }
    let t = &awd.pretrain.training;
    assert_eq!(
        (t.lr[0], t.batch_size, t.optimiser, awd.pretrain.drops().weight),
        (30.0, 40, OptimiserName::NtAsgd, 0.1)
    );
    assert_eq!(
        (multifit.text.tokenizer, multifit.classifier.training.vocab_size),
        (TokenizerName::Subword, Some(15_000))
    );
    assert_eq!(multifit.pretrain.drops(), nn::DropRates::default());
    let steps = multifit.finetune.steps(5);
    let plan: Vec<_> = steps.iter().map(|step| (step.trains.iter().filter(|t| **t).count(), step.epochs)).collect();
    assert_eq!(plan, [(1, 1), (5, 20)]);
    let c = &multifit.classifier;
    assert_eq!((c.label_smoothing, c.training.drop_mult, c.steps(6).len()), (0.1, 0.5, 1));
    let rates = &c.steps(6)[0].lr;
    assert!((rates[0] - 1e-2 / 2.6f64.powi(4)).abs() < 1e-12 && rates[5] == 2e-2, "{rates:?}");
    // the others are what they were
    for name in names().filter(|name| !["awd-qrnn", "multifit", "default"].contains(name)) {
        let recipe = Recipe::named(name).unwrap();
        assert_eq!((recipe.model.encoder, recipe.classifier.label_smoothing), (EncoderName::AwdLstm, 0.0), "{name}");
    }
}

#[test]
fn unfreezing_has_its_four_plans() {
    let trains = |unfreezing: &str, epochs: &str, groups| -> Vec<String> {
        let flags = [(Some(Stage::Classifier), "unfreezing", unfreezing), (Some(Stage::Classifier), "epochs", epochs)];
        let recipe = build("scripts", &flags).unwrap();
        let pattern = |trains: &[bool]| trains.iter().map(|&t| if t { '1' } else { '0' }).collect::<String>();
        let steps = recipe.classifier.steps(groups);
        steps.iter().map(|step| format!("{} {}", pattern(&step.trains), step.epochs)).collect()
    };
    assert_eq!(trains("gradual", "1,2,3", 5), ["00001 1", "00011 2", "11111 3"]);
    assert_eq!(trains("gradual", "1,1,1,1,9", 3), ["001 1", "011 1", "111 1", "111 1", "111 9"]);
    assert_eq!(trains("full", "1,1,3", 5), ["11111 1", "11111 1", "11111 3"]);
    assert_eq!(trains("full", "7", 5), ["11111 7"]);
    assert_eq!(trains("last", "4", 3), ["001 4"]);
    assert_eq!(trains("chain-thaw", "2,5", 4), ["0001 2", "1000 2", "0100 2", "0010 2", "1111 5"]);

    let flags = [(None, "unfreezing", "chain-thaw"), (None, "lr", "0.001")];
    let steps = build("scripts", &flags).unwrap().classifier.steps(3);
    assert_eq!(steps[0].lr, [1e-4, 1e-4, 1e-3]);
}

#[test]
fn a_bare_number_of_epochs_is_that_of_the_last_step() {
    // in whatever order the flags come
    for flags in
        [[(None, "epochs", "9"), (None, "unfreezing", "full")], [(None, "unfreezing", "full"), (None, "epochs", "9")]]
    {
        let recipe = build("fastai2", &flags).unwrap();
        assert_eq!(STAGES.map(|s| recipe.training(s).epochs.clone()), [vec![9], vec![9], vec![9]]);
    }
    let recipe = build("fastai2", &[(None, "epochs", "9")]).unwrap();
    assert_eq!(STAGES.map(|s| recipe.training(s).epochs.clone()), [vec![9], vec![1, 9], vec![1, 1, 1, 9]]);
}

#[test]
fn overrides_win_and_become_the_source() {
    let mut builder = Builder::new("scripts").unwrap();
    // the stage's own flag wins over the general one of the same source, the command line over the
    // file
    builder.flag(Some(Stage::Pretrain), "lr", "3e-3", "run.toml").unwrap();
    builder.flag(None, "lr", "2e-3", "run.toml").unwrap();
    builder.flag(None, "bptt", "50", "run.toml").unwrap();
    builder.flag(Some(Stage::Classifier), "bptt", "60", COMMAND_LINE).unwrap();
    builder.flag(None, "emb-size", "100", COMMAND_LINE).unwrap();
    builder.key("classifier.masking", "v1", COMMAND_LINE).unwrap();
    builder.key("classifier.clip", "none", COMMAND_LINE).unwrap();
    let recipe = builder.build().unwrap();
    assert_eq!(STAGES.map(|s| recipe.training(s).lr[0]), [3e-3, 2e-3, 2e-3]);
    assert_eq!(STAGES.map(|s| recipe.training(s).bptt), [50, 50, 60]);
    assert_eq!((recipe.model.emb, recipe.classifier.training.clip), (100, None));
    assert_eq!(recipe.row("pretrain.lr").unwrap().source, "run.toml");
    assert_eq!(recipe.row("classifier.bptt").unwrap().source, COMMAND_LINE);
    assert_eq!(recipe.row("classifier.masking").unwrap().text(), "v1");

    // a general flag of the command line wins over a stage's in the file
    let mut builder = Builder::new("scripts").unwrap();
    builder.flag(Some(Stage::Pretrain), "lr", "3e-3", "run.toml").unwrap();
    builder.flag(None, "lr", "1", COMMAND_LINE).unwrap();
    assert_eq!(builder.build().unwrap().pretrain.training.lr, [1.0]);
}

#[test]
fn discriminative_is_on_off_or_a_factor() {
    let ladders = |value| {
        let recipe = build("scripts", &[(None, "discriminative", value)]).unwrap();
        STAGES.map(|s| (recipe.training(s).ladder, recipe.training(s).ladder_factor))
    };
    assert_eq!(ladders("on")[1].0, LadderName::LmCode);
    assert_eq!(ladders("off").map(|l| l.0), [LadderName::Off; 3]);
    assert_eq!(ladders("3.5"), [(LadderName::Factor, 3.5); 3]);
    let recipe = build("fastai2", &[(None, "discriminative", "on")]).unwrap();
    assert_eq!(recipe.finetune.training.ladder(), crate::optim::Ladder::Factor(2.6));
}

#[test]
fn what_cannot_be_is_refused_by_its_flag() {
    let classifier = Some(Stage::Classifier);
    for (stage, flag, value, named, said) in [
        (None, "lr", "fast", "--lr", "expected a number or a list of them, found 'fast'"),
        (None, "lr", "nan", "--lr", "expected a number"),
        (None, "lr", "-1", "--lr", "positive"),
        (None, "lr", "0", "--lr", "positive"),
        (classifier, "bptt", "0", "--classifier-bptt", "from 1 to"),
        (None, "bptt", "1.5", "--bptt", "whole number"),
        (None, "bptt", "-3", "--bptt", "whole number"),
        (None, "batch-size", "none", "--batch-size", "expected"),
        (None, "epochs", "many", "--epochs", "whole number"),
        (None, "epochs", "0", "--epochs", "no epoch"),
        (None, "epochs", "1,x", "--epochs", "expected a number"),
        (None, "drop-mult", "9", "--drop-mult", "a rate is at most 1"),
        (None, "schedule", "sawtooth", "--schedule", "one of stlr, constant, cosine, one-cycle, found 'sawtooth'"),
        (None, "unfreezing", "none", "--unfreezing", "one of gradual, full, last, chain-thaw"),
        (None, "discriminative", "maybe", "--discriminative", "on, off or a number"),
        (None, "discriminative", "0", "--discriminative", "positive"),
        (None, "layers", "0", "--layers", "from 1 to 256"),
        (None, "emb-size", "99999999999", "--emb-size", "from 1 to"),
        (None, "vocab-size", "0", "--vocab-size", "at least 16"),
        (None, "valid-fraction", "1", "--valid-fraction", "less than 1"),
        (None, "tokenizer", "bytes", "--tokenizer", "one of word"),
        (None, "colour", "red", "--colour", "no recipe flag"),
        (classifier, "layers", "2", "--classifier-layers", "whole run"),
    ] {
        let message = refused("fastai2", &[(stage, flag, value)]);
        assert!(message.starts_with(named) && message.contains(said), "{flag} {value}: {message}");
        assert!(!message.contains('\n') && !message.contains("invalid type"), "{message}");
    }
    let mut builder = Builder::new("tiny").unwrap();
    let message = builder.flag(None, "wrong", "1", "my.toml").unwrap_err().to_string();
    assert!(message.starts_with("my.toml: wrong"), "{message}");
    let error = builder.key("classifier.max_length", "1", COMMAND_LINE).unwrap_err();
    assert!(error.to_string().contains("classifier.max_length is no key"), "{error}");
    assert!(Builder::new("recipe").unwrap_err().hint_text().unwrap().contains("fastai1"));
}

/// An adaptive softmax cuts a vocabulary of any size, in the recipes of the AWD code as that does.
#[test]
fn splits_are_a_name_or_a_list() {
    let splits = |recipe: &str, value: Option<&str>| {
        let mut builder = Builder::new(recipe).unwrap();
        if let Some(value) = value {
            builder.key("pretrain.splits", value, COMMAND_LINE).unwrap();
        }
        builder.build().map(|recipe| recipe.pretrain.splits)
    };
    assert_eq!(splits("fastai2", None).unwrap(), Splits::Auto);
    assert_eq!(splits("awd", None).unwrap(), Splits::Awd);
    assert_eq!(splits("awd-qrnn", None).unwrap(), Splits::Awd);
    assert_eq!(splits("awd", Some("auto")).unwrap(), Splits::Auto);
    assert_eq!(splits("fastai2", Some("8,14")).unwrap(), Splits::At(vec![8, 14]));
    assert_eq!(splits("fastai2", Some("none")).unwrap(), Splits::Awd);
    for (value, said) in [("many", "auto, awd or a list"), ("1.5", "one of auto, awd"), ("9,8", "ascend, not [9, 8]")] {
        let message = splits("fastai2", Some(value)).unwrap_err().to_string();
        assert!(message.contains(said) && message.contains("splits"), "{value}: {message}");
    }
    assert_eq!(Splits::Auto.of(30_000), [2_500, 10_000]);
    assert_eq!(Splits::Auto.of(100_000), [2_800, 20_000, 76_000]);
    assert_eq!((Splits::Auto.of(24), Splits::Auto.of(23)), (vec![2, 8], vec![]));
    assert_eq!((Splits::Awd.of(75_000), Splits::At(vec![8, 14]).of(14)), (vec![], vec![8]));
}

#[test]
fn a_recipe_survives_saving() {
    for name in names() {
        let recipe = build(name, &[(None, "lr", "0.003"), (None, "max-steps", "7")]).unwrap();
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
        assert!(serde_json::from_str::<Recipe>(&text.replace("\"model.emb\"", "\"model.embed\"")).is_err());
        assert!(serde_json::from_str::<Recipe>(&text.replace("[0.003]", "[-1.0]")).is_err());
    }
}

#[test]
fn printing_aligns_and_shows_the_stage_alone() {
    let recipe = build("scripts", &[(None, "lr", "1e-5")]).unwrap();
    let text = recipe.print(Stage::Pretrain);
    assert!(text.contains("pretrain.lr") && text.contains("model.emb") && !text.contains("classifier."));
    let column = |line: &str, word: &str| line.find(word).map(|i| line[..i].chars().count());
    let lr = text.lines().find(|l| l.starts_with("pretrain.lr ")).unwrap();
    let emb = text.lines().find(|l| l.starts_with("model.emb ")).unwrap();
    assert_eq!(column(lr, "1e-5"), column(emb, "400"));
    assert_eq!(column(lr, COMMAND_LINE), column(emb, "docs/SPEC.md"));
    assert_eq!(recipe.print(None).lines().count(), recipe.rows().len());
}

#[test]
fn per_step_lists_fit_any_number_of_steps() {
    let all = |values: &[u32], steps| (0..steps).map(|k| per_step(values, k, steps)).collect::<Vec<_>>();
    assert_eq!(all(&[5], 3), [5, 5, 5]);
    assert_eq!(all(&[1, 2], 4), [1, 1, 1, 2]);
    assert_eq!(all(&[1, 2, 3], 2), [1, 3]);
    assert_eq!(all(&[1, 2, 3], 1), [3]);
}

/// The peer's recipe as a configuration, with the rates that its comments state.
#[test]
fn the_peer_s_configuration_resolves() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/peer/trec.toml");
    let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let mut builder = Builder::new(table["recipe"].as_str().unwrap()).unwrap();
    assert_eq!(builder.config(&table, "trec.toml").unwrap(), ["recipe", "set"]);
    let recipe = builder.build().unwrap();
    assert_eq!((recipe.model.emb, recipe.model.hidden, recipe.model.layers), (100, 300, 2));
    assert_eq!(recipe.text.tokenizer, TokenizerName::Whitespace);
    assert_eq!(STAGES.map(|s| recipe.training(s).min_freq), [3, 2, 2]);
    let close = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f / e - 1.0).abs() < 1e-12), "{found:?}");
    };
    let pretrain = recipe.pretrain.steps(3);
    assert_eq!((pretrain.len(), &pretrain[0].trains, pretrain[0].epochs), (1, &vec![true; 3], 1));
    close(&pretrain[0].lr, &[5e-3; 3]);
    let finetune = recipe.finetune.steps(3);
    assert_eq!((finetune.len(), &finetune[0].trains, finetune[1].epochs), (2, &vec![false, false, true], 8));
    close(&finetune[1].lr, &[4e-4, 1.264911064067352e-3, 4e-3]);
    let classifier = recipe.classifier.steps(4);
    assert_eq!(classifier.iter().map(|s| s.epochs).collect::<Vec<_>>(), [1, 1, 1, 17]);
    for step in classifier {
        close(&step.lr, &[5.689576695493855e-4, 1.4792899408284023e-3, 3.846153846153846e-3, 1e-2]);
    }
    assert_eq!(recipe.classifier.training.valid_fraction, 0.0);
    assert_eq!(recipe.row("finetune.lr").unwrap().source, "trec.toml");
}

#[test]
fn configurations_take_flags_and_keys() {
    let config = |text: &str| {
        let mut builder = Builder::new("tiny").unwrap();
        let others = builder.config(&text.parse().unwrap(), "a.toml")?;
        builder.build().map(|recipe| (recipe, others))
    };
    let (recipe, others) =
        config("threads = 2\nlr = [1e-2, 1e-3]\n[classifier]\nmax_len = 900\nlinear_bias = true").unwrap();
    assert_eq!(others, ["threads"]);
    assert_eq!((recipe.pretrain.training.lr.as_slice(), recipe.classifier.max_len), (&[1e-2, 1e-3][..], 900));
    assert!(recipe.classifier.linear_bias);
    for (text, said) in [
        ("lr = \"x\"", "a.toml: lr: expected"),
        ("[classifier]\nbptt = -1", "a.toml: bptt in [classifier]: expected a whole number"),
        ("[finetune]\nmax_len = 9", "a.toml: max_len in [finetune] is no recipe flag"),
        ("lr = 1979-05-27", "the value of 'lr' must be"),
        ("[pretrain]\nlr = inf", "a.toml: lr in [pretrain]: expected a number"),
        ("[classifier]\nmax_len = 0", "a.toml: classifier.max_len: max_len must be at least 1"),
    ] {
        let message = config(text).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    }
}

/// The default recipe smooths labels; a number has none. Asked for by the user, it is refused.
#[test]
fn a_number_has_no_labels_to_smooth() {
    let with = |more: Option<&str>| {
        let mut builder = Builder::new("default").unwrap();
        builder.key("classifier.task", "regression", "test").unwrap();
        more.into_iter().for_each(|value| builder.key("classifier.label_smoothing", value, "test").unwrap());
        builder.build()
    };
    assert_eq!(Builder::new("default").unwrap().build().unwrap().classifier.label_smoothing, 0.1);
    assert_eq!(with(None).unwrap().classifier.label_smoothing, 0.0);
    assert!(with(Some("0.1")).unwrap_err().to_string().contains("has no meaning for --task regression"));
}
