//! Commands through the binary on the simulated GPU: what they count, what they say, and that they
//! answer as the CPU does.

use crate::sim;
use crate::support::{self, Data, SIZES, STAGE, words};
use serde_json::Value;

/// The binary on the simulated GPU.
fn simulated(line: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("ulmfit").unwrap();
    command.args(line).args(["--device", sim::device()]).env_remove("ULMFIT_CUDASIM").env_remove("ULMFIT_LOG");
    command
}

fn json(line: &[&str]) -> Value {
    let output = simulated(line).args(["--json", "--quiet"]).assert().success().get_output().clone();
    let noise = support::text(&output.stderr);
    assert!(!noise.contains("cudasim:"), "{noise}");
    support::last_line(&output.stdout)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn sum(rows: &[&Value], key: &str) -> f64 {
    rows.iter().map(|row| number(&row[key])).sum()
}

/// The keys of docs/CLI.md are there; a time is not, and what is projected says so.
fn check(found: &Value) {
    assert!(found["step_ms"].is_null() && found["projected"] == true, "{found}");
    assert_eq!(found["note"], "projected from counts; nothing was timed");
    let rows: Vec<&Value> = found["rows"].as_array().unwrap().iter().collect();
    assert!(!rows.is_empty());
    for row in &rows {
        assert!(["op", "layer", "direction", "phase", "bound"].iter().all(|key| row[key].is_string()), "{row}");
        assert!(row["ms"].is_null() && row.as_object().unwrap().contains_key("ms"), "{row}");
        assert!(row["peak_fraction"].is_null() || (0.0..=1.0).contains(&number(&row["peak_fraction"])), "{row}");
        assert!(
            number(&row["projected_ms"]) > 0.0 && number(&row["bytes"]) <= number(&row["requested_bytes"]),
            "{row}"
        );
    }
    let step = number(&found["projected_step_ms"]);
    assert!((sum(&rows, "projected_ms") / step - 1.0).abs() < 1e-9);
    let bounds: f64 = found["bounds"].as_object().unwrap().values().map(number).sum();
    assert!((bounds / step - 1.0).abs() < 1e-9);
    assert_eq!(sum(&rows, "calls"), number(&found["launches"]) + number(&found["copies"]));
    assert_eq!((sum(&rows, "flop"), sum(&rows, "bytes")), (number(&found["flop"]), number(&found["bytes"])));
}

#[test]
fn a_step_is_counted_and_projected() {
    if sim::lacks_simulator("what is counted and presented") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let corpus = data.path("corpus.txt");
    let before = support::snapshot(root.path());
    let line = words(&[&["profile", "pretrain", "--corpus", &corpus], SIZES, STAGE, &["--gpu-model", "a100"]]);
    let found = json(&line);
    check(&found);
    assert!(before == support::snapshot(root.path()), "a profile writes nothing");
    // sizes that were asked for are counted
    assert_eq!(
        (&found["sizes"]["bptt"], &found["sizes"]["reduced"], &found["tokens"]),
        (&10.into(), &Value::Array(vec![]), &40.into())
    );
    let gpu = &found["gpu"];
    assert_eq!(
        (&gpu["model"], &gpu["f32_gflops"], &gpu["memory_gbs"]),
        (&"a100".into(), &19500.0.into(), &1555.0.into())
    );
    assert!(gpu["source"].as_str().unwrap().contains("NVIDIA A100"), "{gpu}");

    // who launched what: the products of a layer forward, W_ih·x of 40 rows, 12 units and 8 inputs,
    // are counted as they are padded to a tile
    let rows = found["rows"].as_array().unwrap();
    let of = |op: &str, layer: &str, direction: &str, phase: &str| {
        let same = |row: &&Value| {
            [&row["op"], &row["layer"], &row["direction"], &row["phase"]] == [op, layer, direction, phase]
        };
        rows.iter().find(same).unwrap_or_else(|| panic!("no {op} {layer} {direction} {phase} in {found}")).clone()
    };
    let product = of("lstm", "lstm1", "forward", "gemm_nt_small");
    assert_eq!((&product["calls"], &product["bank_conflicts"]), (&1.into(), &0.into()));
    assert!(number(&product["flop"]) >= 2.0 * 64.0 * 64.0 * 8.0, "{product}");
    for layer in ["lstm1", "lstm2"] {
        assert_eq!(of("lstm", layer, "forward", "lstm_forward_4x16")["calls"], 1);
        assert_eq!(of("lstm", layer, "backward", "lstm_backward_4x16")["calls"], 1);
    }
    of("tied_softmax", "decoder", "forward", "softmax_rows");
    of("embedding", "embedding", "backward", "embedding_backward");
    // one launch for all parameters
    assert_eq!(of("adam", "", "update", "adam_update")["calls"], 1);

    // the sizes of a recipe are reduced, which is said
    let line = words(&[&["profile", "pretrain", "--corpus", &corpus], SIZES, &["--min-freq", "1", "--quiet"]]);
    let output = simulated(&line).assert().success().get_output().clone();
    let shown = support::text(&output.stdout);
    for part in [
        "pretrain on NVIDIA H100",
        ": projected from counts; nothing was timed",
        "reduced for the simulator: pretrain.bptt 2 instead of 40",
        "bound by",
        "launch latency",
        "launches",
        "GFLOP/s f32",
    ] {
        assert!(shown.contains(part), "no '{part}' in {shown}");
    }
    assert!(!shown.contains(" ms"), "nothing that looks like a measured time: {shown}");
    let line = ["profile", "pretrain", "--corpus", &corpus, "--trace", &data.path("step.json"), "--device", "cudasim"];
    let mut command = assert_cmd::Command::cargo_bin("ulmfit").unwrap();
    support::refused(command.args(line), 2, &["--trace shows times, and on cudasim nothing is timed"]);
}

#[test]
fn a_step_of_a_classifier_is_counted() {
    if sim::lacks_simulator("what is counted and presented") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let train = data.path("train.csv");
    let line = ["profile", "train-classifier", "--model", "none", "--train", &train, "--min-freq", "1"];
    let found = json(&words(&[&line, SIZES]));
    check(&found);
    assert_eq!((&found["documents"], &found["sizes"]["batch_size"]), (&2.into(), &2.into()));
    assert_eq!(found["sizes"]["reduced"][0], "classifier.batch_size 2 instead of 16");
    let rows = found["rows"].as_array().unwrap();
    for (op, layer) in [("concat_pool", "pooling"), ("batch_norm", "head1"), ("linear", "head2")] {
        assert!(rows.iter().any(|row| row["op"] == op && row["layer"] == layer), "{op} {layer}");
    }
}

/// Which plan the LSTM takes on a GPU, and why; nothing of it on the CPU.
#[test]
fn plans_of_the_lstm_are_shown() {
    if sim::lacks_simulator("what is counted and presented") {
        return;
    }
    let plans = |value: &Value| -> Vec<String> {
        let all = value["lstm"].as_array().unwrap();
        all.iter()
            .map(|p| format!("{} {} {} {}", p["hidden"], p["batch"], p["direction"], p["plan"]).replace('"', ""))
            .collect()
    };
    let found = json(&["info"]);
    let expected = [
        "1150 64 forward persistent",
        "1150 64 backward persistent",
        "400 64 forward persistent",
        "400 64 backward persistent",
    ];
    assert_eq!(plans(&found), expected);
    let first = &found["lstm"][0];
    assert_eq!((&first["blocks"], &first["units"], &first["rows"]), (&128.into(), &9.into(), &64.into()));
    assert_eq!(first["reason"], "128 blocks of 9 units keep W_hh in 194 KiB each");
    let found = json(&["info", "--gpu-model", "v100"]);
    assert_eq!(plans(&found)[0], "1150 64 forward step_wise");
    assert!(
        found["lstm"][0]["reason"].as_str().unwrap().contains("multiprocessors are more than")
            && found["lstm"][0]["blocks"].is_null()
    );

    let line = ["plan", "pretrain", "--recipe", "tiny", "--emb-size", "8", "--hidden-size", "12", "--batch-size", "4"];
    assert_eq!(
        plans(&json(&line)),
        ["12 4 forward persistent", "12 4 backward persistent", "8 4 forward persistent", "8 4 backward persistent"]
    );
    assert!(support::json(&line)["lstm"].is_null() && support::json(&["info"])["lstm"].is_null());
    for line in [&["info"][..], &line] {
        let output = simulated(line).assert().success().get_output().clone();
        let shown = support::text(&output.stdout);
        assert!(shown.contains("persistent: ") && shown.contains("blocks of"), "{shown}");
    }
}

/// A language model there continues, scores and finds a rate as here.
#[test]
fn a_language_model_answers_as_on_the_cpu() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let (corpus, model) = (data.path("corpus.txt"), data.path("lm"));
    support::json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &model], SIZES, STAGE]));
    let near = |a: &Value, b: &Value| {
        let (a, b) = (number(a), number(b));
        assert!((a - b).abs() <= 1e-4 * a.abs().max(b.abs()), "{a} and {b}");
    };
    let line = ["generate", "--model", &model, "--prompt", "the cat", "--length", "8", "--top-k", "1"];
    let (there, here) = (json(&line), support::json(&line));
    assert!(there["text"].as_str().unwrap().len() > "the cat".len() && there["text"] == here["text"], "{there} {here}");

    let texts = data.write("texts.txt", "the cat sat on a dog\na good film was good\nstory\n");
    let line = ["score", "--model", &model, "--input", &texts];
    let lines = |mut command: assert_cmd::Command| {
        support::json_lines(&support::text(&command.assert().success().get_output().stdout))
    };
    let (there, here) = (lines(simulated(&line)), lines(support::ulmfit(&line)));
    assert_eq!(there.len(), 3);
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there["tokens"], here["tokens"]);
        near(&there["perplexity"], &here["perplexity"]);
    }

    let line = words(&[&["lr-find", "--model", &model, "--text", &corpus], STAGE, &["--recipe", "tiny"]]);
    let (there, here) = (json(&line), support::json(&line));
    assert!(number(&there["suggestion"]) > 0.0, "{there}");
    let (there, here) = (there["points"].as_array().unwrap(), here["points"].as_array().unwrap());
    assert!(there.len() > 10 && !here.is_empty());
    // the first updates, before a large rate makes a last bit large
    for (there, here) in there.iter().zip(here).take(10) {
        assert_eq!(there["rate"], here["rate"]);
        near(&there["loss"], &here["loss"]);
    }
}

