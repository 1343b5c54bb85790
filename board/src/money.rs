//! Exact money: decimal text with two places, added as integers.

/// Reads decimal text with at most two places as hundredths; `None` for anything else.
pub(crate) fn hundredths(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 2 {
        return None;
    }
    format!("{whole}{fraction:0<2}").parse().ok()
}

/// Writes hundredths as decimal text with two places.
pub(crate) fn text(hundredths: i128) -> String {
    let magnitude = hundredths.unsigned_abs();
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100)
}

/// `sum / count` as decimal text with four places, rounded half away from zero as the databases do.
pub(crate) fn mean(hundredths: i128, count: u64) -> String {
    if count == 0 {
        return "0.0000".into();
    }
    let count = i128::from(count);
    // Ten-thousandths, without overflow for any sum that a DECIMAL(38,2) holds.
    let (whole, rest) = (hundredths / count, hundredths % count);
    let part = rest * 100;
    let half = if hundredths < 0 {
        -count / 2
    } else {
        count / 2
    };
    let scaled = (part + half) / count + whole * 100;
    let magnitude = scaled.unsigned_abs();
    let sign = if scaled < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", magnitude / 10_000, magnitude % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written_to_the_cent() {
        for value in [
            "0.00",
            "-0.05",
            "12.50",
            "99999999999999999999999999999999999.99",
        ] {
            assert_eq!(text(hundredths(value).unwrap()), value);
        }
        assert_eq!(hundredths("7"), Some(700));
        assert_eq!(hundredths("1.234"), None);
        assert_eq!(hundredths("<img>"), None);
    }

    #[test]
    fn means_round_half_away_from_zero() {
        assert_eq!(mean(100, 3), "0.3333");
        assert_eq!(mean(200, 3), "0.6667");
        assert_eq!(mean(-200, 3), "-0.6667");
        assert_eq!(mean(1, 200), "0.0001");
    }
}
