//! Files that are easy to misread, through the binary: a row is told with its line, or read as it
//! stands; a result never takes the place of the data.

use crate::support::{Data, classifier, json, json_lines, refused, text, ulmfit};
use crate::text_in::{class, classes, file};

fn model() -> &'static str {
    classifier().to_str().unwrap()
}

/// The answers to a file, as its lines.
fn answers(path: &str) -> usize {
    let output = ulmfit(&["predict", "--model", model(), "--input", path, "--quiet"]).assert().success();
    json_lines(&text(&output.get_output().stdout.clone())).len()
}

/// The header has a column that is not read: a row without it is a row of another form.
#[test]
fn rows_with_fewer_columns_than_the_header() {
    let hint = "a line end within a text must be in quotes";
    let cut = file("a.csv", "label,text,id\npos,a fine film,1\npos,good\nbad film,2\nneg,dull film,3\n");
    cut.refused(&[], &["a.csv:3: has too few columns: 2 where the header has 3", hint]);
    let broken = file("a.csv", "text,id\ngood film,1\nbad\nfilm,2\nfine,3\n");
    let line = ["predict", "--model", model(), "--input", &broken.path, "--quiet"];
    refused(&mut ulmfit(&line), 1, &["a.csv:3: has too few columns: 1 where the header has 2"]);
    file("a.csv", "1,good,fine\n2,bad\n").refused(&[], &["a.csv:2: has too few columns: 2 where the first row has 3"])
}

/// A name without an ending says nothing: a header with the names of text and label does.
#[test]
fn one_bad_row_makes_no_plain_text() {
    for delimiter in [",", ";", "\t"] {
        let rows = "text,label\ngood, film,pos\nbad film,neg\n".replace(',', delimiter);
        file("a.txt", &rows).refused(&[], &["a.txt:2: has 3 columns where the header has 2"]);
        let short = "text,label\ngood film\nbad film,neg\n".replace(',', delimiter);
        file("a", short).refused(&[], &["a:2: has too few columns"]);
    }
    // the first line of a text that holds one of the names is no header
    for content in [
        "Comment, please\nThanks, bye\n",
        "Review; good\nfine; bad\n",
        "Content, quality and price are fine\nThe rest, too\n",
        "Vitamin B-Complex\nVitamin B-Twelve\n",
    ] {
        assert_eq!(answers(&file("a.txt", content).path), 2, "{content}");
    }
    // a first line that is longer than what is looked at at once
    let long = "word ".repeat(20_000);
    let lines = format!("{{\"text\":\"{long}\",\"label\":\"pos\"}}\n{{\"text\":\"bad\",\"label\":\"neg\"}}\n");
    assert_eq!(classes(&file("a.txt", lines).check(&[])), [class("neg", 1), class("pos", 1)]);
}

/// A quote that is closed by that of a later row takes in the rows between them.
#[test]
fn rows_within_a_text() {
    let said = "a quoted text that begins here holds lines that look like rows";
    let rows: String = (1..6).map(|i| format!("{i},a film\n")).collect();
    let unlabelled = file("a.csv", format!("id,text\n{rows}6,\"open quote\n7,fine film\n8,a closing one\"\n9,last\n"));
    let line = ["predict", "--model", model(), "--input", &unlabelled.path, "--quiet"];
    refused(&mut ulmfit(&line), 1, &["a.csv:7:", said]);
    // the label shows in a later row, or is a number as that of this row is
    for (content, line) in [
        ("label,text\npos,\"first\nneg,bad\"\npos,good\nneg,awful\n", "a.csv:2:"),
        ("text,label\n\"open film,very bad\nbad film\",good\nfine,very bad\n", "a.csv:2:"),
        ("text,label\nfine,1.5\n\"open film,5.25\nbad film\",3.5\n", "a.csv:3:"),
    ] {
        file("a.csv", content).refused(&[], &[line, said]);
    }
    let prose = file("a.csv", "id,text\n1,\"first, then\nthe other, too\"\n2,\"line\n\nline\"\n");
    assert_eq!(answers(&prose.path), 2);
    let verse = file("a.csv", "label,text\npos,\"so long, farewell\nand yes, well\"\nneg,bad\n");
    assert_eq!(classes(&verse.check(&[])), [class("neg", 1), class("pos", 1)]);
}

#[test]
fn a_header_with_a_number_in_it() {
    let numbers = ["--text-column", "1", "--label-column", "2"];
    let year = file("a.csv", "text,label,2019\ngood,pos,1\nbad,neg,2\n");
    assert_eq!(classes(&year.check(&numbers)), [class("neg", 1), class("pos", 1)]);
    let index = file("a.csv", "0,text,label\n0,good,pos\n1,bad,neg\n");
    assert_eq!(classes(&index.check(&[])), [class("neg", 1), class("pos", 1)]);
}

