use std::io::Write;
use std::path::Path;

use super::*;

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

fn read(path: &str, options: &OpenOptions) -> Result<Vec<Document>> {
    Source::open(path, options)?.documents()?.collect()
}

/// (label or "-", text) of all documents.
fn pairs(path: &str) -> Vec<(String, String)> {
    let documents = read(path, &OpenOptions::default()).unwrap();
    documents.into_iter().map(|d| (d.label.unwrap_or("-".into()), d.text)).collect()
}

fn pair(label: &str, text: &str) -> (String, String) {
    (label.into(), text.into())
}

/// The message and the hint, with the folder's name taken out.
fn refusal(dir: &Path, path: &str, options: &OpenOptions) -> (String, String) {
    let error = read(path, options).unwrap_err();
    let short = |s: String| s.replace(&format!("{}/", dir.display()), "").replace(dir.to_str().unwrap(), ".");
    (short(error.to_string()), short(error.hint_text().unwrap_or_default()))
}

#[test]
fn plain_lines_in_both_roles() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.txt", "one\r\n\n two \nthree");
    assert_eq!(pairs(&path), [pair("-", "one"), pair("-", ""), pair("-", " two "), pair("-", "three")]);
    let corpus = read(&path, &OpenOptions { role: Role::Corpus, ..OpenOptions::default() }).unwrap();
    assert_eq!(
        corpus.iter().map(|d| (d.text.as_str(), d.origin.line, d.lines)).collect::<Vec<_>>(),
        [("one", 1, true), (" two ", 3, true), ("three", 4, true)]
    );
}

#[test]
fn wikitext_articles() {
    let dir = tempfile::tempdir().unwrap();
    let text = " \n = First one = \n \n para \n = = Section = = \n = = odd = \n more \n = Second = \n x \n";
    let path = write(dir.path(), "w.tokens", text);
    let documents = read(&path, &OpenOptions::default()).unwrap();
    assert_eq!(documents[0].text, " = First one = \n para \n = = Section = = \n = = odd = \n more ");
    assert_eq!(
        (documents[1].text.as_str(), documents[1].origin.line, documents[1].lines),
        (" = Second = \n x ", 8, true)
    );
    assert_eq!(documents.len(), 2);
}

#[test]
fn wikipedia_extracts() {
    let dir = tempfile::tempdir().unwrap();
    let good = "<doc id=\"1\" title=\"A\">\nA\n\npara\n</doc>\n<doc id=\"2\">\nB\n</doc>\n";
    assert_eq!(pairs(&write(dir.path(), "w.txt", good)), [pair("-", "A\npara"), pair("-", "B")]);
    let cut = write(dir.path(), "cut.txt", "<doc id=\"1\">\nA\n</doc>\n<doc id=\"2\">\nB\n");
    assert!(refusal(dir.path(), &cut, &OpenOptions::default()).0.starts_with("cut.txt:4: a <doc> is not closed"));
}

#[test]
fn tables_with_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.csv", "id,Text,label\n1,\"two\nlines, \"\"q\"\"\",pos\n2,b,neg\n3,c,\n");
    assert_eq!(pairs(&path), [pair("pos", "two\nlines, \"q\""), pair("neg", "b"), pair("-", "c")]);
    let options = OpenOptions {
        text_columns: vec!["text".into(), "1".into()],
        label_columns: vec!["LABEL".into()],
        ..OpenOptions::default()
    };
    let documents = read(&path, &options).unwrap();
    assert_eq!(documents[1].fields().collect::<Vec<_>>(), ["b", "2"]);
    assert_eq!((documents[1].text.as_str(), documents[1].origin.line), ("b 2", 4));
    let tsv = write(dir.path(), "a.tsv", "sentence\tlabel\nx, y\t1\n");
    assert_eq!(pairs(&tsv), [pair("1", "x, y")]);
    // under another name
    let other = write(dir.path(), "a.txt", "text,label\na,1\nb,0\n");
    assert_eq!(pairs(&other), [pair("1", "a"), pair("0", "b")]);
}

