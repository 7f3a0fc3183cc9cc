//! Sub-words through the binary: languages without spaces from text to class, the same bytes for
//! any number of threads, files from elsewhere and files that are none.

use std::path::Path;

use crate::support::{self, Data, Numbers, SIZES, STAGE, json, refused, text, ulmfit, words};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::Tokenizer;

const ALGORITHMS: [&str; 2] = ["unigram", "bpe"];

/// Sentences of one language: what is spoken of, what is said of it, well or badly, and what
/// follows; and some that say something else.
struct Language {
    name: &'static str,
    subjects: &'static [&'static str],
    good: &'static [&'static str],
    bad: &'static [&'static str],
    ends: &'static [&'static str],
    others: &'static [&'static str],
    /// The text between the parts of a sentence.
    comma: &'static str,
}

const CHINESE: Language = Language {
    name: "zh",
    subjects: &["这部电影", "这个故事", "演员的表演", "餐厅的服务", "这家酒店", "这本书", "昨天的音乐会", "新的博物馆"],
    good: &["非常好看", "令人感动", "十分精彩", "让人开心", "值得推荐"],
    bad: &["非常难看", "令人失望", "十分无聊", "让人生气", "浪费时间"],
    ends: &["我和朋友都这么想。", "大家看完以后都在谈论。", "这就是我的看法。", "下次再说吧。"],
    others: &[
        "北京是中国的首都，也是一座历史悠久的城市。",
        "春天来了，公园里的花都开了。",
        "他每天早上六点起床，然后去公园跑步。",
        "图书馆里有很多人在安静地看书。",
        "昨天下午下了一场大雨，今天天气晴朗。",
        "妈妈在厨房里做饭，爸爸在客厅里看报纸。",
        "火车在下午三点到达上海。",
        "学生们正在教室里上课，老师在黑板上写字。",
        "这座桥建于1950年，全长1200米。",
        "我们坐地铁去博物馆，路上花了四十分钟。",
        "冬天的时候，北方的河流会结冰。",
        "他学习中文已经三年了，说得很流利。",
    ],
    comma: "，",
};

const JAPANESE: Language = Language {
    name: "ja",
    subjects: &[
        "この映画は",
        "この物語は",
        "俳優の演技は",
        "レストランの料理は",
        "このホテルは",
        "この本は",
        "昨日の音楽会は",
    ],
    good: &["とても面白かったです", "感動的でした", "本当に素晴らしかったです", "楽しい時間でした"],
    bad: &["とてもつまらなかったです", "期待外れでした", "本当に退屈でした", "時間の無駄でした"],
    ends: &["友達もそう言っていました。", "みんなで話し合いました。", "これが私の感想です。", "また来年考えます。"],
    others: &[
        "東京は日本の首都で、人口が多い都市です。",
        "春になると、公園の桜が咲きます。",
        "彼は毎朝六時に起きて、公園を走ります。",
        "図書館では多くの人が静かに本を読んでいます。",
        "昨日の午後は大雨でしたが、今日は晴れています。",
        "母は台所で料理を作り、父は居間で新聞を読んでいます。",
        "電車は午後三時に大阪に着きます。",
        "学生たちは教室で授業を受けています。",
        "この橋は1950年に建てられ、長さは1200メートルです。",
        "私たちは地下鉄で博物館へ行きました。",
        "冬になると、北の川は凍ります。",
        "彼女は三年間日本語を勉強しています。",
    ],
    comma: "。",
};