/// A model of words with two encoders learns there as here, and tags alike.
#[test]
fn a_tagger_learns_and_answers_as_on_the_cpu() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let sentence = |n: usize| {
        let (kind, next) = if n.is_multiple_of(2) { ("LOC", "river") } else { ("PER", "said") };
        let names =
            if n.is_multiple_of(3) { format!("Van B-{kind}\nBuren I-{kind}\n") } else { format!("Lena B-{kind}\n") };
        format!("the O\n{names}{next} O\n\n")
    };
    let train = data.write("train.conll", (0..12).map(sentence).collect::<String>());
    let stage = words(&[&["--base", "none", "--text", &train], SIZES, STAGE, &["--max-steps", "1"]]);
    let [forward, backward] = ["forward", "backward"].map(|direction| {
        let out = data.path(direction);
        support::json(&words(&[&["finetune-lm", "--direction", direction, "--out", &out], &stage]));
        out
    });
    let of = |out: &str| -> Vec<String> {
        let line =
            ["train-classifier", "--model", &forward, "--backward-model", &backward, "--train", &train, "--out", out];
        let flags = ["--recipe", "tiny", "--batch-size", "4", "--max-steps", "4", "--unfreezing", "full"];
        words(&[&line, &flags]).iter().map(ToString::to_string).collect()
    };
    let near = |a: &Value, b: &Value| {
        let (a, b) = (number(a), number(b));
        assert!((a - b).abs() <= 1e-4 * a.abs().max(b.abs()), "{a} and {b}");
    };
    let [on_cpu, on_gpu] = ["on-cpu", "on-gpu"].map(|name| data.path(name));
    fn borrowed(line: &[String]) -> Vec<&str> {
        line.iter().map(String::as_str).collect()
    }
    let (here, there) = (support::json(&borrowed(&of(&on_cpu))), json(&borrowed(&of(&on_gpu))));
    near(&there["train_loss"], &here["train_loss"]);
    near(&there["valid_loss"], &here["valid_loss"]);
    let line = ["evaluate", "--model", &on_cpu, "--data", &train];
    let (here, there) = (support::json(&line), json(&line));
    near(&there["loss"], &here["loss"]);
    assert_eq!((&there["f1"], &there["chunks"]), (&here["f1"], &here["chunks"]));
}

#[test]
fn models_of_other_programs_compute_the_same_on_a_gpu() {
    let fixture = support::root().join("tests/import/expected.safetensors");
    let report = json(&["golden", fixture.to_str().unwrap()]);
    assert_eq!((&report["files"], &report["failed"]), (&Value::from(1), &Value::from(0)), "{report}");
    assert!(number(&report["worst"]["error"]) < 1e-5, "{report}");
}
