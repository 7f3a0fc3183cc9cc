//! A classifier behind HTTP: one thread answers, many connections wait for it (docs/CLI.md,
//! `serve`).
//!
//! Answers are those of `ulmfit predict`, bit for bit: a text's answer depends on nothing but its
//! text, so that texts of several requests can be answered together. No text is logged.

mod body;
mod connection;
mod engine;
mod metrics;
mod routes;

use std::future::Future as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::engine::Engine;
pub use self::engine::{Model, Predictions, Watch};
use self::metrics::Metrics;
use crate::error::{Error, Result};
use crate::train::interrupt;

/// Limits and habits of a server.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Texts of a request.
    pub max_texts: usize,
    /// Bytes of a text.
    pub max_text: usize,
    /// Requests that may wait for an answer.
    pub queue: usize,
    pub max_connections: usize,
    /// From the first byte of a request to its answer.
    pub timeout: Duration,
    /// Load the model again where its files change.
    pub watch: Option<Watch>,
}

/// Shared by all handlers.
struct Shared {
    engine: Engine,
    metrics: Arc<Metrics>,
    options: Options,
    about: serde_json::Value,
    /// For bodies: as many of the largest size as requests may wait.
    room: body::Room,
    /// No new work is taken.
    draining: AtomicBool,
}

/// Serves until SIGINT or SIGTERM. Requests that were taken are answered then. `load`: makes the
/// model, on the calling thread, which then answers; again where its files have changed. `about`:
/// the response of `/info`. `ready`: told the address once it listens.
///
/// # Errors
/// The model's, an address that cannot be listened on.
pub fn serve(
    options: Options,
    load: impl FnMut() -> Result<Box<dyn Model>>,
    about: serde_json::Value,
    ready: impl FnOnce(SocketAddr) + Send,
) -> Result<()> {
    interrupt::install()?;
    let metrics = Arc::new(Metrics::default());
    let (engine, answer) = Engine::new(load, options.queue, options.watch.clone(), metrics.clone())?;
    std::thread::scope(|threads| {
        let listening = threads.spawn(|| listen(options, engine, metrics, about, ready));
        // until the engine is dropped, at the end of `listen`
        answer();
        listening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Takes requests until a signal comes.
fn listen(
    options: Options,
    engine: Engine,
    metrics: Arc<Metrics>,
    about: serde_json::Value,
    ready: impl FnOnce(SocketAddr),
) -> Result<()> {
    let address = options.listen;
    let failed = move |e: std::io::Error| Error::data(format!("cannot listen on {address}: {e}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::data(format!("cannot start the server: {e}")))?;
    let served = runtime.block_on(async {
        let inner = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        ready(inner.local_addr().map_err(failed)?);
        let listener = connection::Limited::new(inner, options.max_connections, options.timeout);
        let room = body::Room::new(options.queue.saturating_mul(options.max_body));
        let draining = AtomicBool::new(false);
        let shared = Arc::new(Shared { engine, metrics, options, about, room, draining });
        let drained = drained(shared.clone());
        let service = axum::serve(listener, routes::router(shared.clone())).with_graceful_shutdown(drained);
        // a client that reads its answer too slowly does not hold the process
        let late = async {
            while !shared.draining.load(Ordering::Relaxed) {
                tokio::time::sleep(POLL).await;
            }
            tokio::time::sleep(shared.options.timeout).await;
        };
        tokio::pin!(late);
        let service = std::future::IntoFuture::into_future(service);
        tokio::pin!(service);
        // whichever comes first
        std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(outcome) = service.as_mut().poll(context) {
                return std::task::Poll::Ready(outcome.map_err(failed));
            }
            late.as_mut().poll(context).map(Ok)
        })
        .await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(50);

/// Waits for a signal; from then on the server is not ready.
async fn drained(shared: Arc<Shared>) {
    while interrupt::requested().is_none() {
        tokio::time::sleep(POLL).await;
    }
    shared.draining.store(true, Ordering::Relaxed);
}
