//! `ulmfit bench` and `ulmfit profile` through the binary: keys, counts, what they leave behind. No
//! test looks at a time.

use std::collections::BTreeSet;

use crate::support::{Data, SIZES, STAGE, json, last_line, refused, snapshot, text, ulmfit, words};
use serde_json::Value;
use ulmfit::device::cpu::isa::{isa, multiplies_bf16};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn rows(value: &Value) -> &[Value] {
    value["rows"].as_array().expect("rows")
}

fn of<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} of {row}"))
}

const BENCH: &[&str] = &["bench", "--reduced", "--quick"];

#[test]
fn a_benchmark_has_the_rows_and_keys_of_the_contract() {
    let found = json(BENCH);
    let rows = rows(&found);
    for row in rows {
        for key in ["name", "shape", "device", "precision", "direction"] {
            assert!(row[key].is_string(), "{key} of {row}");
        }
        for key in ["gflops", "gbs", "peak_fraction"] {
            assert!(row[key].is_number() || row[key].is_null(), "{key} of {row}");
        }
        assert!(number(&row["ms"]) > 0.0 && row["device"] == "cpu", "{row}");
        assert_eq!(row["gflops"].is_number(), row["gflops"].as_f64().is_some_and(|x| x > 0.0), "{row}");
    }
    let suites: BTreeSet<&str> = rows.iter().map(|row| of(row, "suite")).collect();
    assert_eq!(suites, ["lstm", "ops", "predict", "step", "text"].into());
    let steps: Vec<&Value> = rows.iter().filter(|row| row["name"] == "lm_step").collect();
    let formats = if multiplies_bf16(isa()) { &["f32", "bf16"][..] } else { &["f32"] };
    let found_formats: Vec<&str> = steps.iter().map(|step| of(step, "precision")).collect();
    assert_eq!(found_formats, formats, "one row for each device and precision");
    let step = steps[0];
    assert_eq!(of(step, "direction"), "train");
    assert_eq!(of(step, "shape"), "V90 20-36-36-20 B6 T9");
    assert!(step["gflops"].is_number() && step["peak_fraction"].is_number(), "{step}");
    for name in [
        "lm_step_small",
        "lm_evaluation",
        "classifier_step",
        "recurrent_product",
        "predict_short",
        "tokenize",
        "qrnn_lm_evaluation",
        "qrnn_predict_short_reading",
    ] {
        assert!(rows.iter().any(|row| row["name"] == name), "no row '{name}'");
    }
    // where time goes, of what users ask it of; all of a product's operations are in its budget
    for name in [
        "lm_step",
        "lm_evaluation",
        "classifier_step",
        "product",
        "predict_short",
        "predict_batch",
        "qrnn_lm_step",
        "qrnn_classifier_step",
        "qrnn_predict_short",
    ] {
        for row in rows.iter().filter(|row| row["name"] == name) {
            let products = &row["budget"]["products"];
            let (flop, floor) = (number(&products["flop"]), number(&products["floor_ms"]));
            assert!(flop > 0.0 && floor > 0.0 && number(&products["ms"]) > 0.0, "{row}");
            if name == "product" {
                assert!((flop / (1e6 * number(&row["gflops"]) * number(&row["ms"])) - 1.0).abs() < 1e-9, "{row}");
            }
        }
    }
    for entry in ulmfit::ops::ALL {
        let name = entry.operation.name();
        let directions: BTreeSet<&str> = rows
            .iter()
            .filter(|row| row["suite"] == "ops" && row["name"] == name)
            .map(|row| of(row, "direction"))
            .collect();
        assert_eq!(directions, ["backward", "forward"].into(), "{name}");
    }
    // everything with arithmetic was compared with f64
    for row in rows.iter().filter(|row| row["gflops"].is_number()) {
        // in bf16 the program has measured what is allowed
        assert!(number(&row["error"]) <= if row["precision"] == "bf16" { 1.0 } else { 1e-4 }, "{row}");
    }
    let peaks = &found["peaks"]["cpu"];
    for &key in formats.iter().chain(&["triad"]) {
        assert!(number(&peaks[key]["one_thread"]) > 0.0 && number(&peaks[key]["all_threads"]) > 0.0, "{peaks}");
    }
}

