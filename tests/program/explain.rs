//! `ulmfit explain`: parts that sum to the logit, words of the user's text, and what is refused.

use std::path::Path;

use serde_json::Value;

use crate::support::{Data, SIZES, STAGE, classifier, json, json_lines, refused, text, ulmfit, words};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn explained(model: &str, flags: &[&str], texts: &[&str]) -> Vec<Value> {
    let line = words(&[&["explain", "--quiet", "--model", model, "--format", "json"], flags, texts]);
    json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout))
}

fn predicted(model: &str, texts: &[&str]) -> Vec<Value> {
    let line = words(&[&["predict", "--quiet", "--blend", "off", "--model", model], texts]);
    json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout))
}

fn sum(parts: &Value, key: &str) -> f64 {
    parts.as_array().unwrap().iter().map(|part| number(&part[key])).sum()
}

/// Everything that must come together: shares to the logit, parts to shares, words to tokens, the
/// gradients to the difference of their ends.
fn comes_together(network: &Value, path: f64) {
    let (logit, base) = (number(&network["logit"]), number(&network["base"]));
    let scale = 1.0 + logit.abs();
    let [tokens, of_words] = [&network["tokens"], &network["words"]];
    assert!((base + sum(tokens, "share") - logit).abs() < 2e-6 * scale, "{network}");
    for key in ["share", "last", "max", "mean", "units", "gradient"] {
        assert!((sum(tokens, key) - sum(of_words, key)).abs() < 1e-9, "{key}: {network}");
    }
    let parts = sum(tokens, "last") + sum(tokens, "max") + sum(tokens, "mean");
    assert!((parts - sum(tokens, "share")).abs() < 1e-9);
    let gradients = &network["gradients"];
    let ends = number(&gradients["to"]) - number(&gradients["from"]);
    assert!((number(&gradients["to"]) - logit).abs() < 1e-5 * scale, "the path ends at the text: {network}");
    assert!((sum(tokens, "gradient") - number(&gradients["sum"])).abs() < 1e-9);
    assert!((number(&gradients["gap"]) - (number(&gradients["sum"]) - ends)).abs() < 1e-9);
    assert!(number(&gradients["gap"]).abs() < path, "{gradients}");
}

const TEXT: &str = "A GREAT film, it was!!!! great great great ... <br /> sad &amp; awful";

#[test]
fn shares_sum_to_the_logit() {
    let model = classifier().to_str().unwrap();
    let texts = [TEXT, "bad", "", "ξ ξ"];
    let found = explained(model, &["--steps", "200"], &texts);
    let said = predicted(model, &texts);
    assert_eq!(found.len(), texts.len());
    for (found, said) in found.iter().zip(&said) {
        if said["label"].is_null() {
            assert!(found["label"].is_null() && found["reason"] == "the text is empty", "{found}");
            continue;
        }
        assert_eq!((&found["label"], &found["probabilities"]), (&said["label"], &said["probabilities"]));
        comes_together(&found["networks"][0], 1e-3);
        assert_eq!(sum(&found["networks"][0]["tokens"], "units"), 8.0, "every unit of the maximum is won once");
    }
    // more points, a smaller gap
    let gap =
        |steps: &str| number(&explained(model, &["--steps", steps], &[TEXT])[0]["networks"][0]["gradients"]["gap"]);
    assert!(gap("2").abs() > 4.0 * gap("64").abs(), "{} {}", gap("2"), gap("64"));
    let alone = explained(model, &[], &[TEXT]);
    assert_eq!(alone[0], explained(model, &[], &[TEXT, "bad"])[0], "neighbours change an explanation");
}

/// The words are those of the text, at their places.
#[test]
fn tokens_are_given_back_to_words() {
    let found = &explained(classifier().to_str().unwrap(), &["--steps", "0"], &[TEXT])[0];
    let letters: Vec<char> = TEXT.chars().collect();
    let mut shown = Vec::new();
    for word in found["networks"][0]["words"].as_array().unwrap() {
        let Some(start) = word["start"].as_u64() else { continue };
        let end = word["end"].as_u64().unwrap();
        let place: String = letters[start as usize..end as usize].iter().collect();
        assert_eq!(word["text"], place.as_str());
        shown.push(place);
    }
    let expected =
        ["A", "GREAT", "film", ",", "it", "was", "!!!!", "great great great", "... <br />", "sad", "&", "awful"];
    assert!(expected.iter().all(|word| shown.contains(&word.to_string())), "{shown:?}");
    assert!(found["networks"][0]["gradients"].is_null());
}

