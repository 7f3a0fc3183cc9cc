//! From sources to counts and to token files: documents are read in bounded batches, cut into
//! tokens on all threads, and put together in their order, so that the result does not depend on
//! the number of threads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;

use super::tokenizer::Scratch;
use super::{
    Document, Source, Storage, StoreWriter, TokenStore, Tokenizer, TokenizerKind, UNKNOWN_ID, Vocabulary, WordCounts,
    is_space,
};
use crate::error::{Error, Result};

/// The first batch ends at this many bytes of text and every next one may be twice as large, so
/// that a small text keeps all threads busy too.
const FIRST_BATCH_BYTES: usize = 128 << 10;
/// No batch has more than this many bytes or documents: their words are merged, and large batches
/// share more of them.
pub(super) const BATCH_BYTES: usize = 8 << 20;
/// Nothing is merged where tokens are only handed on: small batches keep the memory in use small,
/// and fresh memory is slow.
const SMALL_BATCH_BYTES: usize = 512 << 10;
const BATCH_DOCUMENTS: usize = 1 << 14;

/// How far a pass has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// Told after every batch; an error (an interrupt) ends the pass.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> Result<()>;

/// How labels are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Labels {
    /// Text only.
    #[default]
    Ignore,
    /// Classes are what the documents say, sorted (numbers by value).
    Collect,
    /// Classes are given (those of the training set or of a model); another one is an error.
    Known(Vec<String>),
}

/// How a token file is made.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    pub labels: Labels,
    /// Leave out documents without a word (counted).
    pub skip_empty: bool,
    /// Leave out documents without a label (counted).
    pub skip_unlabelled: bool,
}

/// Counts of the documents that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCounts {
    pub documents: u64,
    pub empty: u64,
    pub tokens: u64,
    /// White-space separated words and bytes of the text.
    pub words: u64,
    pub bytes: u64,
}

/// The results of reading the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildReport {
    /// Documents in the file.
    pub documents: u64,
    pub skipped_empty: u64,
    pub skipped_unlabelled: u64,
    pub tokens: u64,
    /// Tokens that are not in the vocabulary.
    pub unknown: u64,
    /// Tokens of the longest document.
    pub longest: u64,
}

impl BuildReport {
    /// A warning where more than a fifth of the tokens are unknown to the vocabulary of those
    /// `kind`s of tokens.
    pub fn hardly_known(&self, kind: &TokenizerKind) -> Option<String> {
        if self.unknown * 5 <= self.tokens {
            return None;
        }
        let share = 100.0 * self.unknown as f64 / self.tokens as f64;
        let next = match kind {
            TokenizerKind::Subword(_) => "the text is in other characters",
            _ => "--tokenizer subword makes words of parts that are known",
        };
        Some(format!("{share:.0} % of the tokens are unknown to the vocabulary: {next}"))
    }
}

/// Reads all sources in order and hands on, per batch and in order, what `work` makes of runs of
/// documents. While one batch is worked on, the results of the one before are taken and the next is
/// read: three batches at most are in memory.
pub(super) fn in_batches<T: Send>(
    sources: &[Source],
    most_bytes: usize,
    work: impl Fn(&[Document], &mut Scratch) -> T + Sync,
    mut take: impl FnMut(T) -> Result<()> + Send,
    progress: OnProgress,
) -> Result<()> {
    let pool: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());
    let work_on = |documents: &[Document]| {
        let mut scratch = pool.lock().expect("no holder panics").pop().unwrap_or_default();
        let result = work(documents, &mut scratch);
        pool.lock().expect("no holder panics").push(scratch);
        result
    };
    let mut stream = sources.iter().flat_map(|source| match source.documents() {
        Ok(documents) => documents,
        Err(e) => Box::new(std::iter::once(Err(e))) as super::reader::Documents,
    });
    let mut done = Progress::default();
    let mut limit = FIRST_BATCH_BYTES;
    let mut batch = next_batch(&mut stream, limit)?;
    let mut results: Vec<T> = Vec::new();
    while !batch.is_empty() {
        let run = batch.len().div_ceil(4 * rayon::current_num_threads());
        let before = std::mem::take(&mut results);
        limit = most_bytes.min(2 * limit);
        let ((taken, next), made) = rayon::join(
            || match before.into_iter().try_for_each(&mut take) {
                Ok(()) => (Ok(()), next_batch(&mut stream, limit)),
                Err(e) => (Err(e), Ok(Vec::new())),
            },
            || batch.par_chunks(run).map(work_on).collect::<Vec<_>>(),
        );
        taken?;
        results = made;
        done.documents += batch.len() as u64;
        done.bytes += batch.iter().map(|d| d.text.len() as u64).sum::<u64>();
        progress(done)?;
        batch = match next {
            Ok(next) => next,
            // the text before the fault may have a fault of its own, which is reported first
            Err(e) => return results.into_iter().try_for_each(&mut take).and(Err(e)),
        };
    }
    results.into_iter().try_for_each(&mut take)
}

