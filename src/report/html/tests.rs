use super::*;
use crate::answer::Scores;
use crate::text::Direction;
use crate::train::Stage;
use crate::train::observer::{Evaluated, Layers, RecipeRow, Step};

fn started(stage: Stage, first_step: u64, groups: &[&str]) -> Event {
    let row = |key: &str, value: &str, source: &str| RecipeRow {
        key: key.into(),
        value: value.into(),
        source: source.into(),
        changed: false,
    };
    Event::StageStarted(StageStarted {
        stage,
        direction: Direction::Forward,
        first_step,
        told: None,
        part: None,
        total_steps: 300,
        epochs: 3,
        parameters: 1_234_567,
        recipe: vec![row("lr", "0.004", "docs/SPEC.md §4.4"), row("batch-size", "<64>", "--batch-size")],
        groups: groups.iter().map(|g| g.to_string()).collect(),
        description: vec!["train: 4,952 documents, 6 classes; valid: 500; test: 500".into()],
    })
}

fn evaluated(stage: Stage, epoch: u64, loss: f64) -> Event {
    let classifier = stage == Stage::Classifier;
    Event::Evaluated(Evaluated {
        stage,
        epoch,
        step: epoch * 100,
        split: Split::Valid,
        loss,
        scores: match classifier {
            true => Scores::default().with("error_percent", 40.0 / epoch as f64),
            false => Scores::default().with("perplexity", loss.exp()),
        }
        .with("accuracy", 30.0),
        seconds: 1.0,
    })
}

pub(in crate::report) fn stage_events(stage: Stage, groups: &[&str]) -> Vec<Event> {
    let mut events = vec![started(stage, 0, groups), Event::warning("3 documents are <empty>")];
    for step in 1..=300u64 {
        let t = step as f64 / 300.0;
        let loss = 2.0 + 5.0 * (-4.0 * t).exp();
        let rate = if t < 0.1 { t * 10.0 } else { (1.0 - t) / 0.9 };
        events.push(Event::Step(Step {
            stage,
            epoch: 1 + (step - 1) / 100,
            step,
            total_steps: 300,
            loss: loss + 0.3 * ((step * 37 % 17) as f64 / 17.0 - 0.5),
            smoothed_loss: loss,
            tokens: 4480,
            documents: 0,
            seconds: t * 60.0,
            learning_rates: (0..groups.len())
                .map(|g| 0.01 * rate / 2.6f64.powi((groups.len() - 1 - g) as i32))
                .collect(),
            momentum: 0.8,
            gradient_norm: 0.5 + t,
            gradient_scale: (1.0 / (0.5 + t)).min(1.0),
            pool_allocations: 40,
            pool_bytes: 1 << 20,
            peak_rss_mb: 100.0,
        }));
        if stage == Stage::Pretrain && step % 5 == 1 {
            let all = |x: f64| (0..groups.len()).map(|g| (g > 0).then_some(x * (1.0 + g as f64))).collect::<Vec<_>>();
            let (gradients, weights, saturated) = (all(0.1 + t), all(20.0 + t), all(0.05 * t));
            events.push(Event::Layers(Layers { step, gradients, weights, saturated }));
        }
        if step % 100 == 0 {
            events.push(evaluated(stage, step / 100, loss + 0.1));
        }
    }
    events
}

pub(in crate::report) fn run(name: &str, events: Vec<Event>, config: Option<Value>) -> Run {
    Run { name: name.into(), folder: name.into(), events, config, rule: None }
}

/// A page like that of a whole run. `ULMFIT_REPORT_SAMPLE=FILE` keeps it to be looked at.
#[test]
fn page_is_complete_and_self_contained() {
    let mut language_model = stage_events(Stage::Pretrain, &["lstm1", "lstm2", "lstm3", "decoder"]);
    let summary = serde_json::json!({"train_loss": 2.1, "perplexity": 12345.6, "tokens": 1_344_000, "seconds": 65.2});
    language_model.push(Event::Finished { stage: Stage::Pretrain, summary });
    let mut classifier = stage_events(Stage::Classifier, &["embedding", "lstm1", "lstm2", "lstm3", "head"]);
    let labels = ["ABBR", "DESC", "<ENTY>"].map(String::from).to_vec();
    let matrix = vec![vec![8, 1, 0], vec![0, 130, 8], vec![1, 14, 79]];
    classifier.push(Event::Confusion { split: Split::Test, labels, matrix });
    let rows = vec![("processor".into(), "Some & Other".into())];
    classifier.push(Event::Environment { rows });
    let config = serde_json::json!({"architecture": {"layers": 3}, "vocabulary": vec![1; 100]});
    let runs = [run("pretrain", language_model, None), run("classifier", classifier, Some(config))];
    let page = page("TREC-6 <six>", &runs, "<section id=\"more\"></section>\n").unwrap();
    if let Some(path) = std::env::var_os("ULMFIT_REPORT_SAMPLE") {
        std::fs::write(path, &page).unwrap();
    }
    for part in [
        "<title>TREC-6 &lt;six&gt;</title>",
        "Language model: pretraining",
        "12,346",
        "1:05",
        "&lt;64&gt;",
        "3 documents are &lt;empty&gt;",
        "&lt;ENTY&gt;",
        "94.2 %",
        "Some &amp; Other",
        "(100 items)",
        "This stage is not finished.",
    ] {
        assert!(page.contains(part), "missing: {part}");
    }
    // loss, perplexity or error, rates, norm, clipped updates; by layer norms and gates; for the
    // two stages; the classifier's layers were not told of
    assert_eq!(page.matches("<svg ").count(), 13);
    assert!(page.contains("Weight norm by layer") && page.contains("Saturated gates"));
    assert!(!page.contains("<six>") && !page.contains("<ENTY>"));
    assert!(page.contains("id=\"more\"") && page.matches("<script type=\"application/json\">").count() == 13);
    let outside = frame::own(&page).replace("http://www.w3.org/2000/svg", "");
    for part in ["http:", "https:", "<link", "src=", "@import", "url(", "fetch(", "import("] {
        assert!(!outside.contains(part), "{part}");
    }
}

#[test]
fn a_resumed_stage_is_one_section() {
    let events = [started(Stage::Pretrain, 0, &["a"]), started(Stage::Pretrain, 5, &["a"]), Event::note("x")];
    let found = sections(&events);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].events.len(), 3);
    assert_eq!(sections(&events[1..]).len(), 1);
    assert!(sections(&events[2..]).is_empty());
}

#[test]
fn written_from_a_directory() {
    use crate::train::observer::Observer;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join(FILE);
    let missing = write(&out, "x", &[dir.path()]).unwrap_err().to_string();
    assert!(missing.ends_with("metrics.jsonl: cannot read: no such file or directory"), "{missing}");
    let mut writer = metrics::MetricsWriter::create(dir.path().join(metrics::FILE)).unwrap();
    writer.observe(&started(Stage::Classifier, 0, &["head"])).unwrap();
    write(&out, "x", &[dir.path()]).unwrap();
    assert!(std::fs::read_to_string(&out).unwrap().contains("<h2>Classifier</h2>"));
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(write(&out, "x", &[dir.path()]).unwrap_err().to_string().contains("is not valid JSON"));
}
