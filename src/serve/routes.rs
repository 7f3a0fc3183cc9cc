//! Paths of the server, their requests and responses. `openapi.json` describes them; a test holds
//! it to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::Shared;
use super::body::{self, Fault};
use super::engine::{Predictions, Refusal};
use crate::answer::classes::decide;

const PAGE: &str = include_str!("page.html");
pub const OPENAPI: &str = include_str!("openapi.json");
/// Name of the model in the paths of KServe.
const NAME: &str = "ulmfit";
/// Texts of a request that are explained: they are answered one by one.
const MOST_EXPLAINED: usize = 16;

type Handler = State<Arc<Shared>>;

pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(|| async { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE) }))
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/predict", post(predict))
        .route("/tokenize", post(tokenize))
        .route("/info", get(|State(s): Handler| async move { counted(&s, "/info", Ok(s.about.clone())) }))
        .route("/health", get(live))
        .route("/metrics", get(|State(s): Handler| async move { s.metrics.text() }))
        .route("/v2", get(|| async { json_of(StatusCode::OK, &server()) }))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{name}", get(model))
        .route("/v2/models/{name}/ready", get(model_ready))
        .route("/v2/models/{name}/infer", post(infer))
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "there is no such path; /openapi.json lists them") })
        .method_not_allowed_fallback(|| async {
            refused(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method; /openapi.json lists them")
        })
        .with_state(shared)
}

/// A status and one sentence.
type Failure = (StatusCode, String);
type Outcome<T = Value> = Result<T, Failure>;

fn fail<T>(status: StatusCode, why: impl Into<String>) -> Outcome<T> {
    Err((status, why.into()))
}

fn json_of(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn refused(status: StatusCode, why: &str) -> Response {
    json_of(status, &json!({ "error": why }))
}

/// Counts a request, and makes its response.
fn counted(shared: &Shared, path: &'static str, outcome: Outcome) -> Response {
    let mut response = match outcome {
        Ok(value) => json_of(StatusCode::OK, &value),
        Err((status, why)) => refused(status, &why),
    };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    shared.metrics.request(path, response.status().as_u16());
    response
}

async fn live() -> Response {
    json_of(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(shared): Handler) -> Response {
    let ready = !shared.draining.load(Ordering::Relaxed);
    json_of(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready }))
}

async fn model_ready(Path(name): Path<String>, state: Handler) -> Response {
    if name == NAME { ready(state).await } else { unknown_model() }
}

fn unknown_model() -> Response {
    refused(StatusCode::NOT_FOUND, &format!("there is one model, named '{NAME}'"))
}

fn server() -> Value {
    json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": [] })
}

async fn model(Path(name): Path<String>, State(shared): Handler) -> Response {
    if name != NAME {
        return unknown_model();
    }
    let classes = shared.about["labels"].as_array().map_or(0, Vec::len);
    let value = json!({
        "name": NAME, "versions": ["1"], "platform": "ulmfit",
        "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [-1] }],
        "outputs": [
            { "name": "label", "datatype": "BYTES", "shape": [-1] },
            { "name": "probabilities", "datatype": "FP64", "shape": [-1, classes] },
        ],
    });
    counted(&shared, "/v2/models", Ok(value))
}

/// The JSON of a request's body, which is neither too large nor malformed.
async fn body(shared: &Shared, request: Request<Body>) -> Outcome {
    if shared.draining.load(Ordering::Relaxed) {
        return fail(StatusCode::SERVICE_UNAVAILABLE, "the server is going down");
    }
    let most = shared.options.max_body;
    let parsed = body::read(request.into_body(), most, &shared.room, |bytes| serde_json::from_slice(bytes)).await;
    match parsed {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => fail(StatusCode::BAD_REQUEST, format!("the body is not JSON: {e}")),
        Err(Fault::CutOff) => fail(StatusCode::BAD_REQUEST, "the body is cut off, or its chunks are malformed"),
        Err(Fault::TooLarge) => fail(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes")),
        Err(Fault::NoRoom) => fail(StatusCode::TOO_MANY_REQUESTS, "too many bodies are being read; try again"),
    }
}

/// The texts of a request, within the limits.
fn texts(shared: &Shared, value: &Value) -> Outcome<Vec<String>> {
    let texts: Option<Vec<String>> = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(all) => all.iter().map(|text| text.as_str().map(String::from)).collect(),
        _ => None,
    };
    let Some(texts) = texts else {
        return fail(StatusCode::UNPROCESSABLE_ENTITY, "'inputs' must be a text or a list of texts");
    };
    let (most, longest) = (shared.options.max_texts, shared.options.max_text);
    if texts.len() > most {
        return fail(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{} texts; at most {most} are answered at a time", texts.len()),
        );
    }
    if let Some(long) = texts.iter().find(|text| text.len() > longest) {
        let why = format!("a text of {} bytes; at most {longest} are answered", long.len());
        return fail(StatusCode::PAYLOAD_TOO_LARGE, why);
    }
    Ok(texts)
}

