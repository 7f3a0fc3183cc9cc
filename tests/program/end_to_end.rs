//! The stages, one after another and as one run, through the binary: results, files, exact
//! repetition, going on after a stop.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::{Data, SIZES, STAGE, copy_folder, json, json_lines, snapshot, text, ulmfit, words};
use serde_json::{Value, json};

/// A language model, fine-tuned, classifying; forward and backward.
struct Models {
    data: Data,
    root: PathBuf,
    pretrain: Value,
    finetune: Value,
    classifier: Value,
}

impl Models {
    fn directory(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_string()
    }
}

/// Trained once for all tests of this file that only ask models something.
fn models() -> &'static Models {
    static MODELS: OnceLock<Models> = OnceLock::new();
    MODELS.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("end-to-end");
        if root.exists() {
            std::fs::remove_dir_all(&root).unwrap();
        }
        let data = Data::new(&root.join("data"));
        let mut results = Vec::new();
        for (ending, direction) in [("", "forward"), ("-backward", "backward")] {
            let place = |name: &str| root.join(format!("{name}{ending}")).to_str().unwrap().to_string();
            let (lm, tuned, classifier) = (place("lm"), place("tuned"), place("classifier"));
            let (corpus, train, test) = (data.path("corpus.txt"), data.path("train.csv"), data.path("test.csv"));
            let line = ["pretrain", "--corpus", &corpus, "--out", &lm, "--direction", direction];
            results.push(json(&words(&[&line, SIZES, STAGE])));
            let line = ["finetune-lm", "--model", &lm, "--text", &train, "--out", &tuned, "--recipe", "tiny"];
            results.push(json(&words(&[&line, STAGE])));
            let line =
                ["train-classifier", "--model", &tuned, "--train", &train, "--test", &test, "--out", &classifier];
            results.push(json(&words(&[&line, &["--recipe", "tiny"], STAGE])));
        }
        let [pretrain, finetune, classifier, ..] = <[Value; 6]>::try_from(results).expect("six stages");
        Models { data, root, pretrain, finetune, classifier }
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0), "{a} and {b}");
}

#[test]
fn stages_give_what_the_contract_says() {
    let models = models();
    for result in [&models.pretrain, &models.finetune] {
        let keys = ["train_loss", "valid_loss", "perplexity", "bits_per_byte", "tokens", "tokens_per_second"];
        for key in keys.iter().chain(&["peak_rss_mb", "seconds", "steps"]) {
            assert!(number(&result[key]) > 0.0, "{key}: {result}");
        }
        close(number(&result["perplexity"]), number(&result["valid_loss"]).exp());
    }
    let result = &models.classifier;
    for key in ["valid_error", "test_error", "seconds"] {
        assert!(number(&result[key]) >= 0.0, "{key}: {result}");
    }
    assert_eq!((&result["test_size"], &result["label_names"]), (&json!(12), &json!(["neg", "pos"])));
}

