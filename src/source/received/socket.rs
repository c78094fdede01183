//! Lines of a TCP peer, such as `nc -lk 9999` serves them. It is connected to again whenever it closes.

use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::{
    Notices,
    lines::{Ended, pump},
    log::ReceiveLog,
};

/// How long an attempt to connect may take.
const CONNECT_LONGEST: Duration = Duration::from_secs(5);
/// How long a read waits before it looks whether the job is stopping.
const READ_LONGEST: Duration = Duration::from_millis(200);
/// Between two attempts, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Receives until the log is closed.
pub(super) fn receive(log: &ReceiveLog, (host, port): (&str, u16), line_bytes_max: usize, notices: &Notices) {
    let mut pause = PAUSE_FIRST;
    let mut told = String::new();
    while !log.is_closed() {
        match connect(host, port) {
            Ok(stream) => {
                told.clear();
                notices.tell(format!("connected to {host}:{port}"));
                let (ended, came) = pump(log, stream, line_bytes_max);
                // a peer that closes at once is not asked all the time
                pause = if came { PAUSE_FIRST } else { pause };
                match ended {
                    Ended::Stopped => return,
                    Ended::AtItsEnd => {
                        notices.tell(format!("{host}:{port} has closed the connection; connecting again"))
                    }
                    Ended::Broken(error) => {
                        notices.tell(format!("the connection to {host}:{port} is broken ({error}); connecting again"));
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
        if log.wait_for_close(pause) {
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
                stream.set_read_timeout(Some(READ_LONGEST))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
