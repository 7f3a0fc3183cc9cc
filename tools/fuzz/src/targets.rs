//! The targets of the fuzzer: each target turns bytes into one call of the library, checks what
//! must always hold, and says what came out.

use std::io::{Cursor, Write};

use crate::own;
use ulmfit::error::Error;
use ulmfit::models::import;
use ulmfit::text::{
    Document, Encoding, Format, Invisible, Language, OpenOptions, Quotes, Role, Rules, Source, Subword, Tokenizer,
    TokenizerKind,
};

/// One target: its name, its call, and inputs to begin with.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> Outcome,
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// A short description of what happened (two inputs with the same one are alike), or what should
/// never happen.
pub type Outcome = Result<String, String>;

pub const TARGETS: &[Target] = &[
    Target { name: "recognise", run: recognise, seeds: texts },
    Target {
        name: "lines",
        run: |b| forced(b, &["plain", "wikitext", "extract", "trec", "label-text", "fasttext", "conll"]),
        seeds: texts,
    },
    Target { name: "table", run: |b| forced(b, &["csv", "csv-no-header", "tsv", "tsv-no-header"]), seeds: texts },
    Target { name: "json", run: |b| forced(b, &["json-lines"]), seeds: texts },
    Target { name: "decode", run: decode, seeds: texts },
    Target { name: "packed", run: |b| archive(b, &["f.gz", "f.csv.zst"]), seeds: packed },
    Target { name: "tar", run: |b| archive(b, &["a.tar", "a.tar::d", "a.tar::d/pos/1.txt"]), seeds: tars },
    Target { name: "zip", run: |b| archive(b, &["a.zip", "a.zip::d", "a.zip::d/pos/1.txt"]), seeds: zips },
    Target { name: "tokenizer", run: tokenizer, seeds: texts },
    Target { name: "subword", run: subword, seeds: tokenizer_files },
    Target { name: "pickle", run: pickle, seeds: pickles },
    Target { name: "weights", run: weights, seeds: weight_files },
    Target { name: "config", run: own::config, seeds: Vec::new },
    Target { name: "model", run: own::model, seeds: Vec::new },
    Target { name: "vocabulary", run: own::vocabulary, seeds: Vec::new },
    Target { name: "tokens", run: own::tokens, seeds: Vec::new },
    Target { name: "checkpoint", run: own::checkpoint, seeds: Vec::new },
    Target { name: "metrics", run: own::metrics, seeds: Vec::new },
    Target { name: "linear", run: own::linear, seeds: Vec::new },
    Target { name: "rule", run: own::rule, seeds: Vec::new },
    Target { name: "packed-model", run: own::packed_model, seeds: Vec::new },
    Target { name: "settings", run: own::settings, seeds: Vec::new },
];

/// The first bytes of an input choose among variants; the rest is the content.
fn choose(bytes: &[u8]) -> (usize, usize, &[u8]) {
    match bytes {
        [a, b, rest @ ..] => (usize::from(*a), usize::from(*b), rest),
        _ => (0, 0, bytes),
    }
}

fn encoding(n: usize) -> Option<Encoding> {
    let names = ["utf-8", "latin-1", "windows-1252", "utf-16le", "utf-16be", "shift_jis", "gb18030", "iso-2022-jp"];
    // mostly as recognised
    (n % 16 >= 8).then(|| Encoding::by_name(names[n % 8]).expect("a known encoding"))
}

fn recognise(bytes: &[u8]) -> Outcome {
    let (a, b, rest) = choose(bytes);
    let name = ["f", "f.txt", "f.csv", "f.tsv", "f.jsonl", "f.label", "f.json"][a % 7];
    let columns = b / 16 % 4;
    let options = OpenOptions {
        role: [Role::Dataset, Role::Corpus, Role::Texts][b / 64 % 3],
        encoding: encoding(b),
        text_columns: if columns == 1 { vec!["text".into(), "2".into()] } else { vec![] },
        label_columns: if columns == 2 { vec!["1".into()] } else { Vec::new() },
        delimiter: (columns == 3).then_some(b';'),
        header: [None, None, Some(true), Some(false)][a / 7 % 4],
        quotes: [None, None, Some(Quotes::Backslash), Some(Quotes::Characters)][a / 28 % 4],
        ..OpenOptions::default()
    };
    read(name, rest, &options)
}

