//! Times, sizes and rates: as nginx and HAProxy write them, and as Longhaul does.

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units of nginx's times (`ngx_parse_time`), longest first, in milliseconds.
const NGINX: [(&str, u64); 8] = [
    ("y", 365 * DAY),
    ("M", 30 * DAY),
    ("w", 7 * DAY),
    ("d", DAY),
    ("h", HOUR),
    ("ms", 1),
    ("m", MINUTE),
    ("s", SECOND),
];

/// Units of HAProxy's times (configuration manual, 2.5), in milliseconds.
const HAPROXY: [(&str, u64); 6] = [("d", DAY), ("h", HOUR), ("ms", 1), ("us", 0), ("m", MINUTE), ("s", SECOND)];

/// A time of nginx's in milliseconds: `60`, `1d`, `1h 30m`, `1h30m`.
pub(super) fn nginx_time(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = NGINX.iter().find(|(unit, _)| rest.starts_with(unit));
        let (length, unit) = match unit {
            Some((text, unit)) => (text.len(), *unit),
            None if rest.is_empty() || rest.starts_with(' ') => (0, SECOND),
            None => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest[length..].trim_start();
    }
    Some(total)
}

/// A time of HAProxy's in milliseconds. Without a unit it counts milliseconds.
pub(super) fn haproxy_time(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "" => Some(number),
        "us" => Some(number.div_ceil(1_000)),
        unit => number.checked_mul(HAPROXY.iter().find(|(name, _)| *name == unit)?.1),
    }
}

/// A time of Envoy's (protobuf's JSON) in milliseconds: seconds with a fraction, and `s`.
pub(super) fn envoy_time(text: &str) -> Option<u64> {
    let (whole, fraction) = text.strip_suffix('s')?.split_once('.').unwrap_or((text.strip_suffix('s')?, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: u64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(SECOND)?.checked_add(thousandths)
}

/// A size of nginx's in bytes: `1024`, `8k`, `1m`, `1g`.
pub(super) fn nginx_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match &text[digits..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Milliseconds in Longhaul's form, in the longest unit that fits.
pub(super) fn duration(milliseconds: u64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s")];
    // Seconds are what people compare.
    let unit = units.iter().find(|(unit, _)| milliseconds > 0 && milliseconds.is_multiple_of(*unit));
    match unit {
        Some((MINUTE, _)) if milliseconds <= 5 * MINUTE => format!("{}s", milliseconds / SECOND),
        Some((unit, name)) => format!("{}{name}", milliseconds / unit),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

/// Bytes in Longhaul's form, in the longest unit that fits.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_their_programs_do() {
        for (text, milliseconds) in [
            ("60", 60_000),
            ("1d", 86_400_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("5ms", 5),
            ("1M", 2_592_000_000),
        ] {
            assert_eq!(nginx_time(text), Some(milliseconds), "{text}");
        }
        for text in ["", "s", "1x", "-1", "99999999999999999999d", "18446744073709551615y"] {
            assert_eq!(nginx_time(text), None, "{text}");
        }
        assert_eq!(["50", "3s", "1m", "1500us", "1d"].map(haproxy_time), [50, 3_000, 60_000, 2, 86_400_000].map(Some));
        assert_eq!(["", "s", "1w", "1 s"].map(haproxy_time), [None; 4]);
        assert_eq!(["0s", "0.25s", "3600s", "1.5s"].map(envoy_time), [0, 250, 3_600_000, 1_500].map(Some));
        assert_eq!(["1", "s.5s", "-1s", "1m"].map(envoy_time), [None; 4]);
    }

    #[test]
    fn quantities_are_written_in_the_longest_unit() {
        assert_eq!(
            [0, 1, 500, 60_000, 90_000, 3_600_000, 86_400_000].map(duration),
            ["0s", "1ms", "500ms", "60s", "90s", "1h", "1d"]
        );
        assert_eq!([1, 1_000, 1 << 20, 3 << 10].map(size), ["1B", "1000B", "1MiB", "3KiB"]);
        assert_eq!(["8k", "1m", "2G", "12"].map(nginx_size), [8 << 10, 1 << 20, 2 << 30, 12].map(Some));
    }
}
