//! Passes everything on between the job and its server, and looks at the server whenever a transaction was done.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{Shared, locked};
use crate::servers::held::{Held, Wire};

/// What was found, in turn; `None`: nobody wants to know.
type Looks = Arc<Mutex<Option<Vec<Result<Held, String>>>>>;

pub struct Proxy {
    pub port: u16,
    /// The server's, but by way of the proxy.
    pub url: String,
    looks: Looks,
}

impl Proxy {
    /// Listens on a port (0: on one that is free), until this process ends.
    pub fn start(port: u16, url: &str, wire: Wire, store: &Shared) -> Proxy {
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (authority, database) = rest.split_once('/').expect("a database");
        let (user, server) = authority.rsplit_once('@').map_or(("", authority), |(user, server)| (user, server));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let looks = Looks::default();
        let (server, store, looked) = (server.to_owned(), Arc::clone(store), Arc::clone(&looks));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let (to_client, from_server) = (clone(&client), clone(&server));
                let (store, looks) = (Arc::clone(&store), Arc::clone(&looked));
                thread::spawn(move || pass(client, server, |_| {}));
                thread::spawn(move || {
                    pass(from_server, to_client, |bytes| {
                        if memchr::memmem::find(bytes, wire.answered).is_some() {
                            // nobody has the answer yet, and so nobody goes on
                            locked(&looks).iter_mut().for_each(|all| all.push(locked(&store).read()));
                        }
                    });
                });
            }
        });
        Proxy { port, url: format!("{scheme}://{user}127.0.0.1:{port}/{database}"), looks }
    }

    /// Looks from now on.
    pub fn begin(&self) {
        *locked(&self.looks) = Some(Vec::new());
    }

    /// What was found since then.
    pub fn end(&self) -> Vec<Result<Held, String>> {
        locked(&self.looks).take().unwrap_or_default()
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    // each statement is a small packet, and waited for
    stream.set_nodelay(true).expect("it is open");
    stream.try_clone().expect("it is open")
}

fn pass(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        look(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
