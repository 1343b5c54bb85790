//! The quick way through one JSON object: flat, and no escapes in its strings.
//!
//! It accepts only what is certainly valid JSON and answers `None` to everything else, valid or
//! not; then [`super::json`] asks a complete parser. So it may be simple, and every judgement on
//! what is wrong is made in one place.

/// Raw JSON text of a tuple's five fields, in the order source, seq, ts, key, value; empty where
/// the object has no such field.
pub(super) type Fields<'a> = [&'a str; 5];

/// Reads the object that starts at byte `at` of `text`; returns its fields and where it ends.
pub(super) fn object<'a>(
    text: &'a str,
    mut at: usize,
    names: &[&str; 5],
) -> Option<(Fields<'a>, usize)> {
    let bytes = text.as_bytes();
    let mut fields: Fields<'a> = [""; 5];
    let mut likely = 0;
    if *bytes.get(at)? != b'{' {
        return None;
    }
    loop {
        at = space(bytes, at + 1);
        let name_end = string(bytes, at)?;
        let name = &bytes[at + 1..name_end - 1];
        at = space(bytes, name_end);
        if *bytes.get(at)? != b':' {
            return None;
        }
        at = space(bytes, at + 1);
        let end = match *bytes.get(at)? {
            b'"' => string(bytes, at)?,
            b'-' | b'0'..=b'9' => number(bytes, at)?,
            b't' => literal(bytes, at, b"true")?,
            b'f' => literal(bytes, at, b"false")?,
            b'n' => literal(bytes, at, b"null")?,
            _ => return None,
        };
        // Objects of one producer carry their fields in one order: ask for the next first.
        let slot = if names[likely].as_bytes() == name {
            Some(likely)
        } else {
            names.iter().position(|known| known.as_bytes() == name)
        };
        if let Some(slot) = slot {
            if !fields[slot].is_empty() {
                return None;
            }
            fields[slot] = &text[at..end];
            likely = (slot + 1) % 5;
        }
        at = space(bytes, end);
        match *bytes.get(at)? {
            b',' => {}
            b'}' => return Some((fields, at + 1)),
            _ => return None,
        }
    }
}

/// The first byte from `at` on that is not JSON white space.
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The end of the string that starts at `at`, if it does and has no escapes.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let rest = &bytes[at + 1..];
    let length = rest
        .iter()
        .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
    (rest[length] == b'"').then_some(at + length + 2)
}

/// The end of the number that starts at `at`, if it follows JSON's grammar and has no exponent.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| {
        let mut end = from;
        while bytes.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
        end
    };
    let start = at + usize::from(bytes[at] == b'-');
    let mut end = digits(start);
    if end == start || (bytes[start] == b'0' && end > start + 1) {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    match bytes.get(end) {
        Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t') => Some(end),
        _ => None,
    }
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}
