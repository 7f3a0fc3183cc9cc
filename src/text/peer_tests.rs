//! Token streams and counts on real data, compared with the output of the reference pipeline. The
//! data are not part of the project: where they are absent each test says so and passes.

use std::path::{Path, PathBuf};

use super::*;

/// The folder of the data sets: `$ULMFIT_DATA`, else `shared/data` beside the project.
pub(super) fn data() -> Option<PathBuf> {
    let root = std::env::var_os("ULMFIT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("skipped: no data at {} (set ULMFIT_DATA)", root.display());
    None
}

/// A file of the folder beside the data, if it is there.
fn beside(data: &Path, path: &str) -> Option<String> {
    let path = data.join("..").join(path);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: no {}", path.display());
    }
    text
}

fn open(root: &Path, path: &str, options: &OpenOptions) -> Source {
    Source::open(root.join(path).to_str().expect("test paths are UTF-8"), options).unwrap()
}

fn corpus() -> OpenOptions {
    OpenOptions { role: Role::Corpus, ..OpenOptions::default() }
}

fn token_lines(source: &Source) -> String {
    let tokenizer = Tokenizer::new(TokenizerKind::Whitespace).unwrap();
    let mut out = String::new();
    let make = |_: &Document, tokens: &Tokens, lines: &mut String| {
        lines.push_str(&tokens.iter().collect::<Vec<_>>().join(" "));
        lines.push('\n');
        Ok(())
    };
    let take = |lines: String| {
        out.push_str(&lines);
        Ok(())
    };
    tokenize_all(std::slice::from_ref(source), &tokenizer, make, take).unwrap();
    out
}

fn vocabulary(source: &Source, max_size: usize, min_count: u64) -> (String, TextCounts) {
    let tokenizer = Tokenizer::new(TokenizerKind::Whitespace).unwrap();
    let (words, text) =
        count_words(std::slice::from_ref(source), &tokenizer, &BuildOptions::default(), &mut |_| Ok(())).unwrap();
    let v = Vocabulary::from_counts(&words, TokenizerKind::Whitespace, max_size, min_count).unwrap();
    (v.words().map(|w| format!("{w}\n")).collect(), text)
}

#[test]
fn trec_streams_are_those_of_the_reference() {
    let Some(root) = data() else { return };
    let options = OpenOptions::default();
    for (file, expected) in [("trec/train_5500.label", "clas_train.tok"), ("trec/TREC_10.label", "clas_test.tok")] {
        let Some(expected) = beside(&root, &format!("peers/trec_tokens/{expected}")) else { continue };
        assert!(token_lines(&open(&root, file, &options)) == expected, "{file}");
    }
    let Some(expected) = beside(&root, "peers/trec_tokens/clas_train.vocab") else { return };
    assert!(vocabulary(&open(&root, "trec/train_5500.label", &options), 10_000, 2).0 == expected);
}

#[test]
fn wikitext_vocabulary_is_that_of_the_reference() {
    let Some(root) = data() else { return };
    let Some(expected) = beside(&root, "peers/trec_tokens/corpus_train.vocab") else { return };
    let (words, text) = vocabulary(&open(&root, "wikitext-2/wiki.train.tokens.zst", &corpus()), 10_000, 3);
    assert!(words == expected);
    assert_eq!(text.words, 2_051_910);
}

/// Documents, documents by class, words.
pub(super) fn counts(source: &Source) -> (u64, Vec<(String, u64)>, u64) {
    let (mut n, mut classes, mut words) = (0, std::collections::BTreeMap::new(), 0);
    for document in source.documents().unwrap() {
        let document = document.unwrap();
        n += 1;
        words += document.text.split(is_space).filter(|w| !w.is_empty()).count() as u64;
        if let Some(label) = document.label {
            *classes.entry(label).or_insert(0) += 1;
        }
    }
    (n, classes.into_iter().collect(), words)
}

fn classes(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(name, n)| (name.to_string(), *n)).collect()
}

