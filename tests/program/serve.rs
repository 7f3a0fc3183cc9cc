//! `ulmfit serve`: what it answers, what it refuses, how it ends.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{classifier, copy_folder, json as json_of, json_lines, random_bytes, refused, root, text, ulmfit};

/// A server of its own, on a free port.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    pub fn start(model: &Path, flags: &[&str]) -> Self {
        let binary = assert_cmd::cargo::cargo_bin("ulmfit");
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--quiet", "--model"]).arg(model).args(flags);
        command.env_remove("ULMFIT_LOG").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("the address").to_string();
        Server { child, address }
    }

    /// Status and body of a request.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // a server that never answers is a failure, not a test without an end
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = text(&reply);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {reply}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    pub fn json(&self, path: &str, body: &Value) -> Value {
        let (status, reply) = self.ask("POST", path, &body.to_string());
        assert_eq!(status, 200, "{reply}");
        serde_json::from_str(&reply).unwrap()
    }

    /// What comes back for some bytes; nothing: the connection was closed. `half`: the client says
    /// that it is done.
    fn raw(&self, bytes: &[u8], half: bool) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reply = Vec::new();
        // the server may have closed it already
        let _ = stream.write_all(bytes);
        if half {
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read_to_end(&mut reply) {
            Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("{e}: {reply:?}"),
            _ => String::from_utf8_lossy(&reply).into_owned(),
        }
    }

    /// The status that says how the process ended.
    fn end(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Far more than any answer takes.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(100);

/// Asks until it is so; a failure where it never is.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
    }
}

const TEXTS: [&str; 5] = ["a good film", "it was bad and long, a bad film", "", "ξ", "a good good good film it was"];

#[test]
fn answers_are_those_of_predict() {
    let model = classifier();
    let server = Server::start(model, &[]);
    let mut line = vec!["predict", "--model", model.to_str().unwrap(), "--"];
    line.extend(TEXTS);
    let expected = json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout));
    let reply = server.json("/predict", &json!({ "inputs": TEXTS }));
    for (found, expected) in reply["predictions"].as_array().unwrap().iter().zip(&expected) {
        assert_eq!((&found["label"], &found["probabilities"]), (&expected["label"], &expected["probabilities"]));
        let score = found["label"].as_str().map(|label| &found["probabilities"][label]);
        assert_eq!(&found["score"], score.unwrap_or(&Value::Null));
    }
    assert_eq!(reply["predictions"].as_array().unwrap().len(), TEXTS.len());
    let alone = server.json("/predict", &json!({ "inputs": TEXTS[4] }));
    assert_eq!(alone["predictions"][0], reply["predictions"][4], "neighbours change an answer");

    let tokens = server.json("/tokenize", &json!({ "inputs": ["a good film"] }));
    assert!(tokens["tokens"][0].as_array().unwrap().len() >= 3, "{tokens}");
    let tensor = json!({ "name": "text", "datatype": "BYTES", "shape": [2], "data": [TEXTS[0], TEXTS[1]] });
    let kserve = server.json("/v2/models/ulmfit/infer", &json!({ "id": "7", "inputs": [tensor] }));
    let labels: Vec<&Value> = reply["predictions"].as_array().unwrap()[..2].iter().map(|p| &p["label"]).collect();
    assert_eq!((kserve["id"].as_str(), json!(labels)), (Some("7"), kserve["outputs"][0]["data"].clone()));
    assert_eq!(kserve["outputs"][1]["shape"], json!([2, 2]));
    let (status, page) = server.ask("GET", "/", "");
    assert!(status == 200 && page.contains("<form") && !page.contains("http://") && !page.contains("https://"));
    let (_, metrics) = server.ask("GET", "/metrics", "");
    assert!(metrics.contains("ulmfit_requests_total{path=\"/predict\",status=\"200\"} 2"), "{metrics}");
    assert!(metrics.contains("ulmfit_answer_seconds_count 3"), "{metrics}");
    assert_eq!(server.end(), Some(0));
}

