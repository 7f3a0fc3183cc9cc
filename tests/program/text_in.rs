//! Text in, through the binary: nothing of a file is lost in silence, and answers depend on their
//! own text alone.

use crate::support::{self, Data, SIZES, STAGE, classifier, json, json_lines, text, ulmfit, words};
use serde_json::Value;

fn model() -> &'static str {
    classifier().to_str().unwrap()
}

fn answers(line: &[&str]) -> Vec<Value> {
    let output = ulmfit(line).arg("--quiet").assert().success().get_output().clone();
    json_lines(&text(&output.stdout))
}

/// Where no temporary file can be, answers are the same: none is needed.
#[test]
fn answers_make_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (test, nowhere) = (data.path("test.csv"), data.path("nowhere"));
    let line = ["predict", "--model", model(), "--input", &test, "--quiet"];
    let with = |folder: &str| text(&ulmfit(&line).env("TMPDIR", folder).assert().success().get_output().stdout.clone());
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(with(&nowhere), with(folder.path().to_str().unwrap()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let line = ["evaluate", "--model", model(), "--data", &test, "--quiet"];
    ulmfit(&line).env("TMPDIR", &nowhere).assert().success();
}

/// A text alone has the bits that it has among others, padded at the end or in front.
#[test]
fn an_answer_depends_on_its_own_text_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (train, out) = (data.path("train.csv"), data.path("padded-in-front"));
    let line =
        ["train-classifier", "--model", "none", "--train", &train, "--out", &out, "--set", "classifier.masking=v1"];
    json(&words(&[&line, SIZES, STAGE]));
    let texts =
        ["a good film", "bad", "the story was awful and sad and the film was poor", "good", "was the film fine ?"];
    for model in [model(), &out] {
        let together = answers(&words(&[&["predict", "--model", model], &texts]));
        for (one, among) in texts.iter().zip(&together) {
            assert_eq!(&answers(&["predict", "--model", model, one])[0], among, "{model}: {one}");
        }
    }
}

/// Every row of the data has a line of predictions, the one without a text too.
#[test]
fn predictions_have_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let gap = data.write("gap.csv", "text,label\ngood,pos\n,neg\nbad,neg\nfine,\n");
    let saved = data.path("p.jsonl");
    let result = json(&["evaluate", "--model", model(), "--data", &gap, "--predictions", &saved]);
    assert_eq!((&result["test_size"], &result["skipped"]), (&Value::from(2), &Value::from(2)));
    let lines = json_lines(&text(&data.read("p.jsonl")));
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("row"), [1, 2, 3, 4]);
    assert_eq!(of("true"), [Value::from("pos"), Value::Null, Value::from("neg"), Value::Null]);
    assert_eq!((&lines[1]["label"], &lines[1]["reason"]), (&Value::Null, &Value::from("the text is empty")));
    assert_eq!((&lines[3]["label"], &lines[3]["reason"]), (&Value::Null, &Value::from("there is no label")));
    assert!(lines[2]["probabilities"]["neg"].is_f64());
}

/// A folder with one file, and what `data check` says of it.
pub struct File {
    _directory: tempfile::TempDir,
    pub path: String,
}

pub fn file(name: &str, content: impl AsRef<[u8]>) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = Data::new(directory.path()).write(name, content);
    File { _directory: directory, path }
}

impl File {
    pub fn check(&self, flags: &[&str]) -> Value {
        json(&words(&[&["data", "check", &self.path], flags]))
    }

    pub fn refused(&self, flags: &[&str], parts: &[&str]) {
        support::refused(ulmfit(&words(&[&["data", "check", &self.path], flags])).arg("--quiet"), 1, parts);
    }

    /// The tokens of every document, one string each.
    pub fn texts(&self, flags: &[&str]) -> Vec<String> {
        let line = ["tokenize", "--print", "--quiet", "--tokenizer", "pretokenized", "--input", &self.path];
        let output = ulmfit(&words(&[&line, flags])).assert().success().get_output().clone();
        let tokens = |line: &Value| {
            let all: Vec<&str> = line.as_array().unwrap().iter().filter_map(Value::as_str).collect();
            all[1..].join(" ")
        };
        json_lines(&text(&output.stdout)).iter().map(tokens).collect()
    }
}

