//! Files as other programs write them, through the binary: read as a person would, or refused with
//! the flag that decides.

use crate::support::{Data, classifier, json_lines, refused, text, ulmfit};
use crate::text_in::{class, classes, file};

fn predicted(path: &str) -> usize {
    let line = ["predict", "--model", classifier().to_str().unwrap(), "--input", path, "--quiet"];
    json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout.clone())).len()
}

/// A folder of files; `said` is what `data check` says of it.
struct Tree {
    directory: tempfile::TempDir,
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    Tree { directory }
}

impl Tree {
    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn refused(&self, parts: &[&str]) {
        refused(ulmfit(&["data", "check", self.path()]).arg("--quiet"), 1, parts);
    }

    fn classes(&self) -> Vec<(String, u64)> {
        classes(&crate::support::json(&["data", "check", self.path()]))
    }

    fn said(&self) -> String {
        text(&ulmfit(&["data", "check", self.path()]).assert().success().get_output().stderr.clone())
    }
}

/// Quotes of a TSV file that enclose fields of several lines, with tabs in them.
#[test]
fn quoted_fields_of_many_lines() {
    let cell = file("a.tsv", "label\ttext\npos\tgood\nneg\t\"line1\nk:\tv\"\npos\tx\n");
    cell.refused(&[], &["a.tsv:3: a quoted field holds what looks like a row", "--quotes yes", "--quotes no"]);
    assert_eq!(cell.check(&["--quotes", "yes"])["documents"], 3);
    assert_eq!(cell.check(&["--quotes", "no"])["documents"], 4);
    let table = file("a.tsv", "label\ttext\npos\tgood\nneg\t\"a\tb\nc\td\"\npos\tx\n");
    assert_eq!(table.check(&[])["documents"], 3, "as characters the quotes would leave uneven rows");
    let kept = file("a.tsv", "text\tlabel\n\"a \"q\t\"x\"\nb\t\"y\"\n");
    kept.refused(&[], &["a.tsv:2: has the label \"x\" with its quotes", "--quotes no"]);
}

/// Tables without names, or with numbers for names.
#[test]
fn columns_without_names() {
    let numbered = file("a.csv", "0,1\ngood film,pos\nbad film,neg\nnice,pos\n");
    numbered.refused(&[], &["a.csv:1: may count the columns or be data: 0, 1", "--header yes"]);
    numbered.refused(&["--text-column", "1", "--label-column", "2"], &["a.csv:1: may count the columns"]);
    let named = numbered.check(&["--header", "yes", "--text-column", "0", "--label-column", "1"]);
    assert_eq!(classes(&named), [class("neg", 1), class("pos", 2)]);
    let among = file("a.csv", "text,1,2\ngood,0,p\nbad,1,n\n");
    assert_eq!(among.check(&["--text-column", "1", "--label-column", "2"])["documents"], 2);
    // the first text is a number, the class is elsewhere
    file("a.csv", "1917,5\nParasite,4\nCats,1\nDune,4\n").refused(&[], &["a.csv:1: is neither a header"]);
    let ids = "2401,Game,Positive,im on\n2401,Game,Positive,I am\n2402,Chip,Negative,bad\n2402,Chip,Negative,so\n";
    let ids = file("a.csv", ids);
    ids.refused(&[], &["a.csv:1: has no names, and columns 1 and 2 could be the class", "--label-column"]);
    let found = ids.check(&["--label-column", "3", "--text-column", "4"]);
    assert_eq!(classes(&found), [class("Negative", 2), class("Positive", 2)]);
    for dashes in ["text,label\n----,-----\ngood,pos\n", "text,label\n:---,---:\ngood,pos\n"] {
        file("a.csv", dashes).refused(&[], &["a.csv:2: is a line of dashes under the header", "take the line out"]);
    }
    file("a.csv", "label, text\npos, \"a b\"\n").refused(&[], &["a.csv:2: has a text with its quotes"]);
    // a field in quotes whose text has quotes after a space
    let own = file("a.csv", "label,text\npos,\" \"\" a b . \"\" \"\nneg,c\n");
    assert_eq!(own.texts(&[]), ["\" a b . \"", "c"]);
}

/// `name.neg` and `name.pos`: both are read where one is named, once; without labels one alone is.
#[test]
fn two_files_of_lines() {
    let pair = tree(&[("p.neg", "c\n"), ("p.pos", "a\nb\n")]);
    let [neg, pos] = ["p.neg", "p.pos"].map(|name| format!("{}/{name}", pair.path()));
    refused(ulmfit(&["data", "check", &neg, &pos]).arg("--quiet"), 2, &["are read together", "give one of the two"]);
    assert_eq!((predicted(&neg), predicted(&pos)), (1, 2));
    assert_eq!(pair.classes(), [class("neg", 1), class("pos", 2)]);
    let published = tree(&[("r/x.neg", "c\n"), ("r/x.pos", "a\nb\n"), ("x.README.1.0.txt", "about")]);
    assert_eq!(published.classes(), [class("neg", 1), class("pos", 2)]);
}