fn next_batch(stream: &mut impl Iterator<Item = Result<Document>>, most_bytes: usize) -> Result<Vec<Document>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < most_bytes && batch.len() < BATCH_DOCUMENTS {
        let Some(document) = stream.next().transpose()? else { break };
        bytes += document.text.len() + 64;
        batch.push(document);
    }
    Ok(batch)
}

fn count_text(text: &str) -> u64 {
    text.split(is_space).filter(|w| !w.is_empty()).count() as u64
}

/// First pass: the words of all sources and how often each occurs. Documents that [`BuildOptions`]
/// leaves out do not count.
///
/// # Errors
/// Errors of reading, and the error of `progress`.
pub fn count_words(
    sources: &[Source],
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    progress: OnProgress,
) -> Result<(WordCounts, TextCounts)> {
    let work = |documents: &[Document], scratch: &mut Scratch| {
        let (mut words, mut text) = (WordCounts::default(), TextCounts::default());
        for document in documents {
            let empty =
                if options.skip_empty { tokenizer.finds_nothing_in(document, scratch) } else { document.is_empty() };
            text.empty += u64::from(empty);
            if empty && options.skip_empty || document.label.is_none() && options.skip_unlabelled {
                continue;
            }
            text.documents += 1;
            text.words += count_text(&document.text);
            text.bytes += document.text.len() as u64;
            tokenizer.tokenize(document, scratch, &mut |token| {
                words.add(token, 1);
                text.tokens += 1;
            });
        }
        (words, text)
    };
    let (mut words, mut text) = (WordCounts::default(), TextCounts::default());
    let take = |(w, t): (WordCounts, TextCounts)| {
        words.append(&w);
        text.documents += t.documents;
        text.empty += t.empty;
        text.tokens += t.tokens;
        text.words += t.words;
        text.bytes += t.bytes;
        Ok(())
    };
    in_batches(sources, BATCH_BYTES, work, take, progress)?;
    Ok((words, text))
}

/// The error of files of which no document is left: without labels, or without a text.
pub fn nothing_left(name: &str, unlabelled: bool) -> Error {
    match unlabelled {
        true => Error::file(name, "holds no document with a label").hint("name the column with --label-column"),
        false => Error::file(name, "holds no document with text"),
    }
}

/// Why a document is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The document has no text.
    Empty,
    /// The document has no label.
    Unlabelled,
}

impl Skipped {
    /// As a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Skipped::Empty => "the text is empty",
            Skipped::Unlabelled => "there is no label",
        }
    }
}

/// The fate of a document of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub origin: super::Origin,
    /// `None`: it is in the store.
    pub skipped: Option<Skipped>,
}

/// Second pass: writes the token store of all sources.
///
/// # Errors
/// Errors of reading and writing; no document is left; a class that is not among [`Labels::Known`];
/// the one `progress` returns.
pub fn write_store(
    sources: &[Source],
    tokenizer: &Tokenizer,
    vocabulary: &Vocabulary,
    options: &BuildOptions,
    storage: Storage,
    progress: OnProgress,
) -> Result<(TokenStore, BuildReport)> {
    match fill_store(sources, tokenizer, vocabulary, options, storage, &mut |_| (), progress)? {
        (Some(store), report) => Ok((store, report)),
        (None, report) => {
            let all: Vec<&str> = sources.iter().map(Source::name).collect();
            Err(nothing_left(&all.join(", "), report.skipped_unlabelled > 0))
        }
    }
}

