//! The stored corpus, and a short campaign, in every test run.

use std::path::Path;

use ulmfit_fuzz::targets::TARGETS;
use ulmfit_fuzz::{campaign, execute, stored};

#[test]
fn stored_inputs_and_a_short_campaign() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let inputs = stored(&corpus, target).unwrap();
        assert!(!inputs.is_empty(), "no corpus for {}", target.name);
        for input in &inputs {
            execute(target, input).unwrap_or_else(|what| panic!("{}: {what}: {input:?}", target.name));
        }
        let summary = campaign(target, inputs, 1, 1000);
        assert!(summary.finds.is_empty(), "{}: {:?}", target.name, summary.finds);
        assert!(summary.outcomes > 5, "{}: hardly anything happens ({} outcomes)", target.name, summary.outcomes);
    }
}