#[test]
fn a_label_within_quotes_after_a_space() {
    let spaced = file("a.csv", "text, label\n\"good film, really\", \"pos\"\n\"dull\", \"neg\"\n");
    spaced.refused(&[], &["a.csv:2: has the label \"pos\" with its quotes", "hint: a quote encloses a field only"]);
}

/// A list of JSON is a list, whatever is in its names; the hint is about the space.
#[test]
fn lists_of_labels_and_quotes_after_a_space() {
    let listed = "{\"text\":\"a\",\"labels\":[\"a;b\"]}\n{\"text\":\"b\",\"labels\":[\"c\",\"a;b\"]}\n";
    let found = file("a.jsonl", listed).check(&["--label-separator", ";"]);
    assert_eq!(classes(&found), [class("a;b", 2), class("c", 1)]);
    let twice = ["--text-column", "text", "--text-column", "text"];
    file("a.csv", "text,label\na,b\n").refused(&twice, &["'text' is asked for as a text twice"]);
    let spaced = file("a.csv", "text, label\n\"good film, really\", \"pos, neg\"\n");
    spaced.refused(&[], &["a.csv:2: has 3 columns", "directly: take the space out"]);
}

#[test]
fn labels_that_look_alike() {
    for (one, other) in [("-0", "0"), ("a", "a\u{202d}"), ("\u{2764}", "\u{2764}\u{fe0f}"), ("a", "\u{2066}a")] {
        let rows = format!("text,label\ngood,{one}\nbad,{other}\n");
        let said = ulmfit(&["data", "check", &file("a.csv", rows).path]).assert().success();
        let said = text(&said.get_output().stderr.clone()) + &text(&said.get_output().stdout.clone());
        assert!(said.contains("classes differ only by"), "{one} {other}: {said}");
    }
}

/// Lines with labels that are in no known place are read as they stand, with a warning.
#[test]
fn labels_in_plain_text() {
    for (content, part) in [
        ("good film __label__pos\nbad film __label__neg\n", "its lines hold __label__"),
        ("# my data\n{\"text\": \"a\", \"label\": \"b\"}\n", "its lines look like objects"),
        ("{'text': 'a', 'label': 'b'}\n{'text': 'c', 'label': 'd'}\n", "its lines look like objects"),
    ] {
        let lines = file("a.txt", content);
        let said = ulmfit(&["tokenize", "--print", "--quiet", "--input", &lines.path]).assert().success();
        let said = text(&said.get_output().stderr.clone());
        assert!(said.contains(&format!("a.txt is read as plain text, but {part}")), "{said}");
    }
}

/// What a result is written to: never the data or another result; a link's file; a pipe as it is.
#[test]
fn results_take_the_place_of_nothing() {
    let place = tempfile::tempdir().unwrap();
    let data = Data::new(place.path());
    let (rows, other, link) = (data.path("test.csv"), data.path("p.jsonl"), data.path("link"));
    let before = data.read("test.csv");
    let line = ["evaluate", "--model", model(), "--data", &rows];
    let with = |more: &[&str]| ulmfit(&[&line[..], more].concat());
    std::os::unix::fs::symlink(&rows, &link).unwrap();
    for own in [&rows, &link] {
        refused(&mut with(&["--predictions", own]), 2, &["is the file of --data"]);
        refused(&mut with(&["--confusion", own]), 2, &["is the file of --data"]);
    }
    refused(&mut with(&["--predictions", &other, "--confusion", &other]), 2, &["name one file"]);
    refused(&mut with(&["--predictions", place.path().to_str().unwrap()]), 1, &["is a directory"]);
    assert!(data.read("test.csv") == before);

    std::fs::remove_file(&link).unwrap();
    std::fs::write(&other, "old").unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    json(&[&line[..], &["--predictions", &link]].concat());
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(json_lines(&text(&data.read("p.jsonl"))).len(), 12);

    let pipe = data.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    json(&[&line[..], &["--predictions", &pipe]].concat());
    assert_eq!(json_lines(&reader.join().unwrap()).len(), 12);
}

/// The page of `report` is a result, too.
#[test]
fn a_page_takes_the_place_of_nothing() {
    let place = tempfile::tempdir().unwrap();
    let rows = Data::new(place.path()).path("test.csv");
    let line = ["report", model(), "--data", &rows, "--out", &rows];
    refused(&mut ulmfit(&line), 2, &["is the file of --data"]);
    refused(&mut ulmfit(&["report", "nowhere"]), 1, &["nowhere: cannot read: no such file or directory"]);
}