/// Without a word the odds are those of the text without it.
#[test]
fn leave_one_out_is_the_text_without_the_word() {
    let model = classifier().to_str().unwrap();
    let found = &explained(model, &["--label", "pos", "--against", "neg"], &["a good film it was"])[0];
    let odds = |text: &str| {
        let p = &predicted(model, &[text])[0]["probabilities"];
        (number(&p["pos"]) / number(&p["neg"])).ln()
    };
    let network = &found["networks"][0];
    comes_together(network, 1e-3);
    assert!((number(&network["logit"]) - odds("a good film it was")).abs() < 1e-5);
    let of_words = network["words"].as_array().unwrap();
    let good = of_words.iter().find(|word| word["text"] == "good").unwrap();
    let expected = odds("a good film it was") - odds("a film it was");
    assert!((number(&good["without"]) - expected).abs() < 1e-5 && expected.abs() > 1e-4, "{good} {expected}");
    let few = explained(model, &["--without", "2"], &["a good film it was"]);
    let few = few[0]["networks"][0]["words"].as_array().unwrap().clone();
    assert_eq!(few.iter().filter(|word| !word["without"].is_null()).count(), 2);
    let least = few.iter().filter(|w| !w["without"].is_null()).map(|w| number(&w["share"]).abs()).fold(9.0, f64::min);
    let rest = few.iter().filter(|w| w["without"].is_null() && !w["start"].is_null());
    assert!(rest.map(|w| number(&w["share"]).abs()).fold(0.0, f64::max) <= least, "those with the largest shares");
}

/// Encoders, rules, directions, tokenizers, long texts.
#[test]
fn every_kind_of_classifier() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-kinds");
    let data = Data::new(&root);
    let train = data.path("train.csv");
    let long = ["--set", "classifier.max_len=30", "--epochs", "3"];
    let kinds: [(&str, &[&str]); 5] = [
        ("qrnn", &["--encoder", "qrnn"]),
        ("v1", &["--recipe", "fastai1"]),
        ("v2", &["--recipe", "fastai2", "--rules", "v2"]),
        ("backward", &["--direction", "backward"]),
        ("subword", &["--tokenizer", "subword", "--vocab-size", "60"]),
    ];
    let small = ["--emb-size", "8", "--hidden-size", "12", "--layers", "2", "--batch-size", "4", "--bptt", "10"];
    for (name, flags) in kinds {
        let out = data.path(name);
        let recipe = if flags.contains(&"--recipe") { &[][..] } else { &["--recipe", "tiny"] };
        let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--min-freq", "1"];
        json(&words(&[&line, recipe, &small, &long, flags, &["--overwrite"]]));
        // shorter than a chunk, of several chunks, and longer than what is pooled
        let texts = ["Good film".to_string(), "the GOOD film was sad ".repeat(4), "the good film was sad ".repeat(14)];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = explained(&out, &["--steps", "100"], &texts);
        for (found, said) in found.iter().zip(predicted(&out, &texts)) {
            assert_eq!(found["probabilities"], said["probabilities"], "{name}");
            comes_together(&found["networks"][0], 3e-3);
        }
        let network = |k: usize| &found[k]["networks"][0];
        let unpooled = [0, 1, 2].map(|k| number(&network(k)["unpooled"]));
        // sub-words are more
        let whole = unpooled[0] == 0.0 && (unpooled[1] == 0.0 || name == "subword");
        assert!(whole && unpooled[2] > 0.0, "{name}: {unpooled:?}");
        let tokens = network(2)["tokens"].as_array().unwrap();
        let silent = tokens.iter().filter(|token| number(&token["units"]) == 0.0 && number(&token["mean"]) == 0.0);
        assert!(silent.count() as f64 >= unpooled[2], "what is not pooled has no share");
        // a gradient flows to words that are not pooled
        let end = if name == "backward" { tokens.len() - 1 } else { 1 };
        let share = |k: usize| number(&tokens[k]["mean"]);
        assert!(share(end) == 0.0 && tokens.iter().any(|t| number(&t["gradient"]) != 0.0), "{name}");
        let last = tokens.iter().position(|token| number(&token["last"]) != 0.0).unwrap();
        assert_eq!(last, if name == "backward" { 0 } else { tokens.len() - 1 }, "the state after the last token read");
        let shown: Vec<&str> =
            network(0)["words"].as_array().unwrap().iter().filter_map(|w| w["text"].as_str()).collect();
        assert!(shown.contains(&"Good") && shown.contains(&"film"), "{name}: {shown:?}");
    }
}

