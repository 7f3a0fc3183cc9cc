//! CoNLL columns: a word a line with its tag, a blank line after every sentence (Tjong Kim Sang &
//! De Meulder 2003).
//!
//! Tags are those of chunks: `O`, or a letter, `-` and a kind. IOB1, IOB2 and BIOES (BILOU, BMES)
//! are read alike, by the rules of `conlleval`, and handed on as IOB2: `B-` begins a chunk, `I-`
//! goes on with one.

use std::sync::Arc;

use super::bytes::{MAX_DOCUMENT, printable};
use super::columns::Columns;
use super::detect::Look;
use super::formats::{Opened, if_so};
use super::input::too_long;
use super::layout::Layout;
use super::plain::is_blank;
use super::{Document, Documents, LABEL_MARK, Origin, Role, stream};
use crate::error::{Error, Result};

/// Endings of names of such files.
const ENDINGS: [&str; 6] = [".conll", ".iob", ".iob1", ".iob2", ".bio", ".bioes"];

/// A line that stands between the documents of a corpus; it is no sentence.
const BORDER: &str = "-DOCSTART-";

/// The columns of a row, by tabs where the file has them, else by spaces.
fn columns(line: &str, tabs: bool) -> Vec<&str> {
    match tabs {
        true => line.split('\t').map(str::trim).collect(),
        false => line.split(' ').filter(|column| !column.is_empty()).collect(),
    }
}

/// A tag as its letter and its kind; `O` has no kind. `None` where it is none.
fn parse(tag: &str) -> Option<(char, &str)> {
    if tag == "O" {
        return Some(('O', ""));
    }
    let (letter, kind) = tag.split_once('-')?;
    let known = ["B", "I", "E", "S", "L", "U", "M"].contains(&letter);
    (known && !kind.is_empty() && !kind.contains(char::is_control))
        .then(|| (letter.chars().next().unwrap_or('O'), kind))
}

/// Whether a word with tag `now` after one with `before` (of its sentence, else `O`) begins a
/// chunk.
fn begins(before: (char, &str), now: (char, &str)) -> bool {
    now.0 != 'O'
        && (matches!(now.0, 'B' | 'S' | 'U') || matches!(before.0, 'O' | 'E' | 'S' | 'L' | 'U') || before.1 != now.1)
}

/// By its name, or by its rows: as many columns in all, the last a tag, a chunk somewhere and a
/// word outside of chunks.
pub(super) fn recognise(look: &Look) -> Result<Option<Layout>> {
    let named = ENDINGS.iter().any(|ending| look.base.ends_with(ending));
    let (mut width, mut chunks, mut outside) = (None, false, false);
    let tabs = has_tabs(&look.full);
    let fits = look.full.iter().filter(|line| !line.starts_with(BORDER)).all(|line| {
        let row = columns(line, tabs);
        let tag = row.last().and_then(|tag| parse(tag));
        chunks |= tag.is_some_and(|(letter, _)| letter != 'O');
        outside |= tag.is_some_and(|(letter, _)| letter == 'O');
        tag.is_some() && row.len() > 1 && *width.get_or_insert(row.len()) == row.len()
    });
    let found = named || (fits && chunks && outside);
    if found && look.options.text_columns.is_empty() && first_column_counts(look.text(), tabs) {
        let hint = "number the column of the words: --text-column 2";
        return Err(Error::file(look.name, "has the numbers of the words in its first column").hint(hint));
    }
    if_so(found)
}

/// Whether the first column counts the words of every sentence, from 0 or from 1.
fn first_column_counts(text: &str, tabs: bool) -> bool {
    let (mut expected, mut sentences, mut most) = (None, 0, 0);
    for line in text.lines().filter(|line| !line.starts_with(BORDER)) {
        if is_blank(line) {
            expected = None;
            continue;
        }
        let row = columns(line, tabs);
        let Some(number) = row.first().filter(|_| row.len() > 2).and_then(|cell| cell.parse::<u64>().ok()) else {
            return false;
        };
        if expected.is_none() {
            sentences += 1;
        }
        if number != expected.unwrap_or(number.min(1)) {
            return false;
        }
        most = most.max(number);
        expected = Some(number + 1);
    }
    sentences > 0 && most > 1
}

