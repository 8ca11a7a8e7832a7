//! Percent-decoding, for `file:` URLs and for the names in a bucket's listing.

/// The bytes that a text means in which `%41` stands for `A`; `None` if it is cut short.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let mut byte = [0];
        hex::decode_to_slice(tail.get(..2)?, &mut byte).ok()?;
        bytes.extend(byte);
        rest = &tail[2..];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes_what_is_whole_and_refuses_the_rest() {
        assert_eq!(decode("a%20b%2Fc%c3%a4").as_deref(), Some("a b/cä".as_bytes()));
        for wrong in ["%", "%2", "a%zz", "%+1", "%ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