fn forced(bytes: &[u8], formats: &[&str]) -> Outcome {
    let (a, b, rest) = choose(bytes);
    let options = OpenOptions {
        format: Some(Format::by_name(formats[a % formats.len()]).expect("a known format")),
        role: if b & 1 == 0 { Role::Dataset } else { Role::Corpus },
        text_columns: match b / 2 % 4 {
            1 => vec!["2".into()],
            2 => vec!["text".into(), "1".into()],
            _ => vec![],
        },
        quotes: [None, Some(Quotes::Enclose), Some(Quotes::Backslash), Some(Quotes::Characters)][b / 8 % 4],
        ..OpenOptions::default()
    };
    read("f", rest, &options)
}

/// A pickle as the vocabulary of another program.
fn pickle(bytes: &[u8]) -> Outcome {
    match import::words(bytes, "pkl") {
        Ok(words) => Ok(format!("{} words, {} classes", words.words.len().min(3), words.classes.len().min(3))),
        Err(what) => Ok(shape(&what)),
    }
}

/// Weights of another program: a damaged file must not give values that the file does not have.
fn weights(bytes: &[u8]) -> Outcome {
    match import::tensors(bytes) {
        Ok((named, _)) => {
            let values: usize = named.iter().map(|(_, array)| array.values.len()).sum();
            let fits = named.iter().all(|(_, a)| a.shape.iter().product::<usize>() == a.values.len());
            // a storage may stand under several names, so that the file can be smaller than all
            // values
            if !fits || values > 64 * bytes.len() {
                return Err(format!("{values} values out of {} bytes", bytes.len()));
            }
            Ok(format!("{} tensors", named.len().min(20)))
        }
        Err(what) => Ok(shape(&what)),
    }
}

