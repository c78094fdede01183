//! Connections with limits: how many, how long a request's head may take and be, how long an answer may wait for its
//! reader. A reader that is slow, or says nothing, costs a place for a while, and nothing else.

use std::{
    future::Future,
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::batch::clock::due_after;
use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// More connections at once wait until one ends.
const CONNECTIONS_MAX: usize = 64;

const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a peer may take. A timer is moved, never made anew: who waits for it would not be woken by another.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A head must be here so long after its first byte.
    head: Duration,
    /// A connection on which nothing is said is kept so long: longer than any answer takes to begin, and than the pauses of
    /// one that goes on for ever.
    idle: Duration,
    /// So long an answer may wait for somebody who does not read it.
    write: Duration,
}

const PATIENCE: Patience =
    Patience { head: Duration::from_secs(10), idle: Duration::from_secs(40), write: Duration::from_secs(20) };

/// Listens, and hands out connections as places become free.
pub struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Patience,
}

impl Limited {
    pub fn new(listener: TcpListener) -> Limited {
        Limited { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), patience: PATIENCE }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let mut is_told = false;
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            match (place, self.listener.accept().await) {
                (Ok(place), Ok((stream, address))) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!("answers may be delayed a little: {error}");
                    }
                    return (Connection::new(stream, place, self.patience), address);
                }
                (_, Err(error)) => {
                    // too many open files, for instance: others may be closed meanwhile
                    let is_usual = error.kind() == std::io::ErrorKind::ConnectionAborted;
                    if !is_usual && !std::mem::replace(&mut is_told, true) {
                        tracing::warn!("the page accepts no connection ({error}); trying again");
                    }
                    sleep(Duration::from_millis(200)).await;
                }
                (Err(closed), _) => tracing::debug!("no connection has a place: {closed}"),
            }
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that is cut where its peer takes too long.
pub struct Connection {
    stream: TcpStream,
    /// How much of a head has come that is not whole yet, and how that ends.
    head_bytes: usize,
    tail: [u8; 4],
    head_due: Pin<Box<Sleep>>,
    idle_due: Pin<Box<Sleep>>,
    write_due: Pin<Box<Sleep>>,
    writing: bool,
    limits: Patience,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, limits: Patience) -> Connection {
        Connection {
            stream,
            head_bytes: 0,
            tail: [0; 4],
            head_due: Box::pin(sleep(limits.head)),
            idle_due: Box::pin(sleep(limits.idle)),
            write_due: Box::pin(sleep(limits.write)),
            writing: false,
            limits,
            _place: place,
        }
    }

    /// Takes note of what came; an empty line ends a head, and requests have nothing behind it.
    fn met(&mut self, bytes: &[u8]) -> Result<()> {
        if self.head_bytes == 0 {
            self.head_due.as_mut().reset(due_after(self.limits.head));
        }
        self.idle_due.as_mut().reset(due_after(self.limits.idle));
        for byte in bytes {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
            self.head_bytes += 1;
            if self.head_bytes > HEAD_BYTES_MAX {
                return Err(Error::new(ErrorKind::InvalidData, "a request's head is too long"));
            }
            if self.tail == *b"\r\n\r\n" || self.tail[2..] == *b"\n\n" {
                (self.head_bytes, self.tail) = (0, [0; 4]);
            }
        }
        Ok(())
    }

    /// Cuts the connection when its reader has not read for too long.
    fn wait_to_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.writing = false;
            self.idle_due.as_mut().reset(due_after(self.limits.idle));
            return written;
        }
        if !self.writing {
            self.writing = true;
            self.write_due.as_mut().reset(due_after(self.limits.write));
        }
        ready!(self.write_due.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "nobody reads the answer")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(this.met(&buffer.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let due = if this.head_bytes > 0 { &mut this.head_due } else { &mut this.idle_due };
                ready!(due.as_mut().poll(cx));
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "no request came")))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait_to_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wait_to_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Patience =
        Patience { head: Duration::from_millis(200), idle: Duration::from_millis(400), write: Duration::from_secs(20) };

    /// What comes of these bytes until the connection is cut; it must be, and soon.
    fn until_cut(sent: &[&str]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let limited = Limited { patience: SHORT, ..Limited::new(listener) };
            let app = Router::new().route("/", get(|| async { "here" }));
            let serving = tokio::spawn(async move { axum::serve(limited, app).await });
            let mut peer = TcpStream::connect(address).await.unwrap();
            for part in sent {
                peer.write_all(part.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(20), peer.read_to_end(&mut answer)).await;
            serving.abort();
            // a reset is a cut, too
            drop(read.expect("it is cut in time"));
            String::from_utf8(answer).unwrap()
        })
    }

    #[test]
    fn a_connection_on_which_nothing_is_said_is_cut() {
        const ASKED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(until_cut(&[]), "");
        // after an answer, and after several
        assert!(until_cut(&[ASKED]).ends_with("here"));
        assert_eq!(until_cut(&[ASKED, ASKED, ASKED]).matches("here").count(), 3);
    }

    #[test]
    fn a_head_that_does_not_end_is_cut() {
        assert_eq!(until_cut(&["GET / HTTP/1.1\r\nHost: local"]).matches("200").count(), 0);
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(until_cut(&[&long]).matches("200").count(), 0);
    }
}