/// The words that decided, where they are asked for: those of `explain`, under the same label.
#[test]
fn answers_are_explained() {
    let model = classifier();
    let server = Server::start(model, &[]);
    let reply = server.json("/predict", &json!({ "inputs": TEXTS, "explain": true }));
    let plain = server.json("/predict", &json!({ "inputs": TEXTS, "explain": false }));
    let mut line = vec!["explain", "--model", model.to_str().unwrap(), "--format", "json", "--quiet"];
    line.extend(TEXTS);
    let expected = json_lines(&text(&ulmfit(&line).assert().success().get_output().stdout));
    let document: Value = serde_json::from_str(&server.ask("GET", "/openapi.json", "").1).unwrap();
    let schema = &document["components"]["schemas"]["Explanation"];
    let predictions = reply["predictions"].as_array().unwrap();
    for ((found, expected), plain) in predictions.iter().zip(&expected).zip(plain["predictions"].as_array().unwrap()) {
        assert!(plain.get("explain").is_none() && plain["probabilities"] == found["probabilities"]);
        let why = &found["explain"];
        if found["label"].is_null() {
            assert!(why.is_null(), "{found}");
            continue;
        }
        assert!(why["label"] == found["label"] && why["label"] == expected["label"]);
        let (network, other) = (&why["networks"][0], &expected["networks"][0]);
        assert_eq!((&network["logit"], &network["base"]), (&other["logit"], &other["base"]));
        for (word, other) in network["words"].as_array().unwrap().iter().zip(other["words"].as_array().unwrap()) {
            for key in ["text", "start", "end", "share"] {
                assert_eq!(word[key], other[key], "{key}");
            }
            has_the_keys_of(word, &schema["properties"]["networks"]["items"]["properties"]["words"]["items"]);
        }
        has_the_keys_of(why, schema);
        has_the_keys_of(network, &schema["properties"]["networks"]["items"]);
    }
    let many = json!({ "inputs": vec!["a"; 17], "explain": true }).to_string();
    let (status, why) = server.ask("POST", "/predict", &many);
    assert!(status == 413 && why.contains("at most 16 are explained"), "{why}");
    let (status, why) = server.ask("POST", "/predict", "{\"inputs\": \"a\", \"explain\": 1}");
    assert!(status == 422 && why.contains("'explain' must be true or false"), "{why}");
    let (_, page) = server.ask("GET", "/", "");
    assert!(page.contains("What decided") && page.contains("explain: true"));
}

/// An object has the keys that its schema requires, and no others than it names.
fn has_the_keys_of(value: &Value, schema: &Value) {
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let required: Vec<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(required.iter().all(|name| keys.iter().any(|key| key == name)), "{keys:?} {required:?}");
    assert!(keys.iter().all(|key| schema["properties"].get(key.as_str()).is_some()), "{keys:?} {schema}");
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let server = Server::start(classifier(), &["--max-body", "2000", "--max-texts", "3", "--max-text", "500"]);
    let long = "x".repeat(600);
    let (body, many) =
        (json!({ "inputs": "x".repeat(3000) }).to_string(), json!({ "inputs": vec!["a"; 4] }).to_string());
    let texts = json!({ "inputs": [long] }).to_string();
    let infer = "/v2/models/ulmfit/infer";
    let empty = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [1], "data": [""] }] }).to_string();
    let cases: [(&str, &str, &str, u16, &str); 13] = [
        ("POST", "/predict", "{", 400, "the body is not JSON"),
        ("POST", "/predict", "\u{0}\u{1}", 400, "the body is not JSON"),
        ("POST", "/predict", &body, 413, "more than 2000 bytes"),
        ("POST", "/predict", &many, 413, "4 texts; at most 3"),
        ("POST", "/predict", &texts, 413, "a text of 600 bytes; at most 500"),
        ("POST", "/predict", "{}", 422, "'inputs' must be a text or a list of texts"),
        ("POST", "/predict", "{\"inputs\": [1]}", 422, "'inputs' must be"),
        ("POST", "/tokenize", "[]", 422, "'inputs' must be"),
        ("POST", infer, "{\"inputs\": []}", 422, "a list of one tensor"),
        ("POST", infer, &empty, 422, "a text is empty"),
        ("GET", "/v2/models/other", "", 404, "one model, named 'ulmfit'"),
        ("GET", "/nothing", "", 404, "there is no such path"),
        ("GET", "/predict", "", 405, "takes another method"),
    ];
    for (method, path, body, status, part) in cases {
        let (found, reply) = server.ask(method, path, body);
        assert_eq!(found, status, "{path} {reply}");
        let error: Value = serde_json::from_str(&reply).unwrap();
        assert!(error["error"].as_str().is_some_and(|e| e.contains(part)), "{path}: {reply}");
    }
    assert_eq!(server.ask("GET", "/v2/health/ready", "").0, 200);
}