/// A message without its numbers and names.
fn shape(what: &str) -> String {
    let quoted: String = what.split('\'').step_by(2).collect();
    quoted.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

/// Files beside the fixture of foreign models whose names end so.
fn foreign(endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/import");
    let entries = std::fs::read_dir(folder).expect("the fixture's folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let wanted = |p: &&std::path::PathBuf| p.extension().is_some_and(|e| endings.iter().any(|end| e == *end));
    paths.iter().filter(wanted).map(|path| std::fs::read(path).expect("a file of the fixture")).collect()
}

fn pickles() -> Vec<Vec<u8>> {
    foreign(&["pkl"])
}

fn weight_files() -> Vec<Vec<u8>> {
    foreign(&["pth", "pt", "h5"])
}

fn decode(bytes: &[u8]) -> Outcome {
    let (a, _, rest) = choose(bytes);
    let options =
        OpenOptions { format: Format::by_name("plain").ok(), encoding: encoding(8 + a % 8), ..OpenOptions::default() };
    read("f", rest, &options)
}

fn archive(bytes: &[u8], names: &[&str]) -> Outcome {
    let (a, _, rest) = choose(bytes);
    read(names[a % names.len()], rest, &OpenOptions::default())
}

fn read(name: &str, bytes: &[u8], options: &OpenOptions) -> Outcome {
    let source = match Source::from_bytes(name, bytes, options) {
        Ok(source) => source,
        Err(e) => return refusal(name, &e),
    };
    let mut kind = source.describe().chars().filter(|c| c.is_alphabetic() || *c == ' ').take(40).collect::<String>();
    let (mut documents, mut size, mut labels) = (0u64, 0usize, 0u64);
    let stream = match source.documents() {
        Ok(stream) => stream,
        Err(e) => return refusal(name, &e),
    };
    for document in stream {
        match document {
            Ok(document) => {
                documents += 1;
                size += document.text.len();
                labels += u64::from(document.label.is_some());
                let together: usize = document.fields().map(|f| f.len() + 1).sum();
                if together != document.text.len() + 1 {
                    return Err("the fields are not the text".into());
                }
                if document.origin.line == 0 || document.origin.file.is_empty() {
                    return Err("a document without an origin".into());
                }
            }
            Err(e) => {
                kind.push_str(&refusal(name, &e)?);
                break;
            }
        }
    }
    let magic = bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd");
    let packed = magic || name.contains(['z', 'r']);
    if !packed && (size > 3 * bytes.len() + 3 || documents > bytes.len() as u64 + 1) {
        return Err(format!("{documents} documents of {size} bytes out of {} bytes", bytes.len()));
    }
    let bucket = |n: u64| u64::BITS - n.leading_zeros();
    Ok(format!("{kind} {} {}", bucket(documents), bucket(labels)))
}

/// An error is one sentence that names the file.
pub(crate) fn refusal(name: &str, e: &Error) -> Outcome {
    let message = e.to_string();
    // about the options, not about the file
    if let Error::Usage { .. } = e {
        return Ok(message);
    }
    let file = name.split("::").next().unwrap_or(name);
    if !message.starts_with(file) {
        return Err(format!("an error that does not name the file: {message}"));
    }
    if message.chars().any(char::is_control) || message.len() > 1500 {
        return Err(format!("an error that is not one sentence: {message:?}"));
    }
    if message.contains("broke off") || e.exit_status() == 0 {
        return Err(format!("a reader that gave up: {message}"));
    }
    let said = message.strip_prefix(file).unwrap_or(&message);
    let plain: String = said.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').take(60).collect();
    Ok(plain)
}

fn tokenizer(bytes: &[u8]) -> Outcome {
    let (a, b, rest) = choose(bytes);
    let text = String::from_utf8_lossy(rest);
    let other =
        || Language { code: "tr".into(), keep: vec!["ik.".into()], suffixes: vec!["k".into()], ..Language::default() };
    let kind = match a % 7 {
        0 => TokenizerKind::word(Rules::V07),
        1 => TokenizerKind::word(Rules::V1),
        2 => TokenizerKind::word(Rules::V2),
        3 => TokenizerKind::Whitespace,
        4 => TokenizerKind::Pretokenized,
        5 => TokenizerKind::word_in(Rules::V1, Some(other())),
        _ => TokenizerKind::word_in(Rules::V2, Some(other())),
    };
    let invisible = if a / 7 % 2 == 0 { Invisible::Keep } else { Invisible::Drop };
    let kind = kind.with_invisible(invisible);
    let (begin, dropped) = (kind.begin_token(), kind.invisible() == Invisible::Drop);
    let tokenizer = Tokenizer::new(kind).map_err(|e| e.to_string())?;
    let mut document = match b % 3 {
        0 => Document::from_fields(text.split('|').map(str::to_string).collect()),
        _ => Document::new(text.as_ref()),
    };
    document.lines = b % 2 == 0;
    let tokens = tokenizer.tokens(&document);
    if tokens != tokenizer.tokens(&document) {
        return Err("two different token streams of one text".into());
    }
    // as in the reference, the rules of v1 put a text that begins with WikiText's " @-@ " (or with
    // " @,@ " or " @.@ ") and the mark before it together: `xxbos-`
    let joined = |t: &String| t.strip_prefix(begin).is_some_and(|rest| rest.starts_with(['-', ',', '.']));
    if !tokens.iter().any(|t| t == begin || joined(t)) {
        return Err(format!("no {begin} in {tokens:?}"));
    }
    if dropped && tokens.iter().any(|token| token.contains(['\u{ad}', '\u{feff}', '\u{2060}'])) {
        return Err(format!("what is not seen was to go: {tokens:?}"));
    }
    if tokens.iter().any(String::is_empty) {
        return Err("an empty token".into());
    }
    let shown: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let _ = tokenizer.detokenize(&shown);
    let specials: std::collections::BTreeSet<&str> =
        shown.iter().copied().filter(|t| t.starts_with("xx") || t.starts_with("tk_") || t.starts_with("t_")).collect();
    let few: Vec<&str> = specials.into_iter().take(6).collect();
    Ok(format!("{} {few:?} {}", a % 7, usize::BITS - tokens.len().leading_zeros()))
}

/// The bytes are a tokenizer.json.
fn subword(bytes: &[u8]) -> Outcome {
    let subword = match Subword::read(std::path::Path::new("f.json"), bytes.to_vec()) {
        Ok(subword) => subword,
        Err(e) => return refusal("f.json", &e),
    };
    let special = subword.special_tokens().len();
    let tokenizer = Tokenizer::new(TokenizerKind::Subword(subword)).map_err(|e| e.to_string())?;
    let mut sizes = Vec::new();
    for text in
        ["The good dogs aren't 12.5 &amp; SOOOO bad", "", "漢字 かな、カナ", "\u{a8}\0 x\u{301}\u{fb01} ▁▁ <unk> xxbos"]
    {
        let document = Document::new(text);
        let tokens = tokenizer.tokens(&document);
        if tokens != tokenizer.tokens(&document) {
            return Err("two different token streams of one text".into());
        }
        if tokens.iter().any(String::is_empty) {
            return Err("an empty token".into());
        }
        let shown: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let _ = (tokenizer.detokenize(&shown), tokenizer.continued(text, &shown));
        sizes.push(usize::BITS - tokens.len().leading_zeros());
    }
    Ok(format!("{special} {sizes:?}"))
}

/// A model of every kind, and parts of every kind around it.
fn tokenizer_files() -> Vec<Vec<u8>> {
    let files: [&[u8]; 4] = [
        include_bytes!("../corpus/subword/unigram.json"),
        include_bytes!("../corpus/subword/bpe.json"),
        include_bytes!("../corpus/subword/wordpiece.json"),
        include_bytes!("../corpus/subword/sequence.json"),
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

fn texts() -> Vec<Vec<u8>> {
    let bodies: &[&[u8]] = &[
        b"a line\n\nanother line \r\nthe last",
        b" = Title = \n \n para <unk> @-@ x \n = = Section = = \n more \n = Second = \n y \n",
        b"<doc id=\"1\" title=\"A\">\nA\n\npara\n</doc>\n<doc id=\"2\">\nB\n</doc>\n",
        b"id,Text,label\n1,\"two\nlines, \"\"q\"\"\",pos\n2,b,neg\n3,c,\n",
        b"\"3\",\"Title\",\"Some, text\"\n\"1\",\"\",\"b\"\n",
        b"sentence\tlabel\n\"x, y\"\t1\nz\t0\n",
        b"{\"text\":\"a\\nb \\ud83d\\ude00\",\"label\":2}\n{\"text\":\"\",\"label\":null}\n",
        b"DESC:manner How caf\xe9 ?\nABBR:exp What 's NASA ?\n\n",
        b"1 good film\n0 bad film\n1 a third\n",
        b"\xff\xfea\0,\0b\0\n\0c\0,\0d\0\n\0",
        b"\xef\xbb\xbftext,label\nx,1\n",
        b"-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\nB. NNP I-NP I-PER\n",
        "I'll PAY $3.50 for it's... sooooo good good good good &amp; <br /> U.S.A. e-mail@x.org don't 12:30 \u{200f}\u{5d0}"
            .as_bytes(),
    ];
    let mut seeds = Vec::new();
    for (i, body) in bodies.iter().enumerate() {
        for variant in 0..7u8 {
            seeds.push([&[variant, (i as u8 + variant) % 16], *body].concat());
        }
    }
    seeds
}

fn with_variants(bodies: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    bodies.into_iter().flat_map(|body| (0..3u8).map(move |v| [&[v, 0], &body[..]].concat())).collect()
}

fn packed() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for text in [&b"text,label\nx,1\n"[..], b"a\nb\n", b"", &[b'a'; 3000]] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).expect("memory takes everything");
        bodies.push(gz.finish().expect("memory takes everything"));
        bodies.push(zstd::encode_all(text, 1).expect("memory takes everything"));
    }
    let twice: Vec<u8> = bodies.iter().take(4).flatten().copied().collect();
    bodies.push(twice);
    with_variants(bodies)
}

/// Members of the archives to begin with; some have names that must not be followed.
const TREES: &[&[(&str, &[u8])]] = &[
    &[("d/pos/1.txt", b"good"), ("d/neg/1.txt", b"bad\n"), ("d/unsup/1.txt", b"some")],
    &[("d/train/pos/1.txt", b"good"), ("d/test/pos/1.txt", b"bad")],
    &[("d/a.csv", b"text,label\nx,1\n")],
    &[("d/x.pos", b"yes\nwell\n"), ("d/x.neg", b"no\n"), ("README", b"about")],
    &[("../../etc/passwd", b"root"), ("/tmp/owned", b"x")],
    &[("d/a.tar", &[b'x'; 600]), ("d/b.txt", b"")],
];

fn tars() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for tree in TREES {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in *tree {
            let mut header = tar::Header::new_gnu();
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).expect("memory takes everything");
        }
        let plain = builder.into_inner().expect("memory takes everything");
        bodies.push(zstd::encode_all(&plain[..], 1).expect("memory takes everything"));
        bodies.push(plain);
    }
    let mut builder = tar::Builder::new(Vec::new());
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Directory, tar::EntryType::Fifo] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "d/link", "/etc/passwd").expect("memory takes everything");
    }
    bodies.push(builder.into_inner().expect("memory takes everything"));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    builder.append_data(&mut header, "d/".to_string() + &"long/".repeat(30) + "x", &b"text"[..]).expect("memory");
    builder.append_pax_extensions([("path", &b"d/pos/2.txt"[..]), ("comment", b"x")]).expect("memory");
    builder.append_data(&mut header, "d/short", &b"text"[..]).expect("memory");
    bodies.push(builder.into_inner().expect("memory takes everything"));
    with_variants(bodies)
}

fn zips() -> Vec<Vec<u8>> {
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};
    let mut bodies = Vec::new();
    for tree in TREES {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().compression_method(method);
            for (path, content) in *tree {
                writer.start_file(*path, options).expect("memory takes everything");
                writer.write_all(content).expect("memory takes everything");
            }
            if bodies.len() == 3 {
                writer.add_symlink("d/link", "/etc/passwd", options).expect("memory takes everything");
            }
            bodies.push(writer.finish().expect("memory takes everything").into_inner());
        }
    }
    with_variants(bodies)
}