#[test]
fn labels_and_numbers_and_what_is_refused() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-tasks");
    let data = Data::new(&root);
    let train = |file: &str, out: &str, flags: &[&str]| {
        let out = data.path(out);
        let line = ["train-classifier", "--model", "none", "--train", file, "--out", &out, "--overwrite"];
        json(&words(&[&line, SIZES, STAGE, flags]));
        out
    };
    let rows: String = (0..12).map(|i| format!("{},good film {i}\n{},bad film\n", 100 + i, 80 + i)).collect();
    let numbers = data.write("numbers.csv", format!("score,text\n{rows}"));
    let columns = ["--label-column", "score", "--text-column", "text"];
    let number_model = train(&numbers, "number", &[&["--task", "regression"][..], &columns].concat());
    let found = &explained(&number_model, &[], &["good film"])[0];
    let network = &found["networks"][0];
    comes_together(network, 1e-2);
    let said = number(&predicted(&number_model, &["good film"])[0]["number"]);
    assert!((number(&network["logit"]) - said).abs() < 1e-4 && (number(&found["number"]) - said).abs() < 1e-9);
    let line = ["explain", "--model", &number_model, "--label", "5", "--quiet", "x"];
    refused(&mut ulmfit(&line), 2, &["there is no class to name"]);

    let rows: String = (0..12).map(|i| format!("good;film,good film {i}\nbad,bad story\n")).collect();
    let labels = data.write("labels.csv", format!("label,text\n{rows}"));
    let label_model = train(&labels, "labels", &["--task", "labels"]);
    let found = &explained(&label_model, &["--label", "film"], &["good film"])[0];
    assert_eq!(found["label"], "film");
    let logit = number(&found["networks"][0]["logit"]);
    let p = number(&predicted(&label_model, &["good film"])[0]["probabilities"]["film"]);
    assert!((1.0 / (1.0 + (-logit).exp()) - p).abs() < 1e-6, "the logit of its sigmoid: {logit} {p}");

    let rows: String = (0..12).map(|i| format!("a good film {i},a film,same\nbad,story {i},other\n")).collect();
    let pairs = data.write("pairs.csv", format!("first,second,label\n{rows}"));
    let flags = ["--task", "pair", "--text-column", "first", "--text-column", "second"];
    let pair_model = train(&pairs, "pair", &flags);
    refused(
        &mut ulmfit(&["explain", "--model", &pair_model, "--quiet", "a", "b"]),
        2,
        &["explain is for single texts"],
    );

    let model = classifier().to_str().unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--label", "good", "x"], 2, "the model has no class 'good'"),
        (&["--label", "pos", "--against", "pos", "x"], 2, "'pos' against itself"),
        (&["--steps", "9999999", "x"], 2, "--steps must be at most"),
        (&["--json", "--format", "html", "x"], 2, "--json and --format html"),
        (&["--data", "no_such_file"], 1, "no_such_file"),
    ];
    for (flags, status, part) in cases {
        refused(&mut ulmfit(&words(&[&["explain", "--quiet", "--model", model], flags])), status, &[part]);
    }
    let lm = data.path("lm");
    json(&words(&[&["pretrain", "--corpus", &data.path("corpus.txt"), "--out", &lm, "--overwrite"], SIZES, STAGE]));
    refused(&mut ulmfit(&["explain", "--quiet", "--model", &lm, "x"]), 1, &["language model"]);
}

