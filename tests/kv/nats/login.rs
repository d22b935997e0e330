//! Who one is to a server of NATS, and that nobody else learns it.
