//! The table of `ulmfit get`: names, addresses, sizes and checksums.
//!
//! Addresses are those of the publishers. A SHA-256 stands here only where a public record has it:
//! the `download_checksums` of huggingface/datasets (commit 040102f1,
//! `datasets/*/dataset_infos.json`). Sizes of files without one are those of fastai
//! (`fastai/data/checks.txt`, fastai 1's `datasets.py`); fastai's own checksums are of the first
//! MiB of a file, so they are not taken for one of the file.

use crate::error::{Error, Result};

/// One thing to get: a data set, or weights.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub what: &'static str,
    /// Its terms of use, as far as its publisher states them.
    pub terms: &'static str,
    pub files: &'static [File],
    /// A command that uses it; `{}` is the folder.
    pub usage: &'static str,
}

/// One file of it.
#[derive(Clone, Copy, Debug)]
pub struct File {
    pub address: &'static str,
    /// In bytes, where it is on record.
    pub size: Option<u64>,
    /// In hexadecimal, where it is on record.
    pub sha256: Option<&'static str>,
}

impl File {
    /// The last part of its address.
    pub fn name(&self) -> &'static str {
        self.address.rsplit('/').next().unwrap_or(self.address)
    }
}

const NO_TERMS: &str = "none stated; its authors ask for a citation";
const WIKIPEDIA: &str = "CC BY-SA (text of Wikipedia)";
const FASTAI: &str = "Apache-2.0 (fastai)";