/// `corpus.txt`, `train.csv`, `test.csv` of a language.
fn write(language: &Language, data: &Data) {
    let mut numbers = Numbers(5);
    let mut sentence = |said: &[&str]| {
        let mut pick = |from: &[&'static str]| from[numbers.below(from.len())];
        let subject = pick(language.subjects);
        let end = pick(language.ends);
        format!("{subject}{}{}{end}", said[numbers.below(said.len())], language.comma)
    };
    let mut corpus = String::new();
    for i in 0..240 {
        corpus += &sentence(if i % 2 == 0 { language.good } else { language.bad });
        corpus += language.others[i % language.others.len()];
        corpus += "\n";
    }
    data.write("corpus.txt", corpus);
    for (name, documents) in [("train.csv", 120), ("test.csv", 40)] {
        let mut table = "label,text\n".to_string();
        for d in 0..documents {
            let (label, said) = if d % 2 == 0 { ("neg", language.bad) } else { ("pos", language.good) };
            table += &format!("{label},{}\n", sentence(said));
        }
        data.write(name, table);
    }
}

/// A model that can learn something; the epochs are to follow.
const LEARNS: &[&str] = &["--recipe", "tiny", "--batch-size", "8", "--bptt", "20", "--min-freq", "1", "--epochs"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn directory(temporary: &TempDir) -> Data {
    Data::new(temporary.path())
}

/// From text without spaces to classes, and back to text.
#[test]
fn languages_without_spaces() {
    for (language, algorithm, size) in [(CHINESE, "unigram", "400"), (JAPANESE, "bpe", "400")] {
        let name = language.name;
        let temporary = tempfile::tempdir().unwrap();
        let data = directory(&temporary);
        write(&language, &data);
        let path = |name: &str| data.path(name);
        let (corpus, train, test) = (path("corpus.txt"), path("train.csv"), path("test.csv"));
        let (lm, tuned, classifier) = (path("lm"), path("tuned"), path("classifier"));
        let subwords = ["--tokenizer", "subword", "--subword", algorithm, "--vocab-size", size];

        let line = ["pretrain", "--corpus", &corpus, "--out", &lm];
        let result = json(&words(&[&line, LEARNS, &["6", "--emb-size", "24", "--hidden-size", "32"], &subwords]));
        // far better than chance, which is log2(400) bits for each of at most some three bytes
        assert!(number(&result["bits_per_byte"]) < 1.5, "{name}: {result}");
        // no vocabulary of its own: the model's
        let line = ["finetune-lm", "--model", &lm, "--text", &train, "--out", &tuned];
        json(&words(&[&line, LEARNS, &["1,2"]]));
        let line = ["train-classifier", "--model", &tuned, "--train", &train, "--test", &test, "--out", &classifier];
        let result = json(&words(&[&line, LEARNS, &["2,2,2,14"]]));
        assert!(number(&result["test_error"]) < 25.0, "{name}: {result}");

        let file = data.read("lm/tokenizer.json");
        for model in ["tuned", "classifier"] {
            assert!(data.read(&format!("{model}/tokenizer.json")) == file, "{name}: {model}");
        }
        let vocabulary: Value = serde_json::from_slice(&data.read("classifier/vocab.json")).unwrap();
        let other = Tokenizer::from_bytes(&file).unwrap();
        let known = vocabulary["words"].as_array().unwrap();
        assert!(
            known
                .iter()
                .zip(0..)
                .all(|(word, id)| { word == "xxfake" || other.token_to_id(word.as_str().unwrap()) == Some(id) })
        );
        let long = known.iter().filter(|word| word.as_str().unwrap().chars().count() > 2).count();
        assert!(long > 50, "{name}: words are found where no spaces part them: {long}");

        let input = data.write("input.txt", format!("{}\n{}\n", language.others[0], language.others[1]));
        let output = ulmfit(&["predict", "--model", &classifier, "--input", &input]).assert().success();
        assert_eq!(text(&output.get_output().stdout).lines().count(), 2, "{name}");
        let evaluated = json(&["evaluate", "--model", &classifier, "--data", &test]);
        assert_eq!(number(&evaluated["error"]), number(&result["test_error"]), "{name}");
        let line =
            ["generate", "--model", &lm, "--prompt", language.subjects[0], "--length", "12", "--temperature", "0.5"];
        let told = json(&line)["text"].as_str().unwrap().to_string();
        assert!(
            told.starts_with(language.subjects[0]) && !told.contains('▁') && !told.contains("xx"),
            "{name}: {told}"
        );
        assert!(told.chars().count() > language.subjects[0].chars().count(), "{name}: {told}");
    }
}

/// Trained twice, in two processes with other numbers of threads: the same files to the last byte.
#[test]
fn threads_do_not_matter() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let mut numbers = Numbers(3);
    // words by the hundred, each a row of syllables; some frequent, most rare
    let syllables = ["ka", "lo", "mi", "ne", "ru", "sta", "tri", "un", "ing", "ed", "北", "京", "é"];
    let mut word = || {
        let rank = numbers.below(40) * numbers.below(40);
        let mut of_rank = Numbers(rank as u64 + 1);
        (0..1 + rank % 5).map(|_| syllables[of_rank.below(syllables.len())]).collect::<String>()
    };
    let lines: String = (0..4000).map(|_| (0..8).map(|_| word() + " ").collect::<String>() + "\n").collect();
    let corpus = data.write("many.txt", lines);
    for algorithm in ALGORITHMS {
        let made: Vec<Vec<Vec<u8>>> = ["1", "2", "3"]
            .iter()
            .map(|threads| {
                let out = data.path(&format!("{algorithm}{threads}.tok"));
                let line = ["tokenize", "--input", &corpus, "--corpus", "--out", &out, "--vocab-size", "200"];
                json(&words(&[&line, &["--tokenizer", "subword", "--subword", algorithm, "--threads", threads]]));
                let file = |ending: &str| data.read(&format!("{algorithm}{threads}.{ending}"));
                ["tok", "vocab.json", "tokenizer.json"].map(file).to_vec()
            })
            .collect();
        assert!(made[0] == made[1] && made[1] == made[2], "{algorithm}");
        let vocabulary: Value = serde_json::from_slice(&made[0][1]).unwrap();
        assert_eq!(vocabulary["words"].as_array().unwrap().len(), 200, "{algorithm}");
        let shown = json(&["vocab", &data.path(&format!("{algorithm}1.tok"))]);
        assert_eq!((&shown["words"], &shown["tokenizer"]["kind"]), (&vocabulary["words"], &json!("subword")));
    }
}

/// Perplexities of two vocabularies are not comparable, bits per byte are: nats of all tokens / ln
/// 2 / bytes of the text.
#[test]
fn bits_per_byte_by_hand() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let corpus = data.path("corpus.txt");
    let sentence = "the good dog sat on a story";
    let sentences = data.write("sentence.txt", sentence);
    let held_out: Vec<String> = (0..7).map(|i| format!("the dog ran on a {} film", ["good", "bad"][i % 2])).collect();
    let bytes: usize = held_out.iter().map(String::len).sum();
    let rows: String = held_out.iter().map(|row| format!("x,{row}\n")).collect();
    let held_out = data.write("held_out.csv", format!("label,text\n{rows}"));
    let mut tokens_of = Vec::new();
    for (name, size) in [("small", "40"), ("large", "70")] {
        let lm = data.path(name);
        let line = ["pretrain", "--corpus", &corpus, "--out", &lm, "--tokenizer", "subword", "--vocab-size", size];
        json(&words(&[&line, SIZES, STAGE]));
        let output = ulmfit(&["score", "--model", &lm, "--input", &sentences]).assert().success();
        let score: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        let (nats, tokens) = (number(&score["loss"]), number(&score["tokens"]));
        let expected = nats * tokens / std::f64::consts::LN_2 / sentence.len() as f64;
        assert!((number(&score["bits_per_byte"]) - expected).abs() < 1e-9, "{name}: {score}");
        tokens_of.push(tokens);

        // a stream of documents: the bytes belong to all its tokens, of which the last columns'
        // ends are not predicted
        let out = data.path(&format!("{name}.tok"));
        let vocabulary = data.path(&format!("{name}/vocab.json"));
        let all = number(&json(&["tokenize", "--input", &held_out, "--vocab", &vocabulary, "--out", &out])["tokens"]);
        let measured = json(&["evaluate", "--model", &lm, "--data", &held_out]);
        let share = number(&measured["tokens"]) / all;
        let nats = number(&measured["loss"]) * number(&measured["tokens"]);
        let expected = nats / std::f64::consts::LN_2 / (bytes as f64 * share);
        assert!((number(&measured["bits_per_byte"]) - expected).abs() < 1e-9, "{name}: {measured} {expected}");
        assert!((0.4..1.0).contains(&share), "{name}: {measured}");
    }
    assert!(tokens_of[0] > tokens_of[1], "a larger vocabulary has longer pieces: {tokens_of:?}");
}

