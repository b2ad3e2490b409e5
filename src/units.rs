//! Sizes and times as users write them.

use std::net::SocketAddr;
use std::time::Duration;

/// Bytes from `256M`, `1G`, `4096K`, `2T`.
///
/// # Errors
/// In words for the user.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        Some((at, 'T' | 't')) => (&text[..at], 1 << 40),
        _ => return Err("write a size with its unit (K, M, G, T): 256M or 1G".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a size as a whole number and a unit: 256M or 1G".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "that is more than any machine has".into())
}

/// A time from `250ms`, `2s`, `1m`.
///
/// # Errors
/// In words for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| "write a time as a whole number and a unit: 250ms, 2s".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(60 * u64::from(number))),
        _ => Err("write a time with its unit: 250ms, 2s, 1m".into()),
    }
}

/// An address to listen on, from `127.0.0.1:7711`, `[::1]:7711`, `localhost:7711`.
///
/// # Errors
/// In words for the user.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = local.as_deref().unwrap_or(text).parse();
    address
        .map_err(|_| "write an IP address of this server and a port (up to 65535): 127.0.0.1:7711 or [::1]:7711".into())
}

/// Bytes for people.
pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        0..=1_048_575 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// Nanoseconds as milliseconds with two digits after the point.
pub fn show_ms(ns: u64) -> String {
    format!("{}.{:02} ms", ns / 1_000_000, ns / 10_000 % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("256M"), Ok(256 << 20));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        assert_eq!(bytes("2T"), Ok(2 << 40));
        for bad in ["", "256", "M", "-1M", "1.5G", "99999999999999999999G", "18446744073709551615K", "1é"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["", "ms", "5", "5h", "-5s", "99999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("127.0.0.1:5901"), Ok(SocketAddr::from(([127, 0, 0, 1], 5901))));
        assert_eq!(address("localhost:1"), address("127.0.0.1:1"));
        assert!(address("[::1]:7711").is_ok());
        for bad in ["", "5901", ":5901", "127.0.0.1", "127.0.0.1:99999", "server-a:7711"] {
            assert!(address(bad).unwrap_err().contains("127.0.0.1:7711"), "{bad}");
        }
    }

    #[test]
    fn milliseconds() {
        assert_eq!(show_ms(12_345_678), "12.34 ms");
    }
}
