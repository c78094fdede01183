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

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// More connections at once wait until one ends.
const CONNECTIONS_MAX: usize = 64;

/// A head must be here so long after its first byte.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A connection on which nothing is said is kept so long: longer than any answer takes to begin, and than the pauses of one
/// that goes on for ever.
const IDLE_MAX: Duration = Duration::from_secs(40);

/// So long an answer may wait for somebody who does not read it.
const WRITE_WITHIN: Duration = Duration::from_secs(20);

/// Listens, and hands out connections as places become free.
pub struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Limited {
    pub fn new(listener: TcpListener) -> Limited {
        Limited { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            match (place, self.listener.accept().await) {
                (Ok(place), Ok((stream, address))) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!("answers may be delayed a little: {error}");
                    }
                    return (Connection::new(stream, place), address);
                }
                (_, Err(error)) => {
                    // too many open files, for instance: others may be closed meanwhile
                    tracing::debug!("a connection was not accepted: {error}");
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
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Connection {
        Connection {
            stream,
            head_bytes: 0,
            tail: [0; 4],
            head_due: Box::pin(sleep(HEAD_WITHIN)),
            idle_due: Box::pin(sleep(IDLE_MAX)),
            write_due: Box::pin(sleep(WRITE_WITHIN)),
            writing: false,
            _place: place,
        }
    }

    /// Takes note of what came; an empty line ends a head, and requests have nothing behind it.
    fn met(&mut self, bytes: &[u8]) -> Result<()> {
        if self.head_bytes == 0 {
            self.head_due.as_mut().set(sleep(HEAD_WITHIN));
        }
        self.idle_due.as_mut().set(sleep(IDLE_MAX));
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
            self.idle_due.as_mut().set(sleep(IDLE_MAX));
            return written;
        }
        if !self.writing {
            self.writing = true;
            self.write_due.as_mut().set(sleep(WRITE_WITHIN));
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
