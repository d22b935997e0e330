//! Repeats requests that were lost because the server had closed the reused connection.
//!
//! A server may close a connection at any time without notice, and a request that is sent meanwhile is lost.
//! A request that changes nothing on the server is then sent again on a new connection.

use std::io;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::sync::lock::Mutex;

/// A request on a closed connection fails this soon. One that fails later was waiting for an answer.
const MAX_CLOSED: Duration = Duration::from_secs(1);

/// A client that keeps one connection.
pub(crate) struct Client {
    pub(crate) agent: Agent,
    /// The server whose connection may be reused.
    reusable: Mutex<Option<String>>,
}

impl Client {
    pub(crate) fn new(agent: Agent) -> Self {
        Self {
            agent,
            reusable: Mutex::new(None),
        }
    }

    /// Records that an answer of a server was read to its end, so its connection may be reused.
    pub(crate) fn set_reusable(&self, server: &str) {
        *self.reusable.lock() = Some(server.to_owned());
    }

    /// Sends a request that changes nothing on the server, and repeats it if the reused connection was closed.
    /// `send` receives the time that has passed.
    pub(crate) fn send<T>(
        &self,
        server: &str,
        send: impl Fn(Duration) -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        let reused = self.reusable.lock().take();
        let begun = Instant::now();
        match send(Duration::ZERO) {
            // The client keeps no other connection, so the next one is new.
            Err(fault) if reused.as_deref() == Some(server) && is_closed(&fault) => {
                let spent = begun.elapsed();
                if spent >= MAX_CLOSED {
                    return Err(fault);
                }
                send(spent)
            }
            outcome => outcome,
        }
    }
}

/// Whether a request failed because its connection was closed before the answer.
fn is_closed(fault: &ureq::Error) -> bool {
    let ureq::Error::Io(fault) = fault else {
        return false;
    };
    matches!(
        fault.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(kind: io::ErrorKind) -> ureq::Error {
        ureq::Error::Io(kind.into())
    }

    /// How often a request is sent that fails so.
    fn sent(client: &Client, fault: impl Fn() -> ureq::Error) -> usize {
        let count = std::cell::Cell::new(0);
        let outcome: Result<(), _> = client.send("a", |_| {
            count.set(count.get() + 1);
            Err(fault())
        });
        assert!(outcome.is_err());
        count.get()
    }

    #[test]
    fn a_request_is_repeated_once_where_a_connection_to_its_server_was_reused() {
        let client = Client::new(Agent::new_with_defaults());
        let eof = || closed(io::ErrorKind::UnexpectedEof);
        assert_eq!(sent(&client, eof), 1);
        client.set_reusable("b");
        assert_eq!(sent(&client, eof), 1);
        client.set_reusable("a");
        assert_eq!(sent(&client, eof), 2);
        // None is kept after that.
        assert_eq!(sent(&client, eof), 1);
        client.set_reusable("a");
        assert_eq!(sent(&client, || closed(io::ErrorKind::ConnectionReset)), 2);
        for other in [
            || closed(io::ErrorKind::ConnectionRefused),
            || closed(io::ErrorKind::TimedOut),
            || ureq::Error::HostNotFound,
        ] {
            client.set_reusable("a");
            assert_eq!(sent(&client, other), 1);
        }
    }
}
