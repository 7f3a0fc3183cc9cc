//! Words, through the binary: characters that nobody sees, words that a model does
//! not know.

use crate::support::{self, Data, SIZES, STAGE, classifier, json, text, ulmfit, words};
use serde_json::Value;

/// The same words, with soft hyphens, zero-width spaces and joiners in every one.
fn unseen(line: &str) -> String {
    let mut marks = ["\u{ad}", "\u{200b}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{200c}"].into_iter().cycle();
    let word = |word: &str| {
        let (begin, end) = word.split_at(word.len() / 2);
        format!("{begin}{}{end}", marks.next().unwrap())
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn characters_that_nobody_sees() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let plain = data.write("plain.txt", "the Wonderful story was 12 inches long\n");
    let marked = data.write("marked.txt", unseen("the Wonderful story was 12 inches long") + "\n");
    let entities = data.write("entities.txt", "the Wonder&shy;ful sto&#8203;ry was 12 inches long\n");
    let tokens = |input: &str, more: &[&str]| {
        let line = ["tokenize", "--print", "--quiet", "--input", input];
        text(&ulmfit(&words(&[&line, more])).assert().success().get_output().stdout.clone())
    };
    for rules in ["0.7", "v1", "v2"] {
        for language in ["en", "de"] {
            let manner = ["--rules", rules, "--language", language];
            let expected = tokens(&plain, &manner);
            for file in [&marked, &entities] {
                assert_eq!(tokens(file, &words(&[&manner, &["--invisible", "drop"]])), expected, "{rules} {language}");
                assert_ne!(tokens(file, &manner), expected, "{rules} {language}: kept where nothing is said");
            }
        }
    }
    // where they mean something they stay
    let meant = data.write("meant.txt", "\u{645}\u{6cc}\u{200c}\u{62e}\u{648} \u{1f468}\u{200d}\u{1f467}\n");
    assert_eq!(tokens(&meant, &["--rules", "v2", "--invisible", "drop"]), tokens(&meant, &["--rules", "v2"]));
}

/// A model remembers the choice; one without a word of it, and a checkpoint without one, had none.
#[test]
fn a_model_remembers_what_becomes_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let train = data.path("train.csv");
    let texts = ["a good happy film", "the story was awful"];
    let marked = texts.map(unseen);
    for tokenizer in ["word", "subword"] {
        let out = data.path(tokenizer);
        let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--tokenizer", tokenizer];
        json(&words(&[&line, SIZES, STAGE, &["--invisible", "drop"]]));
        let saved = text(&data.read(&format!("{tokenizer}/vocab.json")));
        assert!(saved.contains("\"invisible\":\"drop\""), "{saved}");
        let answers = |texts: &[&str]| {
            let line = ["predict", "--model", &out, "--quiet"];
            text(&ulmfit(&words(&[&line, texts])).assert().success().get_output().stdout.clone())
        };
        assert_eq!(answers(&[&marked[0], &marked[1]]), answers(&texts), "{tokenizer}");
    }
    let saved = text(&std::fs::read(classifier().join("vocab.json")).unwrap());
    assert!(!saved.contains("invisible"), "vocabularies that keep them are as they were");
    // a stopped run of an older version
    let out = data.path("older");
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--checkpoint-steps", "1"];
    let line = words(&[&line, SIZES, STAGE]);
    json(&line);
    let config = data.path("older/config.json");
    let mut older: Value = serde_json::from_slice(&data.read("older/config.json")).unwrap();
    let identity = older["identity"].as_object_mut().unwrap();
    assert_eq!(identity.remove("text.invisible"), Some("keep".into()));
    older.as_object_mut().unwrap().shift_remove("sha256");
    std::fs::write(&config, older.to_string()).unwrap();
    json(&words(&[&line, &["--resume"]]));
    let other = words(&[&line, &["--resume", "--invisible", "drop", "--quiet"]]);
    support::refused(&mut ulmfit(&other), 2, &["text.invisible was \"keep\"", "is \"drop\" now"]);
}

#[test]
fn words_that_a_model_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let strange = data.write("strange.csv", "label,text\npos,zyx wvu tsr qpo\nneg,nml kji hgf edc\n");
    let model = classifier().to_str().unwrap();
    let said = |line: &[&str]| text(&ulmfit(line).assert().success().get_output().stderr.clone());
    let part = "% of the tokens are unknown to the vocabulary: --tokenizer subword";
    let test = data.path("test.csv");
    for (command, flag) in [("evaluate", "--data"), ("predict", "--input")] {
        let line = |file: &str| said(&[command, "--model", model, flag, file]);
        assert!(
            line(&strange).contains(&format!("warning: {strange}: ")) && line(&strange).contains(part),
            "{command}"
        );
        assert!(!line(&test).contains("unknown"), "{command}");
    }
    assert!(said(&["predict", "--model", model, "zyx wvu"]).contains(part));
    let corpus = data.path("corpus.txt");
    let speaker = data.path("speaker");
    json(&words(&[&["pretrain", "--corpus", &corpus, "--out", &speaker], SIZES, STAGE]));
    assert!(said(&["evaluate", "--model", &speaker, "--data", &strange, "--format", "plain"]).contains(part));
    assert!(!said(&["evaluate", "--model", &speaker, "--data", &corpus]).contains("unknown"));
}