#[test]
fn an_earlier_run_is_compared_with() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let before = words(&[BENCH, &["--suite", "text", "--json", "--quiet"]]);
    let output = ulmfit(&before).assert().success().get_output().clone();
    std::fs::write(file("before.json"), &output.stdout).unwrap();
    let path = file("before.json");
    let found = json(&words(&[BENCH, &["--suite", "text", "--compare", &path]]));
    let (old, new) = (last_line(&output.stdout), rows(&found));
    assert!(!new.is_empty() && new.len() == rows(&old).len());
    for (old, new) in rows(&old).iter().zip(new) {
        assert_eq!(new["before_ms"], old["ms"]);
        assert!((number(&new["ratio"]) - number(&old["ms"]) / number(&new["ms"])).abs() < 1e-9, "{new}");
    }
    assert_eq!(found["compared"]["matched"], new.len());
    let table = ulmfit(&words(&[BENCH, &["--suite", "text", "--quiet", "--compare", &path]])).assert().success();
    let table = text(&table.get_output().stdout);
    assert!(table.contains("before/now") && table.contains(&format!("compared with {path}")), "{table}");

    std::fs::write(file("other.json"), "{\"rows\": 3}").unwrap();
    let compare = |path: &str| ulmfit(&words(&[BENCH, &["--compare", path]]));
    refused(&mut compare(&file("other.json")), 1, &["other.json: is no result of a benchmark"]);
    refused(&mut compare(&file("none.json")), 1, &["none.json: cannot read: no such file"]);
    for precision in ["f32", "bf16"] {
        let only = json(&words(&[BENCH, &["--suite", "step", "--only", "lm_evaluation", "--precision", precision]]));
        let found: Vec<_> = rows(&only).iter().map(|row| (of(row, "name"), of(row, "precision"))).collect();
        assert_eq!(found, [("lm_evaluation", precision)]);
    }
    let unknown = words(&[BENCH, &["--suite", "text", "--only", "lm_step", "--quiet"]]);
    refused(&mut ulmfit(&unknown), 2, &["--only lm_step: the suites have no row of that name"]);
    refused(&mut ulmfit(&["bench", "--suite", "speed"]), 2, &["'speed' is not one of its values", "ops"]);
}

/// Profiles of small stages, with flags behind.
/// Saved results with these factors of their times, one a line.
fn saved(result: &Value, factors: &[f64]) -> String {
    let one = |factor: &f64| {
        let mut result = result.clone();
        for row in result["rows"].as_array_mut().unwrap() {
            row["ms"] = (factor * number(&row["ms"])).into();
        }
        format!("{result}\n")
    };
    factors.iter().map(one).collect()
}

#[test]
fn saved_results_are_judged_by_their_noise() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let found = json(&words(&[BENCH, &["--suite", "ops", "--only", "relu"]]));
    let count = rows(&found).len();
    for (name, factors) in [("a", [1.0, 1.01, 0.99]), ("half", [0.5, 0.51, 0.49]), ("wild", [0.5, 1.5, 0.9])] {
        std::fs::write(file(name), saved(&found, &factors)).unwrap();
    }
    let verdicts = |before: &str, after: &str| {
        let judged = json(&["bench", "--compare", &file(before), &file(after)]);
        assert_eq!((judged["results"].clone(), rows(&judged).len()), (serde_json::json!([3, 3]), count));
        let all: BTreeSet<String> = rows(&judged).iter().map(|row| of(row, "verdict").to_string()).collect();
        (all.into_iter().collect::<Vec<_>>().join(" "), judged)
    };
    let (faster, judged) = verdicts("a", "half");
    assert_eq!(faster, "faster");
    assert!(rows(&judged).iter().all(|row| (number(&row["ratio"]) - 2.0).abs() < 0.01), "{judged}");
    assert_eq!(verdicts("half", "a").0, "slower");
    assert_eq!(verdicts("a", "wild").0, "no_difference");
    assert_eq!(verdicts("a", "a").0, "no_difference");
    // a single result has the noise of its own runs, and one run has none
    std::fs::write(file("one"), saved(&found, &[1.0])).unwrap();
    let single = ulmfit(&["bench", "--compare", &file("one"), &file("half")]).assert().success();
    let shown = text(&single.get_output().stdout);
    assert!(shown.contains("the noise between processes is not in it") && shown.contains("95 % interval"), "{shown}");
    refused(&mut ulmfit(&["bench", "--compare", &file("a"), &file("none")]), 1, &["none: cannot read"]);
    std::fs::write(file("bad"), "{}").unwrap();
    refused(&mut ulmfit(&["bench", "--compare", &file("bad"), &file("a")]), 1, &["bad: is no result of a benchmark"]);
    refused(&mut ulmfit(&["bench", "--quick", "--compare", &file("a"), &file("a")]), 2, &["measures nothing"]);
}

