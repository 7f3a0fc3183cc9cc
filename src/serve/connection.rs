//! Connections with limits: their number, the time of a request, the time that one may be idle.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// How long a connection may be open without a request.
const IDLE: Duration = Duration::from_secs(75);

/// A listener that takes so many connections at a time; others wait to be taken.
pub struct Limited {
    inner: TcpListener,
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl Limited {
    pub fn new(inner: TcpListener, connections: usize, timeout: Duration) -> Self {
        Limited { inner, places: Arc::new(Semaphore::new(connections.max(1))), timeout }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        loop {
            // the semaphore is never closed
            let Ok(place) = self.places.clone().acquire_owned().await else { continue };
            match self.inner.accept().await {
                Ok((stream, address)) => return (Timed::new(stream, place, self.timeout), address),
                // too many open files, or a client that has gone: the next one may do
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that ends where a request takes longer than it may, from its first byte to its
/// answer.
pub struct Timed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    timeout: Duration,
    /// Whether a request has begun.
    busy: bool,
    end: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, timeout: Duration) -> Self {
        let end = Box::pin(tokio::time::sleep(timeout));
        Timed { stream, _place: place, timeout, busy: false, end }
    }

    fn late(&mut self, context: &mut Context) -> Poll<Result<()>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the request takes too long"))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn until(&mut self, time: Duration) {
        self.end.as_mut().reset(Instant::now() + time);
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                if !this.busy {
                    this.busy = true;
                    this.until(this.timeout);
                }
                // one byte now and then does not put the end off
                match this.late(context) {
                    Poll::Ready(late) => Poll::Ready(late),
                    Poll::Pending => Poll::Ready(outcome),
                }
            }
            Poll::Pending => this.late(context),
        }
    }
}

impl AsyncWrite for Timed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(context, bytes) {
            Poll::Ready(outcome) => {
                this.busy = false;
                this.until(IDLE);
                Poll::Ready(outcome)
            }
            Poll::Pending => match this.late(context) {
                Poll::Ready(late) => Poll::Ready(late.map(|()| 0)),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
