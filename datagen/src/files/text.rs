//! Times and amounts written as text.

use jiff::Timestamp;

/// Epoch milliseconds from digits or RFC 3339; finer digits are cut off towards the past.
pub(super) fn time(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let instant: Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond().div_euclid(1_000_000)).ok()
}

/// Minor units (hundredths) of a decimal such as `-12.5`; none if it has more than two decimals
/// that count, or is beyond an i64.
pub(super) fn amount(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (units, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let (kept, cut) = decimals.split_at_checked(2).unwrap_or((decimals, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let legible = !units.is_empty() && all_digits(units) && all_digits(decimals);
    if !legible || cut.bytes().any(|byte| byte != b'0') {
        return None;
    }
    let units: i64 = units.parse().ok()?;
    let fen: i64 = format!("{kept:0<2}").parse().ok()?;
    let minor = units.checked_mul(100)?.checked_add(fen)?;
    Some(if negative { -minor } else { minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_keeps_every_digit_or_is_refused() {
        for (text, minor) in [
            ("0", Some(0)),
            ("89.00", Some(8_900)),
            ("89.5", Some(8_950)),
            ("-0.05", Some(-5)),
            ("1.2300", Some(123)),
            ("90071992547409.93", Some(9_007_199_254_740_993)),
            ("1.234", None),
            ("1e3", None),
            ("", None),
            (".5", None),
            ("NaN", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(amount(text), minor, "{text:?}");
        }
    }

    #[test]
    fn a_time_is_epoch_milliseconds_or_rfc_3339() {
        assert_eq!(time("1762790400123"), Some(1_762_790_400_123));
        assert_eq!(
            time("2025-11-11T00:00:00.123+08:00"),
            Some(1_762_790_400_123)
        );
        assert_eq!(time("yesterday"), None);
    }
}
