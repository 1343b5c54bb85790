//! The quick way through one JSON object: flat, and no escapes in its strings.
//!
//! It accepts only what is certainly valid JSON and answers `None` to everything else, valid or
//! not; then [`super::json`] asks a complete parser. So it may be simple, and every judgement on
//! what is wrong is made in one place.

/// Raw JSON text of a tuple's five fields, in the order source, seq, ts, key, value; empty where
/// the object has no such field.
pub(super) type Fields<'a> = [&'a str; 5];

/// Reads the object that starts at byte `at` of `text`; returns its fields and where it ends.
/// The `names` must be plain: see [`are_plain`].
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
        // Objects of one producer carry their fields in one order: try the next one first.
        let (slot, name_end) = if is_name(bytes, at, names[likely]) {
            (Some(likely), at + names[likely].len() + 2)
        } else {
            let end = string(bytes, at)?;
            let name = &bytes[at + 1..end - 1];
            let slot = names.iter().position(|known| known.as_bytes() == name);
            (slot, end)
        };
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
        if let Some(slot) = slot {
            if !fields[slot].is_empty() {
                return None;
            }
            fields[slot] = &text[at..end];
            likely = if slot == 4 { 0 } else { slot + 1 };
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

/// Whether JSON writes every one of `names` as it is, without escapes: else this scanner cannot
/// tell them.
pub(super) fn are_plain(names: &[&str; 5]) -> bool {
    names
        .iter()
        .flat_map(|name| name.bytes())
        .all(|byte| byte != b'"' && byte != b'\\' && byte >= b' ')
}

/// Whether `name` stands quoted at `at`.
fn is_name(bytes: &[u8], at: usize, name: &str) -> bool {
    let end = at + 1 + name.len();
    bytes.get(at) == Some(&b'"')
        && bytes.get(end) == Some(&b'"')
        && bytes[at + 1..end] == *name.as_bytes()
}

/// The end of the string that starts at `at`, if it does and has no escapes.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = special(u64::from_le_bytes(*eight));
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            return (bytes[at] == b'"').then_some(at + 1);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    let length = rest
        .iter()
        .position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
    (rest[length] == b'"').then_some(at + length + 1)
}

/// Marks, in its lowest set bit, the first of eight bytes that is a quote, a backslash or a
/// control character; marks above it mean nothing. See Anderson, "Bit Twiddling Hacks",
/// "Determine if a word has a byte less than n".
fn special(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let quote = below(eight ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(eight ^ (ONES * u64::from(b'\\')), 1);
    (quote | backslash | below(eight, 0x20)) & (ONES * 0x80)
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
