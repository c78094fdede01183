//! Lines of a TCP peer, such as `nc -lk 9999` serves them. It is connected to again whenever it closes.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    os::fd::AsRawFd,
    time::Duration,
};

use super::{
    Notices,
    lines::{Ended, pump},
    log::ReceiveLog,
};
use crate::model::Notice;

/// How long an attempt to connect may take.
const CONNECT_LONGEST: Duration = Duration::from_secs(5);
/// How long a read waits before it looks whether the job is stopping.
const READ_LONGEST: Duration = Duration::from_millis(200);
/// A peer that says nothing for so long is asked whether it is still there, and again, so many times.
const QUIET: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(10);
const ASK_TIMES: libc::c_int = 3;
/// Between two attempts, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Receives until nothing more should be.
pub(super) fn receive(log: &ReceiveLog, (host, port): (&str, u16), line_bytes_max: usize, notices: &Notices) {
    let mut pause = PAUSE_FIRST;
    let mut told = String::new();
    while !log.is_stopping() {
        match connect(host, port) {
            Ok(stream) => {
                told.clear();
                notices.tell(Notice::news(format!("connected to {host}:{port}")));
                let (ended, came) = pump(log, stream, line_bytes_max);
                // a peer that closes at once is not asked all the time
                pause = if came { PAUSE_FIRST } else { pause };
                match ended {
                    Ended::Stopped => return,
                    Ended::AtItsEnd => {
                        notices.tell(format!("{host}:{port} has closed the connection; connecting again"))
                    }
                    Ended::Broken { error, unfinished_bytes } => {
                        let dropped = if unfinished_bytes == 0 {
                            String::new()
                        } else {
                            format!("; {unfinished_bytes} bytes of a line that has no end were dropped")
                        };
                        notices.tell(format!(
                            "the connection to {host}:{port} is broken ({error}){dropped}; connecting again"
                        ));
                    }
                }
            }
            Err(error) => {
                let why = error.to_string();
                if told != why {
                    notices.tell(format!("cannot connect to {host}:{port} ({why}); trying again"));
                    told = why;
                }
            }
        }
        if log.wait_for_stop(pause) {
            return;
        }
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LONGEST) {
            Ok(stream) => {
                // an attempt on a free port of this machine may be given that very port
                if stream.local_addr()? == stream.peer_addr()? {
                    last = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
                    continue;
                }
                stream.set_read_timeout(Some(READ_LONGEST))?;
                keep_asking(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Has the system ask a peer that is quiet whether it is still there: one that lost its power, or its network, says no goodbye.
fn keep_asking(stream: &TcpStream) -> io::Result<()> {
    let seconds = |time: Duration| libc::c_int::try_from(time.as_secs()).unwrap_or(libc::c_int::MAX);
    #[cfg(target_os = "linux")]
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(QUIET)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(ASK_AGAIN)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, ASK_TIMES),
    ];
    #[cfg(not(target_os = "linux"))]
    let options = [(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)];
    for (level, name, value) in options {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open as long as `stream`, and `value` is an int of that length that outlives the call.
        let set = unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, (&raw const value).cast(), length) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_peer_is_asked_whether_it_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
        for (level, name, expected) in
            [(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1), (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60)]
        {
            let (mut value, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
            // SAFETY: the descriptor is open, and both places are of the types that the call wants.
            let got =
                unsafe { libc::getsockopt(stream.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
            assert_eq!((got, value), (0, expected));
        }
    }

    /// The system gives ports in turn: among so many attempts one is connected to itself.
    #[test]
    fn a_connection_to_itself_is_none() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for _ in 0..60_000 {
            if let Ok(stream) = connect("127.0.0.1", port) {
                assert_ne!(stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            }
        }
    }
}