#[test]
fn instruments_have_pages() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let page = |name: &str| text(&data.read(name));
    let (html, nowhere) = (data.path("ops.html"), data.path("none/ops.html"));
    let found = json(&words(&[BENCH, &["--suite", "ops", "--only", "linear", "--precision", "f32", "--html", &html]]));
    let roofline = page("ops.html");
    assert!(roofline.contains("<h2>Roofline</h2>") && roofline.contains("<svg"), "no roofline");
    // every row is on the page, and under the roof where it counts operations and bytes
    let table = roofline.split("<h2>All rows</h2>").nth(1).unwrap();
    assert_eq!(table.matches("<tr><td>linear</td>").count(), rows(&found).len());
    let chart = roofline.split("<script type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
    let chart: Value = serde_json::from_str(chart).unwrap();
    let points: usize =
        chart["series"].as_array().unwrap().iter().skip(1).map(|s| s["x"].as_array().unwrap().len()).sum();
    let both = |row: &&Value| row["gflops"].is_number() && row["gbs"].is_number();
    assert!(points > 0 && points == rows(&found).iter().filter(both).count(), "{chart}");
    refused(&mut ulmfit(&words(&[BENCH, &["--html", &nowhere]])), 2, &["--html", "no file can be written there"]);

    let (picture, page_of) = (data.path("sweep.svg"), data.path("sweep.html"));
    let swept = json(&["gradcheck", "--op", "linear", "--sweep", &picture]);
    assert!(page("sweep.svg").starts_with("<svg") && page("sweep.svg").contains("linear"));
    let points = swept["sweep"][0]["points"].as_array().unwrap();
    assert!(points.len() > 20 && points.iter().any(|point| number(&point[1]) < 1e-9), "{swept}");
    json(&["gradcheck", "--op", "linear", "--sweep", &page_of]);
    assert!(page("sweep.html").contains("\"xlog\":true"));
    refused(&mut ulmfit(&["gradcheck", "--sweep", "x.png"]), 2, &["--sweep x.png", ".svg or .html"]);

    let (corpus, html) = (data.path("corpus.txt"), data.path("step.html"));
    let found = profile(&["pretrain", "--corpus", &corpus], &["--threads", "2", "--html", &html]);
    let step = page("step.html");
    let bars = |part: &str| step.split(part).nth(1).unwrap().split("</section>").next().unwrap().to_string();
    let flame = bars("<section id=\"flame\">");
    for row in rows(&found).iter().filter(|row| number(&row["ms"]) > 0.01 * number(&found["sum_ms"])) {
        let phase = of(row, "phase");
        assert!(flame.contains(&format!(">{phase}</button>")), "{phase} is not in the flame chart");
    }
    assert!(
        bars("<section id=\"line\">").contains("<h3>driver</h3>") && step.contains("addEventListener(\"dblclick\"")
    );
}

fn profile(line: &[&str], more: &[&str]) -> Value {
    json(&words(&[&["profile"], line, SIZES, STAGE, more]))
}

