use super::*;
use crate::linear::Bin;
use crate::models::rule::{Measured, Rule};
use crate::report::html::tests::{run, stage_events};
use crate::train::Stage;

/// A run of one stage with this rate, error and seed.
fn subject(name: &str, rate: &str, error: f64, seed: u64) -> Subject {
    let mut events = stage_events(Stage::Classifier, &["lstm1", "head"]);
    let Event::StageStarted(started) = &mut events[0] else { unreachable!() };
    started.recipe[0].value = rate.into();
    let environment = vec![("threads".to_string(), "2".to_string())];
    events.push(Event::Environment { rows: environment });
    let summary = serde_json::json!({
        "valid_error": 7.5, "test_error": error, "test_size": 50, "valid_mean_squared_error": 0.25, "seconds": 90.0,
    });
    events.push(Event::Finished { stage: Stage::Classifier, summary });
    let data = serde_json::json!([{"role": "train", "documents": 1200, "sha256": "0123456789ab"}]);
    let config = serde_json::json!({"seed": seed, "data": data});
    Subject {
        name: name.into(),
        runs: vec![run("classifier", events, Some(config))],
        result: Some(serde_json::json!({"answer": {"test_error": error - 1.0}, "linear": null})),
        examined: None,
    }
}

/// The row of a table that begins with this header.
fn row<'a>(page: &'a str, key: &str) -> Option<&'a str> {
    let start = page.find(&format!("<th scope=\"row\">{key}</th>"))?;
    page[start..].split("</tr>").next()
}

#[test]
fn results_settings_and_curves_of_two_runs() {
    let subjects = [subject("a <small>", "0.004", 30.0, 1), subject("b", "0.01", 10.0, 1)];
    let page = comparison("2 runs", &subjects, None).unwrap();
    assert!(!page.contains("a <small>"));
    // the smaller error is the better one, and has its interval
    let error = row(&page, "test error").unwrap();
    assert!(error.contains("<td>30.00 % <small>(19.1 to 43.8)</small></td>"), "{error}");
    assert!(error.contains("<td class=\"best\">10.00 % <small>(4.3 to 21.4)</small></td>"), "{error}");
    // what is equal has no best, and no size of a validation set is known
    assert!(row(&page, "valid error").unwrap().contains("<td>7.50 %</td><td>7.50 %</td>"));
    // an error of numbers is no percentage
    assert!(row(&page, "valid mean squared error").unwrap().contains("<td>0.2500</td>"));
    assert!(row(&page, "seconds").unwrap().contains("<td>1:30</td>"));
    assert!(page.contains("<h3>Answers of the folder</h3>") && !page.contains("<h3>Linear model</h3>"));
    // settings
    let rate = row(&page, "lr").unwrap();
    assert!(rate.contains("<td>0.004</td><td>0.01</td>"), "{rate}");
    for same in ["batch-size", "seed", "threads", "classifier: train data", "Classifier: updates"] {
        assert!(row(&page, same).is_none(), "{same}");
    }
    // a line for each run on each chart
    let titles = ["Training loss, smoothed", "Validation loss", "Validation error", "Largest learning rate"];
    for title in titles.iter().chain(&["Gradient norm, before clipping", "Clipped updates"]) {
        let figure = page.split("<figure>").find(|part| part.contains(&format!("<figcaption>{title}<"))).unwrap();
        assert!(figure.contains("a &lt;small&gt;</li>") && figure.contains(">b</li>"), "{title}");
    }
    assert!(!page.contains("Validation perplexity"));
}

#[test]
fn what_differs_is_found_whatever_it_is() {
    let mut subjects = [subject("a", "0.01", 10.0, 1), subject("b", "0.01", 10.0, 2)];
    let page = comparison("x", &subjects, None).unwrap();
    assert!(row(&page, "seed").unwrap().contains("<td>1</td><td>2</td>") && row(&page, "lr").is_none());
    subjects[1] = subject("b", "0.01", 10.0, 1);
    let page = comparison("x", &subjects, None).unwrap();
    assert!(page.contains("None: the runs have the same recipe"));
    let data = serde_json::json!([{"role": "train", "documents": 1200, "sha256": "ffff"}]);
    subjects[1].runs[0].config.as_mut().unwrap()["data"] = data;
    let page = comparison("x", &subjects, None).unwrap();
    let found = row(&page, "classifier: train data").unwrap();
    assert!(found.contains("<td>1,200 documents, 01234567</td><td>1,200 documents, ffff</td>"), "{found}");
}

/// A stage that only one run has is shown, and its settings are no difference.
#[test]
fn a_stage_of_one_run() {
    let mut subjects = [subject("a", "0.01", 10.0, 1), subject("b", "0.01", 10.0, 1)];
    let mut events = stage_events(Stage::Pretrain, &["lstm1", "decoder"]);
    let Event::StageStarted(started) = &mut events[0] else { unreachable!() };
    started.recipe[0].key = "pretrain.lr".into();
    subjects[1].runs.insert(0, run("pretrain", events, None));
    let measured = Measured {
        documents: 10,
        reliability: vec![Bin { documents: 10, confidence: 0.8, accuracy: 0.5 }],
        ..Measured::default()
    };
    subjects[1].runs[1].rule = Some(Rule::new(Vec::new(), 1.0, None, measured));
    let page = comparison("x", &subjects, None).unwrap();
    assert!(page.contains("<h2>Language model: pretraining</h2>") && page.contains("Validation perplexity"));
    assert!(row(&page, "pretrain.lr").is_none());
    assert!(page.contains("Reliability") && page.contains("as it should be"));
}

/// A classifier from scratch is compared with one that is not; beside one it is another stage.
/// Folds are numbered.
#[test]
fn parts_of_a_run() {
    let with_part = |part: Option<&str>| {
        let mut events = stage_events(Stage::Classifier, &["lstm1", "head"]);
        let Event::StageStarted(started) = &mut events[0] else { unreachable!() };
        started.part = part.map(String::from);
        run("x", events, None)
    };
    let names = |parts: &[Option<&str>]| -> Vec<String> {
        let runs = parts.iter().map(|part| with_part(*part)).collect();
        let subject = Subject { name: "x".into(), runs, result: None, examined: None };
        subject.stages().into_iter().map(|(name, _)| name).collect()
    };
    let scratch = [Some("from scratch, rate 0.1"), Some("from scratch, rate 0.2")];
    assert_eq!(names(&[None]), ["Classifier"]);
    assert_eq!(names(&scratch), ["Classifier", "Classifier, model 2"]);
    let expected =
        ["Classifier", "Classifier, model 2", "Classifier, from scratch", "Classifier, from scratch, model 2"];
    assert_eq!(names(&[Some("fold 1 of 2"), Some("fold 2 of 2"), scratch[0], scratch[1]]), expected);
}

/// Runs beyond the number of colours have dashed lines.
#[test]
fn the_seventh_run_is_dashed() {
    let all: Vec<Subject> = (0..7).map(|k| subject(&format!("run {k}"), "0.01", 10.0, k)).collect();
    let page = comparison("7 runs", &all, None).unwrap();
    assert!(page.contains("<li class=\"dashed\" style=\"--c:var(--series-0)\">run 6</li>"), "no dashes");
    assert!(page.contains("\"name\":\"run 6\",\"colour\":\"--series-0\",\"mark\":\"dashed\""));
}
