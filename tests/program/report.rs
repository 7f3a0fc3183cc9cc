//! `ulmfit report`: pages about real runs, their event files read back, and the page in a browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{Data, SIZES, json, json_lines, refused, text, ulmfit, words};

/// Two small classifiers that differ in their rate and in nothing else, and their data.
struct Runs {
    data: Data,
    /// Where the commands run: folders are named as a user would.
    place: PathBuf,
}

const LENGTH: &[&str] = &[
    "--batch-size",
    "4",
    "--bptt",
    "10",
    "--min-freq",
    "1",
    "--epochs",
    "3",
    "--unfreezing",
    "full",
    "--set",
    "classifier.clip=0.02",
];

fn runs() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
        if place.exists() {
            std::fs::remove_dir_all(&place).unwrap();
        }
        let data = Data::new(&place);
        let (train, test) = (data.path("train.csv"), data.path("test.csv"));
        for (name, rate) in [("slow", "0.001"), ("fast", "0.02")] {
            let out = data.path(name);
            let line = ["train-classifier", "--model", "none", "--train", &train, "--test", &test, "--out", &out];
            json(&words(&[&line, SIZES, LENGTH, &["--lr", rate]]));
        }
        Runs { data, place }
    })
}

/// Runs `report` where the models are; its result.
fn report(line: &[&str]) -> Value {
    let line = words(&[&["report"], line, &["--json", "--quiet"]]);
    let output = ulmfit(&line).current_dir(&runs().place).assert().success().get_output().clone();
    crate::support::last_line(&output.stdout)
}

fn page(name: &str) -> String {
    text(&runs().data.read(name))
}

