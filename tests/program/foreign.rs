//! Files that are no text, or none that is read: refused in words, wherever they stand.

use crate::support::{self, Data, SIZES, STAGE, classifier, text, ulmfit, words};
use crate::text_in::{class, classes, file};

/// A folder with files in it.
struct Folder {
    _directory: tempfile::TempDir,
    path: String,
}

fn folder(files: &[(&str, &[u8])]) -> Folder {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    for (name, content) in files {
        let path = data.path(&format!("d/{name}"));
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    let path = data.path("d");
    Folder { _directory: directory, path }
}

impl Folder {
    fn refused(&self, flags: &[&str], parts: &[&str]) {
        support::refused(ulmfit(&words(&[&["data", "check", &self.path], flags])).arg("--quiet"), 1, parts);
    }

    /// What is said of it.
    fn said(&self) -> String {
        text(&ulmfit(&["data", "check", &self.path]).assert().success().get_output().stderr.clone())
    }
}

#[test]
fn carriage_returns_alone() {
    let parts = ["has lines that end in a carriage return alone", "hint: convert the line ends to line feeds"];
    for (name, content) in [
        ("a.txt", "good film\rbad film\rfine\n"),
        ("a.txt", "good film\rbad film\n"),
        ("a.txt", "good film\nbad film\nfine\nso\n\nfine film\rso so\rwell\r"),
        ("ft.txt", "__label__pos good\r__label__neg bad\r__label__pos fine\r"),
        ("trec.txt", "DESC:def What is it ?\rENTY:animal Who is it ?\r"),
        ("a.label", "DESC:def What is it ?\rENTY:animal Who is it ?\r\n"),
        ("sst.txt", "1 good\r0 bad\r1 fine\r"),
        ("a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\r{\"text\":\"b\",\"label\":\"y\"}\r"),
        ("a.txt", "{\"text\":\"a\",\"label\":\"x\"}\r{\"text\":\"b\",\"label\":\"y\"}\r\n"),
        ("a.conll", "EU B-ORG\rrejects O\r\rPeter B-PER\r"),
        ("wiki.txt", " = A = \r text\r = B = \r text\r"),
    ] {
        file(name, content).refused(&[], &parts);
    }
    let fine = "good film\nbad film\n";
    folder(&[("x.neg", fine.as_bytes()), ("x.pos", b"good\rfilm\rx\r")]).refused(&[], &["x.pos: has lines", parts[1]]);
    folder(&[("x.neg", b"good\rfilm\n"), ("x.pos", fine.as_bytes())]).refused(&["--encoding", "latin-1"], &parts);
    let classes_of = |text: &'static [u8]| folder(&[("neg/1.txt", b"bad film\n"), ("pos/1.txt", text)]);
    classes_of(b"good film\rand so on\r").refused(&[], &["1.txt: has lines", parts[1]]);
    assert!(!classes_of(b"good film\rand\rso\non\n").said().contains("warning"), "a few among line feeds");
    folder(&[("1.txt", b"good\rfilm\rx\r"), ("2.txt", b"bad")]).refused(&[], &parts);
    // further on than is looked at first
    let late = format!("{}good\rbad\rfine\n", "a film\n".repeat(20_000));
    file("a.txt", late).refused(&[], &["a.txt:20001: has lines", parts[1]]);
    // these are as they were
    assert_eq!(file("a.txt", "good film\r\nbad\r\n\r\nso\rso\r\n").texts(&[]).len(), 4);
    let table = file("a.csv", "text,label\rgood,pos\rbad,neg\r");
    assert_eq!(classes(&table.check(&[])), [class("neg", 1), class("pos", 1)]);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16_be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn bytes_of_zero() {
    let russian = "\u{445}\u{43e}\u{440}\u{43e}\u{448}\u{438}\u{439} \u{444}\u{438}\u{43b}\u{44c}\u{43c}\n\
                   \u{43f}\u{43b}\u{43e}\u{445}\u{43e}\u{439} \u{444}\u{438}\u{43b}\u{44c}\u{43c}\n";
    let chinese =
        "text,label\n\u{597d}\u{7535}\u{5f71}\u{5f88}\u{597d}\u{770b},pos\n\u{4e00}\u{574f}\u{7535}\u{5f71},neg\n";
    for (name, content) in [("a.txt", russian), ("a.csv", chinese)] {
        let (little, big) = (file(name, utf16(content)), file(name, utf16_be(content)));
        little.refused(&[], &["looks like UTF-16LE, without a byte-order mark", "hint: --encoding utf-16le"]);
        big.refused(&[], &["looks like UTF-16BE, without a byte-order mark", "hint: --encoding utf-16be"]);
        for encoding in ["latin-1", "windows-1252", "utf-8"] {
            little.refused(&["--encoding", encoding], &["looks like UTF-16LE"]);
        }
        assert_eq!(little.check(&["--encoding", "utf-16le"])["documents"], 2);
        let wide: Vec<u8> = content.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        file(name, &wide).refused(&[], &["is in UTF-32LE, which is not read", "hint: iconv -f UTF-32LE -t UTF-8"]);
        let wide: Vec<u8> = content.chars().flat_map(|c| (c as u32).to_be_bytes()).collect();
        file(name, wide).refused(&[], &["is in UTF-32BE, which is not read"]);
    }
    let marked: Vec<u8> = "\u{feff}good\n".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    file("a.txt", &marked).refused(&[], &["is in UTF-32, which is not read"]);
    // Latin letters are told by their zeros, in folders, too
    let latin = utf16("good film\nbad film\n");
    assert_eq!(file("a.txt", &latin).texts(&[]), ["good film", "bad film"]);
    let tree = |text: &[u8]| folder(&[("neg/1.txt", b"bad film"), ("pos/1.txt", text)]);
    let line = ["tokenize", "--print", "--quiet", "--tokenizer", "pretokenized", "--input"];
    let shown = ulmfit(&words(&[&line, &[&tree(&utf16("good film")).path]])).assert().success().get_output().clone();
    assert!(text(&shown.stdout).contains("\"good\",\"film\""), "{}", text(&shown.stdout));
    tree(&utf16(russian)).refused(&[], &["1.txt: looks like UTF-16LE", "hint: --encoding utf-16le"]);
    tree(&marked).refused(&[], &["1.txt: is in UTF-32"]);
    // others
    let part = "has a NUL byte: is it a binary file, or text in UTF-16 or UTF-32?";
    for content in [&b"good film\ngood\0film\n"[..], b"good film\ngood\0film\n\n", b"a\nb\0c\0", b"b\n\x00\x01\x02\x03"]
    {
        for name in ["a.txt", "a.csv"] {
            file(name, content).refused(&[], &[&format!("{name}:2: {part}")]);
        }
    }
    for flags in [&[][..], &["--encoding", "latin-1"]] {
        file("a.csv", "text,label\ngood,pos\nbad,neg\0\n").refused(flags, &[&format!("a.csv:3: {part}")]);
        tree(b"good\0film").refused(flags, &["1.txt:1: has a NUL byte"]);
    }
    let late = format!("{}bad\0film\n", "a film\n".repeat(20_000));
    file("a.txt", late).refused(&[], &[&format!("a.txt:20001: {part}")]);
    let numbers: Vec<u8> = (0..400u16).flat_map(|n| (n % 9).to_le_bytes()).collect();
    file("a.bin", numbers).refused(&[], &["has a NUL byte"]);
    let line = ["data", "check", "-", "--quiet"];
    support::refused(ulmfit(&line).write_stdin(utf16(russian)), 1, &["standard input: looks like UTF-16LE"]);
}

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
const PAGE: &[u8] = b"<!-- x -->\n<!DOCTYPE html>\n<html><body>404</body></html>\n";

#[test]
fn pointers_and_pages_in_folders() {
    let cases: [(&[u8], &[&str]); 5] = [
        (POINTER, &["is a pointer of a large-file store (Git LFS)", "hint: fetch the data first: git lfs pull"]),
        (b"../.git/annex/objects/xx/a.txt/a.txt", &["(git-annex)", "git annex get"]),
        (PAGE, &["is a web page (HTML) where a text is meant", "hint: was an error page saved in its place?"]),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", &["is a NumPy array"]),
        (b"%PDF-1.4\n1 0 obj\n", &["is a PDF document", "hint: save its text as plain text"]),
    ];
    for (content, parts) in cases {
        for files in [
            [("neg/1.txt", &b"bad film"[..]), ("pos/1.txt", content)],
            [("1.txt", b"bad film"), ("2.txt", content)],
            [("x.neg", content), ("x.pos", b"good\n")],
        ] {
            let place = folder(&files);
            if content != PAGE || !files[0].0.starts_with('x') {
                place.refused(&[], parts);
            }
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for (name, content) in files {
                zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                std::io::Write::write_all(&mut zip, content).unwrap();
            }
            let zip = file("a.zip", zip.finish().unwrap().into_inner());
            if content != PAGE || !files[0].0.starts_with('x') {
                zip.refused(&[], parts);
            }
        }
    }
    let pages = folder(&[("neg/1.html", PAGE), ("pos/1.htm", PAGE)]);
    assert!(pages.said().contains("one folder per class"));
    let ods = folder(&[("a", b"")]);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["mimetype", "content.xml", "META-INF/manifest.xml"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    }
    let path = format!("{}/a.ods", ods.path);
    std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
    support::refused(&mut ulmfit(&["data", "check", &path]), 1, &["a.ods: is an office document", "as CSV"]);
}

#[test]
fn files_that_are_no_data_by_their_names() {
    let tree = folder(&[
        ("neg/1.txt", b"bad film"),
        ("neg/2.txt~", b"old"),
        ("neg/Thumbs.db", b"\xd0\xcf\x11\xe0\0"),
        ("pos/1.txt", b"good film"),
        ("pos/desktop.ini", b"[.ShellClassInfo]"),
        (".git/config", b"x"),
        ("README.md", b"about"),
    ]);
    let said = tree.said();
    let part = "skipped, as no data by the name: .git, neg/2.txt~, neg/Thumbs.db, pos/desktop.ini";
    assert!(said.contains(part) && said.matches("warning").count() == 1, "{said}");
    assert_eq!(support::json(&["data", "check", &tree.path])["documents"], 2);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [("neg/1.txt", "bad"), ("pos/1.txt", "good"), ("pos/.DS_Store", "x"), ("Icon~", "x")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let tar = file("a.tar", tar.into_inner().unwrap());
    let said = text(&ulmfit(&["data", "check", &tar.path]).assert().success().get_output().stderr.clone());
    assert!(said.contains("a.tar: skipped, as no data by the name: pos/.DS_Store, Icon~"), "{said}");
    let clean = folder(&[("neg/1.txt", b"bad"), ("pos/1.txt", b"good"), ("LICENSE", b"x")]);
    assert!(!clean.said().contains("warning"));
}

#[test]
fn folders_that_are_no_classes() {
    let text: &[u8] = b"a film";
    for (other, name) in [("dev", "validation"), ("valid", "validation"), ("my-val", "validation"), ("test", "test")] {
        let path = format!("{other}/pos/1.txt");
        let set = folder(&[("train/pos/1.txt", text), ("train/neg/1.txt", b"bad"), (&path, text)]);
        let out = format!("{}/out", set.path);
        let line = ["train-classifier", "--model", "none", "--train", &set.path, "--out", &out, "--quiet"];
        let parts = [&*format!("holds a train set and a {name} set"), "hint: give one of them:", "d::train"];
        support::refused(&mut ulmfit(&line), 1, &parts);
        let found = support::json(&["data", "check", &set.path]);
        assert_eq!(found["splits"]["train"]["documents"], 2, "{found}");
    }
    assert!(folder(&[("train/1.txt", text), ("car/1.txt", b"a")]).said().contains("(2: car, train)"));
    let table: &[u8] = b"text,label\ngood,pos\nbad,neg\n";
    for (other, name) in [("valid.csv", "validation"), ("dev.csv", "validation"), ("a-test.csv", "test")] {
        let parts = [&*format!("holds a train file and a {name} file"), "hint: give one of them:", "d::train.csv"];
        folder(&[("train.csv", table), (other, table)]).refused(&[], &parts);
    }
    folder(&[("dev.csv", table), ("test.csv", table)]).refused(&[], &["holds a validation file and a test file"]);
    assert!(folder(&[("a.csv", table), ("b.csv", table)]).said().contains("folder of 2 files"));
    // files beside class folders
    let stray = folder(&[("neg/1.txt", b"bad"), ("pos/1.txt", text), ("stray.txt", text), ("README", b"x")]);
    let said = stray.said();
    assert!(said.contains("d: not read, as they lie beside the class folders: stray.txt"), "{said}");
    folder(&[("train/neg/1.txt", b"bad"), ("train/pos/1.txt", text), ("more.txt", text)])
        .refused(&[], &["holds the folder 'train' and files beside it", "d::train"]);
    // tables among texts
    let part = "is a table or JSON by its name, in a folder where every file is one text";
    for name in ["x.csv", "x.CSV.gz", "x.jsonl", "deep/x.tsv"] {
        let path = format!("pos/{name}");
        folder(&[("neg/1.txt", b"bad"), (&path, table)]).refused(&[], &[&format!("{path}: {part}")]);
    }
    let many: Vec<String> = (0..80).map(|i| format!("{i:02}.txt")).collect();
    let mut files: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, text)).collect();
    files.push(("x.csv", table));
    folder(&files).refused(&[], &[&format!("x.csv: {part}")]);
}

#[test]
fn packed_files_and_those_of_other_programs() {
    for (content, what, hint) in [
        (&b"BZh91AY&SY\x01\x02"[..], "a bzip2 file", "unpack it first"),
        (b"\xfd7zXZ\0\0\x04", "an xz file", "unpack it first"),
        (b"7z\xbc\xaf\x27\x1c\0\0", "a 7-Zip archive", "unpack it first"),
        (b"Rar!\x1a\x07\0", "a RAR archive", "unpack it first"),
        (b"\x1f\x9d\x90abc", "a file of compress (.Z)", "unpack it first"),
        (b"\x04\x22\x4d\x18abc", "an LZ4 file", "unpack it first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an office document", "save the table as CSV"),
        (b"{\\rtf1\\ansi good film}", "a rich text document (RTF)", "save it as plain text"),
        (b"PAR1\x15\x04abcPAR1", "a Parquet file", "write its table as CSV"),
        (b"\x80\x04\x95abc.", "a Python pickle", "write its table as CSV"),
        (b"\x80\x02}q\0.", "a Python pickle", "write its table as CSV"),
        (b"\x93NUMPY\x01\0", "a NumPy array", "write its table as CSV"),
        (b"SQLite format 3\0\x10\0", "a SQLite database", "write its table as CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a picture (PNG)", "give a file of text"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a sound, film or picture (RIFF)", "give a file of text"),
    ] {
        let (part, hint) = (format!(": is {what}"), format!("hint: {hint}"));
        for flags in [&[][..], &["--encoding", "latin-1"], &["--format", "plain"]] {
            for name in ["a.txt", "a.csv", "a.jsonl"] {
                file(name, content).refused(flags, &[&part, &hint]);
            }
        }
        let line = ["tokenize", "--print", "--quiet", "--input", "-"];
        support::refused(ulmfit(&line).write_stdin(content), 1, &[&part, &hint]);
    }
    for text in ["BZh, a name\n", "PAR1 is one\n", "ORC and elf\n", "RIFF raff\n", "ID3 tags\n"] {
        assert_eq!(file("a.txt", text).texts(&[]).len(), 1);
    }
    let gzip = |bytes: &[u8]| {
        let mut all = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut all, bytes).unwrap();
        all.finish().unwrap()
    };
    let once = gzip(b"good film\nbad film\n");
    let twice = ["is compressed twice: within is a gzip file", "hint: unpack it once"];
    file("a.gz", gzip(&once)).refused(&[], &twice);
    folder(&[("neg/1.txt", b"bad"), ("pos/1.txt.gz", &gzip(&once))]).refused(&[], &twice);
    let documents = |bytes: Vec<u8>| file("a.txt.gz", bytes).check(&[])["documents"].clone();
    assert_eq!(documents([&once[..], &[0; 512]].concat()), 2, "zeros as on a tape");
    assert_eq!(documents([&once[..], &gzip(b"fine\n")].concat()), 3, "two members");
    for rest in [
        &b"garbage"[..],
        b"garbage that is longer than a header",
        b"\x1f",
        b"\x1f\x8b\x08",
        b"\x1f and so on and on",
        b"\0\0x",
    ] {
        let cut = rest.starts_with(b"\x1f\x8b") || rest.len() == 1;
        let part = if cut { "is truncated" } else { "has other bytes after the end of its gzip data" };
        file("a.txt.gz", [&once[..], rest].concat()).refused(&[], &[part]);
    }
    file("a.txt.gz", &once[..once.len() - 9]).refused(&[], &["is truncated"]);
}

/// Files that were put one after the other have a byte-order mark each.
#[test]
fn marks_within_a_file() {
    let mark = '\u{feff}';
    let lines = file("a.txt", format!("{mark}{mark}good film\n{mark}bad{mark}film\n\r\n{mark}fine"));
    assert_eq!(lines.texts(&[]), ["good film", "bad\u{feff}film", "", "fine"]);
    for name in ["a.csv", "a.txt"] {
        let table = file(name, format!("{mark}{mark}label,text\npos,good\n{mark}neg,bad\n{mark}\"neg\",dull\n"));
        assert_eq!(classes(&table.check(&[])), [class("neg", 2), class("pos", 1)]);
    }
    for content in
        ["__label__pos good\n\u{feff}__label__neg bad\n", "1 good\n\u{feff}0 bad\n", "A:x a b\n\u{feff}B:y c\n"]
    {
        let labelled = file("a.txt", content).check(&[]);
        assert_eq!((&labelled["classes"], &labelled["unlabelled"]), (&2.into(), &0.into()), "{content}");
    }
    // where pieces of the file meet, and in UTF-16
    for length in [(1 << 16) - 2, (1 << 16) - 1, 1 << 16, (1 << 16) + 1] {
        let long = file("a.txt", format!("{}\n{mark}bad\n", "x".repeat(length - 1)));
        assert_eq!(long.texts(&[])[1], "bad", "{length}");
    }
    assert_eq!(file("a.txt", utf16("\u{feff}\u{feff}good film\n\u{feff}bad\n")).texts(&[]), ["good film", "bad"]);
    let tree = folder(&[("neg/1.txt", "\u{feff}\u{feff}bad".as_bytes()), ("pos/1.txt", b"good")]);
    let line = ["tokenize", "--print", "--quiet", "--tokenizer", "pretokenized", "--input", &tree.path];
    let shown = ulmfit(&line).assert().success().get_output().clone();
    assert!(text(&shown.stdout).contains("\"bad\"") && !text(&shown.stdout).contains(mark));
}

/// Messages name the flag that is meant for the file.
#[test]
fn flags_of_the_file_in_question() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::new(directory.path());
    let (train, out) = (data.path("train.csv"), data.path("out"));
    let line = ["run", "--train", &train, "--base", "none", "--out", &out, "--quiet"];
    let refused = |more: &[&str], status: i32, parts: &[&str]| {
        support::refused(&mut ulmfit(&words(&[&line[..], SIZES, STAGE, more])), status, parts);
        assert!(!std::path::Path::new(&out).exists(), "nothing was begun");
    };
    let latin = data.write("l.txt", b"caf\xe9 film\n");
    let utf8 = data.write("u.txt", "caf\u{e9} film\n".repeat(60));
    let table = data.write("t.csv", "a,b\nsome text,1\nmore text,2\n");
    for (role, prefix) in [("--unlabelled", "--unlabelled"), ("--corpus", "--corpus")] {
        let line: Vec<&str> =
            if role == "--corpus" { vec!["run", "--train", &train, "--out", &out, "--quiet"] } else { line.to_vec() };
        let flag = |name: &str| format!("{prefix}-{name}");
        let refused = |more: &[&str], status: i32, parts: &[&str]| {
            support::refused(&mut ulmfit(&words(&[&line, SIZES, STAGE, more])), status, parts);
        };
        let hint = format!("hint: {prefix}-encoding latin-1");
        refused(&[role, &latin], 1, &["l.txt:1: is not valid UTF-8", &hint]);
        let utf16 = data.write("m.txt", utf16("\u{feff}good film\n"));
        let says = format!("but {prefix}-encoding says Latin-1");
        refused(&[role, &utf16, &flag("encoding"), "latin-1"], 1, &[&says, &format!("leave {prefix}-encoding out")]);
        let unknown = format!("{prefix}-encoding: unknown encoding 'nonsense'");
        refused(&[role, &latin, &flag("encoding"), "nonsense"], 2, &[&unknown]);
        let unknown = format!("{prefix}-format: unknown format 'x'");
        refused(&[role, &latin, &flag("format"), "x"], 2, &[&unknown]);
        let nothing = format!("{prefix}-text-column does nothing here");
        refused(&[role, &utf8, &flag("text-column"), "a"], 2, &[&nothing, "u.txt: plain text", "there are no columns"]);
        refused(&[role, &table], 1, &["t.csv", &format!("{prefix}-text-column")]);
        if role == "--corpus" {
            let output = ulmfit(&words(&[&line[..5], SIZES, STAGE, &[role, &utf8, &flag("encoding"), "latin-1"]]))
                .assert()
                .success()
                .get_output()
                .clone();
            let said = text(&output.stderr);
            assert!(said.contains("u.txt is valid UTF-8, but --corpus-encoding says Latin-1"), "{said}");
            assert!(said.contains(&format!("corpus: {utf8}")) && !said.contains(&format!("train: {utf8}")), "{said}");
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
    for flag in ["format", "encoding", "text-column"] {
        let (unlabelled, corpus) = (format!("--unlabelled-{flag}"), format!("--corpus-{flag}"));
        refused(&[&unlabelled, "plain"], 2, &[&format!("{unlabelled} does nothing here: there is no --unlabelled")]);
        refused(&[&corpus, "plain"], 2, &[&format!("{corpus} does nothing here: there is no --corpus")]);
    }
    refused(&["--label-separator", ""], 2, &["--label-separator"]);
    let model = classifier().to_str().unwrap();
    for flags in [["--format", "tsv"], ["--encoding", "utf-16"], ["--label-column", "x"], ["--header", "no"]] {
        let line = ["predict", "--model", model, "good"];
        let part = format!("{} does nothing here: texts of the command line are no file", flags[0]);
        support::refused(&mut ulmfit(&words(&[&line, &flags])), 2, &[&part, "hint: leave it out"]);
    }
}
