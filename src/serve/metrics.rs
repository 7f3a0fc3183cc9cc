//! The counters of a server, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the histogram of answer times, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Default)]
pub struct Metrics {
    /// By path and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    buckets: [AtomicU64; BUCKETS.len()],
    seconds: Mutex<f64>,
    answers: AtomicU64,
    texts: AtomicU64,
    batches: AtomicU64,
    batched: AtomicU64,
    reloads: AtomicU64,
}

impl Metrics {
    pub fn request(&self, path: &'static str, status: u16) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((path, status)).or_default() += 1;
    }

    /// The time of an answer, from the request to the reply.
    pub fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bucket, _) in self.buckets.iter().zip(BUCKETS).filter(|(_, end)| seconds <= *end) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        *self.seconds.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests and texts that were answered together.
    pub fn answered(&self, requests: usize, texts: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batched.fetch_add(requests as u64, Ordering::Relaxed);
        self.texts.fetch_add(texts as u64, Ordering::Relaxed);
    }

    pub fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// Prometheus text.
    pub fn text(&self) -> String {
        let mut out = String::from(
            "# HELP ulmfit_requests_total Requests by path and status.\n# TYPE ulmfit_requests_total counter\n",
        );
        for ((path, status), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "ulmfit_requests_total{{path=\"{path}\",status=\"{status}\"}} {n}");
        }
        out +=
            "# HELP ulmfit_answer_seconds Time from a request to its answer.\n# TYPE ulmfit_answer_seconds histogram\n";
        for (bucket, end) in self.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "ulmfit_answer_seconds_bucket{{le=\"{end}\"}} {}", bucket.load(Ordering::Relaxed));
        }
        let answers = self.answers.load(Ordering::Relaxed);
        let seconds = *self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "ulmfit_answer_seconds_bucket{{le=\"+Inf\"}} {answers}");
        let _ = writeln!(out, "ulmfit_answer_seconds_sum {seconds}\nulmfit_answer_seconds_count {answers}");
        for (name, what, counter) in [
            ("texts", "Texts that were answered.", &self.texts),
            ("batches", "Groups of requests that were answered together.", &self.batches),
            ("batched_requests", "Requests in these groups.", &self.batched),
            ("reloads", "Times that a changed model was loaded.", &self.reloads),
        ] {
            let value = counter.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "# HELP ulmfit_{name}_total {what}\n# TYPE ulmfit_{name}_total counter\nulmfit_{name}_total {value}"
            );
        }
        out
    }
}