/// As [`write_store`]; `on_row` is told what becomes of every document, in their order. Without a
/// document that is kept there is no store.
///
/// # Errors
/// Errors of reading and writing; a class that is not among [`Labels::Known`]; the one `progress`
/// returns.
pub fn fill_store(
    sources: &[Source],
    tokenizer: &Tokenizer,
    vocabulary: &Vocabulary,
    options: &BuildOptions,
    storage: Storage,
    on_row: &mut (dyn FnMut(Row) + Send),
    progress: OnProgress,
) -> Result<(Option<TokenStore>, BuildReport)> {
    struct Made {
        ids: Vec<u32>,
        /// Where its words are given.
        marks: Vec<u8>,
        label: Option<String>,
        origin: super::Origin,
        words: u64,
        bytes: usize,
        skipped: Option<Skipped>,
    }
    let work = |documents: &[Document], scratch: &mut Scratch| -> Vec<Made> {
        let make = |document: &Document, scratch: &mut Scratch| {
            let skipped = if options.skip_unlabelled && document.label.is_none() {
                Some(Skipped::Unlabelled)
            } else {
                let nothing = options.skip_empty && tokenizer.finds_nothing_in(document, scratch);
                (document.in_empty_pair || nothing).then_some(Skipped::Empty)
            };
            let (ids, marks) = match skipped {
                Some(_) => (Vec::new(), Vec::new()),
                None => tokenizer.marked_ids(document, vocabulary, scratch),
            };
            Made {
                ids,
                marks,
                label: document.label.clone(),
                origin: document.origin.clone(),
                words: count_text(&document.text),
                bytes: document.text.len(),
                skipped,
            }
        };
        documents.iter().map(|d| make(d, scratch)).collect()
    };
    let name = sources.first().map_or_else(String::new, |source| source.name().to_string());
    let mut writer = StoreWriter::to(storage, Path::new(&name), vocabulary)?;
    let mut report = BuildReport::default();
    let mut names: Vec<String> = match &options.labels {
        Labels::Known(names) => names.clone(),
        _ => Vec::new(),
    };
    // of two equal names the first counts
    let mut place: HashMap<String, u32> = HashMap::new();
    for (k, name) in names.iter().enumerate() {
        place.entry(name.clone()).or_insert(k as u32);
    }
    let take = |made: Vec<Made>| {
        for Made { ids, marks, label, origin, words, bytes, skipped } in made {
            let label = match (&options.labels, label) {
                _ if skipped.is_some() => None,
                (Labels::Ignore, _) | (_, None) => None,
                (kind, Some(label)) => Some(match place.get(&label) {
                    Some(&k) => k,
                    None if matches!(kind, Labels::Known(_)) => {
                        let label = super::shown_label(&label);
                        let message = format!("has the class '{label}', which is not among the classes of the model");
                        return Err(Error::line(&*origin.file, origin.line, message)
                            .hint(format!("the classes are: {}", super::shown_labels(&names))));
                    }
                    None => {
                        names.push(label.clone());
                        place.insert(label, names.len() as u32 - 1);
                        names.len() as u32 - 1
                    }
                }),
            };
            on_row(Row { origin, skipped });
            match skipped {
                Some(Skipped::Empty) => report.skipped_empty += 1,
                Some(Skipped::Unlabelled) => report.skipped_unlabelled += 1,
                None => {
                    report.documents += 1;
                    report.tokens += ids.len() as u64;
                    report.unknown += ids.iter().filter(|&&id| id == UNKNOWN_ID).count() as u64;
                    report.longest = report.longest.max(ids.len() as u64);
                    writer.push(&ids, label, words, bytes)?;
                    writer.mark(&marks);
                }
            }
        }
        Ok(())
    };
    in_batches(sources, BATCH_BYTES, work, take, progress)?;
    if report.documents == 0 {
        return Ok((None, report));
    }
    let (names, order) = match &options.labels {
        Labels::Known(_) => (names.clone(), (0..names.len() as u32).collect()),
        _ => sorted_labels(&names),
    };
    Ok((Some(writer.finish(&names, &order)?), report))
}

/// Names in their final order, and for every old index the new one.
pub fn sorted_labels(names: &[String]) -> (Vec<String>, Vec<u32>) {
    let mut sorted: Vec<usize> = (0..names.len()).collect();
    let numbers: Option<Vec<f64>> = names.iter().map(|n| n.parse().ok().filter(|v: &f64| v.is_finite())).collect();
    match numbers {
        Some(values) => sorted.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(names[a].cmp(&names[b]))),
        None => sorted.sort_by(|&a, &b| names[a].cmp(&names[b])),
    }
    let mut order = vec![0; names.len()];
    sorted.iter().enumerate().for_each(|(new, &old)| order[old] = new as u32);
    (sorted.iter().map(|&i| names[i].clone()).collect(), order)
}