/// Whether the first row has tabs between its columns.
fn has_tabs(lines: &[&str]) -> bool {
    lines.iter().find(|line| !line.starts_with(BORDER)).is_some_and(|line| line.contains('\t'))
}

/// In words, with the columns and the scheme of the sample.
pub(super) fn describe(look: &Look) -> String {
    let tabs = has_tabs(&look.full);
    let width = look.full.iter().find(|line| !line.starts_with(BORDER)).map_or(0, |line| columns(line, tabs).len());
    if width < 2 || look.options.role != Role::Dataset {
        return format!("CoNLL columns ({width})");
    }
    let (mut ends, mut chunks, mut inside) = (false, false, false);
    let mut before = ('O', "");
    for line in look.text().lines() {
        let now = columns(line, tabs).last().and_then(|tag| parse(tag)).unwrap_or(('O', ""));
        ends |= matches!(now.0, 'E' | 'S' | 'L' | 'U');
        chunks |= now.0 != 'O';
        inside |= now.0 == 'I' && begins(before, now);
        before = now;
    }
    let scheme = match (chunks, ends, inside) {
        (false, ..) => "no chunk in its first lines",
        (_, true, _) => "BIOES",
        (_, _, true) => "IOB1",
        _ => "IOB2",
    };
    format!("CoNLL columns ({width}, {scheme})")
}

/// Number of a column that the user names, counted from 0.
fn numbered(flag: &str, given: Option<&String>) -> Result<Option<usize>> {
    let Some(given) = given else { return Ok(None) };
    match given.parse::<usize>() {
        Ok(number) if number > 0 => Ok(Some(number - 1)),
        _ => Err(Error::usage(format!("{flag} {given}: CoNLL columns have no names")).hint("give its number, from 1")),
    }
}

/// The words are the first column and the tags the last, unless the user says otherwise. Where no
/// labels are wanted, tags are not looked at, and words may be all that there is.
pub(super) fn read(opened: Opened) -> Result<Documents> {
    let Columns { text, label, more_labels, .. } = opened.columns;
    if text.len() > 1 || !more_labels.is_empty() {
        return Err(Error::usage("CoNLL columns have one column of words and one of tags"));
    }
    let (word, tag) = (numbered("--text-column", text.first())?, numbered("--label-column", label.as_ref())?);
    let tagged = opened.role == Role::Dataset;
    let corpus = opened.role == Role::Corpus;
    let (mut lines, file) = opened.lines();
    let mut rows = Rows { file, tabs: false, width: 0, word: word.unwrap_or(0), tag, tagged };
    let mut number = 0;
    Ok(stream(move || {
        let mut sentence = Sentence::default();
        while let Some(line) = lines.next()? {
            number += 1;
            if !is_blank(line) && !line.starts_with(BORDER) {
                rows.add(line, number, &mut sentence)?;
            } else if !sentence.words.is_empty() {
                break;
            }
        }
        let document = Document { lines: corpus, ..rows.document(sentence) };
        Ok((!document.text.is_empty()).then_some(document))
    }))
}

/// A sentence on its way.
#[derive(Default)]
struct Sentence {
    words: Vec<String>,
    /// In IOB2.
    tags: Vec<String>,
    /// The last tag as it was written: its letter and its kind.
    before: (char, String),
    bytes: usize,
    line: u64,
}

/// How rows are read.
struct Rows {
    file: Arc<str>,
    /// Of the first row, and of all.
    tabs: bool,
    width: usize,
    word: usize,
    tag: Option<usize>,
    tagged: bool,
}

impl Rows {
    fn fault(&self, line: u64, message: impl Into<String>) -> Error {
        Error::line(&*self.file, line, message)
    }

