//! Key files: a secret as text, for a file or a sheet of paper (docs/format.md, "Key files").
//!
//! ```text
//! kluis key 1
//! 0123-4567-89ab-cdef-0123-4567-89ab-cdef
//! 0123-4567-89ab-cdef-0123-4567-89ab-cdef
//! check 89ab-cdef
//! ```

use zeroize::Zeroizing;

use crate::format::FormatError;

const OBJECT: &str = "key file";
const TITLE: &str = "kluis key 1";
const CHECK: &str = "check";
const CONTEXT: &str = "kluis 2026 v1 key file checksum";

/// The text of a key file with this secret.
pub fn encode(secret: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(128));
    text.push_str(TITLE);
    for half in secret.chunks(16) {
        text.push('\n');
        push_groups(&mut text, half);
    }
    text.push('\n');
    text.push_str(CHECK);
    text.push(' ');
    push_groups(&mut text, &checksum(secret));
    text.push('\n');
    text
}

/// Reads the text of a key file. Case, blanks, dashes and line ends do not matter, so that it can be typed in.
pub fn decode(text: &[u8]) -> Result<Zeroizing<[u8; 32]>, FormatError> {
    let invalid = |rule| FormatError::invalid(OBJECT, rule);
    if text.len() > 4096 {
        return Err(invalid("it is too long"));
    }
    let text = std::str::from_utf8(text).map_err(|_| invalid("it is not text"))?;
    let squeezed: Zeroizing<String> = Zeroizing::new(
        text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()).collect(),
    );
    let title: String = TITLE.split(' ').collect();
    let rest =
        squeezed.strip_prefix(&title).ok_or_else(|| invalid("its first line is not \"kluis key 1\""))?;
    let (secret_text, check_text) =
        rest.split_once(CHECK).ok_or_else(|| invalid("its last line is missing"))?;
    let mut secret = Zeroizing::new([0; 32]);
    parse_hex(secret_text, secret.as_mut())
        .ok_or_else(|| invalid("it does not hold 64 hexadecimal digits"))?;
    let mut check = [0; 4];
    parse_hex(check_text, &mut check).ok_or_else(|| invalid("its checksum is incomplete"))?;
    if check != checksum(&secret) {
        return Err(invalid("its checksum does not match: a digit is wrong"));
    }
    Ok(secret)
}

fn checksum(secret: &[u8; 32]) -> [u8; 4] {
    *blake3::derive_key(CONTEXT, secret).first_chunk().expect("a hash has 32 bytes")
}

fn push_groups(text: &mut String, bytes: &[u8]) {
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % 2 == 0 {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("a digit is below 16"));
        }
    }
}

fn parse_hex(text: &str, into: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * into.len() {
        return None;
    }
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        let text =
            std::str::from_utf8(pair).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_being_typed_in_carelessly() {
        let secret = std::array::from_fn(|at| at as u8 * 7);
        let text = encode(&secret);
        assert_eq!(*decode(text.as_bytes()).unwrap(), secret);
        let typed = text.to_uppercase().replace('-', " ").replace('\n', "\r\n");
        assert_eq!(*decode(typed.as_bytes()).unwrap(), secret);
    }

    #[test]
    fn a_wrong_digit_is_noticed() {
        let text = encode(&[0x11; 32]);
        for (at, digit) in text.char_indices().filter(|(at, digit)| *at > 11 && digit.is_ascii_digit()) {
            let mut wrong = text.to_string();
            wrong.replace_range(at..at + 1, if digit == '2' { "3" } else { "2" });
            assert!(decode(wrong.as_bytes()).is_err(), "digit at {at}");
        }
        assert!(decode(b"").is_err());
        assert!(decode(&[0xff; 10]).is_err());
    }
}