/// Cuts all documents into tokens: `make` puts what is wanted of one document and its tokens (a
/// fresh list for each) at the end of what a run of documents makes, on all threads; `take` gets
/// these in order.
///
/// # Errors
/// Errors of reading, of `make` and of `take`.
pub fn tokenize_all<T: Default + Send>(
    sources: &[Source],
    tokenizer: &Tokenizer,
    make: impl Fn(&Document, &Tokens, &mut T) -> Result<()> + Sync,
    mut take: impl FnMut(T) -> Result<()> + Send,
) -> Result<()> {
    let work = |documents: &[Document], scratch: &mut Scratch| -> Result<T> {
        let (mut made, mut tokens) = (T::default(), Tokens::default());
        for document in documents {
            tokens.clear();
            tokenizer.tokenize(document, scratch, &mut |t| tokens.push(t));
            make(document, &tokens, &mut made)?;
        }
        Ok(made)
    };
    in_batches(sources, SMALL_BATCH_BYTES, work, |made| made.and_then(&mut take), &mut |_| Ok(()))
}

/// The tokens of a document, one after the other in one string.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    text: String,
    ends: Vec<usize>,
}

impl Tokens {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn push(&mut self, token: &str) {
        self.text.push_str(token);
        self.ends.push(self.text.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{OpenOptions, Role, TokenizerKind};

    fn quiet(_: Progress) -> Result<()> {
        Ok(())
    }

    fn source(dir: &Path, name: &str, content: &str) -> Source {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        Source::open(path.to_str().unwrap(), &OpenOptions::default()).unwrap()
    }

    #[test]
    fn store_of_a_labelled_set() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [source(dir.path(), "a.csv", "text,label\nB b,10\n,9\nc b,2\n")];
        let tokenizer = Tokenizer::new(TokenizerKind::Whitespace).unwrap();
        let options = BuildOptions { labels: Labels::Collect, skip_empty: true, ..BuildOptions::default() };
        let (words, text) = count_words(&sources, &tokenizer, &options, &mut quiet).unwrap();
        assert_eq!(text, TextCounts { documents: 2, empty: 1, tokens: 6, words: 4, bytes: 6 });
        let vocabulary = Vocabulary::from_counts(&words, TokenizerKind::Whitespace, 100, 2).unwrap();
        let out = dir.path().join("a.tok");
        let (store, report) =
            write_store(&sources, &tokenizer, &vocabulary, &options, Storage::File(&out), &mut quiet).unwrap();
        assert_eq!(report, BuildReport { documents: 2, skipped_empty: 1, tokens: 6, unknown: 1, longest: 3, ..report });
        assert_eq!(store.label_names(), ["2", "10"]);
        assert_eq!([store.label(0), store.label(1)], [Some(1), Some(0)]);
        assert_eq!([0, 1].map(|d| store.document_ids(d).unwrap()), [vec![2, 3, 3], vec![2, 0, 3]]);

        let known = BuildOptions { labels: Labels::Known(vec!["10".into()]), ..options };
        let e = write_store(&sources, &tokenizer, &vocabulary, &known, Storage::File(&out), &mut quiet).err().unwrap();
        assert!(e.to_string().contains("a.csv:4: has the class '2'"), "{e}");
        assert!(TokenStore::open(&out).is_ok(), "the good file is still there");
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..20_000u32).map(|i| format!("w{} w{} x\n", i * 7919 % 977, i % 13)).collect();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, text).unwrap();
        let options = OpenOptions { role: Role::Corpus, ..OpenOptions::default() };
        let sources = [Source::open(path.to_str().unwrap(), &options).unwrap()];
        let tokenizer = Tokenizer::new(TokenizerKind::Whitespace).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let out = dir.path().join(format!("{threads}.tok"));
            pool.install(|| {
                let options = BuildOptions::default();
                let (words, _) = count_words(&sources, &tokenizer, &options, &mut quiet).unwrap();
                let v = Vocabulary::from_counts(&words, TokenizerKind::Whitespace, 500, 1).unwrap();
                write_store(&sources, &tokenizer, &v, &options, Storage::File(&out), &mut quiet).unwrap();
                (v.hash(), std::fs::read(&out).unwrap())
            })
        };
        assert!(run(1) == run(3));
    }

    #[test]
    fn progress_can_stop_a_pass() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [source(dir.path(), "a.txt", "a\nb\n")];
        let tokenizer = Tokenizer::new(TokenizerKind::Whitespace).unwrap();
        let stop = &mut |p: Progress| Err(Error::data(format!("stopped at {}", p.documents)));
        let e = count_words(&sources, &tokenizer, &BuildOptions::default(), stop).err().unwrap();
        assert_eq!(e.to_string(), "stopped at 2");
    }
}