#[test]
fn a_finished_stage_leaves_its_five_files() {
    let models = models();
    for name in ["lm", "tuned", "classifier", "classifier-backward"] {
        let mut files: Vec<_> = std::fs::read_dir(models.directory(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["config.json", "metrics.jsonl", "model.safetensors", "report.html", "vocab.json"], "{name}");
    }
}

#[test]
fn the_report_needs_nothing_from_elsewhere() {
    let page = std::fs::read_to_string(Path::new(&models().directory("classifier")).join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("classifier.lr"), "curves and recipe");
    // the name of the SVG language is a name, not a place that is looked up
    let mut page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    // what others wrote names its home; the policy lets the browser load nothing
    assert!(page.contains("default-src 'none'"));
    for name in ["uPlot.iife.min.js", "uPlot.min.css", "LICENSE"] {
        let theirs = std::fs::read_to_string(crate::support::root().join("src/report/uplot").join(name)).unwrap();
        assert!(page.contains(&theirs), "{name} is not in the report");
        page = page.replace(&theirs, "");
    }
    for part in ["http:", "https:", "<link", "<script src", "@import", "url(", "fetch(", "import("] {
        assert!(
            !page.contains(part),
            "{part} is in the report: {:?}",
            page.split_once(part).map(|(_, rest)| &rest[..80])
        );
    }
}

#[test]
fn metrics_hold_every_step() {
    for (name, result) in [("lm", &models().pretrain), ("classifier", &models().classifier)] {
        let steps = steps(&Path::new(&models().directory(name)).join("metrics.jsonl"));
        assert_eq!(steps.len() as f64, number(&result["steps"]), "{name}");
        for key in ["pool_allocations", "pool_bytes", "peak_rss_mb", "loss", "gradient_norm"] {
            assert!(steps.iter().all(|step| step[key].is_number()), "{name}: {key}");
        }
    }
}

/// The step events of a metrics file, which must be numbered from 1 without a gap or a repetition.
fn steps(path: &Path) -> Vec<Value> {
    let mut events = json_lines(&std::fs::read_to_string(path).unwrap());
    events.retain(|event| event["event"] == "step");
    let numbers: Vec<u64> = events.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    events
}

#[test]
fn a_classifier_is_evaluated() {
    let models = models();
    let (model, test) = (models.directory("classifier"), models.data.path("test.csv"));
    let place = tempfile::tempdir().unwrap();
    let saved = place.path().join("predictions.jsonl");
    let line = ["evaluate", "--model", &model, "--data", &test, "--predictions", saved.to_str().unwrap()];
    let result = json(&line);
    assert_eq!((&result["error"], &result["test_size"]), (&models.classifier["test_error"], &json!(12)));
    let (error, interval) = (number(&result["error"]), &result["interval"]);
    assert!(number(&interval[0]) <= error && error <= number(&interval[1]), "{result}");
    assert!(number(&interval[0]) >= 0.0 && number(&interval[1]) <= 100.0, "{result}");

    let row = |r: usize| -> Vec<f64> { result["confusion"][r].as_array().unwrap().iter().map(number).collect() };
    assert_eq!((row(0).iter().sum::<f64>(), row(1).iter().sum::<f64>()), (6.0, 6.0), "rows are the true classes");
    close(error, 100.0 * (row(0)[1] + row(1)[0]) / 12.0);

    let predictions = json_lines(&std::fs::read_to_string(&saved).unwrap());
    assert_eq!(predictions.len(), 12);
    let wrong = predictions.iter().filter(|p| p["label"] != p["true"]).count();
    close(error, 100.0 * wrong as f64 / 12.0);
    let truth: Vec<&Value> = predictions.iter().map(|p| &p["true"]).collect();
    assert!(truth.chunks(2).all(|pair| pair == ["neg", "pos"]), "in the order of the file");

    // the answers of `predict` for the same file
    let printed = ulmfit(&["predict", "--model", &model, "--input", &test, "--quiet"]).assert().success();
    for (predicted, saved) in json_lines(&text(&printed.get_output().stdout)).iter().zip(&predictions) {
        assert_eq!((&predicted["label"], &predicted["probabilities"]), (&saved["label"], &saved["probabilities"]));
    }
}

#[test]
fn a_language_model_is_evaluated() {
    let models = models();
    let corpus = models.data.path("corpus.txt");
    for (name, direction) in [("lm", "forward"), ("lm-backward", "backward")] {
        let result = json(&["evaluate", "--model", &models.directory(name), "--data", &corpus]);
        for key in ["loss", "perplexity", "bits_per_byte", "accuracy", "tokens"] {
            assert!(number(&result[key]) > 0.0, "{direction} {key}: {result}");
        }
        close(number(&result["perplexity"]), number(&result["loss"]).exp());
    }
}

const TEXTS: [&str; 4] = ["good fine great film", "bad", "", "the story was awful and sad, very sad indeed; poor film"];

fn predicted(line: &[&str], input: &str) -> Vec<Value> {
    let output = ulmfit(line).arg("--quiet").write_stdin(input).assert().success().get_output().clone();
    json_lines(&text(&output.stdout))
}

#[test]
fn predictions_come_in_input_order() {
    let models = models();
    let model = models.directory("classifier");
    let line = words(&[&["predict", "--model", &model], &TEXTS]);
    let answers = predicted(&line, "");
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[2], serde_json::json!({"label": null, "probabilities": null, "reason": "the text is empty"}));
    for answer in answers.iter().filter(|answer| !answer["label"].is_null()) {
        let probabilities = answer["probabilities"].as_object().unwrap();
        assert_eq!(probabilities.keys().collect::<Vec<_>>(), ["neg", "pos"]);
        assert!((probabilities.values().map(number).sum::<f64>() - 1.0).abs() < 1e-6, "{answer}");
        let best = if number(&probabilities["pos"]) > number(&probabilities["neg"]) { "pos" } else { "neg" };
        assert_eq!(answer["label"], best);
    }
    assert!(answers.iter().any(|a| a["probabilities"] != answers[0]["probabilities"]), "texts differ, so do answers");

    let mut reversed = TEXTS;
    reversed.reverse();
    let mut backwards = predicted(&words(&[&["predict", "--model", &model], &reversed]), "");
    backwards.reverse();
    assert_eq!(backwards, answers);

    let lines = TEXTS.map(|t| format!("{t}\n")).concat();
    assert_eq!(predicted(&["predict", "--model", &model, "--input", "-"], &lines), answers, "from standard input");
}

