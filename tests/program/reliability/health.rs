//! Trainings that go wrong: told with the layer and the step, and stopped with all that is known.

use super::{data, pretrain_line};
use crate::support::{SIZES, STAGE, json, json_lines, text, ulmfit, words};
use std::path::Path;

/// The warnings in the metrics of a folder.
fn warnings(data: &crate::support::Data, folder: &str) -> Vec<String> {
    let events = json_lines(&text(&data.read(&format!("{folder}/metrics.jsonl"))));
    let texts = events.iter().filter(|event| event["event"] == "warning").filter_map(|event| event["text"].as_str());
    texts.map(String::from).collect()
}

/// A run that diverges names step, layer and tensor, and leaves the last good checkpoint.
#[test]
fn a_training_that_diverges() {
    let (_place, data) = data();
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let wild =
        ["--lr", "1e30", "--set", "pretrain.clip=none", "--set", "pretrain.optimiser=sgd", "--schedule", "constant"];
    let line = words(&[&pretrain_line(&corpus, &out), &wild, &["--checkpoint-steps", "1", "--on-nan", "stop"]]);
    let output = ulmfit(&line).assert().code(1).get_output().clone();
    let said = text(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    assert!(last[1].starts_with("error: update ") && last[1].ends_with(": training has diverged"), "{said}");
    assert!(last[1].contains("(layer '") && last[1].contains("', tensor '"), "{said}");
    let state = Path::new(&out).join("state.safetensors");
    assert!(last[0].contains(&format!("{} is the last good state", state.display())) && state.exists(), "{said}");
    // it is good: all of its numbers are
    let bytes = std::fs::read(&state).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for (name, entry) in header.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("parameter/")) {
        let at = |k: usize| 8 + length + entry["data_offsets"][k].as_u64().unwrap() as usize;
        let numbers = bytes[at(0)..at(1)].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        assert!(numbers.into_iter().all(f32::is_finite), "{name}");
    }
}

/// Gates without movement, a layer that learns nothing, a loss that jumps.
#[test]
fn what_is_told_of_a_training_that_goes_on() {
    let (_place, data) = data();
    let (corpus, fine, large) = (data.path("corpus.txt"), data.path("fine"), data.path("large"));
    json(&pretrain_line(&corpus, &fine));
    assert!(warnings(&data, "fine").iter().all(|text| !text.starts_with("update ")), "{:?}", warnings(&data, "fine"));
    // steps so large that the gates are driven to their ends
    let wild =
        ["--lr", "300", "--set", "pretrain.optimiser=sgd", "--set", "pretrain.clip=none", "--schedule", "constant"];
    let more = ["--epochs", "8", "--set", "pretrain.tie_weights=true"];
    let line = words(&[
        &["pretrain", "--corpus", &corpus, "--out", &large],
        SIZES,
        &STAGE[..4],
        &["--min-freq", "1"],
        &wild,
        &more[..2],
    ]);
    let _ = ulmfit(&line).output().unwrap();
    let told = warnings(&data, "large");
    let has = |part: &str| told.iter().any(|text| text.starts_with("update ") && text.contains(part));
    assert!(has("of its gates are saturated: it hardly learns") && has("layer 'lstm"), "{told:?}");
    assert!(has("the loss jumped to ") || has("the gradient is zero: it does not learn"), "{told:?}");
}
