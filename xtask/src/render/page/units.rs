//! Figures as a person reads them: three significant digits, binary prefixes for bytes, typographic minus and spaces.
//!
//! A value that is not zero never reads as zero.

/// Between a number and its unit, and between groups of three digits: a line never breaks there.
const THIN_SPACE: char = '\u{202f}';
const MINUS: char = '−';

/// Three significant digits, two below a tenth, no exponent: `17.9`, `0.041`, `2 000`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs();
    if magnitude >= 999.5 {
        return grouped(value.round());
    }
    // Below a tenth two digits say enough, and tables stay narrow.
    let digits = if magnitude < 0.0995 { 1 } else { 2 };
    let decimals = (digits - magnitude.log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{magnitude:.decimals$}");
    if value < 0.0 { format!("{MINUS}{text}") } else { text }
}

/// A whole number in groups of three: `144 151`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 {
        text.push(MINUS);
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(THIN_SPACE);
        }
        text.push(digit);
    }
    text
}

/// A count: `2 000`.
pub(crate) fn count(value: u64) -> String {
    grouped(value as f64)
}

/// Bytes with a binary prefix: `51.2 B`, `95.9 KiB`.
pub(crate) fn bytes(value: f64) -> String {
    const PREFIXES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut prefix = 0;
    while scaled.abs() >= 1000.0 && prefix + 1 < PREFIXES.len() {
        scaled /= 1024.0;
        prefix += 1;
    }
    let text = if scaled.fract() == 0.0 { grouped(scaled) } else { number(scaled) };
    format!("{text}{THIN_SPACE}{}", PREFIXES[prefix])
}

/// Nanoseconds in the unit that keeps them readable.
pub(crate) fn nanoseconds(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value < 1e3 => (value, "ns"),
        value if value < 1e6 => (value / 1e3, "µs"),
        value if value < 1e9 => (value / 1e6, "ms"),
        value => (value / 1e9, "s"),
    };
    format!("{}{THIN_SPACE}{unit}", number(scaled))
}

/// A share of one as a percentage: `58.9 %`.
pub(crate) fn share(value: f64) -> String {
    let percent = value * 100.0;
    let text = match percent {
        0.0 => "0".to_owned(),
        percent if percent < 0.05 => "<0.1".to_owned(),
        percent if percent < 99.95 => format!("{percent:.1}"),
        _ => "100".to_owned(),
    };
    format!("{text}{THIN_SPACE}%")
}

/// A p value: `p<0.001`, `p=0.449`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "p<0.001".to_owned() } else { format!("p={p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace(THIN_SPACE, " ").replace(MINUS, "-")
    }

    #[test]
    fn three_significant_digits() {
        let read = [17.93, 4.63, 1.3, 0.041, 0.4, 0.00025, 999.4, 2000.0, 0.0, f64::NAN].map(|v| plain(&number(v)));
        assert_eq!(read, ["17.9", "4.63", "1.30", "0.041", "0.400", "0.00025", "999", "2 000", "0", "–"]);
    }

    #[test]
    fn bytes_carry_a_binary_prefix() {
        let read = [0.0, 51.2, 1024.0, 65536.0, 98_202.0, 3_900_000.0].map(|v| plain(&bytes(v)));
        assert_eq!(read, ["0 B", "51.2 B", "1 KiB", "64 KiB", "95.9 KiB", "3.72 MiB"]);
    }

    #[test]
    fn a_share_that_is_there_is_not_zero() {
        assert_eq!(plain(&share(0.0001)), "<0.1 %");
        assert_eq!(plain(&share(0.589)), "58.9 %");
        assert_eq!(plain(&share(0.0)), "0 %");
    }
}
