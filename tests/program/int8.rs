//! `--precision int8`: near to f32, the same alone as among others, and for prediction alone.

use std::path::Path;

use serde_json::Value;

use crate::support::{Data, SIZES, STAGE, classifier, json, json_lines, refused, text, ulmfit, words};

const TEXTS: [&str; 6] = [
    "a good film",
    "it was bad and long, a bad film",
    "",
    "ξ",
    "a good good good film it was a fine story and it was great",
    "sad awful poor bad",
];

fn said(model: &str, flags: &[&str], texts: &[&str]) -> Vec<Value> {
    let line = words(&[&["predict", "--quiet", "--model", model], flags, texts]);
    json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout))
}

/// The largest difference of a probability, and whether there is any.
fn difference(a: &[Value], b: &[Value]) -> f64 {
    let of = |value: &Value| -> Vec<f64> {
        value["probabilities"].as_object().into_iter().flatten().filter_map(|(_, p)| p.as_f64()).collect()
    };
    let pairs = a.iter().zip(b).flat_map(|(a, b)| of(a).into_iter().zip(of(b)));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn answers_are_near_those_of_f32_and_depend_on_their_text_alone() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("int8");
    let data = Data::new(&root);
    let train = data.path("train.csv");
    let learn = ["--epochs", "8", "--lr", "0.02", "--drop-mult", "0.1", "--min-freq", "1", "--batch-size", "8"];
    for (name, flags) in [("lstm", &[][..]), ("qrnn", &["--encoder", "qrnn"]), ("v1", &["--recipe", "fastai1"])] {
        let out = data.path(name);
        let recipe = if flags.contains(&"--recipe") { &[][..] } else { &["--recipe", "tiny"] };
        let sizes = ["--emb-size", "20", "--hidden-size", "37", "--layers", "2", "--bptt", "10", "--overwrite"];
        let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--unfreezing", "full"];
        json(&words(&[&line, recipe, &sizes, &learn, flags]));
        let (full, eight) = (said(&out, &[], &TEXTS), said(&out, &["--precision", "int8"], &TEXTS));
        let far = difference(&full, &eight);
        assert!(far > 0.0 && far < 0.02, "{name}: {far}");
        for (text, together) in TEXTS.iter().zip(&eight) {
            assert_eq!(&said(&out, &["--precision", "int8"], &[text])[0], together, "{name}: '{text}' alone");
        }
        for threads in ["1", "3"] {
            assert_eq!(said(&out, &["--precision", "int8", "--threads", threads], &TEXTS), eight, "{name}");
        }
        let line = ["evaluate", "--model", &out, "--data", &data.path("test.csv"), "--precision"];
        let of = |precision: &str| json(&words(&[&line, &[precision]]))["error"].as_f64().unwrap();
        assert!((of("int8") - of("f32")).abs() <= 100.0 / 12.0, "{name}: one of twelve at most");
    }
}

/// The sums are the same on every path: what differs between instruction sets is the rounding of
/// gates.
#[test]
fn instruction_sets_agree() {
    let model = classifier().to_str().unwrap();
    let of = |isa: &str| {
        let line = words(&[&["predict", "--quiet", "--model", model, "--precision", "int8"], &TEXTS]);
        let output = ulmfit(&line).env("ULMFIT_ISA", isa).output().unwrap();
        if !output.status.success() {
            eprintln!("skipped {isa}: {}", text(&output.stderr).trim());
            return None;
        }
        Some(json_lines(&text(&output.stdout)))
    };
    let plain = of("portable").unwrap();
    let [avx2, avx512] = ["avx2", "avx512"].map(of);
    for found in [&avx2, &avx512].into_iter().flatten() {
        assert!(difference(found, &plain) < 1e-5);
    }
    if let (Some(avx2), Some(avx512)) = (&avx2, &avx512) {
        assert_eq!(avx2, avx512, "fused both: the same bits");
    }
}

#[test]
fn language_models_are_measured_in_it() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(root.path());
    let (corpus, lm) = (data.path("corpus.txt"), data.path("lm"));
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &lm], SIZES, STAGE]));
    let loss = |precision: &str| {
        let line = ["evaluate", "--model", &lm, "--data", &corpus, "--precision", precision];
        json(&line)["loss"].as_f64().unwrap()
    };
    let (full, eight) = (loss("f32"), loss("int8"));
    assert!(full != eight && (full - eight).abs() < 0.01, "{full} {eight}");
}

#[test]
fn it_is_refused_where_something_is_learned() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(root.path());
    let (corpus, train, out) = (data.path("corpus.txt"), data.path("train.csv"), data.path("out"));
    let model = classifier().to_str().unwrap();
    let commands: [&[&str]; 5] = [
        &["pretrain", "--corpus", &corpus, "--out", &out],
        &["train-classifier", "--model", "none", "--train", &train, "--out", &out],
        &["run", "--train", &train, "--out", &out],
        &["explain", "--model", model, "a film"],
        &["gradcheck"],
    ];
    for command in commands {
        let mut command = ulmfit(&words(&[command, &["--precision", "int8", "--quiet"]]));
        refused(&mut command, 2, &["--precision int8 is for prediction"]);
    }
    assert!(!Path::new(&out).exists());
    let suite = ["bench", "--suite", "ops", "--precision", "int8", "--quiet"];
    refused(&mut ulmfit(&suite), 2, &["--precision int8 is for prediction", "--suite predict"]);
    let mut gpu = assert_cmd::Command::cargo_bin("ulmfit").unwrap();
    gpu.args(["predict", "--model", model, "--device", "cuda", "--precision", "int8", "--quiet", "x"]);
    refused(&mut gpu, 2, &["--precision int8 computes on the CPU alone"]);
}

/// Verified against f64 with the same rounding before anything is timed.
#[test]
fn the_benchmark_knows_it() {
    let line = ["bench", "--suite", "predict", "--quick", "--reduced", "--precision", "int8"];
    let found = json(&line);
    let rows = found["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "predict_short").expect("a row of a short text");
    assert!(row["precision"] == "int8" && row["error"].as_f64().unwrap() > 0.0, "{row}");
    assert!(row["peak_fraction"].is_null(), "{row}");
}