pub fn classes(found: &Value) -> Vec<(String, u64)> {
    let all = found["per_class"].as_object().unwrap();
    all.iter().map(|(name, n)| (name.clone(), n.as_u64().unwrap())).collect()
}

pub fn class(name: &str, n: u64) -> (String, u64) {
    (name.to_string(), n)
}

#[test]
fn rows_with_more_columns_than_the_header() {
    let hint = "hint: quote a text that holds ','";
    let surplus = file("a.csv", "text,label\nI liked it, really,pos\nbad film,neg\n");
    surplus.refused(&[], &["a.csv:2: has 3 columns where the header has 2", hint]);
    file("a.csv", "label,text\npos,good\nneg,bad, and dull\n").refused(&[], &["a.csv:3: has 3 columns", hint]);
    let headless = file("a.csv", "1,good\n2,bad, and dull\n");
    headless.refused(&[], &["a.csv:2: has 3 columns where the first row has 2"]);
    file("a.tsv", "text\tlabel\na\tb\tpos\n").refused(&[], &["a.tsv:2: has 3 columns", "hint: a tab stands between"]);
    let named = file("a.csv", "text,label,,\ngood,pos,,\nbad,neg,,more\n");
    named.refused(&[], &["a.csv:3: has 4 columns where the header has 2"]);
    let empty = file("a.csv", "text,label,,,\ngood,pos,,,\nbad,neg\nfine,pos,,,,\n");
    assert_eq!(classes(&empty.check(&[])), [class("neg", 1), class("pos", 2)]);
    let line = ["predict", "--model", model(), "--input", &surplus.path, "--quiet"];
    support::refused(&mut ulmfit(&line), 1, &["a.csv:2: has 3 columns"]);
}

#[test]
fn quotes_out_of_order() {
    // in TSV they prove that quotes are characters, wherever they stand
    let rows: String = (0..300).map(|i| format!("row {i}\tpos\n")).collect();
    for (head, tail) in
        [("\"Great\" film\tpos\nHe said \"no\"\tneg\n", ""), ("", "\"half an inch\tneg\nthe \"end\"\tpos\n")]
    {
        let tsv = file("a.tsv", format!("sentence\tlabel\n{head}{rows}{tail}"));
        assert_eq!(tsv.check(&[])["documents"], 302);
        assert!(tsv.texts(&[]).iter().any(|text| text.contains('"')), "quotes are kept");
    }
    let enclosed = file("a.tsv", "text\tlabel\n\"two\nlines\"\tpos\n\"a \"\"b\"\"\"\tneg\n");
    assert_eq!(enclosed.texts(&[]), ["two lines", "a \"b\""]);
    // in CSV they are an error of the line
    let hint = "hint: double a quote within a quoted field";
    let after = file("a.csv", format!("text,label\n{}\"Great\" film,pos\nbad,neg\n", "x,pos\n".repeat(300)));
    after.refused(&[], &["a.csv:302: a quoted field goes on after its closing quote", hint]);
    assert_eq!(after.check(&["--quotes", "no"])["documents"], 302);
    file("a.csv", "text,label\ngood,pos\n\"bad,neg\n").refused(&[], &["a.csv:3: a quote opened here is never closed"]);
    // one that is closed by another row's quote
    let swallowed = file("a.csv", "text,label\ngood,pos\n\"5 inch,neg\nfine,pos\nsmall,neg\n6 inch\",pos\n");
    swallowed.refused(&[], &["a.csv:3: a quoted text that begins here holds lines that look like rows"]);
    assert_eq!(swallowed.check(&["--quotes", "yes"])["documents"], 2);
    assert_eq!(swallowed.check(&["--quotes", "no"])["documents"], 5);
}