#[test]
fn an_ensemble_averages_probabilities() {
    let models = models();
    let (forward, backward) = (models.directory("classifier"), models.directory("classifier-backward"));
    let ask = |line: &[&str]| predicted(&words(&[&["predict"], line, &TEXTS]), "");
    let (first, second) = (ask(&["--model", &forward]), ask(&["--model", &backward]));
    let both = ask(&["--model", &forward, "--ensemble", &backward]);
    assert_ne!(first, second);
    for ((first, second), both) in first.iter().zip(&second).zip(&both).filter(|(_, both)| !both["label"].is_null()) {
        for label in ["neg", "pos"] {
            let p = |answer: &Value| number(&answer["probabilities"][label]);
            close(p(both), (p(first) + p(second)) / 2.0);
        }
    }
    let test = models.data.path("test.csv");
    let result = json(&["evaluate", "--model", &forward, "--ensemble", &backward, "--data", &test]);
    assert_eq!(result["test_size"], 12);
}

#[test]
fn text_is_continued_and_scored() {
    let models = models();
    let model = models.directory("tuned");
    let generate = |seed: &str| {
        let line = ["generate", "--model", &model, "--prompt", "the story", "--length", "20", "--seed", seed];
        json(&line)["text"].as_str().unwrap().to_string()
    };
    assert_eq!(generate("1"), generate("1"));
    assert!(generate("1").starts_with("the story "), "{}", generate("1"));
    assert!((2..6).any(|seed| generate(&seed.to_string()) != generate("1")), "the seed has a say");

    let scored = predicted(&["score", "--model", &model, "--input", "-"], "the film was good\n\nthe film was good\n");
    assert_eq!(scored.len(), 3);
    assert_eq!(scored[0], scored[2]);
    assert!(number(&scored[0]["perplexity"]) > 1.0 && scored[1]["perplexity"].is_null(), "{scored:?}");
    close(number(&scored[0]["perplexity"]), number(&scored[0]["loss"]).exp());
}

#[test]
fn a_whole_run_and_going_on_with_a_finished_one() {
    let place = tempfile::tempdir().unwrap();
    let data = Data::new(place.path());
    let paths = ["corpus.txt", "train.csv", "test.csv"].map(|name| data.path(name));
    let out = data.path("out");
    let [corpus, train, test] = &paths;
    let files = ["run", "--corpus", corpus, "--train", train, "--test", test, "--out", &out];
    let line = words(&[&files, &["--compare", "--bidirectional"], SIZES, STAGE]);
    let result = json(&line);
    for (stage, key) in [
        ("pretrain", "perplexity"),
        ("finetune_lm", "perplexity"),
        ("classifier", "valid_error"),
        ("classifier", "test_error"),
        ("from_scratch", "test_error"),
        ("linear", "test_error"),
    ] {
        assert!(number(&result[stage][key]) >= 0.0, "{stage}.{key}: {result}");
    }
    assert_eq!((&result["classifier"]["test_size"], &result["device"]), (&json!(12), &json!("cpu")));
    assert!(number(&result["seconds"]) > 0.0);
    assert!(place.path().join("out/classifier/linear.safetensors").is_file());
    let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("backward"), "the report shows both directions");

    // a finished run is left as it is
    let before = snapshot(&place.path().join("out"));
    assert_eq!(json(&words(&[&line, &["--resume"]])), result);
    assert!(snapshot(&place.path().join("out")) == before, "going on with a finished run changes nothing");

    // other flags are named and refused, and so is other text
    let other = ulmfit(&words(&[&line, &["--resume", "--quiet", "--classifier-lr", "0.5"]])).assert().code(2);
    let message = text(&other.get_output().stderr);
    assert!(message.contains("error: --resume: classifier.lr was") && message.contains("0.5"), "{message}");
    let extended = text(&data.read("train.csv")) + "pos,one more good film\n";
    data.write("train.csv", extended);
    let other = ulmfit(&words(&[&line, &["--resume", "--quiet"]])).assert().code(2);
    let message = text(&other.get_output().stderr);
    assert!(message.contains("the train data"), "{message}");
    assert!(snapshot(&place.path().join("out")) == before, "a refused run changes nothing");
}

