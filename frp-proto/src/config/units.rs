//! The small languages inside values: bandwidths, number ranges and networks.

use std::net::IpAddr;
use std::num::IntErrorKind;

use ipnet::IpNet;

/// Bytes a second of a `bandwidthLimit` (config-frpc.md §5.1); `None` = no limit.
///
/// The error is upstream's text.
pub fn bandwidth(limit: &str) -> Result<Option<u64>, String> {
    let limit = limit.trim();
    if limit.is_empty() {
        return Ok(None);
    }
    let (number, unit) = match (limit.strip_suffix("MB"), limit.strip_suffix("KB")) {
        (Some(number), _) => (number, 1_048_576.0),
        (_, Some(number)) => (number, 1024.0),
        _ => return Err("unit not support".to_owned()),
    };
    let bytes = parse_float(number)? * unit;
    #[expect(
        clippy::cast_sign_loss,
        reason = "only positive values are cast, and casts of floats saturate"
    )]
    Ok((bytes >= 1.0).then_some(bytes as u64))
}

/// Refuses a bandwidth that cannot be read and keeps the trimmed text, which is what goes to the server.
pub(crate) fn check_bandwidth(limit: &str) -> Result<String, String> {
    bandwidth(limit).map(|_| limit.trim().to_owned())
}

/// Go's decimal float literals: digits may be grouped by `_`, `inf` and `nan` are numbers.
fn parse_float(text: &str) -> Result<f64, String> {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let grouped = text.char_indices().all(|(i, c)| {
        c != '_' || digit(text[..i].chars().next_back()) && digit(text[i + 1..].chars().next())
    });
    grouped
        .then(|| text.replace('_', "").parse().ok())
        .flatten()
        .ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
}

/// How many numbers a range may name: every port there is. Upstream has no bound and can be made to exhaust memory.
const MAX_NUMBERS: usize = 65_536;

/// The numbers of a list such as `1000-1005,2000` (config-frps.md §3.2), order and repeats kept.
///
/// The error is upstream's text.
pub fn number_range(text: &str) -> Result<Vec<i64>, String> {
    let mut numbers = Vec::new();
    for (min, max) in number_spans(text)? {
        let room = MAX_NUMBERS - numbers.len();
        let fits = max
            .checked_sub(min)
            .and_then(|n| usize::try_from(n).ok())
            .is_some_and(|n| n < room);
        if !fits {
            return Err(format!(
                "range number is invalid, more than {MAX_NUMBERS} numbers"
            ));
        }
        numbers.extend(min..=max);
    }
    Ok(numbers)
}

/// The same list as inclusive spans, which costs nothing however wide they are.
pub fn number_spans(text: &str) -> Result<Vec<(i64, i64)>, String> {
    text.trim().split(',').map(span).collect()
}

fn span(item: &str) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = item.splitn(3, '-').collect();
    let number =
        |text: &str| parse_int(text.trim()).map_err(|e| format!("range number is invalid, {e}"));
    match parts[..] {
        [one] => number(one).map(|n| (n, n)),
        [min, max] => match (number(min)?, number(max)?) {
            (min, max) if min <= max => Ok((min, max)),
            _ => Err("range number is invalid".to_owned()),
        },
        _ => Err("range number is invalid".to_owned()),
    }
}

/// A decimal integer, with Go's error texts.
fn parse_int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|e: std::num::ParseIntError| {
        let reason = match e.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {reason}")
    })
}

/// A network such as `10.0.0.0/8`, or an address as the network that holds only it.
pub fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths() {
        for (text, bytes) in [
            ("", None),
            (" 1.5MB ", Some(1_572_864)),
            ("512KB", Some(524_288)),
            (".5KB", Some(512)),
            ("1.MB", Some(1_048_576)),
            ("+1KB", Some(1024)),
            ("1e3KB", Some(1_024_000)),
            ("1_000KB", Some(1_024_000)),
            ("-1MB", None),
            ("0KB", None),
            ("nanMB", None),
            ("infMB", Some(u64::MAX)),
        ] {
            assert_eq!(bandwidth(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("10GB", "unit not support"),
            ("1mb", "unit not support"),
            ("10", "unit not support"),
            ("1 MB", "strconv.ParseFloat: parsing \"1 \": invalid syntax"),
            ("MB", "strconv.ParseFloat: parsing \"\": invalid syntax"),
            ("_1MB", "strconv.ParseFloat: parsing \"_1\": invalid syntax"),
        ] {
            assert_eq!(bandwidth(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(number_range(" 1-3, 7 ,7"), Ok(vec![1, 2, 3, 7, 7]));
        assert_eq!(number_range("+5"), Ok(vec![5]));
        for (text, error) in [
            ("3-1", "range number is invalid"),
            ("1-2-3", "range number is invalid"),
            (
                "-5",
                "range number is invalid, strconv.ParseInt: parsing \"\": invalid syntax",
            ),
            (
                "1,,2",
                "range number is invalid, strconv.ParseInt: parsing \"\": invalid syntax",
            ),
            (
                "",
                "range number is invalid, strconv.ParseInt: parsing \"\": invalid syntax",
            ),
            (
                "1-x",
                "range number is invalid, strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "99999999999999999999",
                "range number is invalid, strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(number_range(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_wide_range_costs_no_memory() {
        assert_eq!(number_range("0-65535").map(|n| n.len()), Ok(65_536));
        for text in [
            "0-65536",
            "1-9223372036854775807",
            "0-65535,1",
            "0-40000,0-40000",
        ] {
            assert!(number_range(text).is_err(), "{text}");
        }
        assert_eq!(
            number_spans("1-9223372036854775807"),
            Ok(vec![(1, i64::MAX)])
        );
    }

    #[test]
    fn networks() {
        let holds = |net: &str, ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            network(net).map(|n| n.contains(&ip))
        };
        assert_eq!(holds("10.0.0.0/8", "10.255.0.1"), Some(true));
        assert_eq!(holds("10.9.9.9/8", "10.0.0.1"), Some(true));
        assert_eq!(holds("10.0.0.0/8", "11.0.0.1"), Some(false));
        assert_eq!(holds("192.0.2.7", "192.0.2.7"), Some(true));
        assert_eq!(holds("192.0.2.7", "192.0.2.8"), Some(false));
        assert_eq!(holds("fd00::/8", "fdff::1"), Some(true));
        assert_eq!(holds("0.0.0.0/0", "::1"), Some(false));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "lb.example", "10.0.0.0/8 "] {
            assert_eq!(network(bad), None, "{bad:?}");
        }
    }
}
