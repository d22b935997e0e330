//! The encodings in which credentials are sent: base64 and percent escapes.

use crate::value::percent;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes in base64 without padding.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 2);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(DIGITS[value as usize]));
        }
    }
    text
}

/// Decodes base64 with any alphabet and padding; `None` if the text is not base64.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// Decodes percent escapes; `None` if there are none, or the result is not UTF-8.
pub(super) fn from_percent(text: &str) -> Option<String> {
    if !text.contains('%') {
        return None;
    }
    String::from_utf8(percent::decode(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_reverses_encoding() {
        for text in ["", "a", "ab", "abc", "me:p w/ö?", "\u{ff}>~"] {
            let encoded = to_base64(text.as_bytes());
            assert_eq!(from_base64(&encoded).as_deref(), Some(text.as_bytes()));
            let escaped = percent::encode(text);
            assert_eq!(from_percent(&escaped).unwrap_or(escaped), text);
        }
        assert_eq!(to_base64(b"user:password"), "dXNlcjpwYXNzd29yZA");
        assert_eq!(from_base64("dTpw=="), Some(b"u:p".to_vec()));
        assert_eq!(from_base64("not base64!"), None);
    }
}