    /// Adds a row to a sentence.
    fn add(&mut self, text: &str, line: u64, sentence: &mut Sentence) -> Result<()> {
        if self.width == 0 {
            self.tabs = text.contains('\t');
            self.width = columns(text, self.tabs).len();
            self.check_width(line)?;
        }
        let row = columns(text, self.tabs);
        let plural = |n: usize| if n == 1 { format!("{n} column") } else { format!("{n} columns") };
        if row.len() != self.width {
            let message = format!("has {} where the first row has {}", plural(row.len()), plural(self.width));
            let between = if self.tabs { "tabs" } else { "spaces" };
            return Err(self
                .fault(line, message)
                .hint(format!("columns stand between {between}, as in the first row")));
        }
        let word = row[self.word];
        if word.is_empty() {
            return Err(self.fault(line, "has no word"));
        }
        if sentence.words.is_empty() {
            (sentence.line, sentence.before) = (line, ('O', String::new()));
        }
        if self.tagged {
            let tag = row[self.tag.unwrap_or(self.width - 1)];
            let Some((letter, kind)) = parse(tag).filter(|(_, kind)| !kind.contains(LABEL_MARK)) else {
                let message =
                    format!("has '{}' in the place of a tag", printable(&tag.chars().take(40).collect::<String>()));
                return Err(self.fault(line, message).hint(
                    "a tag is O, or one of B I E S L U M, '-' and a kind, as B-PER; --label-column N names its column",
                ));
            };
            let (before, of_kind) = &sentence.before;
            sentence.tags.push(match letter {
                'O' => "O".into(),
                _ if begins((*before, of_kind), (letter, kind)) => format!("B-{kind}"),
                _ => format!("I-{kind}"),
            });
            sentence.before = (letter, kind.to_string());
        }
        sentence.bytes += word.len() + 1;
        if sentence.bytes > MAX_DOCUMENT {
            return Err(too_long(&self.file, sentence.line));
        }
        sentence.words.push(word.to_string());
        Ok(())
    }

    /// Whether the first row has the columns that are wanted.
    fn check_width(&self, line: u64) -> Result<()> {
        let least = if self.tagged { 2 } else { 1 };
        let wanted = [Some(self.word), self.tag.filter(|_| self.tagged)].into_iter().flatten().max().unwrap_or(0) + 1;
        if self.width >= least.max(wanted) {
            return match self.tagged && self.word == self.tag.unwrap_or(self.width - 1) {
                true => Err(Error::usage("the same column is named for the words and for the tags")),
                false => Ok(()),
            };
        }
        let found = if self.width == 1 { "1 column".to_string() } else { format!("{} columns", self.width) };
        let message = match wanted > least {
            true => format!("has {found}, but column {wanted} is asked for"),
            false => format!("has {found} where a word and its tag are wanted"),
        };
        Err(self.fault(line, message))
    }