/// Sets beside each other are no classes; copies and notes are no data.
#[test]
fn folders_as_people_keep_them() {
    let of = |set: &str| [format!("{set}/pos/1"), format!("{set}/neg/1")];
    let [a, b] = [of("train"), of("eval")];
    let both = tree(&[(&a[0], "x"), (&a[1], "y"), (&b[0], "z"), (&b[1], "w")]);
    let splits = crate::support::json(&["data", "check", both.path()]);
    assert_eq!(splits["splits"].as_object().unwrap().keys().collect::<Vec<_>>(), ["train", "valid"]);
    let set = tree(&[(&a[0], "x"), (&a[1], "y"), ("unsup/1", "z")]);
    set.refused(&["holds a set 'train' and texts without labels", "::train"]);
    let unlabelled = tree(&[("pos/1", "x"), ("neg/1", "y"), ("unlabelled/1", "z")]);
    assert_eq!(unlabelled.classes(), [class("neg", 1), class("pos", 1)]);
    let odd = tree(&[("pos/1", "x"), ("neg/1", "y"), ("test/1", "z")]);
    assert!(odd.said().contains("the folder 'test' is taken for a class"), "{}", odd.said());
    let notes = [("pos/1", "x"), ("neg/1", "y"), ("neg/README", "about"), ("pos/1.bak", "x"), ("pos/#1#", "x")];
    let notes = tree(&notes);
    assert_eq!(notes.classes(), [class("neg", 1), class("pos", 1)]);
    assert!(notes.said().contains("skipped, as no data by the name: neg/README, pos/#1#, pos/1.bak"));
    let rows = "text,label\ng,pos\nb,neg\n";
    assert_eq!(tree(&[("a.csv", rows), ("a.csv.bak", rows)]).classes(), [class("neg", 1), class("pos", 1)]);
    let other = tree(&[("a.csv", rows), ("b.csv", "text,klass\na,x\n")]);
    other.refused(&["b.csv: has no label column, and", "a.csv has one"]);
    let twice = tree(&[("a.csv", rows)]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, rows.as_bytes()).unwrap();
    std::fs::write(twice.directory.path().join("a.csv.gz"), packed.finish().unwrap()).unwrap();
    twice.refused(&["holds the same file twice by its name: a.csv and a.csv.gz", "keep one"]);
}

/// Archives that were cut, joined or added to.
#[test]
fn archives_that_are_not_whole() {
    let packed = |files: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let whole = packed(&[("pos/1", "good"), ("neg/1", "bad"), ("neg/2", "dull")]);
    assert_eq!(file("a.tar", &whole).check(&[])["documents"], 3);
    // after two members
    file("a.tar", &whole[..2048]).refused(&[], &["a.tar: is a tar archive without its end", "was it cut"]);
    let joined = [whole.clone(), packed(&[("pos/9", "fine")])].concat();
    file("a.tar", joined).refused(&[], &["a.tar: holds more after the end of the archive"]);
    let again = packed(&[("pos/1", "old"), ("neg/1", "bad"), ("pos/1", "new")]);
    file("a.tar", again).refused(&[], &["a.tar: holds 'pos/1' twice", "give the folder"]);
}

/// Bytes of two encodings, and names of encodings.
#[test]
fn encodings_of_others() {
    let said = |content: &[u8], name: &str, flags: &[&str]| {
        let file = file(name, content);
        let line = [&["data", "check", &file.path], flags].concat();
        text(&ulmfit(&line).assert().success().get_output().stderr.clone())
    };
    let mixed = b"DESC:x caf\xc3\xa9 and more\nNUM:z caf\xe9\n";
    assert!(said(mixed, "q.label", &[]).contains("letters in UTF-8 beside bytes that are not"));
    let quoted = b"DESC:x \x93smart\x94\nNUM:y x\n";
    assert!(said(quoted, "q.label", &[]).contains("--encoding windows-1252"));
    let table = b"text,label\nCaf\xc3\xa9,pos\n\xdcbel,neg\n";
    assert!(said(table, "m.csv", &["--encoding", "latin-1"]).contains("letters in UTF-8 beside bytes"));
    let undefined = said(b"text,label\n\x81,pos\nb,neg\n", "m.csv", &["--encoding", "latin-1"]);
    assert!(!undefined.contains("windows-1252"), "{undefined}");
    let japanese = file("j.csv", b"text,label\n\x1b$BNI$$\x1b(B,pos\nb,neg\n");
    japanese.refused(&[], &["j.csv: is in ISO-2022-JP", "--encoding iso-2022-jp"]);
    let line = ["data", "check", &japanese.path, "--encoding", "iso-2022-jp"];
    let output = ulmfit(&line).assert().success().get_output().clone();
    assert!(!text(&output.stderr).contains("valid UTF-8"));
    let marked = file("u.txt", b"\xff\xfeh\0i\0\n\0y\0\n\0");
    marked.refused(&["--encoding", "utf-16be"], &["begins with the byte-order mark of UTF-16LE"]);
    assert_eq!(marked.check(&["--encoding", "utf-16"])["documents"], 2);
    for name in ["utf-8-sig", "UTF_8", "cp932", "cp936", "cp949", "mac-roman", "Shift_JIS", "latin_1"] {
        assert_eq!(file("a.csv", "text,label\na,x\nb,y\n").check(&["--encoding", name])["documents"], 2, "{name}");
    }
}