#[test]
fn the_whole_method_and_going_on() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let (corpus, train, test, out) =
        (data.path("corpus.txt"), data.path("train.csv"), data.path("test.csv"), data.path("run"));
    let line =
        ["run", "--corpus", &corpus, "--train", &train, "--test", &test, "--out", &out, "--compare", "--bidirectional"];
    let subwords = ["--tokenizer", "subword", "--vocab-size", "60"];
    let line = words(&[&line, SIZES, STAGE, &subwords]);
    let result = json(&line);
    for stage in ["pretrain", "finetune_lm"] {
        assert!(number(&result[stage]["bits_per_byte"]) > 0.0, "{result}");
    }
    assert!(result["linear"]["test_error"].is_number() && result["from_scratch"]["test_error"].is_number());
    for stage in ["finetune-lm", "classifier", "pretrain-backward", "classifier-backward"] {
        let same = data.read("run/pretrain/tokenizer.json") == data.read(&format!("run/{stage}/tokenizer.json"));
        assert!(same, "{stage}");
    }
    assert_eq!(json(&words(&[&line, &["--resume"]])), result, "a finished run changes nothing");
    let mut other = ulmfit(&words(&[&line, &["--resume", "--subword", "bpe", "--quiet"]]));
    refused(&mut other, 2, &["text.subword"]);

    // without a language model, and the search for a rate
    let scratch = data.path("scratch");
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &scratch];
    json(&words(&[&line, SIZES, STAGE, &subwords]));
    let line = ["lr-find", "--model", "none", "--text", &corpus];
    assert!(number(&json(&words(&[&line, SIZES, STAGE, &subwords]))["suggestion"]) > 0.0);

    // another tokenizer in the same directory takes the file of this one away
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &scratch, "--overwrite"];
    json(&words(&[&line, SIZES, STAGE]));
    assert!(!Path::new(&data.path("scratch/tokenizer.json")).exists());
}

