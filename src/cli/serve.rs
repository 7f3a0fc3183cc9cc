//! `ulmfit serve`: a classifier behind HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Global, output, values};
use crate::answer::explain::Question;
use crate::answer::panel::{Panel, Voices};
use crate::error::{Error, Result};
use crate::models;
use crate::nn::Answers;
use crate::serve::{self, Model, Options};
use crate::text::{Document, Source, Tokenizer};

/// Answer texts over HTTP: POST /predict, a page at /, KServe v2, Prometheus
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit serve --model classifier\n  curl -d '{\"inputs\": \"What is the capital of France?\"}' http://127.0.0.1:8080/predict"
)]
pub struct Args {
    /// A classifier
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Address and port; port 0: one that is free. Other machines reach it only if this says so
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = super::values::address)]
    pub listen: SocketAddr,
    /// Load the model again when its files change
    #[arg(long)]
    pub reload: bool,
    /// Largest body of a request, in bytes
    #[arg(long, value_name = "N", default_value = "4194304", value_parser = values::count)]
    pub max_body: usize,
    /// Most texts of a request
    #[arg(long, value_name = "N", default_value = "256", value_parser = values::count)]
    pub max_texts: usize,
    /// Longest text, in bytes
    #[arg(long, value_name = "N", default_value = "1048576", value_parser = values::count)]
    pub max_text: usize,
    /// Requests that may wait; more get status 429
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::count)]
    pub queue: usize,
    /// Connections at a time; more wait to be taken
    #[arg(long, value_name = "N", default_value = "1024", value_parser = values::count)]
    pub max_connections: usize,
    /// Seconds from a request's first byte to its answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = values::count)]
    pub timeout: usize,
}

/// Features of the linear model in an explanation.
const FEATURES: usize = 10;

/// All that a folder answers with.
struct Answering {
    panel: Panel,
    tokenizer: Option<Tokenizer>,
}

impl Answering {
    fn load(directory: &Path, global: &Global) -> Result<Self> {
        let tokenizer = match models::is_linear(directory)? {
            true => None,
            false => Some(Tokenizer::new(models::load_classifier(directory)?.vocabulary.tokenizer().clone())?),
        };
        let panel = Panel::load(directory, None, Voices::All, || global.graph())?;
        if panel.kind() != Answers::Class || panel.is_pair() {
            return Err(Error::file(directory, "gives no single class of a text: serve does not answer for it yet")
                .hint("predict does"));
        }
        Ok(Answering { panel, tokenizer })
    }
}

impl Model for Answering {
    fn labels(&self) -> &[String] {
        self.panel.labels()
    }

    fn answer(&mut self, texts: &[String]) -> Result<Vec<Option<Vec<f64>>>> {
        let source = Source::of_texts("a request", texts.iter().map(Document::new).collect::<Vec<_>>());
        let answers = self.panel.predict(&source)?;
        Ok(answers.into_iter().map(|a| a.row.skipped.is_none().then_some(a.probabilities)).collect())
    }

    fn tokens(&mut self, text: &str) -> Result<Vec<String>> {
        match &self.tokenizer {
            Some(tokenizer) => Ok(tokenizer.tokens(&Document::new(text))),
            None => Err(Error::usage("a linear model has no tokenizer of words")),
        }
    }

    fn explain(&mut self, text: &str) -> Result<Value> {
        let found = self.panel.explain(&Document::new(text), &Question::default())?;
        Ok(found.brief_json(text, FEATURES))
    }
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    // what is wrong with the model is said before anything listens
    let first = Answering::load(&args.model, global)?;
    global.announce_device();
    let about = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": args.model.file_name().map(|name| name.to_string_lossy()),
        "labels": first.panel.labels(),
        "device": global.device.to_string(),
        "limits": { "body": args.max_body, "texts": args.max_texts, "text": args.max_text, "queue": args.queue },
    });
    drop(first);
    let watch = args.reload.then(|| serve::Watch { directory: args.model.clone() });
    let options = Options {
        listen: args.listen,
        max_body: args.max_body,
        max_texts: args.max_texts,
        max_text: args.max_text,
        queue: args.queue,
        max_connections: args.max_connections,
        timeout: Duration::from_secs(args.timeout as u64),
        watch,
    };
    let load = || -> Result<Box<dyn Model>> { Ok(Box::new(Answering::load(&args.model, global)?)) };
    serve::serve(options, load, about, |address| {
        // scripts read the port from this line
        let _ = output::to_stdout(&format!("listening on http://{address}\n"));
    })
}
