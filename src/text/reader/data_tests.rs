//! Every file of the data sets the project is tried on: documents, classes and words as documented
//! with the data. The data are not part of the project: where they are absent each test says so and
//! passes. (More of them in `text/peer_tests.rs`.)

use std::path::Path;

use super::*;
use crate::text::peer_tests::{self, data};

/// Documents, documents of every class, words.
type Counts = (u64, Vec<u64>, u64);

fn counts(root: &Path, path: &str, options: &OpenOptions) -> Counts {
    let source = Source::open(root.join(path).to_str().unwrap(), options).unwrap();
    let (documents, classes, words) = peer_tests::counts(&source);
    (documents, classes.into_iter().map(|(_, n)| n).collect(), words)
}

#[test]
fn labelled_files() {
    let Some(root) = data() else { return };
    let plain = OpenOptions::default();
    let stars = OpenOptions { label_columns: vec!["label2".into()], ..plain.clone() };
    let sets: &[(&str, &OpenOptions, Counts)] = &[
        ("trec/train_5500.label", &plain, (5452, vec![86, 1162, 1250, 1223, 835, 896], 55_635)),
        ("trec/TREC_10.label", &plain, (500, vec![9, 138, 94, 65, 81, 113], 3758)),
        ("ag_news/test.csv.zst", &plain, (7600, vec![1900; 4], 286_690)),
        ("ag_news/train_subset.csv.zst", &plain, (30_584, vec![7518, 7488, 7826, 7752], 1_161_972)),
        ("ag_news/train_subset_textonly.csv.zst", &plain, (6852, vec![1726, 1757, 1724, 1645], 269_168)),
        ("yelp/yelp_kaggle_10000.csv.zst", &plain, (10_000, vec![749, 927, 1461, 3526, 3337], 1_310_396)),
        ("yelp/yelp_reviews_5000_a.csv.zst", &stars, (5000, vec![750, 435, 516, 1111, 2188], 517_840)),
        ("yelp/yelp_reviews_5000_b.csv.zst", &stars, (5000, vec![722, 419, 545, 1073, 2241], 511_474)),
        ("mr/rt-polarity.pos", &plain, (10_662, vec![5331, 5331], 112_445 + 111_628)),
        ("movie_reviews/movie_reviews.zip", &plain, (2000, vec![1000, 1000], 1_492_681)),
    ];
    for (path, options, expected) in sets {
        assert_eq!(&counts(&root, path, options), expected, "{path}");
    }
    let classes = |path: &str| counts(&root, path, &plain).1;
    assert_eq!(classes("sst/stsa.binary.train"), [3310, 3610]);
    assert_eq!(classes("sst/stsa.binary.dev"), [428, 444]);
    assert_eq!(classes("sst/stsa.binary.test"), [912, 909]);
    for (part, n) in [("train", 8544), ("dev", 1101), ("test", 2210)] {
        let fine = classes(&format!("sst/stsa.fine.{part}"));
        assert_eq!((fine.len(), fine.iter().sum::<u64>()), (5, n), "{part}");
    }
    for (path, n, words, fewest, most) in [
        ("dbpedia/train_subset.csv.zst", 23_585, 1_146_301, 1640, 1731),
        ("dbpedia/test_subset.csv.zst", 5000, 243_952, 320, 388),
        // documented as 3,252,415: eleven words of it hold a separator that is white space beyond
        // ASCII
        ("20newsgroups/20news-bydate.tar.zst::20news-bydate-train", 11_314, 3_252_426, 377, 600),
        ("20newsgroups/20news-bydate.tar.zst::20news-bydate-test", 7532, 2_093_332, 251, 399),
    ] {
        let (documents, classes, found) = counts(&root, path, &plain);
        assert_eq!((documents, found), (n, words), "{path}");
        assert_eq!((classes.iter().min(), classes.iter().max()), (Some(&fewest), Some(&most)), "{path}");
        assert_eq!(classes.len(), if path.starts_with('d') { 14 } else { 20 });
    }
    let imdb = counts(&root, "imdb/aclImdb_labelled.tar.zst::aclImdb/test", &plain);
    assert_eq!(imdb, (25_000, vec![12_500; 2], 2_861_691 + 2_850_766));
    for whole in ["imdb/aclImdb_labelled.tar.zst", "20newsgroups/20news-bydate.tar.zst", "ag_news"] {
        let e = Source::open(root.join(whole).to_str().unwrap(), &plain).unwrap_err();
        assert!(e.hint_text().is_some_and(|h| h.starts_with("give one of them: ") && h.contains("train")), "{e}");
    }
}

#[test]
fn corpora() {
    let Some(root) = data() else { return };
    let lines = OpenOptions { role: Role::Corpus, ..OpenOptions::default() };
    let words = |path: &str| counts(&root, path, &lines).2;
    assert_eq!(words("wikitext-2/wiki.train.tokens.zst"), 2_051_910);
    for folder in ["wikitext-2", "wikitext-103"] {
        assert_eq!(words(&format!("{folder}/wiki.valid.tokens.zst")), 217_646 - 3760, "{folder}");
        assert_eq!(words(&format!("{folder}/wiki.test.tokens.zst")), 245_569 - 4358, "{folder}");
    }
    assert_eq!(words("wikitext-103/wiki.train.head.tokens.zst"), 541_783);
    for (part, n, tokens) in [("train", 42_068, 929_589), ("valid", 3370, 73_760), ("test", 3761, 82_430)] {
        let found = counts(&root, &format!("ptb/ptb.{part}.txt.zst"), &lines);
        assert_eq!((found.0, found.2), (n, tokens - n), "{part}");
    }
    for (part, articles, expected) in [(1, 4049, 10_551_319), (2, 4405, 10_537_486), (3, 3946, 10_584_848)] {
        let found = counts(&root, &format!("wikipedia-en-2015/wiki_part_0{part}.txt.zst"), &lines);
        assert_eq!((found.0, found.2), (articles, expected), "part {part}");
    }
}