/// All of them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "imdb",
        what: "IMDb: 50,000 labelled and 50,000 unlabelled reviews (Maas et al. 2011)",
        terms: NO_TERMS,
        files: &[File {
            address: "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            size: Some(84_125_825),
            sha256: Some("c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"),
        }],
        usage: "ulmfit run --train {}/aclImdb_v1.tar.gz::aclImdb/train --test {}/aclImdb_v1.tar.gz::aclImdb/test",
    },
    Entry {
        name: "trec",
        what: "TREC-6: questions by the kind of their answer (Li and Roth 2002)",
        terms: NO_TERMS,
        files: &[
            File {
                address: "https://cogcomp.seas.upenn.edu/Data/QA/QC/train_5500.label",
                size: Some(335_858),
                sha256: Some("9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3"),
            },
            File {
                address: "https://cogcomp.seas.upenn.edu/Data/QA/QC/TREC_10.label",
                size: Some(23_354),
                sha256: Some("033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e"),
            },
        ],
        usage: "ulmfit run --train {}/train_5500.label --test {}/TREC_10.label",
    },
    Entry {
        name: "ag-news",
        what: "AG News: four topics (Zhang et al. 2015)",
        terms: "for research and other non-commercial use",
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-nlp/ag_news_csv.tgz",
            size: Some(11_784_419),
            sha256: None,
        }],
        usage: "ulmfit data check {}/ag_news_csv.tgz::ag_news_csv/train.csv",
    },
    Entry {
        name: "dbpedia",
        what: "DBpedia: fourteen classes of things (Zhang et al. 2015)",
        terms: "CC BY-SA 3.0 and GFDL",
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-nlp/dbpedia_csv.tgz",
            size: Some(68_341_743),
            sha256: Some("42db5221ddedddb673a4cabcc5f3a7d869714c878bcfe4ba94b29d14aa38e417"),
        }],
        usage: "ulmfit data check {}/dbpedia_csv.tgz::dbpedia_csv/train.csv",
    },
    Entry {
        name: "yelp-polarity",
        what: "Yelp: bad and good reviews (Zhang et al. 2015)",
        terms: "the data set agreement of Yelp",
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-nlp/yelp_review_polarity_csv.tgz",
            size: Some(166_373_201),
            sha256: Some("528f22e286cad085948acbc3bea7e58188416546b0e364d0ae4ca0ce666abe35"),
        }],
        usage: "ulmfit data check {}/yelp_review_polarity_csv.tgz::yelp_review_polarity_csv/train.csv",
    },
    Entry {
        name: "yelp-full",
        what: "Yelp: one to five stars (Zhang et al. 2015)",
        terms: "the data set agreement of Yelp",
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-nlp/yelp_review_full_csv.tgz",
            size: Some(196_146_755),
            sha256: Some("56006b0a17a370f1e366504b1f2c3e3754e4a3dda17d3e718a885c552869a559"),
        }],
        usage: "ulmfit data check {}/yelp_review_full_csv.tgz::yelp_review_full_csv/train.csv",
    },
    Entry {
        name: "wikitext-103",
        what: "WikiText-103: 103 million tokens of Wikipedia (Merity et al. 2016)",
        terms: WIKIPEDIA,
        files: &[File {
            address: "https://wikitext.smerity.com/wikitext-103-v1.zip",
            size: Some(190_229_076),
            sha256: Some("242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590"),
        }],
        usage: "ulmfit pretrain --corpus {}/wikitext-103-v1.zip::wikitext-103/wiki.train.tokens --out lm",
    },
    Entry {
        name: "wikitext-2",
        what: "WikiText-2: two million tokens of Wikipedia (Merity et al. 2016)",
        terms: WIKIPEDIA,
        files: &[File {
            address: "https://wikitext.smerity.com/wikitext-2-v1.zip",
            size: Some(4_475_746),
            sha256: Some("92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c"),
        }],
        usage: "ulmfit pretrain --corpus {}/wikitext-2-v1.zip::wikitext-2/wiki.train.tokens --out lm",
    },
    Entry {
        name: "wt103-fwd",
        what: "fastai's AWD-LSTM of WikiText-103, forward (fastai 1.0.53 and later, fastai 2)",
        terms: FASTAI,
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-modelzoo/wt103-fwd.tgz",
            size: Some(105_067_061),
            sha256: None,
        }],
        usage: "tar -xzf {}/wt103-fwd.tgz, then: ulmfit import --weights F.pth --vocab F.pkl --out lm",
    },
    Entry {
        name: "wt103-bwd",
        what: "fastai's AWD-LSTM of WikiText-103, backward",
        terms: FASTAI,
        files: &[File {
            address: "https://s3.amazonaws.com/fast-ai-modelzoo/wt103-bwd.tgz",
            size: Some(105_205_312),
            sha256: None,
        }],
        usage: "tar -xzf {}/wt103-bwd.tgz, then: ulmfit import --direction backward --weights F.pth --vocab F.pkl --out lm",
    },
    Entry {
        name: "wt103-paper",
        what: "the language models of the paper, of WikiText-103, forward and backward",
        terms: FASTAI,
        files: &[
            File { address: "http://files.fast.ai/models/wt103/fwd_wt103.h5", size: None, sha256: None },
            File { address: "http://files.fast.ai/models/wt103/bwd_wt103.h5", size: None, sha256: None },
            File { address: "http://files.fast.ai/models/wt103/itos_wt103.pkl", size: None, sha256: None },
        ],
        usage: "ulmfit import --weights {}/fwd_wt103.h5 --vocab {}/itos_wt103.pkl --out lm",
    },
];

/// The entry of a name.
///
/// # Errors
/// [`Error::Usage`] when there is none.
pub fn find(name: &str) -> Result<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        Error::usage(format!("there is nothing named '{name}' to get")).hint(format!("one of {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for (k, entry) in ENTRIES.iter().enumerate() {
            assert!(ENTRIES[..k].iter().all(|other| other.name != entry.name), "{} twice", entry.name);
            assert!(entry.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            assert!(!entry.files.is_empty() && !entry.terms.is_empty());
            for file in entry.files {
                assert!(file.address.starts_with("https://") || file.address.starts_with("http://files.fast.ai/"));
                assert!(!file.name().is_empty() && !file.name().contains(['/', '?', '#']), "{}", file.address);
                let is_hash =
                    |hash: &str| hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                assert!(file.sha256.is_none_or(is_hash), "{}", file.address);
                assert!(file.sha256.is_none() || file.size.is_some(), "a record has both");
            }
        }
        assert_eq!(find("trec").unwrap().files.len(), 2);
        let error = find("nothing").unwrap_err();
        assert!(error.exit_status() == 2 && error.hint_text().unwrap().contains("wt103-fwd"));
    }
}