#[test]
fn quotes_after_a_backslash() {
    let escaped = file("a.csv", "label,text\npos,\"said \\\"no, never\\\" twice\"\nneg,bad\n");
    assert_eq!(classes(&escaped.check(&[])), [class("neg", 1), class("pos", 1)]);
    assert_eq!(escaped.texts(&[]), ["said \"no, never\" twice", "bad"]);
    let late = "pos,good\n".repeat(20_000) + "neg,\"a \\\"b\\\" c\"\n";
    let late = file("a.csv", format!("label,text\n{late}"));
    late.refused(&[], &["a.csv:20002: a quote after a backslash", "hint: --quotes backslash"]);
    assert_eq!(late.check(&["--quotes", "backslash"])["documents"], 20_001);
    let plain = file("a.csv", "label,text\npos,\"C:\\\"\nneg,bad\n");
    assert_eq!(plain.texts(&[]), ["C:\\", "bad"], "a backslash at the end of a field");
}

#[test]
fn delimiters() {
    for (name, content) in [
        ("a.csv", "label;text\npos;good, really\nneg;bad\n"),
        ("a.csv", "label|text\npos|good, really\nneg|bad\n"),
        ("a.csv", "label\ttext\npos\tgood, really\nneg\tbad\n"),
        ("a.csv", "sep=;\nlabel;text\npos;good, really\nneg;bad\n"),
        ("a.csv", "sep=,\r\nlabel,text\r\npos,\"good, really\"\r\nneg,bad\r\n"),
        ("a.txt", "label;text\npos;good, really\nneg;bad\n"),
    ] {
        let table = file(name, content);
        assert_eq!(classes(&table.check(&[])), [class("neg", 1), class("pos", 1)], "{content}");
        assert_eq!(table.texts(&[]), ["good, really", "bad"], "{content}");
    }
    let odd = file("a.csv", "label^text\npos^good\nneg^bad\n");
    odd.refused(&[], &["a.csv:1: is neither a header", "hint: say what stands between the columns with --delimiter"]);
    assert_eq!(odd.check(&["--delimiter", "^"])["documents"], 2);
    let broken = file("a.csv", "sep=;\nlabel;text\npos;good;more\n");
    broken.refused(&[], &["a.csv:3: has 3 columns where the header has 2", "';'"]);
}

#[test]
fn column_numbers_leave_the_header_where_it_is() {
    let numbers = ["--text-column", "1", "--label-column", "2"];
    let unknown = file("a.csv", "utterance,intent\nhello there,greet\nbye now,leave\n");
    assert_eq!(classes(&unknown.check(&numbers)), [class("greet", 1), class("leave", 1)]);
    let rows: String =
        (0..9).flat_map(|i| [format!("ham,\"ok caf\u{e9} {i}\",,,\r\n"), format!("spam,\"win {i}\",,,\r\n")]).collect();
    let latin: Vec<u8> = format!("v1,v2,,,\r\n{rows}").chars().map(|c| c as u8).collect();
    let spam = file("spam.csv", latin);
    let found = spam.check(&["--text-column", "2", "--label-column", "1", "--encoding", "latin-1"]);
    assert_eq!(classes(&found), [class("ham", 9), class("spam", 9)]);
    let headless = file("a.csv", "good film,pos\nbad film,neg\nfine,pos\n");
    assert_eq!(classes(&headless.check(&numbers)), [class("neg", 1), class("pos", 2)]);
    let unclear = file("a.csv", "good,pos\nbad,neg\n");
    unclear.refused(&numbers, &["a.csv:1: it cannot be told whether the first row names the columns", "--header"]);
    assert_eq!(unclear.check(&words(&[&numbers, &["--header", "no"]]))["documents"], 2);
    assert_eq!(unclear.check(&words(&[&numbers, &["--header", "yes"]]))["documents"], 1);
}