/// A file that the tokenizers library made, with a normalizer and a pre-tokenizer of its own.
fn other_tools_file() -> Value {
    let pieces =
        ["<pad>", "<unk>", "▁the", "▁", "good", "bad", "do", "g", "cat", "sat", "▁on", "▁a", "film", "o", "a", "t"];
    let vocab: Vec<Value> = pieces.iter().map(|piece| json!([piece, -1.0 - piece.len() as f64 / 10.0])).collect();
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    json!({
        "version": "1.0", "truncation": { "max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
        "padding": null, "added_tokens": [], "normalizer": { "type": "Lowercase" }, "pre_tokenizer": metaspace,
        "post_processor": null, "decoder": metaspace,
        "model": { "type": "Unigram", "unk_id": 1, "vocab": vocab, "byte_fallback": false },
    })
}

#[test]
fn files_from_elsewhere() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let (corpus, lm, again) = (data.path("corpus.txt"), data.path("lm"), data.path("again"));
    let content = serde_json::to_vec(&other_tools_file()).unwrap();
    let file = data.write("other.json", &content);
    let input = data.write("input.txt", "The GOOD dog\nA z\n");
    let line =
        ["tokenize", "--input", &input, "--print", "--tokenizer", "subword", "--tokenizer-file", &file, "--quiet"];
    let printed = text(&ulmfit(&line).assert().success().get_output().stdout);
    // its own lower case, none of our marks, the unknown token under our name; its limit of two
    // tokens is for batches
    assert_eq!(printed, "[\"xxbos\",\"▁the\",\"▁\",\"good\",\"▁\",\"do\",\"g\"]\n[\"xxbos\",\"▁a\",\"▁\",\"xxunk\"]\n");

    let line = ["pretrain", "--corpus", &corpus, "--out", &lm, "--tokenizer", "subword", "--tokenizer-file", &file];
    json(&words(&[&line, SIZES, STAGE]));
    assert!(data.read("lm/tokenizer.json") == content, "the file as it was given");
    let told = json(&["generate", "--model", &lm, "--prompt", "the good", "--length", "9"])["text"].to_string();
    assert!(!told.contains('▁') && !told.contains("xx"), "{told}");

    // one of our own, trained before
    let out = data.path("own.tok");
    json(&["tokenize", "--input", &corpus, "--corpus", "--out", &out, "--tokenizer", "subword", "--vocab-size", "60"]);
    let own = data.path("own.tokenizer.json");
    let line = ["pretrain", "--corpus", &corpus, "--out", &again, "--tokenizer", "subword", "--tokenizer-file", &own];
    json(&words(&[&line, SIZES, STAGE]));
    assert!(data.read("again/tokenizer.json") == data.read("own.tokenizer.json"));
}

