//! Decimal text to minor units, exactly: no float is ever involved.

/// Why a decimal is no amount at a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecimalError {
    /// Not `[-]digits[.digits][e[±]digits]`.
    Syntax,
    /// Digits other than zero beyond the scale.
    TooPrecise,
    /// Does not fit 64 bits at the scale.
    OutOfRange,
}

/// Parses `text` as a decimal and returns it times 10^`scale`.
pub(super) fn parse(text: &str, scale: u8) -> Result<i64, DecimalError> {
    match plain(text.as_bytes(), scale) {
        Some(value) => Ok(value),
        None => general(text.as_bytes(), scale),
    }
}

/// The usual case: at most 18 digits, no exponent, no more decimals than the scale.
fn plain(text: &[u8], scale: u8) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 18 || scale > 18 {
        return None;
    }
    let mut value: i64 = 0;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'.' if point.is_none() && at > 0 => point = Some(at),
            _ => return None,
        }
    }
    let decimals = match point {
        Some(at) if at + 1 == digits.len() => return None,
        Some(at) => digits.len() - at - 1,
        None => 0,
    };
    let missing = u32::from(scale).checked_sub(decimals as u32)?;
    let value = value.checked_mul(10i64.checked_pow(missing)?)?;
    Some(if negative { -value } else { value })
}

fn general(text: &[u8], scale: u8) -> Result<i64, DecimalError> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (whole, rest) = digits(rest);
    if whole.is_empty() {
        return Err(DecimalError::Syntax);
    }
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => {
            let (fraction, rest) = digits(rest);
            if fraction.is_empty() {
                return Err(DecimalError::Syntax);
            }
            (fraction, rest)
        }
        rest => (&[][..], rest),
    };
    let exponent = exponent(rest)?;

    // The value is mantissa × 10^power, the mantissa without trailing zeros.
    let mut mantissa: Option<i128> = Some(0);
    let mut zeros: u32 = 0;
    for digit in whole.iter().chain(fraction).map(|byte| byte - b'0') {
        if digit == 0 {
            zeros += u32::from(mantissa != Some(0));
            continue;
        }
        mantissa = 10i128
            .checked_pow(zeros + 1)
            .and_then(|shift| mantissa?.checked_mul(shift))
            .and_then(|value| value.checked_add(digit.into()));
        zeros = 0;
    }
    if mantissa == Some(0) {
        return Ok(0);
    }
    let power = exponent
        .saturating_add(i64::from(zeros))
        .saturating_sub(fraction.len() as i64)
        .saturating_add(i64::from(scale));
    if power < 0 {
        return Err(DecimalError::TooPrecise);
    }
    u32::try_from(power)
        .ok()
        .and_then(|power| 10i128.checked_pow(power))
        .and_then(|shift| mantissa?.checked_mul(shift))
        .map(|value| if negative { -value } else { value })
        .and_then(|value| i64::try_from(value).ok())
        .ok_or(DecimalError::OutOfRange)
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The exponent that ends a number; beyond what matters it saturates.
fn exponent(text: &[u8]) -> Result<i64, DecimalError> {
    let [b'e' | b'E', rest @ ..] = text else {
        return if text.is_empty() {
            Ok(0)
        } else {
            Err(DecimalError::Syntax)
        };
    };
    let (negative, rest) = match rest {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (number, rest) = digits(rest);
    if number.is_empty() || !rest.is_empty() {
        return Err(DecimalError::Syntax);
    }
    let value = number.iter().fold(0i64, |value, byte| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(byte - b'0'))
    });
    Ok(if negative { -value } else { value })
}

/// Moves `value`, counted in units of 10^-`from`, to units of 10^-`to`.
pub(super) fn rescale(value: i128, from: i8, to: u8) -> Result<i64, DecimalError> {
    let shift = i32::from(to) - i32::from(from);
    let factor = 10i128.checked_pow(shift.unsigned_abs());
    let moved = if shift >= 0 {
        factor.and_then(|factor| value.checked_mul(factor))
    } else {
        match factor {
            Some(factor) if value % factor == 0 => Some(value / factor),
            _ if value == 0 => Some(0),
            _ => return Err(DecimalError::TooPrecise),
        }
    };
    match moved {
        Some(value) => i64::try_from(value).map_err(|_| DecimalError::OutOfRange),
        None if value == 0 => Ok(0),
        None => Err(DecimalError::OutOfRange),
    }
}

