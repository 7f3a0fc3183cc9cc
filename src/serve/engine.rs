//! What answers: it takes what waits, up to a limit, and answers it together.
//!
//! It runs on the thread that called `serve`. That is one of the threads that compute
//! (`use_current_thread` of rayon); on another thread there would be one less, and every product
//! would wait for a switch.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use crate::error::Result;
use crate::models;

/// Bytes of texts that are answered together. Answers do not depend on it.
const TOGETHER: usize = 64 << 10;
/// How often the model's files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The model that answers texts.
pub trait Model {
    fn labels(&self) -> &[String];

    /// Probabilities of every text, in the order of the labels; `None` for one without words.
    ///
    /// # Errors
    /// A fault of the model or the device.
    fn answer(&mut self, texts: &[String]) -> Result<Vec<Option<Vec<f64>>>>;

    /// A text as the model's tokens.
    ///
    /// # Errors
    /// A tokenizer that cannot be made.
    fn tokens(&mut self, text: &str) -> Result<Vec<String>>;

    /// Which words of a text decided, as JSON; `null` for one without words.
    ///
    /// # Errors
    /// A fault of the model or the device.
    fn explain(&mut self, text: &str) -> Result<Value>;
}

/// The answers to the texts of a request.
#[derive(Clone, Debug)]
pub struct Predictions {
    pub labels: Arc<[String]>,
    pub probabilities: Vec<Option<Vec<f64>>>,
}

/// The folder whose changes are noticed.
#[derive(Clone, Debug)]
pub struct Watch {
    pub directory: PathBuf,
}

impl Watch {
    fn state(&self) -> Vec<Option<(SystemTime, u64)>> {
        let of = |path: &PathBuf| std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        models::files_of(&self.directory).iter().map(of).collect()
    }
}

enum Job {
    Answer { texts: Vec<String>, reply: oneshot::Sender<Result<Predictions>> },
    Tokens { text: String, reply: oneshot::Sender<Result<Vec<String>>> },
    Explain { text: String, reply: oneshot::Sender<Result<Value>> },
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Full,
    Gone,
}

/// A handle of the worker that answers.
pub struct Engine {
    jobs: SyncSender<Job>,
}

impl Engine {
    /// Loads the model. Call the second value, on the same thread: it answers requests, and returns
    /// when the engine is dropped.
    ///
    /// # Errors
    /// The model's.
    pub fn new(
        mut load: impl FnMut() -> Result<Box<dyn Model>>,
        queue: usize,
        watch: Option<Watch>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, impl FnOnce())> {
        let (jobs, waiting) = sync_channel(queue);
        let seen = watch.as_ref().map(Watch::state);
        let model = load()?;
        let mut worker = Worker { load, model, watch, seen, metrics, waiting, next: VecDeque::new() };
        Ok((Engine { jobs }, move || worker.run()))
    }

    /// Asks for answers.
    pub fn ask(&self, texts: Vec<String>) -> std::result::Result<oneshot::Receiver<Result<Predictions>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Answer { texts, reply })?;
        Ok(answer)
    }

    /// Asks for the tokens of a text.
    pub fn tokens(&self, text: String) -> std::result::Result<oneshot::Receiver<Result<Vec<String>>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Tokens { text, reply })?;
        Ok(answer)
    }

    /// Asks which words of a text decided.
    pub fn explain(&self, text: String) -> std::result::Result<oneshot::Receiver<Result<Value>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Explain { text, reply })?;
        Ok(answer)
    }

    fn send(&self, job: Job) -> std::result::Result<(), Refusal> {
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => Refusal::Full,
            TrySendError::Disconnected(_) => Refusal::Gone,
        })
    }
}

/// The model, and the requests that wait for it.
struct Worker<L> {
    load: L,
    model: Box<dyn Model>,
    watch: Option<Watch>,
    seen: Option<Vec<Option<(SystemTime, u64)>>>,
    metrics: Arc<Metrics>,
    waiting: Receiver<Job>,
    /// Taken from the queue, and not to be answered with the others.
    next: VecDeque<Job>,
}

type Asked = (Vec<String>, oneshot::Sender<Result<Predictions>>);

impl<L: FnMut() -> Result<Box<dyn Model>>> Worker<L> {
    fn run(&mut self) {
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= LOOK {
                self.look();
                looked = Instant::now();
            }
            let job = match self.next.pop_front() {
                Some(job) => job,
                None => match self.waiting.recv_timeout(LOOK) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            match job {
                // the client may have gone
                Job::Tokens { text, reply } => drop(reply.send(self.model.tokens(&text))),
                Job::Explain { text, reply } => drop(reply.send(self.model.explain(&text))),
                Job::Answer { texts, reply } => self.answer((texts, reply)),
            }
        }
    }