fn check_rows(profile: &Value) {
    let mut keys = BTreeSet::new();
    for row in rows(profile) {
        let key = ["op", "layer", "direction", "phase"].map(|key| of(row, key).to_string());
        assert!(keys.insert(key.clone()), "{key:?} comes twice");
        for key in ["ms", "flop", "bytes", "calls"] {
            assert!(number(&row[key]) >= 0.0, "{key} of {row}");
        }
        assert!(row["peak_fraction"].is_number() || row["peak_fraction"].is_null(), "{row}");
        assert_eq!(row["flop"] != 0, row["phase"] == "products", "products, and they alone, count: {row}");
    }
    let sum: f64 = rows(profile).iter().map(|row| number(&row["ms"])).sum();
    let recorded: Vec<f64> = profile["recorded_ms"].as_array().unwrap().iter().map(number).collect();
    assert!((sum - number(&profile["sum_ms"])).abs() <= 1e-9 * sum);
    // nothing is lost and nothing counted twice: the rows are the recorded step
    assert!(recorded.iter().any(|ms| (ms / sum - 1.0).abs() < 1e-6), "{sum} is none of {recorded:?}");
    let budget = ["products", "memory", "remainder"].map(|part| number(&profile["budget"][part]["ms"]));
    assert!((budget.iter().sum::<f64>() - sum).abs() <= 1e-9 * sum);
    assert!(number(&profile["step_ms"]) > 0.0);
}

fn flop(profile: &Value, wanted: impl Fn(&Value) -> bool) -> f64 {
    rows(profile).iter().filter(|row| wanted(row)).map(|row| number(&row["flop"])).sum()
}

fn calls(profile: &Value, key: [&str; 4]) -> f64 {
    let names = ["op", "layer", "direction", "phase"];
    let same = |row: &&Value| names.iter().zip(key).all(|(name, value)| row[name] == value);
    rows(profile).iter().find(same).map_or(0.0, |row| number(&row["calls"]))
}

#[test]
fn a_step_of_a_language_model_is_taken_apart() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let (corpus, out, trace) = (data.path("corpus.txt"), data.path("lm"), data.path("step.json"));
    let before = snapshot(root.path());
    let line = ["pretrain", "--corpus", &corpus, "--out", &out, "--overwrite"];
    let found = profile(&line, &["--threads", "2", "--trace", &trace]);
    check_rows(&found);
    let mut after = snapshot(root.path());
    let trace = after.remove(std::path::Path::new(&trace)).expect("the trace is the only file");
    assert!(before == after, "a profile writes nothing else");

    // counts of what a step does: one node forward and backward, one update of every parameter
    assert_eq!(found["tokens"], 40);
    assert_eq!(calls(&found, ["embedding", "embedding", "forward", "rows"]), 1.0);
    assert_eq!(calls(&found, ["embedding", "embedding", "backward", "rows"]), 1.0);
    // one product of all inputs, and one for every step of the window and part of the batch
    for layer in ["lstm1", "lstm2"] {
        assert_eq!(calls(&found, ["lstm", layer, "forward", "products"]), 11.0, "{layer}");
        assert_eq!(calls(&found, ["lstm", layer, "forward", "waiting"]), 1.0, "{layer}");
    }
    assert!(calls(&found, ["tied_softmax", "decoder", "backward", "products"]) >= 2.0);
    assert!(calls(&found, ["adam", "", "update", "elementwise"]) >= 9.0);
    assert_eq!(calls(&found, ["step", "", "forward", "data"]), 1.0);

    // the plan's arithmetic is the profile's
    let v = found["vocabulary"].to_string();
    let sizes = words(&[SIZES, STAGE, &["--vocab-size", &v, "--set", "pretrain.windows=fixed"]]);
    let plan = json(&words(&[&["plan", "pretrain", "--set", "text.vocab_multiple=1"], &sizes]));
    assert_eq!(flop(&found, |row| row["direction"] == "forward"), number(&plan["flop"]["forward"]));
    assert_eq!(flop(&found, |row| row["direction"] == "backward"), number(&plan["flop"]["backward"]));
    assert_eq!(flop(&found, |_| true), number(&plan["flop"]["per_step"]));

    check_trace(&serde_json::from_slice(&trace).expect("the trace is JSON"));
}