#[test]
fn data_sets_have_their_documented_counts() {
    let Some(root) = data() else { return };
    let set = |path: &str| counts(&open(&root, path, &OpenOptions::default()));
    let trec = [("ABBR", 86), ("DESC", 1162), ("ENTY", 1250), ("HUM", 1223), ("LOC", 835), ("NUM", 896)];
    assert_eq!(set("trec/train_5500.label").1, classes(&trec));
    assert_eq!(set("trec/TREC_10.label").0, 500);
    let quarters = |n| classes(&[("1", n), ("2", n), ("3", n), ("4", n)]);
    assert_eq!(set("ag_news/test.csv.zst"), (7600, quarters(1900), 286_690));
    let ag = [("1", 7518), ("2", 7488), ("3", 7826), ("4", 7752)];
    assert_eq!(set("ag_news/train_subset.csv.zst"), (30_584, classes(&ag), 1_161_972));
    assert_eq!(set("ag_news/train_subset_textonly.csv.zst").0, 6852);
    let dbpedia = set("dbpedia/train_subset.csv.zst");
    assert_eq!((dbpedia.0, dbpedia.1.len(), dbpedia.2), (23_585, 14, 1_146_301));
    assert_eq!(set("dbpedia/test_subset.csv.zst").0, 5000);
    let stars = [("1", 749), ("2", 927), ("3", 1461), ("4", 3526), ("5", 3337)];
    assert_eq!(set("yelp/yelp_kaggle_10000.csv.zst"), (10_000, classes(&stars), 1_310_396));
    let options = OpenOptions { label_columns: vec!["label2".into()], ..OpenOptions::default() };
    let yelp = counts(&open(&root, "yelp/yelp_reviews_5000_b.csv.zst", &options));
    assert_eq!((yelp.0, yelp.1.len(), yelp.2), (5000, 5, 511_474));
    assert_eq!(set("sst/stsa.binary.train").1, classes(&[("0", 3310), ("1", 3610)]));
    assert_eq!(set("sst/stsa.fine.test").0, 2210);
    assert_eq!(set("mr/rt-polarity"), (10_662, classes(&[("neg", 5331), ("pos", 5331)]), 224_073));
}

#[test]
fn folders_and_archives_have_their_documented_counts() {
    let Some(root) = data() else { return };
    let imdb = "imdb/aclImdb_labelled.tar.zst";
    let (n, by_class, words) = counts(&open(&root, &format!("{imdb}::aclImdb/train"), &OpenOptions::default()));
    assert_eq!((n, by_class, words), (25_000, classes(&[("neg", 12_500), ("pos", 12_500)]), 2_958_674 + 2_885_699));
    let e = Source::open(root.join(imdb).to_str().unwrap(), &OpenOptions::default()).unwrap_err();
    assert!(e.hint_text().is_some_and(|h| h.ends_with("::aclImdb/train")), "{e}");
    let unsup = counts(&open(&root, "imdb/aclImdb_unsup.tar.zst", &OpenOptions::default()));
    assert_eq!(unsup, (50_000, vec![], 11_721_682));
    let news = open(&root, "20newsgroups/20news-bydate.tar.zst::20news-bydate-test", &OpenOptions::default());
    let (n, by_class, words) = counts(&news);
    assert_eq!((n, by_class.len(), words), (7532, 20, 2_093_332));
}

#[test]
fn corpora_have_their_documented_counts() {
    let Some(root) = data() else { return };
    let (articles, _, words) = counts(&open(&root, "wikipedia-en-2015/wiki_part_00.txt.zst", &corpus()));
    assert_eq!((articles, words), (4256, 10_572_873));
    let (lines, _, words) = counts(&open(&root, "ptb/ptb.train.txt.zst", &corpus()));
    assert_eq!((lines, words), (42_068, 887_521));
    assert_eq!(counts(&open(&root, "wikitext-2/wiki.valid.tokens.zst", &corpus())).2, 217_646 - 3760);
    // a folder of corpus files is read file by file
    let whole = open(&root, "wikipedia-en-2015", &corpus());
    assert!(whole.describe().contains("folder of 4 files"), "{}", whole.describe());
}

#[test]
fn known_duplicates_are_found() {
    let Some(root) = data() else { return };
    let prints = |path: &str| {
        let mut prints = TextFingerprints::default();
        for document in open(&root, path, &OpenOptions::default()).documents().unwrap() {
            prints.add(&document.unwrap().text);
        }
        prints
    };
    let (train, test) = (prints("trec/train_5500.label"), prints("trec/TREC_10.label"));
    assert_eq!((train.distinct(), train.overlap(&test)), (5376, 11));
    let imdb = "imdb/aclImdb_labelled.tar.zst::aclImdb";
    let (train, test) = (prints(&format!("{imdb}/train")), prints(&format!("{imdb}/test")));
    assert_eq!((train.distinct(), test.distinct(), train.overlap(&test)), (24_902, 24_799, 123));
}