#[test]
fn tables_with_the_class_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "ag.csv", "\"3\",\"Title\",\"Some, text\"\n\"1\",\"\",\"b\"\n");
    assert_eq!(pairs(&path), [pair("3", "Title Some, text"), pair("1", " b")]);
    let documents = read(&path, &OpenOptions::default()).unwrap();
    assert_eq!(documents[1].fields().collect::<Vec<_>>(), ["", "b"]);
    let options = OpenOptions { text_columns: vec!["3".into()], ..OpenOptions::default() };
    assert_eq!(read(&path, &options).unwrap()[0].text, "Some, text");
    let options = OpenOptions { text_columns: vec!["4".into()], ..OpenOptions::default() };
    assert!(refusal(dir.path(), &path, &options).1.contains("1 to 3"));
}

#[test]
fn questions_labels_first_json_and_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let trec = write(dir.path(), "t.label", b"DESC:manner How caf\xe9 ?\nABBR:exp What 's NASA ?\n\n");
    assert_eq!(pairs(&trec), [pair("DESC", "How café ?"), pair("ABBR", "What 's NASA ?")]);
    let described = Source::open(&trec, &OpenOptions::default()).unwrap().describe();
    assert!(described.ends_with("TREC questions (coarse classes), Latin-1"), "{described}");
    let sst = write(dir.path(), "s.train", "1 good film\n0 bad film\n");
    assert_eq!(pairs(&sst), [pair("1", "good film"), pair("0", "bad film")]);
    let json = write(dir.path(), "d.jsonl", "{\"text\":\"a\\nb\",\"label\":2}\n{\"text\":\"\",\"label\":null}\n");
    assert_eq!(pairs(&json), [pair("2", "a\nb"), pair("-", "")]);
    write(dir.path(), "p.pos", "yes\n");
    let half = write(dir.path(), "p.neg", "no\nnot\n");
    let expected = [pair("neg", "no"), pair("neg", "not"), pair("pos", "yes")];
    assert_eq!(pairs(&half), expected);
    assert_eq!(pairs(half.trim_end_matches(".neg")), expected);
}

/// A data set tree: two classes and unlabelled texts.
const TREE: &[(&str, &str)] = &[
    ("set/train/pos/2.txt", "good"),
    ("set/train/neg/1.txt", "bad\n"),
    ("set/train/neg/.hidden", "no"),
    ("set/train/unsup/1.txt", "some"),
    ("set/train/notes.txt", "no document"),
    ("set/test/pos/1.txt", "fine"),
    ("set/test/neg/1.txt", "poor"),
];