fn refusal<T>(why: Refusal) -> Outcome<T> {
    match why {
        Refusal::Full => fail(StatusCode::TOO_MANY_REQUESTS, "too many requests wait; try again"),
        Refusal::Gone => fail(StatusCode::INTERNAL_SERVER_ERROR, "the thread that answers has ended"),
    }
}

async fn answers(shared: &Shared, texts: Vec<String>) -> Outcome<Predictions> {
    let begun = Instant::now();
    let waiting = match shared.engine.ask(texts) {
        Ok(waiting) => waiting,
        Err(why) => return refusal(why),
    };
    let outcome = waiting.await;
    shared.metrics.took(begun.elapsed());
    match outcome {
        Ok(Ok(answers)) => Ok(answers),
        Ok(Err(error)) => fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => refusal(Refusal::Gone),
    }
}

/// Which words of each text decided, where that is asked for.
async fn explanations(shared: &Shared, asked: &Value, texts: &[String]) -> Outcome<Vec<Value>> {
    match asked {
        Value::Null | Value::Bool(false) => return Ok(Vec::new()),
        Value::Bool(true) => {}
        _ => return fail(StatusCode::UNPROCESSABLE_ENTITY, "'explain' must be true or false"),
    }
    if texts.len() > MOST_EXPLAINED {
        let why = format!("{} texts; at most {MOST_EXPLAINED} are explained at a time", texts.len());
        return fail(StatusCode::PAYLOAD_TOO_LARGE, why);
    }
    let mut all = Vec::new();
    for text in texts {
        let waiting = match shared.engine.explain(text.clone()) {
            Ok(waiting) => waiting,
            Err(why) => return refusal(why),
        };
        match waiting.await {
            Ok(Ok(why)) => all.push(why),
            Ok(Err(error)) => return fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Err(_) => return refusal(Refusal::Gone),
        }
    }
    Ok(all)
}

async fn predict(State(shared): Handler, request: Request) -> Response {
    let outcome = async {
        let value = body(&shared, request).await?;
        let texts = texts(&shared, &value["inputs"])?;
        let explained = explanations(&shared, &value["explain"], &texts).await?;
        let answers = answers(&shared, texts).await?;
        let one = |p: &Option<Vec<f64>>| match p {
            None => json!({ "label": null, "score": null, "probabilities": null, "reason": "the text is empty" }),
            Some(p) => {
                let decided = decide(p);
                let all: serde_json::Map<String, Value> =
                    answers.labels.iter().cloned().zip(p.iter().map(|&p| p.into())).collect();
                json!({ "label": answers.labels[decided], "score": p[decided], "probabilities": all })
            }
        };
        let mut predictions: Vec<Value> = answers.probabilities.iter().map(one).collect();
        predictions.iter_mut().zip(explained).for_each(|(one, why)| one["explain"] = why);
        Ok(json!({ "predictions": predictions }))
    };
    let outcome = outcome.await;
    counted(&shared, "/predict", outcome)
}

async fn tokenize(State(shared): Handler, request: Request) -> Response {
    let outcome = async {
        let value = body(&shared, request).await?;
        let mut all = Vec::new();
        for text in texts(&shared, &value["inputs"])? {
            let waiting = match shared.engine.tokens(text) {
                Ok(waiting) => waiting,
                Err(why) => return refusal(why),
            };
            match waiting.await {
                Ok(Ok(tokens)) => all.push(tokens),
                Ok(Err(error)) => return fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                Err(_) => return refusal(Refusal::Gone),
            }
        }
        Ok(json!({ "tokens": all }))
    };
    let outcome = outcome.await;
    counted(&shared, "/tokenize", outcome)
}

/// Version 2 of KServe's protocol: one input of texts.
async fn infer(Path(name): Path<String>, State(shared): Handler, request: Request) -> Response {
    if name != NAME {
        return unknown_model();
    }
    let outcome = async {
        let value = body(&shared, request).await?;
        let inputs = value["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [input] = inputs else {
            return fail(StatusCode::UNPROCESSABLE_ENTITY, "'inputs' must be a list of one tensor, named 'text'");
        };
        if input["datatype"] != "BYTES" || !input["data"].is_array() {
            return fail(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the input must have the datatype BYTES and a list of texts as data",
            );
        }
        let texts = texts(&shared, &input["data"])?;
        let n = texts.len();
        let answers = answers(&shared, texts).await?;
        let Some(all) = answers.probabilities.into_iter().collect::<Option<Vec<_>>>() else {
            return fail(StatusCode::UNPROCESSABLE_ENTITY, "a text is empty");
        };
        let labels: Vec<&str> = all.iter().map(|p| answers.labels[decide(p)].as_str()).collect();
        let flat: Vec<f64> = all.iter().flatten().copied().collect();
        let id = value.get("id").cloned();
        let mut reply = json!({
            "model_name": NAME, "model_version": "1",
            "outputs": [
                { "name": "label", "datatype": "BYTES", "shape": [n], "data": labels },
                { "name": "probabilities", "datatype": "FP64", "shape": [n, answers.labels.len()], "data": flat },
            ],
        });
        if let Some(id) = id.filter(Value::is_string) {
            reply["id"] = id;
        }
        Ok(reply)
    };
    let outcome = outcome.await;
    counted(&shared, "/v2/models/infer", outcome)
}