#[test]
fn the_same_bits_again_and_on_any_number_of_threads() {
    let place = tempfile::tempdir().unwrap();
    let data = Data::new(place.path());
    let (corpus, train, test) = (data.path("corpus.txt"), data.path("train.csv"), data.path("test.csv"));
    let mut files: Vec<[Vec<u8>; 4]> = Vec::new();
    for (name, threads) in [("a", "1"), ("b", "1"), ("c", "2")] {
        let out = data.path(name);
        let inputs = ["run", "--corpus", &corpus, "--train", &train, "--test", &test];
        json(&words(&[&inputs, SIZES, STAGE, &["--out", &out, "--threads", threads]]));
        let file = |name: &str| std::fs::read(Path::new(&out).join(name)).unwrap();
        files.push([
            file("pretrain/model.safetensors"),
            file("finetune-lm/model.safetensors"),
            file("classifier/model.safetensors"),
            file("classifier/vocab.json"),
        ]);
    }
    assert!(files[0] == files[1], "twice the same");
    assert!(files[0] == files[2], "on one thread and on two");
    let out = data.path("d");
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &out, "--seed", "7"], SIZES, STAGE]));
    assert!(data.read("d/model.safetensors") != files[0][0], "another seed is another model");
}

/// Killed, interrupted and resumed: the bits of a run that was left alone.
#[cfg(unix)]
mod stopped {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Stdio};

    /// Starts the program and sends it a signal once it has written a checkpoint that was not there
    /// before. Returns its exit status (`None`: killed) and standard error.
    fn stop(line: &[&str], state: &Path, signal: &str) -> (Option<i32>, String) {
        let version = || std::fs::metadata(state).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        let before = version();
        let mut child: Child = std::process::Command::new(assert_cmd::cargo::cargo_bin("ulmfit"))
            .args(line)
            .args(["--quiet", "--device", "cpu"])
            .env_remove("ULMFIT_ISA")
            .env_remove("ULMFIT_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while version().is_none() || version() == before {
            if child.try_wait().unwrap().is_some() {
                panic!("ended before its first checkpoint: {}", text(&child.wait_with_output().unwrap().stderr));
            }
            std::thread::yield_now();
        }
        let kill = format!("kill -{signal} {}", child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }

    #[test]
    fn a_language_model() {
        let place = tempfile::tempdir().unwrap();
        let data = Data::new(place.path());
        let corpus = data.path("corpus.txt");
        let (whole, parts) = (data.path("whole"), data.path("parts"));
        // long enough that a signal comes before the end
        let flags = ["--batch-size", "4", "--bptt", "10", "--epochs", "40", "--min-freq", "1"];
        let line = words(&[&["pretrain", "--corpus", &corpus], SIZES, &flags]);
        let expected = json(&words(&[&line, &["--out", &whole]]));
        go_on(&data, &words(&[&line, &["--out", &parts]]), &expected);
    }

    #[test]
    fn a_classifier() {
        let place = tempfile::tempdir().unwrap();
        let data = Data::new(place.path());
        let train = data.path("train.csv");
        let (whole, parts) = (data.path("whole"), data.path("parts"));
        let flags = ["--batch-size", "4", "--bptt", "10", "--epochs", "20,20,30", "--min-freq", "1"];
        let line = words(&[&["train-classifier", "--model", "none", "--train", &train], SIZES, &flags]);
        let expected = json(&words(&[&line, &["--out", &whole]]));
        go_on(&data, &words(&[&line, &["--out", &parts]]), &expected);
    }

    /// Kills the run in `parts`, interrupts it, lets it end, and compares it with the one in
    /// `whole`.
    fn go_on(data: &Data, line: &[&str], expected: &Value) {
        let parts = PathBuf::from(data.path("parts"));
        let state = parts.join("state.safetensors");
        let often = ["--checkpoint-steps", "3"];
        let (status, message) = stop(&words(&[line, &often]), &state, "KILL");
        assert_eq!(status, None, "it was killed, it did not end: {message}");
        assert!(!parts.join("model.safetensors").exists());

        let (status, message) = stop(&words(&[line, &often, &["--resume", "--threads", "1"]]), &state, "TERM");
        assert_eq!(status, Some(143), "{message}");
        assert!(message.contains("interrupted") && message.contains("--resume"), "{message}");

        // the state of a stopped run belongs to its flags
        let before = snapshot(&parts);
        let other = ulmfit(&words(&[line, &["--resume", "--quiet", "--seed", "7"]])).assert().code(2);
        let refusal = text(&other.get_output().stderr);
        assert!(refusal.contains("--resume: --seed was 42 in the stopped run and is 7 now"), "{refusal}");
        let refused = ulmfit(&words(&[line, &["--quiet"]])).assert().code(2);
        assert!(text(&refused.get_output().stderr).contains("is not empty"));
        assert!(snapshot(&parts) == before, "a refused run changes nothing");

        let resumed = json(&words(&[line, &["--resume", "--threads", "2"]]));
        assert!(data.read("parts/model.safetensors") == data.read("whole/model.safetensors"), "the same bits");
        for key in ["train_loss", "valid_loss", "perplexity", "valid_error", "steps", "tokens"] {
            assert_eq!(resumed[key], expected[key], "{key}");
        }
        let losses = |name: &str| -> Vec<Value> {
            steps(&Path::new(&data.path(name)).join("metrics.jsonl")).iter().map(|s| s["loss"].clone()).collect()
        };
        assert_eq!(losses("parts"), losses("whole"));
        assert!(!state.exists() && !parts.join("tokens").exists(), "nothing of a running stage is left");

        let before = snapshot(&parts);
        assert_eq!(json(&words(&[line, &["--resume"]])), resumed);
        assert!(snapshot(&parts) == before, "going on with a finished run changes nothing");
    }
}