/// The events of a kind in a model's metrics.
fn events(model: &str, kind: &str) -> Vec<Value> {
    let mut all = json_lines(&page(&format!("{model}/metrics.jsonl")));
    all.retain(|event| event["event"] == kind);
    all
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The norms of the layers are those of the whole: of gradients the squares add up to that of the
/// step, of weights the last ones are those of the file.
#[test]
fn the_layers_add_up() {
    runs();
    let (steps, layers) = (events("fast", "step"), events("fast", "layers"));
    assert!(steps.len() > 10 && steps.len() == layers.len(), "{} {}", steps.len(), layers.len());
    let squares =
        |values: &Value| values.as_array().unwrap().iter().filter_map(Value::as_f64).map(|x| x * x).sum::<f64>();
    for (step, layers) in steps.iter().zip(&layers) {
        assert_eq!(step["step"], layers["step"]);
        let (sum, whole) = (squares(&layers["gradients"]).sqrt(), number(&step["gradient_norm"]));
        assert!((sum - whole).abs() < 1e-9 * whole, "{step} {layers}");
        // clipped as PyTorch clips
        let scale = step["gradient_scale"].as_f64().unwrap_or(1.0);
        assert!((scale - (0.02 / (whole + 1e-6)).min(1.0)).abs() < 1e-12, "{step}");
        // the embedding has no gates
        let saturated = layers["saturated"].as_array().unwrap();
        assert!(saturated[0].is_null() && (0.0..=1.0).contains(&number(&saturated[1])), "{layers}");
    }
    assert!(steps.iter().any(|step| step["gradient_scale"].is_number()), "nothing was clipped");
    let model = json(&["inspect", &runs().data.path("fast")]);
    let learns = |name: &str| !name.contains("running") && !name.contains("num_batches");
    let tensors = model["tensors"].as_array().unwrap().iter().filter(|t| learns(t["name"].as_str().unwrap()));
    let whole: f64 = tensors.map(|t| number(&t["norm"]).powi(2)).sum::<f64>().sqrt();
    let last = squares(&layers.last().unwrap()["weights"]).sqrt();
    assert!((last - whole).abs() < 1e-6 * whole, "{last} {whole}");
}

#[test]
fn two_runs_on_a_page() {
    let test = runs().data.path("test.csv");
    let result = report(&["slow", "fast", "--out", "two.html", "--data", &test, "--errors", "3"]);
    assert_eq!(result["report"], "two.html");
    let page = page("two.html");
    assert!(page.contains("<td>0.001</td><td>0.02</td>"), "the rates are not told");
    assert!(!page.contains("<th scope=\"row\">classifier.batch_size"), "what is equal is told");
    for part in
        ["<h2>Classifier</h2>", "Validation error", "Clipped updates", "Reliability", "Most confident errors of slow"]
    {
        assert!(page.contains(part), "{part}");
    }
    // what the page says of the data is what `evaluate` says
    for (k, name) in ["slow", "fast"].iter().enumerate() {
        let saved = runs().data.path(&format!("{name}.jsonl"));
        let said = json(&["evaluate", "--model", &runs().data.path(name), "--data", &test, "--predictions", &saved]);
        let of = &result["runs"][k]["data"];
        assert_eq!((&of["error"], &of["test_size"]), (&said["error"], &said["test_size"]), "{name}");
        let mut wrong: Vec<(f64, u64)> = json_lines(&text(&runs().data.read(&format!("{name}.jsonl"))))
            .iter()
            .filter(|line| line["label"] != line["true"])
            .map(|line| {
                (number(&line["probabilities"][line["label"].as_str().unwrap()]), line["row"].as_u64().unwrap())
            })
            .collect();
        wrong.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let surest: Vec<u64> = wrong.iter().take(3).map(|(_, row)| *row).collect();
        assert_eq!(of["explained"], serde_json::json!(surest), "{name}");
        for (p, row) in wrong.iter().take(3) {
            assert!(
                page.contains(&format!("Document {row}: ‘"))
                    && page.contains(&format!("{:.1} %, but it is", 100.0 * p))
            );
        }
        let explained = page.matches("<p class=\"words\">network, forward: ").count();
        assert!(
            k == 0
                || explained
                    == result["runs"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|r| r["data"]["explained"].as_array().unwrap().len())
                        .sum::<usize>()
        );
    }
}

#[test]
fn one_run_on_a_page() {
    report(&["fast", "--out", "one.html"]);
    let page = page("one.html");
    for part in [
        "<h1>fast</h1>",
        "Weight norm by layer",
        "Gradient norm by layer",
        "Saturated gates",
        "Confusion matrix (test)",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_is_no_run_is_refused() {
    let run = |line: &[&str]| {
        let mut command = ulmfit(&words(&[&["report"], line]));
        command.current_dir(&runs().place);
        command
    };
    let train = runs().data.path("train.csv");
    refused(&mut run(&["fast", "nothing"]), 1, &["nothing: cannot read: no such file or directory"]);
    std::fs::create_dir_all(runs().place.join("empty")).unwrap();
    refused(&mut run(&["fast", "empty"]), 1, &["empty", "no folder of a model or of a run"]);
    refused(&mut run(&["fast", "fast"]), 2, &["fast is named twice"]);
    refused(
        &mut run(&["fast", "--out", "nowhere/page.html"]),
        2,
        &["--out nowhere/page.html", "no file can be written"],
    );
    refused(&mut run(&["fast", "--errors", "3"]), 2, &["--data"]);
    refused(&mut run(&["fast", "./fast", "--tensorboard", "logs"]), 2, &["have the same folder"]);
    refused(&mut run(&["fast", "--data", "missing.csv", "--out", "x.html"]), 1, &["missing.csv"]);
    assert!(!runs().place.join("x.html").exists() && Path::new(&train).exists());
    let many: Vec<String> = (0..13).map(|k| format!("run-{k}")).collect();
    refused(&mut run(&many.iter().map(String::as_str).collect::<Vec<_>>()), 2, &["13 folders", "12 at most"]);
}

/// A number of an event file: its tag, update, value and time.
#[derive(Debug, PartialEq)]
struct Scalar {
    tag: String,
    step: u64,
    value: f32,
    time: f64,
}

/// CRC-32C bit by bit, as the standard writes it.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// The messages of a file of TFRecord framing, whose checksums must be right.
fn records(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (file, Vec::new());
    let check = |data: &[u8], sum: &[u8]| {
        let crc = crc32c(data);
        let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(sum, masked.to_le_bytes(), "a checksum");
    };
    while !rest.is_empty() {
        check(&rest[..8], &rest[8..12]);
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let (message, after) = rest[12..].split_at(length);
        check(message, &after[..4]);
        all.push(message);
        rest = &after[4..];
    }
    all
}

/// The fields of a message: number, and the bytes of the value (of a varint its eight).
fn fields(mut rest: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest);
        let length = match key & 7 {
            0 => {
                all.push((key >> 3, varint(&mut rest).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut rest) as usize,
            5 => 4,
            kind => panic!("a field of the kind {kind}"),
        };
        let (value, after) = rest.split_at(length);
        all.push((key >> 3, value.to_vec()));
        rest = after;
    }
    all
}

fn field(message: &[u8], wanted: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find(|(number, _)| *number == wanted).map(|(_, value)| value)
}

fn scalars(file: &[u8]) -> Vec<Scalar> {
    let records = records(file);
    assert_eq!(field(records[0], 3).unwrap(), b"brain.Event:2");
    let one = |event: &&[u8]| {
        let value = field(&field(event, 5).unwrap(), 1).unwrap();
        Scalar {
            tag: text(&field(&value, 1).unwrap()),
            step: u64::from_le_bytes(field(event, 2).unwrap().try_into().unwrap()),
            value: f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap()),
            time: f64::from_le_bytes(field(event, 1).unwrap().try_into().unwrap()),
        }
    };
    records[1..].iter().map(one).collect()
}

#[test]
fn event_files_hold_the_metrics() {
    let result = report(&["slow", "fast", "--out", "logs.html", "--tensorboard", "logs"]);
    let files: Vec<&str> = result["tensorboard"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let expected = ["logs/slow/events.out.tfevents.0.ulmfit", "logs/fast/events.out.tfevents.0.ulmfit"];
    assert_eq!(files, expected);
    let all = scalars(&runs().data.read(expected[1]));
    let of = |tag: &str| all.iter().filter(|s| s.tag == tag).map(|s| (s.step, s.value)).collect::<Vec<_>>();
    let told = |kind: &str, value: &dyn Fn(&Value) -> Option<f64>| -> Vec<(u64, f32)> {
        let one = |event: &Value| Some((event["step"].as_u64().unwrap(), value(event)? as f32));
        events("fast", kind).iter().filter_map(one).collect()
    };
    assert!(!of("loss/train").is_empty());
    assert_eq!(of("loss/train"), told("step", &|e| e["loss"].as_f64()));
    assert_eq!(of("gradient/norm"), told("step", &|e| e["gradient_norm"].as_f64()));
    assert_eq!(of("rate/embedding"), told("step", &|e| e["learning_rates"][0].as_f64()));
    assert_eq!(of("gradient_norm/lstm1"), told("layers", &|e| e["gradients"][1].as_f64()));
    assert_eq!(of("saturated_gates/lstm1"), told("layers", &|e| e["saturated"][1].as_f64()));
    assert!(of("saturated_gates/embedding").is_empty());
    let error = |e: &Value| (e["split"] == "test").then(|| e["error_percent"].as_f64()).flatten();
    assert_eq!(of("error_percent/test"), told("evaluated", &error));
    // times ascend, and the last one is about that of the file
    assert!(all.windows(2).all(|pair| pair[0].time <= pair[1].time));
    let again = report(&["slow", "fast", "--out", "logs.html", "--tensorboard", "logs"]);
    assert_eq!(again["tensorboard"], result["tensorboard"]);
    assert_eq!(std::fs::read_dir(runs().place.join("logs/fast")).unwrap().count(), 1);
}

/// A browser without a window, and where it may write.
struct Browser {
    program: &'static str,
    profile: tempfile::TempDir,
}

/// Chromium, where it is installed; says so where it is not.
fn browser() -> Option<Browser> {
    let known = ["chromium", "chromium-browser", "google-chrome"];
    let found = known.into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    if found.is_none() {
        println!("skipped: the page in a browser: chromium is not installed");
    }
    Some(Browser { program: found?, profile: tempfile::tempdir().unwrap() })
}

impl Browser {
    /// The document after its scripts have run, in a window of this width.
    fn document(&self, page: &Path, width: usize) -> String {
        let line = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=4000",
            "--dump-dom",
        ];
        let output = Command::new(self.program)
            .args(line)
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("--window-size={width},900"))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        text(&output.stdout)
    }
}

/// Points at the middle of the first chart, then at the same place after a zoom into its left half,
/// and notes what the page shows.
const POINTING: &str = r#"<script>
const over = document.querySelector(".u-over"), box = over.getBoundingClientRect();
const at = (kind, share, target) => (target || over).dispatchEvent(new MouseEvent(kind, {
  bubbles: true, view: window, button: 0, movementX: 1, clientX: box.left + share * box.width, clientY: box.top + box.height / 2 }));
const shown = () => [...document.querySelector(".u-legend").querySelectorAll(".u-value")].map((v) => v.textContent);
const notes = { charts: document.querySelectorAll("figure.live .uplot canvas").length,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
// timers, not frames: the browser's time is virtual, and nobody sees a frame
const later = (work) => setTimeout(work, 50);
at("mouseenter", 0.5); at("mousemove", 0.5);
later(() => {
  notes.before = shown();
  at("mousemove", 0.0); at("mousedown", 0.0); at("mousemove", 0.5); at("mouseup", 0.5, document);
  later(() => {
    at("mousemove", 0.49); at("mousemove", 0.5);
    later(() => {
      notes.after = shown();
      document.body.dataset.notes = JSON.stringify(notes);
    });
  });
});
</script>"#;

#[test]
fn a_browser_shows_curves_to_point_at() {
    let Some(browser) = browser() else { return };
    report(&["slow", "fast", "--out", "browser.html"]);
    let page = page("browser.html");
    let charts = page.matches("<script type=\"application/json\">").count();
    let path = runs().data.write("pointed.html", page.replace("</body>", &format!("{POINTING}</body>")));
    for width in [1280, 500] {
        let document = browser.document(Path::new(&path), width);
        let notes = document.split("data-notes=\"").nth(1).unwrap_or_else(|| panic!("no notes: {document}"));
        let notes = notes.split('"').next().unwrap().replace("&quot;", "\"");
        let notes: Value = serde_json::from_str(&notes).unwrap();
        assert_eq!(notes["charts"], charts, "{width}: {notes}");
        assert_eq!(notes["wide"], 0, "{width}: the page is wider than its window");
        let value = |key: &str, k: usize| notes[key][k].as_str().unwrap_or("").parse::<f64>();
        let steps = events("fast", "step").len() as f64;
        let (before, after) = (value("before", 0).unwrap(), value("after", 0).unwrap());
        assert!((before - steps / 2.0).abs() <= 2.0, "{width}: {notes}");
        assert!(after > 0.0 && after < before, "{width}: a zoom changes what is in the middle: {notes}");
        // update, and a value of each run
        assert!(notes["before"].as_array().unwrap().len() == 3 && value("before", 2).unwrap() > 0.0, "{notes}");
    }
}
