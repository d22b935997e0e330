//! Connections that are kept for the next request.
//!
//! A server may close one at any time, and most announce nothing: a request that is sent meanwhile is lost.
//! It has done nothing, so one that changes nothing on the server is sent once more, on a new connection.

use std::io;
use std::time::{Duration, Instant};

use ureq::Agent;

use crate::sync::lock::Mutex;

/// A request fails this soon after it was sent on a connection that is closed. One that fails later was
/// waiting for an answer.
const CLOSED: Duration = Duration::from_secs(1);

/// A client that keeps one connection.
pub(crate) struct Client {
    pub(crate) agent: Agent,
    /// The server that a connection may be kept to.
    kept: Mutex<Option<String>>,
}

impl Client {
    pub(crate) fn new(agent: Agent) -> Self {
        Self {
            agent,
            kept: Mutex::new(None),
        }
    }

    /// An answer of a server was read to its end, so its connection may be kept.
    pub(crate) fn keeps(&self, server: &str) {
        *self.kept.lock() = Some(server.to_owned());
    }

    /// Sends a request that changes nothing on a server, again if a connection was kept that turns out to be
    /// closed. `send` is handed the time that has been spent.
    pub(crate) fn send<T>(
        &self,
        server: &str,
        send: impl Fn(Duration) -> Result<T, ureq::Error>,
    ) -> Result<T, ureq::Error> {
        let kept = self.kept.lock().take();
        let begun = Instant::now();
        match send(Duration::ZERO) {
            // The one that failed is not kept, and there is no other.
            Err(fault) if kept.as_deref() == Some(server) && is_closed(&fault) => {
                let spent = begun.elapsed();
                if spent >= CLOSED {
                    return Err(fault);
                }
                send(spent)
            }
            outcome => outcome,
        }
    }
}

/// Whether a request failed because its connection was closed before an answer was there.
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
    fn a_request_is_sent_again_once_where_a_connection_to_its_server_was_kept() {
        let client = Client::new(Agent::new_with_defaults());
        let eof = || closed(io::ErrorKind::UnexpectedEof);
        assert_eq!(sent(&client, eof), 1);
        client.keeps("b");
        assert_eq!(sent(&client, eof), 1);
        client.keeps("a");
        assert_eq!(sent(&client, eof), 2);
        // None is kept after that.
        assert_eq!(sent(&client, eof), 1);
        client.keeps("a");
        assert_eq!(sent(&client, || closed(io::ErrorKind::ConnectionReset)), 2);
        for other in [
            || closed(io::ErrorKind::ConnectionRefused),
            || closed(io::ErrorKind::TimedOut),
            || ureq::Error::HostNotFound,
        ] {
            client.keeps("a");
            assert_eq!(sent(&client, other), 1);
        }
    }
}