#[test]
fn going_on_without_a_checkpoint_begins_at_the_beginning() {
    let place = tempfile::tempdir().unwrap();
    let data = Data::new(place.path());
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let line = words(&[&["pretrain", "--corpus", &corpus, "--out", &out, "--resume"], SIZES, STAGE]);
    let output = ulmfit(&line).assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("there is no checkpoint: training starts at the beginning"));
    assert!(place.path().join("out/model.safetensors").exists());
}

/// A good model stays until training of the new one begins.
#[test]
fn overwriting_needs_a_sound_command() {
    let models = models();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("model");
    copy_folder(Path::new(&models.directory("classifier")), &out);
    let data = Data::new(&place.path().join("data"));
    let one_class = data.write("one.csv", "label,text\npos,good\npos,fine\n");
    let before = snapshot(&out);
    let out = out.to_str().unwrap();
    let train = data.path("train.csv");
    let again = |train: &str, more: &[&str]| {
        let line = ["train-classifier", "--model", "none", "--train", train, "--out", out, "--quiet"];
        ulmfit(&words(&[&line, SIZES, STAGE, more])).assert()
    };
    again(&train, &[]).code(2);
    again(&one_class, &["--overwrite"]).code(1);
    again(&train, &["--overwrite", "--memory-limit", "1kB"]).code(1);
    assert!(snapshot(Path::new(out)) == before, "nothing is lost");
    again(&train, &["--overwrite"]).success();
    assert!(snapshot(Path::new(out)) != before);
}

/// The limit is that of the process: a twentieth more than a run takes is enough, a twentieth less
/// is refused.
#[test]
fn a_memory_limit_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let data = Data::new(place.path());
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let sizes = ["--recipe", "tiny", "--emb-size", "400", "--hidden-size", "1150", "--layers", "3"];
    let more = ["--max-steps", "2", "--threads", "2", "--overwrite"];
    let line = words(&[&["pretrain", "--corpus", &corpus, "--out", &out], &sizes, STAGE, &more]);
    let peak = json(&line)["peak_rss_mb"].as_f64().unwrap();
    let of_peak = |share: f64| format!("{:.0}kB", peak * share * 1048.576);
    let result = json(&words(&[&line, &["--memory-limit", &of_peak(1.05)]]));
    let taken = result["peak_rss_mb"].as_f64().unwrap();
    assert!(taken <= 1.05 * 1.05 * peak, "{taken} of {peak} MiB");
    // too little for the model, and enough for the model but not for a step
    let cases = [("10kB".to_string(), "the program ("), (of_peak(0.95), "needs")];
    for (limit, part) in cases {
        let line = words(&[&line, &["--quiet", "--memory-limit", &limit]]);
        let output = ulmfit(&line).assert().code(1).get_output().clone();
        let message = text(&output.stderr);
        assert!(message.contains(part) && message.contains("the memory limit of"), "{limit}: {message}");
        assert!(message.contains("hint: raise --memory-limit") && message.lines().count() == 2, "{limit}: {message}");
    }
}