    /// Loads the model again where its files have changed. One that cannot be loaded is said, and
    /// the old one stays.
    fn look(&mut self) {
        let Some(watch) = &self.watch else { return };
        let now = watch.state();
        if self.seen.as_ref() == Some(&now) || now.iter().any(Option::is_none) {
            return;
        }
        self.seen = Some(now);
        match (self.load)() {
            Ok(model) => {
                self.model = model;
                self.metrics.reloaded();
                eprintln!("the model was loaded again");
            }
            Err(error) => eprintln!("warning: the changed model cannot be loaded, the old one stays: {error}"),
        }
    }

    /// Answers a request, with others that wait.
    fn answer(&mut self, first: Asked) {
        let size = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        let (mut together, mut bytes) = (vec![first], 0);
        bytes += size(&together[0].0);
        while bytes < TOGETHER {
            match self.waiting.try_recv() {
                Ok(Job::Answer { texts, reply }) => {
                    bytes += size(&texts);
                    together.push((texts, reply));
                }
                Ok(job) => {
                    self.next.push_back(job);
                    break;
                }
                Err(_) => break,
            }
        }
        let texts: Vec<String> = together.iter().flat_map(|(texts, _)| texts.iter().cloned()).collect();
        self.metrics.answered(together.len(), texts.len());
        let labels: Arc<[String]> = self.model.labels().into();
        match self.model.answer(&texts) {
            Ok(mut all) => {
                for (texts, reply) in together {
                    let rest = all.split_off(texts.len());
                    let _ = reply.send(Ok(Predictions { labels: labels.clone(), probabilities: all }));
                    all = rest;
                }
            }
            // a fault of one may be a fault of its text: each by itself
            Err(_) if together.len() > 1 => together.into_iter().for_each(|asked| self.alone(asked, &labels)),
            Err(error) => {
                if let Some((_, reply)) = together.pop() {
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    fn alone(&mut self, (texts, reply): Asked, labels: &Arc<[String]>) {
        let answer = self.model.answer(&texts);
        let answer = answer.map(|probabilities| Predictions { labels: labels.clone(), probabilities });
        let _ = reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A model that waits to be told before it answers.
    struct Held {
        labels: Vec<String>,
        go: mpsc::Receiver<()>,
        begun: mpsc::Sender<usize>,
    }

    impl Model for Held {
        fn labels(&self) -> &[String] {
            &self.labels
        }

        fn answer(&mut self, texts: &[String]) -> Result<Vec<Option<Vec<f64>>>> {
            let _ = self.begun.send(texts.len());
            let _ = self.go.recv();
            Ok(texts.iter().map(|text| (!text.is_empty()).then(|| vec![text.len() as f64])).collect())
        }

        fn tokens(&mut self, text: &str) -> Result<Vec<String>> {
            Ok(vec![text.to_string()])
        }

        fn explain(&mut self, _: &str) -> Result<Value> {
            Ok(Value::Null)
        }
    }

    #[test]
    fn a_full_queue_refuses_and_what_waits_is_answered_together() {
        let (tell, go) = mpsc::channel();
        let (begun, sizes) = mpsc::channel();
        let mut model = Some(Held { labels: vec!["a".into()], go, begun });
        let load = move || -> Result<Box<dyn Model>> { Ok(Box::new(model.take().unwrap())) };
        let (send, engine) = mpsc::channel();
        std::thread::spawn(move || {
            let (engine, answer) = Engine::new(load, 2, None, Arc::default()).unwrap();
            send.send(engine).unwrap();
            answer();
        });
        let engine = engine.recv().unwrap();
        let first = engine.ask(vec!["x".into()]).unwrap();
        // it is being answered; two may wait, a third may not
        assert_eq!(sizes.recv().unwrap(), 1);
        let second = engine.ask(vec!["xx".into(), String::new()]).unwrap();
        let third = engine.ask(vec!["xxx".into()]).unwrap();
        assert_eq!(engine.ask(vec![]).unwrap_err(), Refusal::Full);
        tell.send(()).unwrap();
        assert_eq!(sizes.recv().unwrap(), 3, "those that waited are answered together");
        tell.send(()).unwrap();
        let answers = |receiver: oneshot::Receiver<Result<Predictions>>| receiver.blocking_recv().unwrap().unwrap();
        assert_eq!(answers(first).probabilities, [Some(vec![1.0])]);
        assert_eq!(answers(second).probabilities, [Some(vec![2.0]), None]);
        assert_eq!(answers(third).probabilities, [Some(vec![3.0])]);
    }
}