/// Money is kept in hundredths of 64 bits, whatever the scale: an amount that does not fit is refused
/// here, since no store could take the row that it is in.
pub(super) fn kept(amount: i64, scale: u8) -> Result<i64, DecimalError> {
    let missing = u32::from(2u8.saturating_sub(scale));
    match amount.checked_mul(10i64.pow(missing)) {
        Some(_) => Ok(amount),
        None => Err(DecimalError::OutOfRange),
    }
}

/// `value` units of 10^-`scale` as decimal text.
pub(super) fn render(value: i128, scale: i8) -> String {
    if scale <= 0 {
        let zeros = if value == 0 {
            0
        } else {
            usize::from(scale.unsigned_abs())
        };
        return format!("{value}{}", "0".repeat(zeros));
    }
    let places = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_become_minor_units_exactly() {
        for (text, scale, expected) in [
            ("12.34", 2, 1234),
            ("-12.3", 2, -1230),
            ("0", 2, 0),
            ("-0.00", 2, 0),
            ("1e2", 2, 10_000),
            (
                "12.3400000000000000000000000000000000000000000000000",
                2,
                1234,
            ),
            ("1234e-2", 2, 1234),
            ("123400000000000000000000e-22", 2, 1234),
            ("92233720368547758.07", 2, i64::MAX),
            ("-92233720368547758.08", 2, i64::MIN),
            ("0e999999999999999999999", 2, 0),
            ("7", 0, 7),
            ("0.000000000000000001", 18, 1),
        ] {
            assert_eq!(parse(text, scale), Ok(expected), "{text} at {scale}");
        }
    }

    #[test]
    fn what_is_no_amount_says_why() {
        use DecimalError::{OutOfRange, Syntax, TooPrecise};
        for (text, error) in [
            ("12.345", TooPrecise),
            ("1e-3", TooPrecise),
            ("1e300", OutOfRange),
            ("1e99999999999999999999", OutOfRange),
            ("92233720368547758.08", OutOfRange),
            (
                "1111111111111111111111111111111111111111111111111",
                OutOfRange,
            ),
            ("", Syntax),
            ("-", Syntax),
            (".5", Syntax),
            ("5.", Syntax),
            ("1e", Syntax),
            ("1 ", Syntax),
            ("+1", Syntax),
            ("NaN", Syntax),
            ("0x10", Syntax),
            ("1.2.3", Syntax),
        ] {
            assert_eq!(parse(text, 2), Err(error), "{text}");
        }
    }

    #[test]
    fn rescaling_never_rounds() {
        assert_eq!(rescale(1234, 2, 2), Ok(1234));
        assert_eq!(rescale(1234, 0, 2), Ok(123_400));
        assert_eq!(rescale(123_400, 4, 2), Ok(1234));
        assert_eq!(rescale(12, -1, 2), Ok(12_000));
        assert_eq!(rescale(123_401, 4, 2), Err(DecimalError::TooPrecise));
        assert_eq!(rescale(i128::MAX, 2, 2), Err(DecimalError::OutOfRange));
        assert_eq!(rescale(0, -100, 2), Ok(0));
        assert_eq!(rescale(1, -100, 2), Err(DecimalError::OutOfRange));
        assert_eq!(rescale(1, 100, 2), Err(DecimalError::TooPrecise));
    }

    proptest! {
        #[test]
        fn a_rendered_amount_parses_back(value: i64, scale in 0u8..=18) {
            let text = render(value.into(), scale as i8);
            prop_assert_eq!(parse(&text, scale), Ok(value));
        }

        #[test]
        fn the_quick_parser_agrees_with_the_general_one(text in "-?[0-9]{0,10}(\\.[0-9]{0,4})?", scale in 0u8..6) {
            if let Some(value) = plain(text.as_bytes(), scale) {
                prop_assert_eq!(general(text.as_bytes(), scale), Ok(value));
            }
        }
    }
}