pub(super) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in entries {
        writer.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(super) fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn class_folders_and_archives() {
    let dir = tempfile::tempdir().unwrap();
    TREE.iter().for_each(|(path, content)| _ = write(dir.path(), path, content));
    let entries: Vec<(&str, &[u8])> = TREE.iter().map(|(p, c)| (*p, c.as_bytes())).collect();
    let plain = tar(&entries);
    let folder = dir.path().join("set").to_str().unwrap().to_string();
    let archive = write(dir.path(), "set.tar.zst", zstd::encode_all(&plain[..], 1).unwrap());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let gzipped = write(dir.path(), "set.tgz", gz.finish().unwrap());
    let zipped = write(dir.path(), "set.zip", zip(&entries));

    // a folder comes in sorted order, an archive in its own
    assert_eq!(pairs(&format!("{folder}/train")), [pair("neg", "bad"), pair("pos", "good"), pair("-", "some")]);
    assert_eq!(pairs(&format!("{folder}::train")), [pair("neg", "bad"), pair("pos", "good"), pair("-", "some")]);
    for archive in [&archive, &gzipped, &zipped] {
        let train = pairs(&format!("{archive}::set/train"));
        assert_eq!(train, [pair("pos", "good"), pair("neg", "bad"), pair("-", "some")]);
        assert_eq!(pairs(&format!("{archive}::set/train/unsup/")), [pair("-", "some")]);
        assert_eq!(pairs(&format!("{archive}::set/test/pos/1.txt")), [pair("-", "fine")]);
        let (message, hint) = refusal(dir.path(), archive, &OpenOptions::default());
        assert!(message.contains("holds a train set and a test set"), "{message}");
        assert!(hint.ends_with("::set/train"), "{hint}");
        let (message, hint) = refusal(dir.path(), &format!("{archive}::nothing"), &OpenOptions::default());
        assert!(message.contains("holds nothing under 'nothing'") && hint.contains("set"), "{message} {hint}");
    }
    assert!(refusal(dir.path(), &folder, &OpenOptions::default()).1.ends_with("set::train"));
    let described = Source::open(format!("{folder}/train"), &OpenOptions::default()).unwrap().describe();
    assert!(described.ends_with("one folder per class (2: neg, pos), unsup/ unlabelled"), "{described}");
    // a file of another format inside an archive
    let nested = write(dir.path(), "n.tar", tar(&[("d/a.csv", b"text,label\nx,1\n")]));
    assert_eq!(pairs(&format!("{nested}::d/a.csv")), [pair("1", "x")]);
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let none = OpenOptions::default();
    let message = |name: &str, bytes: &[u8]| refusal(d, &write(d, name, bytes), &none);
    let missing = d.join("missing.txt");
    assert_eq!(refusal(d, missing.to_str().unwrap(), &none).0, "missing.txt: cannot open: no such file or directory");
    assert_eq!(message("empty.txt", b"").0, "empty.txt: is empty");
    assert_eq!(message("empty.txt.zst", &zstd::encode_all(&b""[..], 1).unwrap()).0, "empty.txt.zst: is empty");
    std::fs::create_dir(d.join("folder")).unwrap();
    assert_eq!(refusal(d, d.join("folder").to_str().unwrap(), &none).0, "folder: holds no file");
    let plain = OpenOptions { format: Format::by_name("plain").ok(), ..none.clone() };
    std::fs::create_dir(d.join("csv.csv")).unwrap();
    assert!(refusal(d, d.join("csv.csv").to_str().unwrap(), &plain).0.contains("holds no file"));
    let (text, hint) = message("latin.txt", b"ok\ncaf\xe9\n");
    assert_eq!(text, "latin.txt:2: is not valid UTF-8 at byte 6");
    assert!(hint.contains("--encoding latin-1"));
    let latin = OpenOptions { encoding: Some(Encoding::Latin1), ..none.clone() };
    assert_eq!(read(d.join("latin.txt").to_str().unwrap(), &latin).unwrap()[1].text, "café");
    let rows = b"text,label\na,1\n\"two\nlines\",0\nlonely\n";
    assert_eq!(message("short.csv", rows).0, "short.csv:5: has too few columns: 1 where the header has 2");
    let (text, hint) = message("odd.csv", b"foo,bar\nx,y\n");
    assert!(text.starts_with("odd.csv:1:") && hint.contains("--text-column"), "{text} {hint}");
    assert_eq!(message("header.csv", b"text,label\n").0, "header.csv: holds no document");
    let named = OpenOptions { text_columns: vec!["body".into()], ..none.clone() };
    let (text, _) = refusal(d, d.join("short.csv").to_str().unwrap(), &named);
    assert_eq!(text, "short.csv:1: has no column 'body' for --text-column; it has: text, label");
    let (text, _) = message("bad.jsonl", b"{\"text\":\"a\"}\n{\"text\":\n");
    assert!(text.starts_with("bad.jsonl:2: is not valid JSON"), "{text}");
    let (text, _) = message("bad.label", b"ABBR:exp What ?\nnonsense\n");
    assert!(text.starts_with("bad.label:2: is not of the form 'COARSE:fine question'"), "{text}");
    let trec = OpenOptions { format: Format::by_name("trec").ok(), ..none.clone() };
    let (text, _) = refusal(d, d.join("latin.txt").to_str().unwrap(), &trec);
    assert!(text.starts_with("latin.txt:1: is not of the form"), "{text}");
    let (text, _) = message("a.zip", b"PK\x03\x04 and so on");
    assert!(text.starts_with("a.zip: is a truncated or damaged zip archive"), "{text}");
    let (text, hint) = message("quote.csv", b"text,label\na,1\n\"b,0\nc,1\n");
    assert_eq!(text, "quote.csv:3: a quote opened here is never closed");
    assert!(hint.contains("double"));
    assert!(message("a.json", b"[{\"text\":\"a\"}]").1.contains("an object a line"));
    assert!(message("b.json", b"{\"text\":\"\\ud800\"}").0.starts_with("b.json:1: is not valid JSON: "));
    assert_eq!(message("mac.txt", b"a\rb\rc\r").0, "mac.txt: has lines that end in a carriage return alone");
    assert!(message("wide.txt", b"\xff\xfe\0\0a\0\0\0").1.contains("iconv"));
    let whole = tar(&[("a/x/1.txt", &[b'x'; 3000]), ("a/y/1.txt", b"y")]);
    let archive = zstd::encode_all(&whole[..], 1).unwrap();
    assert_eq!(
        message("cut.tar.zst", &archive[..archive.len() - 4]).0,
        "cut.tar.zst: is truncated: the compressed data or archive ends too early"
    );
    assert!(message("cut.tar", &whole[..2000]).0.contains("truncated"));
    assert!(refusal(d, d.join("latin.txt::x").to_str().unwrap(), &none).0.contains("neither a folder nor an archive"));
    assert!(Format::by_name("word").is_err_and(|e| e.exit_status() == 2));
}

#[test]
fn nothing_follows_an_error_and_sources_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.csv", "text,label\na,1\nb\nc,1\n");
    let source = Source::open(&path, &OpenOptions::default()).unwrap();
    for _ in 0..2 {
        let items: Vec<bool> = source.documents().unwrap().map(|d| d.is_ok()).collect();
        assert_eq!(items, [true, false]);
    }
}