/// What is no request gets a status of 4xx, or its connection is closed. tools/serve.py asks more
/// of it.
#[test]
fn malformed_requests_are_refused() {
    let server = Server::start(classifier(), &["--max-body", "200000"]);
    let post = |head: &str, body: &[u8]| {
        let start = "POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        [format!("{start}{head}\r\n\r\n").as_bytes(), body].concat()
    };
    let whole = |body: &[u8]| post(&format!("content-length: {}", body.len()), body);
    let of_head = |head: String| format!("GET / HTTP/1.1\r\n{head}\r\n\r\n").into_bytes();
    let cases: [(Vec<u8>, u16); 16] = [
        (b"POST /predict\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/2.0\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n".to_vec(), 400),
        (of_head("no colon".into()), 400),
        (of_head("x: y\r\n".repeat(200)), 431),
        (of_head(format!("x: {}", "y".repeat(70_000))), 0),
        (post("content-length: x", b""), 400),
        (post("content-length: -1", b""), 400),
        (post("content-length: 1\r\ncontent-length: 2", b"{}"), 400),
        (post("content-length: 99999999999999", b""), 413),
        (post("transfer-encoding: chunked", b"zz\r\n"), 400),
        (whole(b"[".repeat(100_000).as_slice()), 400),
        (whole(b"{\"inputs\": \"\\ud800\"}"), 400),
        (whole(b"{\"inputs\": \"\xff\"}"), 400),
        (whole(b"{\"inputs\": [\"a\", null]}"), 422),
        (whole(b"1e999"), 400),
    ];
    for (bytes, expected) in &cases {
        let (reply, shown) = (server.raw(bytes, false), String::from_utf8_lossy(&bytes[..bytes.len().min(99)]));
        let status = reply.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        assert_eq!(status, *expected, "{shown}: {reply}");
    }
    // cut off anywhere, and nothing but noise
    let valid = whole(b"{\"inputs\": \"a\"}");
    let noise = random_bytes(64 * 100);
    let cut = (0..valid.len()).map(|n| &valid[..n]);
    for bytes in cut.chain(noise.chunks(64)) {
        let reply = server.raw(bytes, true);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{bytes:?}: {reply}");
    }
    // a body that is waited for is no head
    let body = json!({ "inputs": "x".repeat(100_000) }).to_string();
    let asked = post(&format!("expect: 100-continue\r\ncontent-length: {}", body.len()), b"");
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&asked).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(text(&go_on), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(server.end(), Some(0));
}

/// Bytes that are no HTTP, and clients that say half of a request.
#[test]
fn noise_and_slow_clients_do_not_stop_it() {
    let server = Server::start(classifier(), &["--timeout", "1", "--max-connections", "40"]);
    let noise = random_bytes(64 * 200);
    for chunk in noise.chunks(64) {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        // the server may have closed it already
        let _ = stream.write_all(chunk).and_then(|()| stream.write_all(b"\r\n\r\n"));
    }
    let slow: Vec<TcpStream> = (0..40)
        .map(|i| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let parts = [
                "",
                "POST /pre",
                "POST /predict HTTP/1.1\r\nhost: x\r\n",
                "POST /predict HTTP/1.1\r\ncontent-length: 9\r\n\r\n{",
            ];
            let _ = stream.write_all(parts[i % 4].as_bytes());
            stream
        })
        .collect();
    // all places are taken by them; they end, and this is answered
    let reply = server.json("/predict", &json!({ "inputs": TEXTS[0] }));
    assert_eq!(reply["predictions"][0]["label"], "pos");
    drop(slow);
    // nor does a byte now and then put the end off
    let mut steady = TcpStream::connect(&server.address).unwrap();
    steady.set_nonblocking(true).unwrap();
    steady.write_all(b"GET / HTTP/1.1\r\nx: ").unwrap();
    until("a request of single bytes ends", || {
        assert_eq!(server.ask("GET", "/health", "").0, 200);
        let _ = steady.write(b"y");
        !matches!(steady.read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
    });
    assert_eq!(server.end(), Some(0));
}