/// Lines that hold more than their format has.
#[test]
fn more_than_the_format_has() {
    let doc = "<doc id=\"1\">\na\n</doc><doc id=\"2\">\nc\n</doc>\n";
    file("d.txt", doc).refused(&[], &["d.txt:3: has </doc> and more on one line"]);
    file("d.txt", "<doc id=\"1\">a</doc>\n").refused(&[], &["d.txt:1: has <doc> and </doc> on one line"]);
    assert_eq!(file("d.txt", "<doc id=\"1\">\na\n </doc>\n<doc id=\"2\">\nb\n</doc>\n").check(&[])["documents"], 2);
    let tail = file("ft.txt", "__label__b bad\n__label__a good __label__b\n");
    tail.refused(&[], &["ft.txt:2: has a label after words", "before the text"]);
    let counted = file("x.conll", "0\tI\tO\n1\tlive\tO\n2\tNY\tB-LOC\n\n0\tyes\tO\n");
    counted.refused(&[], &["x.conll: has the numbers of the words in its first column", "--text-column 2"]);
    assert_eq!(counted.check(&["--text-column", "2"])["documents"], 2);
    let large = file("n.jsonl", "{\"text\":\"a\",\"label\":18446744073709551616}\n");
    large.refused(&[], &["n.jsonl:1: 'label' is a number of more digits than are kept", "in quotes"]);
    let comma = file("n.jsonl", "{\"text\":\"a\",\"label\":1},\n{\"text\":\"b\",\"label\":2}\n");
    comma.refused(&[], &["n.jsonl:1:", "take the comma after the object out"]);
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (table, train, out) = (data.write("odd.csv", "a,b\nx,y\n"), data.path("train.csv"), data.path("out"));
    let line = ["run", "--train", &train, "--corpus", &table, "--out", &out, "--quiet"];
    let error = text(&ulmfit(&line).assert().code(1).get_output().stderr.clone());
    assert!(error.contains("--corpus-text-column 1") && !error.contains("--label-column"), "{error}");
}

/// Flags about columns do nothing where there are none; a list of labels is no class.
#[test]
fn flags_without_columns() {
    let lines = file("a.txt", "good film\nbad film\n");
    let model = classifier().to_str().unwrap();
    for (flag, value) in [("--label-column", "1"), ("--quotes", "no")] {
        let what = format!("{flag} does nothing here: ");
        let line = ["data", "check", &lines.path, flag, value, "--quiet"];
        refused(&mut ulmfit(&line), 2, &[&what, "plain text", "leave it out"]);
        let lines = lines.path.as_str();
        let all: [&[&str]; 5] = [
            &["evaluate", "--model", model, "--data", lines],
            &["compare", "--train", lines, "--test", lines],
            &["lr-find", "--model", "none", "--text", lines],
            &["profile", "pretrain", "--corpus", lines],
            &["profile", "train-classifier", "--model", "none", "--train", lines],
        ];
        for line in all {
            refused(ulmfit(line).args([flag, value, "--quiet"]), 2, &[&what]);
        }
    }
    let line = ["explain", "--model", model, "--data", &lines.path, "--data-quotes", "no", "--quiet"];
    refused(&mut ulmfit(&line), 2, &["--data-quotes does nothing here: "]);
    let json = file("a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n");
    refused(&mut ulmfit(&["data", "check", &json.path, "--header", "no", "--quiet"]), 2, &["--header does nothing"]);
    let lists = file("a.csv", "text,label\na,\"['joy', 'fear']\"\nb,\"['joy']\"\n");
    let said = text(&ulmfit(&["data", "check", &lists.path]).assert().success().get_output().stderr.clone());
    assert!(said.contains("the label '['joy', 'fear']' looks like a list"), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (unlabelled, train, out) = (data.write("u.csv", "id,text\n1,a\n"), data.path("train.csv"), data.path("out"));
    let line = ["train-classifier", "--model", "none", "--train", &train, "--test", &unlabelled, "--out", &out];
    refused(ulmfit(&line).arg("--quiet"), 1, &["u.csv: holds no document with a label", "--label-column"]);
}