#[test]
fn folders_of_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "texts/b.txt", "b1\nb2\n");
    let first = write(dir.path(), "texts/a.txt", "a");
    let texts = first.trim_end_matches("/a.txt");
    assert_eq!(pairs(texts), [pair("-", "a"), pair("-", "b1\nb2")]);
    write(dir.path(), "wiki/1.txt", "<doc id=\"1\">\nA\n</doc>\n");
    let second = write(dir.path(), "wiki/2.txt.gz", "<doc id=\"2\">\nB\n</doc>\n");
    assert_eq!(pairs(second.trim_end_matches("/2.txt.gz")), [pair("-", "A"), pair("-", "B")]);
}

#[test]
fn members_that_must_not_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        |name: &str, bytes: Vec<u8>| refusal(dir.path(), &write(dir.path(), name, bytes), &OpenOptions::default()).0;
    let evil: &[(&str, &[u8])] = &[("d/x/1.txt", b"a"), ("../../d/y/1.txt", b"b")];
    let up = "holds a member with '..' in its path: '../../d/y/1.txt'";
    assert_eq!(refused("up.zip", zip(evil)), format!("up.zip: {up}"));
    let mut raw = tar::Builder::new(Vec::new());
    for (path, content) in evil {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        raw.append(&header, *content).unwrap();
    }
    assert_eq!(refused("up.tar", raw.into_inner().unwrap()), format!("up.tar: {up}"));
    // an absolute path only names its member
    assert_eq!(pairs(&write(dir.path(), "root.zip", zip(&[("/etc/x/1.txt", b"a"), ("/etc/y/1.txt", b"b")]))).len(), 2);
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "d/link", "/etc/passwd").unwrap();
        let message = refused("link.tar", builder.into_inner().unwrap());
        assert_eq!(message, "link.tar: holds a link, which is not followed: 'd/link'");
    }
    let inner = tar(&[("a.txt", b"x")]);
    assert!(
        refused("nested.zip", zip(&[("d/x/in.tar", &inner), ("d/y/1.txt", b"")]))
            .contains("is an archive where a text")
    );
    assert!(refused("nested.tar", tar(&[("a/b.tar", &inner)])).contains("is an archive where a text"));
    let deep = "d/".repeat(70) + "x";
    assert!(refused("deep.zip", zip(&[(&deep, b"x")])).contains("more than 64 folders deep"));
}

