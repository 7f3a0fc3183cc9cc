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
/// Bytes of a request's head. A client that sends more is cut off.
const LONGEST_HEAD: usize = 64 << 10;

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
            let Ok(permit) = self.places.clone().acquire_owned().await else { continue };
            match self.inner.accept().await {
                Ok((stream, address)) => {
                    // the end of an answer waits for nothing; without it an answer is only later
                    let _ = stream.set_nodelay(true);
                    return (Timed::new(stream, permit, self.timeout), address);
                }
                // too many open files, or a client that has gone: the next one may do
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Where a client is in its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Bytes of the head, and of its line that is not ended, so far.
    Head {
        bytes: usize,
        line: usize,
    },
    Body,
}

impl Place {
    const BEGIN: Place = Place::Head { bytes: 0, line: 0 };

    /// The place after some bytes more. A head ends with an empty line, unless it is too long;
    /// empty lines before it count for nothing.
    fn after(self, read: &[u8]) -> Place {
        let Place::Head { mut bytes, mut line } = self else { return Place::Body };
        for &byte in read {
            match byte {
                b'\n' if line == 0 && (1..=LONGEST_HEAD).contains(&bytes) => return Place::Body,
                b'\n' => line = 0,
                b'\r' => {}
                _ => (bytes, line) = (bytes + 1, line + 1),
            }
        }
        Place::Head { bytes, line }
    }
}

/// A connection that ends where a request takes longer than it may, from its first byte to its
/// answer, or has a head without end.
pub struct Timed {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    timeout: Duration,
    /// Whether a request has begun.
    busy: bool,
    place: Place,
    end: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, timeout: Duration) -> Self {
        let end = Box::pin(tokio::time::sleep(timeout));
        Timed { stream, _permit: permit, timeout, busy: false, place: Place::BEGIN, end }
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
        let filled = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(outcome) => {
                this.place = this.place.after(&buffer.filled()[filled..]);
                if matches!(this.place, Place::Head { bytes, .. } if bytes > LONGEST_HEAD) {
                    return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "the head is too long")));
                }
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
                // what an interim answer asks for is a body
                if !bytes.starts_with(b"HTTP/1.1 100") {
                    this.place = Place::BEGIN;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line() {
        let whole = b"\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n{";
        // however it comes
        for at in 0..whole.len() {
            assert_eq!(Place::BEGIN.after(&whole[..at]).after(&whole[at..]), Place::Body);
        }
        assert_eq!(Place::BEGIN.after(&whole[..whole.len() - 2]), Place::Head { bytes: 21, line: 0 });
        assert_eq!(Place::BEGIN.after(b"a: b\n\n"), Place::Body);
        assert_eq!(Place::BEGIN.after(&[b'x'; 90]), Place::Head { bytes: 90, line: 90 });
        let long = [&[b'x'; LONGEST_HEAD + 1][..], b"\n\n"].concat();
        assert_eq!(Place::BEGIN.after(&long), Place::Head { bytes: LONGEST_HEAD + 1, line: 0 });
    }
}