#[test]
fn files_that_are_none() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let (corpus, out) = (data.path("corpus.txt"), data.path("out"));
    let good = serde_json::to_string(&other_tools_file()).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut file = other_tools_file();
        *file.pointer_mut(pointer).unwrap() = value;
        file.to_string()
    };
    data.write("truncated", &good[..good.len() / 2]);
    data.write("empty", "");
    data.write("binary", support::random_bytes(5000));
    data.write("list", "[1, 2, 3]");
    data.write("wrong", "{\"model\": 3}");
    data.write("vocab", data.read("train.csv"));
    data.write("breaks", with("/pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })));
    data.write("range", with("/model/unk_id", json!(99)));
    data.write("lost", with("/model/unk_id", json!(null)));
    let ids =
        json!({ "type": "WordLevel", "unk_token": "u", "vocab": { "u": 0, "a": 1, "b": 2, "c": 4_000_000_000u32 } });
    data.write("ids", with("/model", ids));
    let huge = std::fs::File::create(data.path("huge")).unwrap();
    huge.set_len(1 << 33).unwrap();
    let cases = [
        ("missing", "cannot read: no such file"),
        ("truncated", "is not JSON"),
        ("empty", "is not JSON"),
        ("binary", "is not JSON"),
        ("list", "is not a tokenizer"),
        ("wrong", "is not a tokenizer"),
        ("vocab", "is not JSON"),
        ("breaks", "is not a tokenizer that can work"),
        ("range", "is not a tokenizer"),
        ("lost", "has no unknown token"),
        ("ids", "gives 'c' the id 4000000000"),
        ("huge", "is larger than 64 MiB"),
    ];
    for (name, part) in cases {
        let file = data.path(name);
        let subwords = ["--tokenizer", "subword", "--tokenizer-file", &file, "--quiet"];
        let line = ["tokenize", "--input", &corpus, "--out", &out];
        refused(&mut ulmfit(&words(&[&line, &subwords])), 1, &[name, part]);
        let line = ["pretrain", "--corpus", &corpus, "--out", &out];
        refused(&mut ulmfit(&words(&[&line, &subwords, SIZES, STAGE])), 1, &[name, part]);
        assert!(!Path::new(&out).exists(), "{name}");
    }
    let usage: [(&[&str], &str); 6] = [
        (&["--subword", "bpe"], "--subword"),
        (&["--tokenizer-file", "x.json"], "--tokenizer-file"),
        (&["--tokenizer", "subword", "--language", "de"], "--language de"),
        (&["--tokenizer", "subword", "--subword", "wordpiece"], "--subword"),
        (&["--tokenizer", "subword", "--vocab-size", "1"], "--vocab-size"),
        (&["--tokenizer", "subword", "--coverage", "0"], "--coverage"),
    ];
    for (flags, part) in usage {
        let line = ["tokenize", "--input", &corpus, "--out", &out, "--quiet"];
        refused(&mut ulmfit(&words(&[&line, flags])), 2, &[part]);
        let flags: Vec<&str> = flags.iter().map(|f| if *f == "--coverage" { "--set" } else { *f }).collect();
        let flags: Vec<&str> = flags.iter().map(|f| if *f == "0" { "text.coverage=0" } else { *f }).collect();
        let part = if part == "--coverage" { "text.coverage" } else { part };
        let part = if part == "--vocab-size" { "vocab" } else { part };
        let line = ["pretrain", "--corpus", &corpus, "--out", &out, "--quiet"];
        refused(&mut ulmfit(&words(&[&line, SIZES, STAGE, &flags])), 2, &[part]);
    }
    refused(
        &mut ulmfit(&[
            "pretrain",
            "--corpus",
            &corpus,
            "--out",
            &out,
            "--recipe",
            "awd",
            "--tokenizer",
            "subword",
            "--quiet",
        ]),
        2,
        &["does not limit the vocabulary"],
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_model_needs_its_own_file() {
    let temporary = tempfile::tempdir().unwrap();
    let data = directory(&temporary);
    let (train, model) = (data.path("train.csv"), data.path("model"));
    let line = ["train-classifier", "--model", "none", "--train", &train, "--out", &model];
    json(&words(&[&line, SIZES, STAGE, &["--tokenizer", "subword", "--vocab-size", "50"]]));
    let file = data.path("model/tokenizer.json");
    let good = std::fs::read_to_string(&file).unwrap();
    let mut evaluate = ulmfit(&["evaluate", "--model", &model, "--data", &train, "--quiet"]);
    let cases = [
        (Some(good.replacen("-1.", "-2.", 1)), "is not the tokenizer that the vocabulary beside it was made with"),
        (Some(good[..good.len() / 2].to_string()), "is not JSON"),
        (None, "is missing"),
    ];
    for (content, part) in cases {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        refused(&mut evaluate, 1, &["tokenizer.json", part]);
    }
    std::fs::write(&file, good).unwrap();
    evaluate.assert().success();
}