#[test]
fn a_bomb_of_small_members() {
    // each member is within the limits, all together are not
    let block = vec![b'a'; 30 << 20];
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for name in ["d/x/1.txt", "d/x/2.txt", "d/y/1.txt", "d/y/2.txt", "d/y/3.txt"] {
        writer.start_file(name, options).unwrap();
        writer.write_all(&block).unwrap();
    }
    let source = Source::from_bytes("b.zip", writer.finish().unwrap().into_inner(), &OpenOptions::default()).unwrap();
    let e = source.documents().unwrap().find_map(Result::err).unwrap();
    assert!(e.to_string().starts_with("b.zip: unpacks to more than 250 times its size"), "{e}");
}

#[test]
fn links_and_circles_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "real/x/1.txt", "a");
    write(dir.path(), "set/x/1.txt", "b");
    std::fs::create_dir(dir.path().join("set/y")).unwrap();
    std::os::unix::fs::symlink(&file, dir.path().join("set/y/1.txt")).unwrap();
    let set = dir.path().join("set").to_str().unwrap().to_string();
    assert_eq!(pairs(&set), [pair("x", "b"), pair("y", "a")]);
    std::os::unix::fs::symlink(".", dir.path().join("set/z")).unwrap();
    assert_eq!(
        refusal(dir.path(), &set, &OpenOptions::default()).0,
        "set/z: is a link to a folder, which is not followed"
    );
}

#[test]
fn files_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let set: &[(&str, &[u8])] = &[("s/train_1.csv", b"text,label\na,1\n"), ("s/test.csv", b"text,label\nb,0\n")];
    let both = write(dir.path(), "both.zip", zip(set));
    let (message, hint) = refusal(dir.path(), &both, &OpenOptions::default());
    assert_eq!(message, "both.zip: holds a train file and a test file (under 's/')");
    assert_eq!(hint, "give one of them: both.zip::s/train_1.csv");
    assert_eq!(pairs(&format!("{both}::s/test.csv")), [pair("0", "b")]);
    let shards: &[(&str, &[u8])] = &[("README.md", b"about"), ("a.csv", set[0].1), ("b.csv", set[1].1)];
    assert_eq!(pairs(&write(dir.path(), "shards.tar", tar(shards))), [pair("1", "a"), pair("0", "b")]);
    let mixed: &[(&str, &[u8])] = &[("a.txt", b"text"), ("b.csv", set[1].1)];
    let (message, _) = refusal(dir.path(), &write(dir.path(), "m.tar", tar(mixed)), &OpenOptions::default());
    assert!(message.starts_with("m.tar: holds files of several kinds"), "{message}");
    let halves: &[(&str, &[u8])] = &[("r/README", b"about"), ("r/p.neg", b"no\n"), ("r/p.pos", b"yes\n")];
    assert_eq!(pairs(&write(dir.path(), "p.zip", zip(halves))), [pair("neg", "no"), pair("pos", "yes")]);
    assert_eq!(pairs(&write(dir.path(), "one.zip", zip(&[("x.txt", b"a\nb\n")]))), [pair("-", "a"), pair("-", "b")]);
}

#[test]
fn tables_of_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> = "\u{feff}text,label\ncaf\u{e9},1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(pairs(&write(dir.path(), "excel.csv", &utf16)), [pair("1", "caf\u{e9}")]);
    assert_eq!(pairs(&write(dir.path(), "bare.txt", &utf16[2..])), [pair("1", "caf\u{e9}")]);
    let raw = write(dir.path(), "glue.tsv", "sentence\tlabel\n\"Hello there\t1\nso \"it\" is\t0\n");
    assert_eq!(pairs(&raw), [pair("1", "\"Hello there"), pair("0", "so \"it\" is")]);
    let described = Source::open(&raw, &OpenOptions::default()).unwrap().describe();
    assert!(described.ends_with("TSV with a header (text sentence, label label, quotes as characters)"), "{described}");
    let list = write(dir.path(), "list.txt", "1 one\n2 two\n3 three\n");
    assert_eq!(pairs(&list)[2], pair("-", "3 three"), "a numbered list is no data set");
}
