//! Numbers for people: bytes in IEC units, counts, shares, times.

/// The standard error of an estimate of this variance, rounded up: 0 only where it is exact.
pub fn standard_error(variance: f64) -> u64 {
    // A profile may come from anywhere: what is no number becomes 0, and what is too large the largest.
    variance.sqrt().ceil() as u64
}

/// The standard error of an estimate as a share of it: `± 4 %`; `None` where it is exact.
pub fn error(value: u64, variance: f64) -> Option<String> {
    if variance.is_nan() || variance <= 0.0 {
        return None;
    }
    let percent = 100.0 * variance.sqrt() / value.max(1) as f64;
    Some(match percent {
        small if small < 0.1 => "± 0.1 %".to_owned(),
        small if small < 10.0 => format!("± {small:.1} %"),
        large if large < 1000.0 => format!("± {large:.0} %"),
        _ => "± more than 1000 %".to_owned(),
    })
}

/// Bytes: "0 B", "999 B", "12.3 MiB".
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as "1024.0".
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The difference of two readings with its sign.
pub fn change(from: u64, to: u64) -> String {
    let sign = if to < from { "-" } else { "+" };
    format!("{sign}{}", bytes(to.abs_diff(from)))
}

/// A count with thousands separated: "1,234,567".
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun: "1 block", "2 blocks".
pub fn counted(number: u64, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(number))
}

/// A share: "12.3 %". Never rounded to nothing or to all: "<0.1 %", ">99.9 %".
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        _ if part == 0 => "0.0 %".to_owned(),
        _ if percent < 0.05 => "<0.1 %".to_owned(),
        _ if part < whole && percent >= 99.95 => ">99.9 %".to_owned(),
        _ => format!("{percent:.1} %"),
    }
}

/// A share in a sentence: "97 %", "less than 1 %".
pub fn rough_share(part: u64, whole: u64) -> String {
    let percent = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    match percent {
        _ if percent > 0.0 && percent < 1.0 => "less than 1 %".to_owned(),
        _ if part < whole && percent >= 99.5 => "over 99 %".to_owned(),
        _ => format!("{percent:.0} %"),
    }
}

/// A short time: "0.3 ms", "4 ms".
pub fn time_us(us: u64) -> String {
    match us {
        0 => "0 ms".to_owned(),
        1..100 => "<0.1 ms".to_owned(),
        100..1000 => format!("0.{} ms", us / 100),
        _ => time_ms(us / 1000),
    }
}

/// A time: "35 ms", "30.0 s", "12 min 5 s", "3 h 7 min".
pub fn time_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        120_000..7_200_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_estimates() {
        let check = |value, variance, expected: Option<&str>| assert_eq!(error(value, variance).as_deref(), expected);
        check(1000, 0.0, None);
        check(1000, f64::NAN, None);
        check(1000, 1600.0, Some("± 4.0 %"));
        check(1000, 1e4, Some("± 10 %"));
        check(1 << 40, 1.0, Some("± 0.1 %"));
        check(0, 1e6, Some("± more than 1000 %"));
        assert_eq!([0.0, 1.5, f64::NAN, f64::INFINITY].map(standard_error), [0, 2, 0, u64::MAX]);
    }

    #[test]
    fn bytes_change_unit_without_a_gap() {
        let expected = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (number, text) in expected {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(change(2048, 1024), "-1.0 KiB");
        assert_eq!(change(0, 0), "+0 B");
    }

    #[test]
    fn shares_are_never_rounded_to_nothing_or_all() {
        assert_eq!(share(0, 0), "-");
        assert_eq!(share(0, 5), "0.0 %");
        assert_eq!(share(1, 1_000_000), "<0.1 %");
        assert_eq!(share(999_999, 1_000_000), ">99.9 %");
        assert_eq!(share(5, 5), "100.0 %");
        assert_eq!(rough_share(1, 1000), "less than 1 %");
        assert_eq!(rough_share(999, 1000), "over 99 %");
        assert_eq!(rough_share(2, 5), "40 %");
    }

    #[test]
    fn counts_and_times_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123), "123");
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(counted(2, "process"), "2 processes");
        assert_eq!(time_ms(999), "999 ms");
        assert_eq!([0, 99, 340, 4_200].map(time_us), ["0 ms", "<0.1 ms", "0.3 ms", "4 ms"]);
        assert_eq!(time_ms(30_040), "30.0 s");
        assert_eq!(time_ms(725_000), "12 min 5 s");
        assert_eq!(time_ms(11_220_000), "3 h 7 min");
    }
}
