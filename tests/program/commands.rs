//! Planning, the learning-rate range test and the softmax variants, through the binary.

use std::path::Path;

use crate::support::{self, Data, Numbers, SIZES, STAGE, json, json_lines, text, ulmfit, words};
use serde_json::Value;

/// More epochs than [`STAGE`] has.
const LONGER: &[&str] = &["--epochs", "12"];

fn place() -> (tempfile::TempDir, Data) {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    (root, data)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn the_papers_model_is_planned() {
    let sizes = ["--recipe", "paper", "--vocab-size", "30000", "--batch-size", "64", "--bptt", "70"];
    let fixed = ["--set", "pretrain.windows=fixed", "--threads", "1"];
    let plan = json(&words(&[&["plan", "pretrain"], &sizes, &fixed]));
    // 30000·400 + 4·1150·(400+1150+2) + 4·1150·(1150+1150+2) + 4·400·(1150+400+2)
    assert_eq!(plan["sizes"]["parameters"], 12_000_000 + 7_139_200 + 10_589_200 + 2_483_200);
    // two operations for every weight of the products in each direction, thrice
    let weights = 30_000 * 400 + 4 * 1150 * (400 + 1150) + 4 * 1150 * (1150 + 1150) + 4 * 400 * (1150 + 400);
    assert_eq!(number(&plan["flop"]["per_step"]), 6.0 * f64::from(weights) * 4480.0);
    let bytes = &plan["bytes"];
    let parts = ["parameters", "gradients", "optimiser", "best", "start", "pool", "packing", "program"];
    let sum: f64 = parts.iter().map(|part| number(&bytes[part])).sum();
    assert_eq!(number(&bytes["total"]), sum);
    assert!(number(&bytes["pool"]) > 0.0);
    let classifier = json(&words(&[&["plan", "train-classifier", "--classes", "6", "--length", "400"], &sizes]));
    assert_eq!((&classifier["sizes"]["classes"], &classifier["sizes"]["length"]), (&6.into(), &400.into()));
    assert!(number(&classifier["flop"]["backward"]) > number(&classifier["flop"]["forward"]));
}

#[test]
fn a_plan_says_whether_it_fits() {
    let line = ["plan", "pretrain", "--recipe", "tiny", "--memory-limit"];
    assert_eq!(json(&words(&[&line, &["4GiB"]]))["fits"], true);
    let assert = ulmfit(&words(&[&line, &["1MB", "--json"]])).assert().code(1);
    let output = assert.get_output();
    assert_eq!(support::last_line(&output.stdout)["fits"], false);
    assert!(text(&output.stderr).contains("--memory-limit"), "{}", text(&output.stderr));
    let unlimited = ulmfit(&["plan", "pretrain", "--recipe", "awd"]).assert().code(2);
    assert!(text(&unlimited.get_output().stderr).contains("--vocab-size"));
}

/// Bytes of the pool that a stage reports after the updates of its first epoch, and in the end.
fn pools(out: &str) -> [f64; 2] {
    let metrics = json_lines(&text(&std::fs::read(Path::new(out).join("metrics.jsonl")).unwrap()));
    let steps: Vec<_> = metrics.iter().filter(|m| m["pool_bytes"].is_number()).collect();
    let first = steps.iter().take_while(|m| m["epoch"] == steps[0]["epoch"]).last().unwrap();
    [first, *steps.last().unwrap()].map(|m| number(&m["pool_bytes"]))
}

/// The pool of a real run, to the byte: of its updates, and after evaluations, whose share the
/// second epoch shows.
#[test]
fn a_plan_is_what_a_run_takes() {
    let (root, data) = place();
    let place = |name: &str| root.path().join(name).to_str().unwrap().to_string();
    let settings = words(&[SIZES, &["--batch-size", "4", "--bptt", "10", "--min-freq", "1"]]);
    let common = ["--set", "text.vocab_multiple=1", "--tokenizer", "whitespace", "--set"];
    let check = |stage: &str, name: &str, input: &[&str], more: &[&str], planned: &[&str]| {
        let out = place(name);
        let settings = words(&[&settings, more, &["--epochs", "2"]]);
        json(&words(&[&[stage], input, &["--out", &out], &settings]));
        let config: Value = serde_json::from_slice(&std::fs::read(format!("{out}/config.json")).unwrap()).unwrap();
        let v = config.pointer("/architecture/encoder/vocabulary").expect("a vocabulary").to_string();
        let plan = json(&words(&[&["plan", stage], &settings, planned, &["--vocab-size", &v]]));
        let bytes = |key: &str| number(&plan["bytes"][key]);
        assert_eq!(pools(&out)[1], bytes("pool"), "{name}: the run, and {plan}");
        // a classifier's first epoch takes less: not all of it learns yet
        if stage == "pretrain" {
            assert_eq!(pools(&out)[0], bytes("activations") + bytes("workspace"), "{name}: updates, and {plan}");
        }
    };
    let corpus = data.path("corpus.txt");
    let input = ["--corpus", &corpus];
    let whole =
        ["pretrain.windows=fixed", "--set", "pretrain.valid_fraction=0.3", "--set", "pretrain.valid_batch_size=2"];
    for (name, more) in [
        ("full", &[][..]),
        ("bf16", &["--precision", "bf16"]),
        ("sampled", &["--set", "pretrain.loss=sampled", "--set", "pretrain.negatives=5"]),
        ("adaptive", &["--set", "pretrain.loss=adaptive", "--set", "pretrain.splits=6,11"]),
        ("regularised", &["--set", "pretrain.alpha=2", "--set", "pretrain.beta=1", "--set", "pretrain.drop_mult=0.5"]),
    ] {
        check("pretrain", name, &input, &words(&[&common, &whole, more]), &[]);
    }
    // documents of one length, which batches fill: twelve words and what marks their beginning
    let words_of = |d: usize| (0..12).map(|i| format!("word{}", (d + i * i) % 20)).collect::<Vec<_>>().join(" ");
    let line = |d: usize| format!("{},{}\n", ["neg", "pos"][d % 2], words_of(d));
    let even = |name: &str, n: usize| data.write(name, format!("label,text\n{}", (0..n).map(line).collect::<String>()));
    let (train, valid) = (even("even.csv", 16), even("valid.csv", 8));
    let input = ["--model", "none", "--train", &train, "--valid", &valid];
    let more = words(&[&common, &["classifier.windows=fixed", "--set", "classifier.valid_batch_size=4"]]);
    check("train-classifier", "classifier", &input, &more, &["--length", "13"]);
}

fn range_test(line: &[&str], plot: &Path) -> Value {
    let found = json(&words(&[line, SIZES, STAGE, &["--plot", plot.to_str().unwrap()]]));
    let points = found["points"].as_array().unwrap();
    let rates: Vec<f64> = points.iter().map(|p| number(&p["rate"])).collect();
    assert!(rates.len() > 10 && rates.is_sorted_by(|a, b| a < b), "{rates:?}");
    let suggestion = number(&found["suggestion"]);
    assert!(rates.contains(&suggestion), "{suggestion} is no rate of the test");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    found
}

#[test]
fn a_rate_is_found_for_every_stage() {
    let (root, data) = place();
    let mut numbers = Numbers(2);
    let corpus: String = (0..1500).map(|_| numbers.sentence(&["the", "a", "cat", "sat", "on", "it"]) + "\n").collect();
    let (corpus, train) = (data.write("larger.txt", corpus), data.path("train.csv"));
    let plot = root.path().join("lr.svg");
    let pretrain = range_test(&["lr-find", "--model", "none", "--text", &corpus], &plot);
    // enough text for a curve without much noise: the model learns the words at once at rates that
    // are usual for Adam
    let suggestion = number(&pretrain["suggestion"]);
    assert!((1e-3..1.0).contains(&suggestion), "{suggestion}");
    assert_eq!(pretrain, range_test(&["lr-find", "--model", "none", "--text", &corpus, "--threads", "1"], &plot));
    range_test(&["lr-find", "--model", "none", "--train", &train], &plot);
    let out = root.path().join("lm").to_str().unwrap().to_string();
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &out], SIZES, STAGE]));
    range_test(&["lr-find", "--model", &out, "--text", &train], &plot);
    range_test(&["lr-find", "--model", &out, "--train", &train], &plot);
}

