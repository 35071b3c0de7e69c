//! Figures as a person reads them, in the terminal, on the page and in the README alike: three significant digits,
//! binary prefixes for bytes, typographic minus and spaces.
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
    // 0.9996 has no digit before the point; rounded it has one, and a decimal less.
    let step = 10f64.powi(magnitude.log10().floor() as i32 - digits);
    let rounded = (magnitude / step).round() * step;
    let decimals = (digits - rounded.log10().floor() as i32).clamp(0, 12) as usize;
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

/// So many of something, as `1 step` or `3 steps`.
pub(crate) fn several(many: usize, noun: &str) -> String {
    format!("{many} {noun}{}", if many == 1 { "" } else { "s" })
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

/// Bytes to the last one, or to three digits where there is no whole one: `65 536 B`, `0.020 B`. For comparisons, in
/// which small differences matter.
pub(crate) fn bytes_in_full(value: f64) -> String {
    format!("{}{THIN_SPACE}B", number(value))
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

/// A difference: what is more has a plus.
pub(crate) fn signed(value: f64, show: fn(f64) -> String) -> String {
    if value > 0.0 { format!("+{}", show(value)) } else { show(value) }
}

/// A relative change, 0.5 for half as much again: a sign, and as many digits as it takes to tell it from 0 and −100 %.
pub(crate) fn signed_percent(ratio: f64) -> String {
    let percent = (ratio * 100.0).abs();
    let sign = if ratio < 0.0 { MINUS } else { '+' };
    let left = if ratio < 0.0 { percent.min(100.0 - percent) } else { percent };
    let decimals = match left {
        _ if percent >= 100.0 => 0,
        left if left >= 0.05 => 1,
        left if left >= 0.005 => 2,
        _ => 3,
    };
    format!("{sign}{percent:.decimals$}%")
}

/// A ratio of two figures to the third decimal: `0.793`, `1.372`; large ones to three digits.
pub(crate) fn ratio(value: f64) -> String {
    if (0.01..9.9995).contains(&value) { format!("{value:.3}") } else { number(value) }
}

/// How far an interval reaches, as a share of its middle: `±4.2%`, `±12%`.
pub(crate) fn plus_minus(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        percent if percent > 0.0 && percent < 0.05 => "±<0.1%".to_owned(),
        percent if percent > 0.0 && percent < 9.95 => format!("±{percent:.1}%"),
        percent => format!("±{percent:.0}%"),
    }
}

/// A p-value: `p<0.001`, `p=0.449`.
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
        let read = [0.9996, 9.996, 17.93, 4.63, 1.3, 0.041, 0.4, 0.00025, 999.4, 2000.0, 0.0, f64::NAN]
            .map(|v| plain(&number(v)));
        assert_eq!(
            read,
            ["1.00", "10.0", "17.9", "4.63", "1.30", "0.041", "0.400", "0.00025", "999", "2 000", "0", "–"]
        );
    }

    #[test]
    fn bytes_carry_a_binary_prefix() {
        let read = [0.0, 51.2, 1024.0, 65536.0, 98_202.0, 3_900_000.0].map(|v| plain(&bytes(v)));
        assert_eq!(read, ["0 B", "51.2 B", "1 KiB", "64 KiB", "95.9 KiB", "3.72 MiB"]);
    }

    #[test]
    fn bytes_in_full_keep_the_last_one() {
        let read = [0.0, 0.02, 51.2, 65536.0, -3.2].map(|v| plain(&bytes_in_full(v)));
        assert_eq!(read, ["0 B", "0.020 B", "51.2 B", "65 536 B", "-3.20 B"]);
    }

    #[test]
    fn an_interval_has_a_decimal_where_it_is_narrow() {
        assert_eq!(
            [0.0, 0.0001, 0.003, 0.042, 0.0994, 0.0996, 1.5].map(plus_minus),
            ["±0%", "±<0.1%", "±0.3%", "±4.2%", "±9.9%", "±10%", "±150%"]
        );
    }

    #[test]
    fn a_ratio_has_three_decimals() {
        assert_eq!([0.7933, 1.0, 9.9994, 12.345, 0.00123].map(ratio), ["0.793", "1.000", "9.999", "12.3", "0.0012"]);
    }

    #[test]
    fn a_share_that_is_there_is_not_zero() {
        assert_eq!(plain(&share(0.0001)), "<0.1 %");
        assert_eq!(plain(&share(0.589)), "58.9 %");
        assert_eq!(plain(&share(0.0)), "0 %");
    }
}