/// Bars of one lane nest: each lies within the one around it, or beside it.
fn check_trace(trace: &Value) {
    let bars: Vec<&Value> =
        trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
    let lanes: BTreeSet<u64> = bars.iter().map(|bar| bar["tid"].as_u64().unwrap()).collect();
    assert!(lanes.contains(&0));
    let mut deepest = 0;
    for lane in lanes {
        let mut of_lane: Vec<(f64, f64)> = bars
            .iter()
            .filter(|bar| bar["tid"] == lane)
            .map(|bar| (number(&bar["ts"]), number(&bar["ts"]) + number(&bar["dur"])))
            .collect();
        of_lane.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<(f64, f64)> = Vec::new();
        for bar in of_lane {
            // nanoseconds in microseconds: half of one is for rounding
            while open.last().is_some_and(|around| around.1 <= bar.0 + 5e-4) {
                open.pop();
            }
            assert!(open.last().is_none_or(|around| bar.1 <= around.1 + 5e-4), "{bar:?} sticks out of {open:?}");
            open.push(bar);
            deepest = deepest.max(open.len());
        }
    }
    assert!(deepest >= 4, "step, pass, operation, phase: {deepest}");
    for category in ["step", "pass", "operation", "region", "phase"] {
        assert!(bars.iter().any(|bar| bar["cat"] == category), "no {category}");
    }
    assert!(bars.iter().any(|bar| bar["args"]["layer"] == "lstm1" && bar["args"]["flop"].is_number()));
}

#[test]
fn a_step_of_a_classifier_is_taken_apart() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    // documents of one length, so that the plan knows it
    let line = |d: usize| {
        format!(
            "{},{}\n",
            if d.is_multiple_of(2) { "neg" } else { "pos" },
            ["word", "other"].map(|w| [w; 6].join(" ")).join(" ")
        )
    };
    let train = data.write("even.csv", "label,text\n".to_string() + &(0..8).map(line).collect::<String>());
    let settings = ["--set", "text.vocab_multiple=1", "--tokenizer", "whitespace"];
    let found = profile(&["train-classifier", "--model", "none", "--train", &train], &settings);
    check_rows(&found);
    assert_eq!((&found["documents"], found["stage"].as_str()), (&4.into(), Some("train-classifier")));
    let length = (number(&found["tokens"]) as usize / 4).to_string();
    let plan =
        words(&[&["plan", "train-classifier", "--length", &length, "--set", "classifier.windows=fixed"], SIZES, STAGE]);
    assert_eq!(flop(&found, |_| true), number(&json(&plan)["flop"]["per_step"]));
    for key in [["concat_pool", "pooling"], ["batch_norm", "head1"], ["linear", "head2"], ["relu", "head2"]] {
        let here = |row: &&Value| [&row["op"], &row["layer"]] == [&key[0].into(), &key[1].into()] as [&Value; 2];
        assert!(rows(&found).iter().any(|row| here(&row)), "{key:?}");
    }
}

#[test]
fn a_step_of_fine_tuning_is_taken_apart() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let (corpus, model, train) = (data.path("corpus.txt"), data.path("lm"), data.path("train.csv"));
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &model], SIZES, STAGE]));
    let line = ["profile", "finetune-lm", "--model", &model, "--text", &train, "--recipe", "tiny"];
    let found = json(&words(&[&line, STAGE]));
    check_rows(&found);
    assert_eq!(found["stage"], "finetune-lm");
    let shown = ulmfit(&words(&[&line, STAGE, &["--quiet"]])).assert().success();
    let shown = text(&shown.get_output().stdout);
    for part in ["time budget", "products", "memory-bound parts", "remainder", "sum", "lstm1"] {
        assert!(shown.contains(part), "no '{part}' in {shown}");
    }
}

#[test]
fn wrong_profiles_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let data = Data::new(&root.path().join("data"));
    let (corpus, nowhere) = (data.path("corpus.txt"), data.path("none/step.json"));
    refused(&mut ulmfit(&["profile"]), 2, &["a command is missing after 'profile'"]);
    refused(&mut ulmfit(&["profile", "demo"]), 2, &["unknown command 'demo'"]);
    refused(&mut ulmfit(&["profile", "pretrain"]), 2, &["missing: --corpus"]);
    let line = ["profile", "pretrain", "--corpus", &corpus, "--trace", &nowhere];
    refused(&mut ulmfit(&line), 2, &["--trace", "no file can be written there"]);
    refused(
        &mut ulmfit(&["profile", "pretrain", "--corpus", &data.path("none.txt")]),
        1,
        &["none.txt", "no such file"],
    );
}
