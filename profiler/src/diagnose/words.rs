//! Numbers as sentences have them.

use crate::render::units::bytes;

/// Bytes of a number that may be negative or broken.
pub fn size(value: f64) -> String {
    bytes(whole(value))
}

/// A number of bytes that may be negative, with its sign.
pub fn change(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "+" };
    format!("{sign}{}", bytes(value.unsigned_abs()))
}

/// "5.2 MiB a minute (312.0 MiB an hour)".
pub fn rate(per_s: f64) -> String {
    format!("{} a minute ({} an hour)", size(per_s * 60.0), size(per_s * 3600.0))
}

/// "45 %".
pub fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).clamp(0.0, 100.0))
}

/// Seconds: "45 s", "10 min".
pub fn time(seconds: f64) -> String {
    match whole(seconds.round()) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// As a whole number of bytes or seconds; nothing below 0.
pub fn whole(value: f64) -> u64 {
    // A cast saturates, and makes 0 of what is no number.
    value.max(0.0) as u64
}

/// "a, b and c".
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [many @ .., last] => format!("{} and {last}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(rate(87_381.333), "5.0 MiB a minute (300.0 MiB an hour)");
        assert_eq!(change(-2048), "-2.0 KiB");
        assert_eq!(change(2048), "+2.0 KiB");
        assert_eq!(percent(0.456), "46 %");
        assert_eq!([time(45.2), time(600.0), time(86_400.0), time(f64::NAN)], ["45 s", "10 min", "24 h", "0 s"]);
        assert_eq!(list(&["a".to_owned(), "b".to_owned(), "c".to_owned()]), "a, b and c");
        assert_eq!(size(f64::NEG_INFINITY), "0 B");
    }
}