/// Text, colours and the page.
#[test]
fn what_people_see() {
    let model = classifier().to_str().unwrap();
    let shown = |flags: &[&str], no_color: &str| {
        let line = words(&[&["explain", "--quiet", "--model", model], flags, &["good <b>film</b>\u{1b}[2J"]]);
        text(&ulmfit(&line).env("NO_COLOR", no_color).assert().success().get_output().stdout)
    };
    let plain = shown(&[], "");
    assert!(plain.contains("network, forward: the logit of ") && plain.contains("integrated gradients"), "{plain}");
    assert!(!plain.contains('\u{1b}') && plain.contains("  film\n"), "{plain}");
    let coloured = shown(&["--color", "always"], "");
    assert!(coloured.contains("\u{1b}[30;48;5;") && !coloured.contains("\u{1b}[2J"), "{coloured:?}");
    assert_eq!(shown(&["--color", "auto"], "1"), plain);
    let page = shown(&["--format", "html"], "");
    assert!(page.starts_with("<!doctype html>") && page.contains("<mark ") && page.ends_with("</html>\n"), "{page}");
    assert!(!page.contains("<b>") && page.contains("&lt;") && !page.contains("http"), "{page}");
    assert!(shown(&["--rows", "1"], "").lines().count() < plain.lines().count());
    // files and standard input, labels ignored
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-data");
    let data = Data::new(&root);
    let line = ["explain", "--quiet", "--model", model, "--steps", "0", "--format", "json", "--data"];
    let of_file = ulmfit(&words(&[&line, &[&data.path("test.csv")]])).assert().success().get_output().stdout.clone();
    assert_eq!(json_lines(&text(&of_file)).len(), 12);
    let of_stdin = ulmfit(&words(&[&line, &["-"]])).write_stdin(data.read("test.csv")).assert().success();
    assert_eq!(text(&of_file), text(&of_stdin.get_output().stdout));
}

/// The folder of a run: the label is the folder's, and the linear model's features stand beside.
#[test]
fn both_models_of_a_folder_are_explained() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(root.path());
    let (train, out) = (data.path("train.csv"), data.path("out"));
    let small = ["--emb-size", "8", "--hidden-size", "12", "--set", "finetune.updates_least=4", "--bptt", "10"];
    let line =
        ["run", "--quiet", "--base", "none", "--train", &train, "--out", &out, "--set", "classifier.updates_least=10"];
    ulmfit(&words(&[&line, &small, &["--bidirectional"]])).assert().success();
    let said = ulmfit(&["predict", "--quiet", "--model", &out, "a good film"]).assert().success();
    let said = &json_lines(&text(&said.get_output().stdout))[0];
    let found = &explained(&out, &["--label", "pos"], &["a good film"])[0];
    assert_eq!(found["probabilities"], said["probabilities"]);
    let directions: Vec<&Value> = found["networks"].as_array().unwrap().iter().map(|n| &n["direction"]).collect();
    // four folds in each direction
    let expected: Vec<&str> = ["forward"; 4].into_iter().chain(["backward"; 4]).collect();
    assert_eq!(directions, expected);
    found["networks"].as_array().unwrap().iter().for_each(|network| comes_together(network, 1e-2));
    // one class against another: the difference of the two logits
    let logits = |flags: &[&str]| -> Vec<f64> {
        let found = explained(&out, flags, &["a good film"]);
        found[0]["networks"].as_array().unwrap().iter().map(|network| number(&network["logit"])).collect()
    };
    let (pos, neg) = (logits(&["--label", "pos"]), logits(&["--label", "neg"]));
    let apart = logits(&["--label", "pos", "--against", "neg"]);
    for ((pos, neg), apart) in pos.iter().zip(&neg).zip(&apart) {
        assert!((pos - neg - apart).abs() < 1e-5 * (1.0 + apart.abs()), "{pos} - {neg} is not {apart}");
    }
    let linear = &found["linear"];
    let total = number(&linear["bias"]) + sum(&linear["features"], "share");
    assert!((total - number(&linear["logit"])).abs() < 1e-9, "{linear}");
    let good = linear["features"].as_array().unwrap().iter().find(|f| f["name"] == "good").unwrap();
    assert!(number(&good["share"]) > 0.0, "{good}");
}