#[test]
fn plain_text_stays_whole() {
    for content in [
        "2 cups flour\n1 tsp salt\n3 eggs\n",
        "ANN:oh I hated it\nBOB:well I loved it\n",
        "5 stars I loved it\n1 star I hated it\n5 stars it was ok\n",
    ] {
        let lines: Vec<&str> = content.lines().collect();
        assert_eq!(file("a.txt", content).texts(&[]), lines);
    }
    // beyond what is looked at first
    let late: String =
        (0..300).map(|i| if i == 250 { "no number\n".into() } else { format!("{} x\n", i % 5) }).collect();
    assert_eq!(file("a.txt", late).texts(&[]).len(), 300);
    let fast = file("ft.txt", "__label__pos good film\n__label__neg bad film\n");
    assert_eq!(fast.texts(&[]), ["good film", "bad film"]);
    assert_eq!(classes(&fast.check(&[])), [class("neg", 1), class("pos", 1)]);
    let several = file("ft.txt", "__label__a __label__b good\n__label__a bad\n");
    several
        .refused(&[], &["ft.txt:1: has several labels, 'a' and others", "hint: --task labels learns several labels"]);

    let blank = file("a.txt", "5 stars I loved it\n\n1 star I hated it\n");
    let line = ["predict", "--model", model(), "--input"];
    let from_file = answers(&words(&[&line, &[&blank.path]]));
    assert_eq!((from_file.len(), &from_file[1]["label"]), (3, &Value::Null));
    for marked in ["", "\u{feff}"] {
        let input = format!("{marked}5 stars I loved it\n\n1 star I hated it\n");
        let output =
            ulmfit(&words(&[&line, &["-", "--quiet"]])).write_stdin(input).assert().success().get_output().clone();
        assert_eq!(json_lines(&text(&output.stdout)), from_file);
    }
    // standard input obeys the flags
    let table = "id;body\n1;\"good film\"\n2;bad\n";
    let flags = ["-", "--quiet", "--format", "csv", "--text-column", "body"];
    let output = ulmfit(&words(&[&line, &flags])).write_stdin(table).assert().success().get_output().clone();
    assert_eq!(json_lines(&text(&output.stdout)), answers(&["predict", "--model", model(), "good film", "bad"]));
    let said = ulmfit(&words(&[&line, &[&blank.path]])).assert().success().get_output().clone();
    assert!(text(&said.stderr).contains("a.txt: plain text, one document a line"), "{}", text(&said.stderr));
}

#[test]
fn json_lines_with_gaps() {
    // a message does not repeat what a line holds, whatever its length
    let long = file("a.jsonl", format!("{{\"text\":\"a\"}}\n\"{}\" x\n", "word ".repeat(40_000)));
    long.refused(
        &["--format", "json-lines"],
        &["a.jsonl:2: is not valid JSON: invalid type: string \"word word", " …"],
    );
    let first =
        file("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\",\"label\":\"pos\"}\n{\"text\":\"c\",\"label\":null}\n");
    let found = first.check(&[]);
    assert_eq!((&found["documents"], &found["unlabelled"]), (&Value::from(3), &Value::from(2)));
    first.refused(&["--label-column", "class"], &["a.jsonl: has no line with 'class'"]);
    let twice = file("a.jsonl", "{\"text\":\"a\",\"text\":\"b\"}\n");
    twice.refused(&[], &["a.jsonl:1: is not valid JSON: the key 'text' is there twice"]);
    let columns = file("a.csv", "text,label,text\na,pos,b\n");
    columns.refused(&[], &["has two columns named 'text', 1 and 3"]);
    assert_eq!(columns.texts(&["--text-column", "3"]), ["b"]);
    file("a.csv", "label,text\npos,good\nlabel,text\n").refused(&[], &["a.csv:3: repeats the header"]);
}