/// The name of a text column is a word like others: below a header stand texts.
#[test]
fn a_first_row_with_a_name_in_it() {
    let unsure = "is neither a header with known names nor a row with the class first";
    for rows in [
        "question,How are you\nstatement,I like it\nquestion,What time is it\n",
        "question,How are you\nstatement,I like it\norder,Go to the door\n",
        "comment,fine,The film was fine\nreview,bad,A bad film\n",
    ] {
        let line = ["predict", "--model", model(), "--input", &file("a.csv", rows).path, "--quiet"];
        refused(&mut ulmfit(&line), 1, &["a.csv:1:", unsure, "--header"]);
    }
    for (rows, documents) in [
        ("question,How it was\nIs it good,yes\nIs it bad,no\n", 2),
        ("id,text\n1,good\n2,bad\n", 2),
        ("text,How was the film\ngood film,very good\n", 1),
        ("text\ngood\nbad\n", 2),
    ] {
        assert_eq!(answers(&file("a.csv", rows).path), documents, "{rows}");
    }
    let named = file("a.csv", "question,How are you\nstatement,I like it\nquestion,What time\n");
    let flags = ["--header", "no", "--label-column", "1", "--text-column", "2"];
    assert_eq!(classes(&named.check(&flags)), [class("question", 2), class("statement", 1)]);
}

/// A delimiter at the end of some rows alone may be one of a text, with the label missing.
#[test]
fn an_empty_field_at_the_end() {
    let hint = "hint: quote a text that holds the delimiter";
    let said = "has 3 columns, the last of them empty, where other rows have fewer";
    file("a.csv", "text,label\ngood,pos\nI liked it, really,\n").refused(&[], &["a.csv:3:", said, hint]);
    file("a.csv", "text,label\nI liked it, really,\ngood,pos\n").refused(&[], &["a.csv:2:", said, hint]);
    file("a.csv", "1,good\n2,bad,\n").refused(&[], &["a.csv:2:", said]);
    let every = file("a.csv", "text,label\ngood,pos,\nbad,neg,\n");
    assert_eq!(classes(&every.check(&[])), [class("neg", 1), class("pos", 1)]);
}

/// In a table of one column a blank line is an empty text.
#[test]
fn blank_lines_of_one_column() {
    for name in ["a.csv", "a.tsv"] {
        let column = file(name, "text\ngood film\n\nbad film\n");
        let output = ulmfit(&["predict", "--model", model(), "--input", &column.path, "--quiet"]).assert().success();
        let all = json_lines(&text(&output.get_output().stdout.clone()));
        let nothing: Vec<bool> = all.iter().map(|answer| answer["label"].is_null()).collect();
        assert_eq!(nothing, [false, true, false], "{name}");
    }
    assert_eq!(answers(&file("a.csv", "id,text\n1,good film\n\n2,bad film\n").path), 2);
}

/// Files one after the other, the second with its columns in another order.
#[test]
fn a_header_again_in_another_order() {
    let both = file("a.csv", "text,label,id\ngood,pos,1\nlabel,id,text\nneg,2,bad\n");
    both.refused(&[], &["a.csv:3: repeats the header", "take the line out"]);
}

/// A byte-order mark before a quote, where files were put one after the other.
#[test]
fn marks_before_quotes() {
    let tsv = file("a.tsv", "text\tlabel\n\"two\nlines\"\tpos\n\u{feff}\"bad\nfilm\"\tneg\n");
    assert_eq!(tsv.texts(&[]), ["two lines", "bad film"]);
}

/// The layout of a table is said of each kind of file with its own flags.
#[test]
fn layouts_of_each_role() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let table = data.write("c.csv", "id~text\n1~'a' fine film\n2~a \"good\" film\n");
    let (train, out) = (data.path("train.csv"), data.path("out"));
    for role in ["corpus", "unlabelled"] {
        let (file, delimiter) = (format!("--{role}"), format!("--{role}-delimiter"));
        let line = ["run", "--train", &train, "--out", &out, &file, &table, "--quiet"];
        refused(&mut ulmfit(&line), 1, &["c.csv:1:", &delimiter]);
        // the flag tells the columns apart: they are named
        let column = format!("--{role}-text-column");
        let line = [&line[..], &[&delimiter, "~", &column, "body"]].concat();
        refused(&mut ulmfit(&line), 1, &["has no column 'body'", &column, "it has: id, text"]);
    }
    let explained = |flags: &[&str]| {
        let line = ["explain", "--model", model(), "--data", &table, "--format", "json", "--data-delimiter", "~"];
        json_lines(&text(&ulmfit(&[&line, flags].concat()).assert().success().get_output().stdout.clone())).len()
    };
    assert_eq!(explained(&[]), 2);
    assert_eq!(explained(&["--data-header", "no", "--data-text-column", "2", "--data-quotes", "no"]), 3);
}