/// An adaptive softmax in both language-model stages: trained, measured, asked, and carried over to
/// another vocabulary.
#[test]
fn a_vocabulary_may_be_cut() {
    let (root, data) = place();
    let place = |name: &str| root.path().join(name).to_str().unwrap().to_string();
    let (corpus, train) = (data.path("corpus.txt"), data.path("train.csv"));
    let cut = ["--set", "pretrain.loss=adaptive", "--set", "pretrain.splits=10,13"];
    let (lm, tuned, classifier) = (place("lm"), place("tuned"), place("classifier"));
    let pretraining = json(&words(&[
        &["pretrain", "--corpus", &corpus, "--out", &lm],
        SIZES,
        &STAGE[..4],
        &STAGE[6..],
        &cut,
        LONGER,
    ]));
    let measured = json(&["evaluate", "--model", &lm, "--data", &corpus]);
    let (perplexity, accuracy) = (number(&measured["perplexity"]), number(&measured["accuracy"]));
    assert!(perplexity > 1.0 && perplexity < 18.0 && (0.0..=100.0).contains(&accuracy), "{measured}");
    // twelve words, drawn alike, and the ends of the lines: the model soon knows them from the rest
    // of the vocabulary
    assert!(number(&pretraining["perplexity"]) < 18.0, "{pretraining}");
    let line = ["finetune-lm", "--model", &lm, "--text", &train, "--out", &tuned, "--recipe", "tiny"];
    let tuning = json(&words(&[&line, &STAGE[..4], &STAGE[6..], LONGER]));
    assert!(number(&tuning["perplexity"]) < 18.0, "{tuning}");
    let weights = std::fs::read(Path::new(&tuned).join("model.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&weights[8..2048.min(weights.len())]).into_owned();
    assert!(header.contains("\"decoder.tail.weight\":{\"dtype\":\"F32\",\"shape\":[2,8]"), "as its base: {header}");
    let said = ulmfit(&["generate", "--model", &tuned, "--prompt", "the cat", "--length", "5"]).assert().success();
    assert!(text(&said.get_output().stdout).starts_with("the cat"));
    let line = ["train-classifier", "--model", &tuned, "--train", &train, "--out", &classifier, "--recipe", "tiny"];
    json(&words(&[&line, STAGE]));
}

#[test]
fn splits_must_ascend() {
    let (root, data) = place();
    let (corpus, out) = (data.path("corpus.txt"), root.path().join("lm").to_str().unwrap().to_string());
    let line = ["pretrain", "--corpus", &corpus, "--out", &out, "--set", "pretrain.splits=9,3"];
    let assert = ulmfit(&words(&[&line, SIZES, STAGE])).assert().code(2);
    assert!(text(&assert.get_output().stderr).contains("pretrain.splits"));
}

/// Every command that computes does so in the format asked for: results near those of f32, but not
/// the same; one thread and two give the same bits.
#[test]
fn products_in_bf16_reach_every_stage() {
    let (root, data) = place();
    let (train, test) = (data.path("train.csv"), data.path("test.csv"));
    let mut numbers = Numbers(3);
    let corpus: String = (0..60).map(|_| numbers.sentence(&["the", "a", "cat", "sat", "on", "it"]) + "\n").collect();
    let corpus = data.write("small.txt", corpus);
    let trained = |name: &str, more: &[&str]| {
        let place = |stage: &str| root.path().join(format!("{name}-{stage}")).to_str().unwrap().to_string();
        let [lm, tuned, classifier] = ["lm", "tuned", "classifier"].map(place);
        json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &lm], SIZES, STAGE, more]));
        json(&words(&[&["finetune-lm", "--model", &lm, "--text", &train, "--out", &tuned], STAGE, more]));
        let last = ["train-classifier", "--model", &tuned, "--train", &train, "--out", &classifier];
        json(&words(&[&last, &["--batch-size", "4", "--epochs", "1"], more]));
        let losses = [&lm, &tuned]
            .map(|model| number(&json(&words(&[&["evaluate", "--model", model, "--data", &train], more]))["loss"]));
        let classified = json(&words(&[&["evaluate", "--model", &classifier, "--data", &test], more]));
        let weights =
            [lm, tuned, classifier].map(|model| std::fs::read(Path::new(&model).join("model.safetensors")).unwrap());
        (weights, [losses[0], losses[1], number(&classified["loss"])])
    };
    let (full, full_losses) = trained("full", &[]);
    let (half, half_losses) = trained("half", &["--precision", "bf16"]);
    let one_thread = trained("one", &["--precision", "bf16", "--threads", "1"]);
    assert!(
        (&half, half_losses) == (&one_thread.0, one_thread.1),
        "one thread: {half_losses:?} and {:?}",
        one_thread.1
    );
    for stage in 0..3 {
        assert!(full[stage] != half[stage], "stage {stage}: the same weights");
        let [a, b] = [full_losses[stage], half_losses[stage]];
        assert!(a != b && (a / b - 1.0).abs() < 0.01, "stage {stage}: {a} and {b}");
    }
}

/// A run goes on in the precision that it was begun in.
#[test]
fn a_run_keeps_its_precision() {
    let (root, data) = place();
    let (corpus, out) = (data.path("corpus.txt"), root.path().join("lm").to_str().unwrap().to_string());
    let line = words(&[&["pretrain", "--corpus", &corpus, "--out", &out], SIZES, STAGE]);
    json(&line);
    let other = ulmfit(&words(&[&line, &["--quiet", "--resume", "--precision", "bf16"]])).assert().code(2);
    let message = text(&other.get_output().stderr);
    assert!(message.contains(r#"--resume: --precision was not set in the stopped run and is "bf16" now"#), "{message}");
}