#[test]
fn encodings_in_doubt() {
    let warned = |file: &File, flags: &[&str]| {
        let line = words(&[&["data", "check", &file.path], flags]);
        text(&ulmfit(&line).assert().success().get_output().stderr.clone())
    };
    let utf8 = file("a.csv", "text,label\ncaf\u{e9},pos\nbad,neg\n");
    assert!(warned(&utf8, &["--encoding", "latin-1"]).contains("warning: "), "valid UTF-8");
    assert!(!warned(&utf8, &[]).contains("warning: "));
    let marks = file("a.csv", b"text,label\n\x93good\x94,pos\nbad,neg\n");
    assert!(warned(&marks, &["--encoding", "latin-1"]).contains("--encoding windows-1252"));
    assert!(!warned(&marks, &["--encoding", "windows-1252"]).contains("warning: "));
    marks.refused(&[], &["a.csv:2: is not valid UTF-8 at byte 11", "hint: --encoding windows-1252"]);
    let page = file("a.txt", "<!DOCTYPE html>\n<html><body>404</body></html>\n");
    assert!(warned(&page, &[]).contains("is a web page (HTML)"));
    file("a.csv", "<!DOCTYPE html>\n<html></html>\n").refused(&[], &["a.csv: is a web page (HTML), not data"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    file("a.csv", pointer).refused(&[], &["a.csv: is a pointer of a large-file store (Git LFS)", "git lfs pull"]);
}

#[test]
fn labels_that_are_hardly_classes() {
    let warned = |content: String| {
        let table = file("a.csv", content);
        let output = ulmfit(&["data", "check", &table.path, "--json"]).assert().success().get_output().clone();
        let (said, found) = (text(&output.stderr), support::last_line(&output.stdout));
        assert_eq!(said.matches("warning: ").count(), found["warnings"].as_array().unwrap().len(), "{said}");
        said
    };
    let index: String = (0..20).map(|i| format!("{i},a text {i},neg\n")).collect();
    assert!(
        warned(index).contains("as many classes as documents (20 and 20): is another column the label? --label-column")
    );
    let rows = |a: &str, b: &str| format!("text,label\n{}", format!("x,{a}\ny,{b}\n").repeat(5));
    assert!(warned(rows("3.5", "4")).contains("numbers with fractions ('3.5')"));
    for (a, b) in [("Pos", "pos"), ("a b", "a  b"), ("x", "x\u{200b}"), ("1", "1.0"), ("\u{e9}", "e\u{301}")] {
        assert!(warned(rows(a, b)).contains("classes differ only by case, white space"), "{a} {b}");
    }
    assert_eq!(warned(rows("neg", "pos")).matches("warning").count(), 0);
    let page = "text,label\n<p>good</p>,pos\n<p>bad</p>,neg\n".to_string();
    assert!(warned(page).contains("2 of 2 texts have HTML tags"));
    let line_ends = "text,label\ngood<br /><br />film,pos\nbad<br>film,neg\n".to_string();
    assert_eq!(warned(line_ends).matches("warning").count(), 0);
    let tags = file("tags.csv", rows("neg;film;music", "pos;film"));
    let said = text(&ulmfit(&["data", "check", &tags.path]).assert().success().get_output().stderr.clone());
    assert!(said.contains("--label-separator \";\""), "{said}");
    assert_eq!(tags.check(&["--label-separator", ";"])["classes"], 4);
}

#[test]
fn a_run_is_checked_before_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (corpus, train, out) = (data.path("corpus.txt"), data.path("train.csv"), data.path("out"));
    let refused = |more: &[&str], status: i32, parts: &[&str]| {
        let line = ["run", "--corpus", &corpus, "--train", &train, "--out", &out, "--quiet"];
        support::refused(&mut ulmfit(&words(&[&line, SIZES, STAGE, more])), status, parts);
        assert!(!std::path::Path::new(&out).exists(), "nothing was begun");
    };
    let blank = data.write("blank.csv", "label,text\npos,\nneg,  \n");
    let bare = data.write("bare.csv", "text\na good film\n");
    for role in ["--valid", "--test"] {
        refused(&[role, &blank], 1, &["blank.csv: holds no document with text"]);
        refused(&[role, &bare], 1, &["bare.csv: holds no document with a label"]);
    }
    refused(&["--classifier-batch-size", "1"], 2, &["--batch-size 1: a batch norm has nothing to learn"]);
    refused(&["--labels", "1"], 2, &["--labels 1"]);
    // 4.5 petabytes a layer
    let large = ["--set", "model.hidden=16777216", "--memory-limit", "100000T"];
    refused(
        &large,
        1,
        &["--out", "the models and checkpoints of this run take", "MiB are free there", "hint: make room"],
    );
    refused(&large[..2], 1, &["the model with its gradients and optimiser needs", "memory limit"]);
    let message =
        ["fine-tuning: a batch of 4000 columns is larger than the text of", "hint: lower --finetune-batch-size"];
    refused(&["--finetune-batch-size", "4000"], 1, &message);
}

/// A flag for the labelled files leaves the corpus as it is.
#[test]
fn flags_are_of_a_role() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let corpus = data.write("corpus.txt", "the caf\u{e9} was good\n".repeat(60));
    let latin: Vec<u8> = text(&data.read("train.csv")).replace("good", "g\u{e9}od").chars().map(|c| c as u8).collect();
    let (train, out) = (data.write("latin.csv", latin), data.path("out"));
    let line = ["run", "--corpus", &corpus, "--train", &train, "--out", &out, "--encoding", "latin-1"];
    json(&words(&[&line, SIZES, STAGE]));
    let words_of = |stage: &str| text(&data.read(&format!("out/{stage}/vocab.json")));
    assert!(words_of("pretrain").contains("caf\u{e9}") && words_of("finetune-lm").contains("g\u{e9}od"));
    let again = data.path("again");
    let garbled = ["run", "--corpus", &corpus, "--train", &train, "--out", &again, "--encoding", "latin-1"];
    let output = ulmfit(&words(&[&garbled, &["--corpus-encoding", "latin-1"], SIZES, STAGE])).assert().success();
    let said = text(&output.get_output().stderr);
    assert!(said.contains("corpus.txt is valid UTF-8, but --corpus-encoding says Latin-1"), "{said}");
}

