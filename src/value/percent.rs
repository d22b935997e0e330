//! Percent-encoding, as in addresses.

/// Encodes each byte except the unreserved ones.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Decodes each percent sign with its two hexadecimal digits; `None` if a percent sign has none.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hexadecimal_digits_follow_a_percent_sign() {
        assert_eq!(
            decode("a%2Fb%c3%A4").as_deref(),
            Some("a/b\u{e4}".as_bytes())
        );
        for text in ["%", "%4", "%+1", "%-1", "% 1", "%zz", "a%4"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(encode("a/b ~+\u{e4}"), "a%2Fb%20~%2B%C3%A4");
    }
}