    fn document(&self, sentence: Sentence) -> Document {
        let Sentence { words, tags, line, .. } = sentence;
        Document {
            label: self.tagged.then(|| tags.join(&LABEL_MARK.to_string())),
            origin: Origin { file: self.file.clone(), line },
            ..Document::of_words(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OpenOptions, Source};
    use super::*;
    use crate::text::Format;

    /// Line, words and tags of a sentence.
    type Sentence = (u64, Vec<String>, Vec<String>);

    fn read(text: &str, options: &OpenOptions) -> Result<Vec<Sentence>> {
        let source = Source::from_bytes("a.txt", text.as_bytes().to_vec(), options)?;
        let of = |document: Document| {
            let words = document.fields().map(str::to_string).collect();
            assert!(document.words);
            (document.origin.line, words, document.labels().map(str::to_string).collect())
        };
        source.documents()?.map(|document| document.map(of)).collect()
    }

    fn tags(rows: &str) -> String {
        let text: String = rows.split(' ').map(|tag| format!("w {tag}\n")).collect();
        let conll = OpenOptions { format: Some(Format::by_name("conll").unwrap()), ..OpenOptions::default() };
        read(&text, &conll).unwrap().into_iter().map(|(_, _, tags)| tags.join(" ")).collect()
    }

    /// The chunks as `conlleval` sees them, in IOB2.
    #[test]
    fn every_scheme_becomes_iob2() {
        assert_eq!(tags("I-A I-A O I-A B-A I-B"), "B-A I-A O B-A B-A B-B", "IOB1");
        assert_eq!(tags("B-A I-A O B-A B-A B-B"), "B-A I-A O B-A B-A B-B", "IOB2");
        assert_eq!(tags("B-A E-A O S-A S-A S-B"), "B-A I-A O B-A B-A B-B", "BIOES");
        assert_eq!(tags("B-A I-A L-A U-B I-A"), "B-A I-A I-A B-B B-A", "BILOU, and I after U");
        assert_eq!(tags("B-A M-A E-A I-A"), "B-A I-A I-A B-A", "BMES, and I after E");
    }

    #[test]
    fn sentences_with_words_as_they_are() {
        let text =
            "-DOCSTART- -X- O O\n\nThe DT I-NP O\nU.N. NNP I-NP I-ORG\n\n\nHi! UH O O\n-DOCSTART- -X- O O\nlast X O O";
        let found = read(text, &OpenOptions::default()).unwrap();
        let words = |row: &str| row.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert_eq!(
            found,
            [(3, words("The U.N."), words("O B-ORG")), (7, words("Hi!"), words("O")), (9, words("last"), words("O")),]
        );
        let described =
            Source::from_bytes("a.txt", text.as_bytes().to_vec(), &OpenOptions::default()).unwrap().describe();
        assert_eq!(described, "a.txt: CoNLL columns (4, IOB1)");
        // a column of tabs may hold a space that does not break, and others are asked for by number
        let text = "1\ta\u{a0}b\tB-X\t_\n2\t#\tO\t_\n";
        let numbers = ["2", "3"].map(|n| vec![n.to_string()]);
        let [text_columns, label_columns] = numbers;
        let format = Some(Format::by_name("conll").unwrap());
        let options = OpenOptions { text_columns, label_columns, format, ..OpenOptions::default() };
        assert_eq!(read(text, &options).unwrap(), [(1, vec!["a\u{a0}b".into(), "#".into()], words("B-X O"))]);
        // without labels the other columns are not looked at
        let options = OpenOptions { role: Role::Texts, format: options.format, ..OpenOptions::default() };
        assert_eq!(read("a\nb\n\nc\n", &options).unwrap().len(), 2);
    }

    #[test]
    fn faults_have_their_line() {
        let conll = OpenOptions { format: Some(Format::by_name("conll").unwrap()), ..OpenOptions::default() };
        let fault = |text: &str, options: &OpenOptions| read(text, options).unwrap_err().to_string();
        assert_eq!(fault("a O\n\nb\n", &conll), "a.txt:3: has 1 column where the first row has 2 columns");
        assert_eq!(fault("a\tO\nb O\n", &conll), "a.txt:2: has 1 column where the first row has 2 columns");
        assert_eq!(fault("a O\nb B\n", &conll), "a.txt:2: has 'B' in the place of a tag");
        assert_eq!(fault("a O\nb X-PER\n", &conll), "a.txt:2: has 'X-PER' in the place of a tag");
        assert_eq!(fault("a O\nb B-\n", &conll), "a.txt:2: has 'B-' in the place of a tag");
        assert_eq!(fault("a\nb\n", &conll), "a.txt:1: has 1 column where a word and its tag are wanted");
        assert_eq!(fault("\tO\n", &conll), "a.txt:1: has no word");
        let third = OpenOptions { label_columns: vec!["3".into()], ..conll.clone() };
        assert_eq!(fault("a O\n", &third), "a.txt:1: has 2 columns, but column 3 is asked for");
        let named = OpenOptions { text_columns: vec!["word".into()], ..conll };
        assert!(fault("a O\n", &named).contains("--text-column word: CoNLL columns have no names"));
    }

    #[test]
    fn what_is_recognised() {
        let is = |name: &str, text: &str| {
            let source = Source::from_bytes(name, text.as_bytes().to_vec(), &OpenOptions::default()).unwrap();
            source.has_tags()
        };
        assert!(is("x", "a O\nb B-X\n") && is("x.conll", "a O\nb O\n"));
        assert!(!is("x", "a O\nb O\n"), "nothing but O");
        assert!(!is("x", "a B-X\nand so on\n") && !is("x", "B-X\nO\n"));
    }
}
