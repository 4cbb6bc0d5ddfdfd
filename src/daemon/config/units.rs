//! Sizes, rates and durations as people write them.

use std::time::Duration;

/// Why a text is not a quantity: the sentence names what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

/// Splits `12.5MB` into thousandths and unit: at most three digits after the point.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths: u64 = if part.is_empty() { 0 } else { format!("{part:0<3}").parse().ok()? };
    let number = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
    Some((number, unit.trim()))
}

/// Bytes of one unit of size; binary units with an `i`.
fn size_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "B" => 1,
        "kB" | "KB" | "k" | "K" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    })
}

/// Parses a size (`512MiB`, `1GB`, `4096`) to bytes.
///
/// # Errors
/// Not a number with a unit of B, kB, MB, GB, KiB, MiB, GiB, or too large.
pub fn size(text: &str) -> Result<u64, UnitError> {
    const EXPECTED: UnitError = UnitError("expected a size such as \"512MiB\" or \"1GB\"");
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let unit = size_unit(unit).ok_or(EXPECTED)?;
    number.checked_mul(unit).map(|bytes| bytes / 1000).ok_or(EXPECTED)
}

/// Parses a rate (`10Mbit`, `1MB/s`) to bytes per second.
///
/// # Errors
/// Not a number with a unit of bit, kbit, Mbit, Gbit, or a size per second; or too large.
pub fn rate(text: &str) -> Result<u64, UnitError> {
    const EXPECTED: UnitError = UnitError("expected a rate such as \"10Mbit\" or \"1MB/s\"");
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let bits = unit.strip_suffix("/s").unwrap_or(unit).strip_suffix("bit");
    let (unit, divisor) = match bits {
        Some(prefix) if prefix.len() <= 1 => (size_unit(prefix).ok_or(EXPECTED)?, 8000),
        Some(_) => return Err(EXPECTED),
        None => (unit.strip_suffix("/s").filter(|unit| !unit.is_empty()).and_then(size_unit).ok_or(EXPECTED)?, 1000),
    };
    number.checked_mul(unit).map(|product| product / divisor).ok_or(EXPECTED)
}

/// Parses a duration (`250ms`, `60s`, `5m`, `2h`, `7d`).
///
/// # Errors
/// Not a number with a unit of ms, s, m, h, d, or longer than a thousand years.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    const EXPECTED: UnitError = UnitError("expected a duration such as \"60s\", \"5m\" or \"2h\"");
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED),
    };
    number.checked_mul(unit_ms).map(|product| Duration::from_millis(product / 1000)).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_in_every_unit() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(rate("10Mbit"), Ok(1_250_000));
        assert_eq!(rate("10 Mbit/s"), Ok(1_250_000));
        assert_eq!(rate("1MB/s"), Ok(1_000_000));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in
            ["", "MB", "1..2s", "-1s", "12 parsecs", "99999999999999999999", "9999999999999999GB", "1.2345s", "."]
        {
            assert!(size(text).is_err() && rate(text).is_err() && duration(text).is_err(), "{text}");
        }
        assert!(rate("1MB").is_err() && rate("5").is_err() && duration("60").is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_quantity_or_an_error(text: String) {
            let _ = (size(&text), rate(&text), duration(&text));
        }
    }
}