#[test]
fn many_classes_and_odd_ones() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let rows: String = (0..120).map(|i| format!("good film {i},class{}\n", i % 60)).collect();
    let (train, out) = (data.write("many.csv", format!("text,label\n{rows}")), data.path("many"));
    json(&words(&[&["train-classifier", "--model", "none", "--train", &train, "--out", &out], SIZES, STAGE]));
    let matrix = data.path("matrix.csv");
    let line = ["evaluate", "--model", &out, "--data", &train, "--quiet", "--confusion", &matrix];
    let shown = text(&ulmfit(&line).assert().success().get_output().stdout.clone());
    assert!(
        shown.lines().count() <= 23 && shown.contains("60 classes") && shown.contains("predicted class"),
        "{shown}"
    );
    let saved = text(&data.read("matrix.csv"));
    assert!(saved.lines().count() == 61 && saved.starts_with("true,class0,class1,"), "{saved}");
    let strange = data.write("strange.csv", "text,label\ngood,other\n");
    let message = support::refused(
        &mut ulmfit(&["evaluate", "--model", &out, "--data", &strange, "--quiet"]),
        1,
        &["strange.csv:2: has the class 'other'", "(60 in all)"],
    );
    assert!(message.len() < 1000, "{message}");
    let odd = file("odd.csv", "text,label\ngood,\"a\tb\nc\"\nbad,\"a\tb\nd\"\n");
    let shown = text(&ulmfit(&["data", "check", &odd.path]).assert().success().get_output().stdout.clone());
    assert!(shown.contains("  a\\tb\\nc "), "{shown}");
}

#[test]
fn another_stages_folder_is_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (corpus, folder) = (data.path("corpus.txt"), data.path("classifier"));
    support::copy_folder(std::path::Path::new(model()), std::path::Path::new(&folder));
    let line = ["pretrain", "--corpus", &corpus, "--out", &folder, "--resume", "--quiet"];
    let part = "classifier is the folder of another stage, a classifier, not pretraining";
    support::refused(&mut ulmfit(&words(&[&line, SIZES, STAGE])), 2, &[part]);
}

#[test]
fn turkish_letters() {
    let turkish = file("tr.txt", "ISPARTA Irmak \u{130}stanbul I\u{307}Y\u{130} D\u{130}L\n");
    let tokens = |language: &str, rules: &str| {
        let line =
            ["tokenize", "--print", "--quiet", "--rules", rules, "--language", language, "--input", &turkish.path];
        text(&ulmfit(&line).assert().success().get_output().stdout.clone())
    };
    for rules in ["0.7", "v1", "v2"] {
        for language in ["tr", "az", "tr-TR", "az_Latn", "tur"] {
            let found = tokens(language, rules);
            for word in ["\"\u{131}sparta\"", "\"\u{131}rmak\"", "\"istanbul\"", "\"iyi\"", "\"dil\""] {
                assert!(found.contains(word), "{language} {rules} {word}: {found}");
            }
        }
        assert!(tokens("de", rules).contains("\"isparta\""), "I and i elsewhere");
    }
}