#[test]
fn what_was_taken_is_answered_at_the_end() {
    let server = Server::start(classifier(), &[]);
    let texts: Vec<String> = (0..256).map(|i| "a good film it was ".repeat(40 + i % 7)).collect();
    let body = json!({ "inputs": texts }).to_string();
    let address = server.address.clone();
    let asked = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    });
    until("it is answered", || server.ask("GET", "/metrics", "").1.contains("ulmfit_batches_total 1"));
    assert_eq!(server.end(), Some(0));
    let reply = asked.join().unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.matches("\"label\":\"pos\"").count() == 256,
        "{}",
        &reply[..200]
    );
}

#[test]
fn a_changed_model_is_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy_folder(classifier(), &model);
    let server = Server::start(&model, &["--reload"]);
    let ask = || server.json("/predict", &json!({ "inputs": TEXTS[0] }))["predictions"][0]["label"].clone();
    assert_eq!(ask(), "pos");
    // one that cannot be loaded: the old one stays
    let config = model.join("config.json");
    std::fs::write(&config, "{").unwrap();
    assert_eq!(ask(), "pos");
    let file = |name: &str| root().join("tests/import").join(name).display().to_string();
    let (weights, vocab) = (file("fastai2_classifier.pth"), file("vocab_classifier.pkl"));
    let out = model.to_str().unwrap();
    json_of(&["import", "--weights", &weights, "--vocab", &vocab, "--out", out, "--overwrite"]);
    // every request is answered meanwhile
    until("the model is loaded again", || ask() != "pos");
    assert!(ask().as_str().unwrap().starts_with("class"));
    assert_eq!(server.end(), Some(0));
}

/// The document names what there is, and nothing else.
#[test]
fn the_openapi_document_is_that_of_the_handlers() {
    let server = Server::start(classifier(), &[]);
    let (status, document) = server.ask("GET", "/openapi.json", "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut documented = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            let (status, reply) = server.ask(&method.to_uppercase(), &path.replace("{name}", "ulmfit"), "{}");
            assert!(about["responses"][status.to_string()].is_object(), "{method} {path}: {status} {reply}");
            documented.push(path.clone());
        }
    }
    let source = include_str!("../../src/serve/routes.rs");
    let mut routes: Vec<&str> = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    routes.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, routes);
}

#[test]
fn what_cannot_be_served_is_said_before_it_listens() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let model = classifier().to_str().unwrap();
    refused(&mut ulmfit(&["serve", "--model", model, "--listen", &address]), 1, &["cannot listen on", &address]);
    refused(&mut ulmfit(&["serve", "--model", "no_such_model"]), 1, &["no_such_model"]);
    for bad in ["8080", "127.0.0.1", "localhost:8080"] {
        refused(&mut ulmfit(&["serve", "--model", model, "--listen", bad]), 2, &["--listen", bad, "as 127.0.0.1:8080"]);
    }
}

/// The folder of a run answers with both of its models, as `predict` does.
#[test]
fn both_models_of_a_folder_answer() {
    let root = tempfile::tempdir().unwrap();
    let data = crate::support::Data::new(root.path());
    let (train, out) = (data.path("train.csv"), data.path("out"));
    let small = ["--emb-size", "8", "--hidden-size", "12", "--set", "finetune.updates_least=4", "--bptt", "10"];
    let line =
        ["run", "--quiet", "--base", "none", "--train", &train, "--out", &out, "--set", "classifier.updates_least=10"];
    ulmfit(&crate::support::words(&[&line, &small])).assert().success();
    let server = Server::start(Path::new(&out), &["--reload"]);
    let served = server.json("/predict", &json!({ "inputs": "a good film" }));
    let said = ulmfit(&["predict", "--quiet", "--model", &out, "a good film"]).assert().success();
    let predicted = &json_lines(&text(&said.get_output().stdout))[0]["probabilities"];
    let alone = ulmfit(&["predict", "--quiet", "--blend", "off", "--model", &out, "a good film"]).assert().success();
    assert_ne!(predicted, &json_lines(&text(&alone.get_output().stdout))[0]["probabilities"]);
    let share = |value: &Value| value.as_f64().unwrap();
    let before = served.clone();
    let served = served.to_string();
    assert!(served.contains(&format!("{}", share(&predicted["pos"]))), "{served} {predicted}");
    // a rule that changes is noticed, too
    let rule = Path::new(&out).join("classifier/answer.json");
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&rule).unwrap()).unwrap();
    changed["blend"]["weight"] = json!(0.999);
    std::fs::write(&rule, changed.to_string()).unwrap();
    until("the rule is read again", || server.json("/predict", &json!({ "inputs": "a good film" })) != before);
}
