//! Parses `host:port`, by the rules of [`http::uri::Authority`].
//!
//! `Authority` differs in three points from what an address of a server may hold, and this adds them: it
//! rejects the zone of an IPv6 address (`[fe80::1%eth0]`), it ignores a port that is no number, and it
//! accepts any text between brackets. It accepts no letters outside ASCII, so a host name of that kind has
//! to be written in Punycode.

use std::net::Ipv6Addr;

use http::uri::Authority;

/// Parses `host:port` without a user; returns the host without brackets. An empty port counts as none.
pub(crate) fn parse_host_and_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    const NO_HOST: &str = "the host is missing or not valid";
    let (bare, zone) = split_zone(text);
    if bare.contains('@')
        || !zone
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"%-._".contains(&b))
    {
        return Err(NO_HOST);
    }
    let authority: Authority = bare.parse().map_err(|_| NO_HOST)?;
    let host = authority.host();
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if host.is_empty() || inner.is_some_and(|it| it.parse::<Ipv6Addr>().is_err()) {
        return Err(NO_HOST);
    }
    let port = match authority.as_str()[host.len()..].strip_prefix(':') {
        None if host.len() < authority.as_str().len() => return Err(NO_HOST),
        None | Some("") => None,
        Some(port) => Some(parse_port(port)?),
    };
    Ok((format!("{}{zone}", inner.unwrap_or(host)), port))
}

/// Splits off the zone of an IPv6 address: `[fe80::1%eth0]:1` becomes `[fe80::1]:1` and `%eth0`.
fn split_zone(text: &str) -> (String, &str) {
    let zone = text.strip_prefix('[').and_then(|rest| {
        let (inner, _) = rest.split_once(']')?;
        Some(&inner[inner.find('%')?..])
    });
    match zone {
        Some(zone) => (text.replacen(zone, "", 1), zone),
        None => (text.to_owned(), ""),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or("the port is not a number from 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, host, port) in [
            ("h", "h", None),
            ("a-b.c_d:1", "a-b.c_d", Some(1)),
            ("h:", "h", None),
            ("[::1]", "::1", None),
            ("[::1]:7", "::1", Some(7)),
            ("[fe80::1%eth0]:7", "fe80::1%eth0", Some(7)),
        ] {
            assert_eq!(
                parse_host_and_port(text),
                Ok((host.to_owned(), port)),
                "{text}"
            );
        }
        for text in [
            "",
            ":1",
            "a b",
            "me@h",
            "h:0",
            "h:+1",
            "h:x",
            "h:65536",
            "h:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[h]",
            "[fe80::1%a/b]",
            "h%41",
            "h/a",
            "b\u{fc}cher",
        ] {
            assert!(parse_host_and_port(text).is_err(), "{text}");
        }
    }
}
