//! Dates as the MC146818 keeps them: BCD or binary bytes, 12 or 24 hours, and the proleptic Gregorian calendar.

/// Which way register B says the bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Binary, not BCD.
    pub binary: bool,
    /// 0-23, not 1-12 with PM in bit 7.
    pub hours_24: bool,
}

impl Format {
    fn encode(self, value: u8) -> u8 {
        if self.binary { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(self, byte: u8) -> u8 {
        if self.binary { byte } else { (byte >> 4) * 10 + (byte & 0xf) }
    }

    fn encode_hour(self, hour: u8) -> u8 {
        match hour {
            _ if self.hours_24 => self.encode(hour),
            0 => self.encode(12),
            1..=12 => self.encode(hour) | if hour == 12 { 0x80 } else { 0 },
            _ => self.encode(hour - 12) | 0x80,
        }
    }

    fn decode_hour(self, byte: u8) -> u8 {
        if self.hours_24 {
            return self.decode(byte);
        }
        self.decode(byte & 0x7f) % 12 + if byte & 0x80 != 0 { 12 } else { 0 }
    }
}

/// A moment, field by field; fields a guest wrote may be out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// 0 to 59.
    pub second: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// With the century.
    pub year: u16,
}

/// Days from 1970-01-01 to the first of March of `year`, for years that begin in March.
fn days_to_march(year: i64) -> i64 {
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) - 719_468
}

impl Time {
    /// Unix time to fields.
    pub fn from_seconds(seconds: i64) -> Time {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let mut year = (days + 719_468).div_euclid(366); // a lower bound, raised below
        while days_to_march(year + 1) <= days {
            year += ((days - days_to_march(year)) / 366).max(1);
        }
        let day_of_year = days - days_to_march(year);
        let month = (5 * day_of_year + 2) / 153; // March is 0
        Time {
            second: (rest % 60) as u8,
            minute: (rest / 60 % 60) as u8,
            hour: (rest / 3600) as u8,
            day: (day_of_year - (153 * month + 2) / 5 + 1) as u8,
            month: (if month < 10 { month + 3 } else { month - 9 }) as u8,
            year: (year + i64::from(month >= 10)).clamp(0, 9999) as u16,
        }
    }

    /// Fields to Unix time. Fields out of range carry over.
    pub fn to_seconds(self) -> i64 {
        let month = (i64::from(self.month) + 9) % 12;
        let year = i64::from(self.year) - i64::from(month >= 10);
        let days = days_to_march(year) + (153 * month + 2) / 5 + i64::from(self.day) - 1;
        days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }

    /// Writes the time bytes of the chip.
    pub fn encode(self, format: Format, cells: &mut [u8; 128]) {
        let weekday = (self.to_seconds().div_euclid(86_400) + 4).rem_euclid(7) as u8 + 1; // Sunday is 1
        cells[0] = format.encode(self.second);
        cells[2] = format.encode(self.minute);
        cells[4] = format.encode_hour(self.hour);
        cells[6] = format.encode(weekday);
        cells[7] = format.encode(self.day);
        cells[8] = format.encode(self.month);
        cells[9] = format.encode((self.year % 100) as u8);
        cells[crate::rtc::CENTURY] = format.encode((self.year / 100) as u8);
    }

    /// Reads the time bytes of the chip.
    pub fn decode(format: Format, cells: &[u8; 128]) -> Time {
        let century = u16::from(format.decode(cells[crate::rtc::CENTURY]));
        Time {
            second: format.decode(cells[0]),
            minute: format.decode(cells[2]),
            hour: format.decode_hour(cells[4]),
            day: format.decode(cells[7]),
            month: format.decode(cells[8]),
            year: century * 100 + u16::from(format.decode(cells[9])),
        }
    }
}

/// The first second after `seconds` whose hour, minute and second match the alarm bytes `[hour, minute, second]`;
/// bytes of C0h and more match everything.
pub fn next_alarm(format: Format, alarm: [u8; 3], seconds: i64) -> Option<i64> {
    let any = |byte: u8| byte >= 0xc0;
    let wanted = [format.decode_hour(alarm[0]), format.decode(alarm[1]), format.decode(alarm[2])].map(i64::from);
    let end = seconds.checked_add(2 * 86_400)?;
    let mut at = seconds + 1;
    while at <= end {
        let day = at.rem_euclid(86_400);
        if !any(alarm[0]) && day / 3600 != wanted[0] {
            at += 3600 - day % 3600;
        } else if !any(alarm[1]) && day / 60 % 60 != wanted[1] {
            at += 60 - day % 60;
        } else if !any(alarm[2]) && day % 60 != wanted[2] {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCD_24: Format = Format { binary: false, hours_24: true };

    #[test]
    fn dates_and_unix_time() {
        let time = Time { second: 7, minute: 6, hour: 5, day: 29, month: 2, year: 2024 };
        assert_eq!(time.to_seconds(), 1_709_183_167);
        for seconds in [0, 951_782_400, 1_709_183_167, 4_102_444_799, 4_107_542_400, -1, -2_203_891_200] {
            assert_eq!(Time::from_seconds(seconds).to_seconds(), seconds);
        }
        assert_eq!(Time::from_seconds(0), Time { second: 0, minute: 0, hour: 0, day: 1, month: 1, year: 1970 });
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in 0..146_097 {
            assert_eq!(Time::from_seconds(day * 86_400).to_seconds(), day * 86_400);
        }
    }

    #[test]
    fn twelve_hour_clock() {
        let format = Format { binary: false, hours_24: false };
        for (hour, byte) in [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)] {
            assert_eq!(format.encode_hour(hour), byte);
            assert_eq!(format.decode_hour(byte), hour);
        }
    }

    #[test]
    fn alarms_with_wildcards() {
        assert_eq!(next_alarm(BCD_24, [0x01, 0x02, 0x03], 0), Some(3723));
        assert_eq!(next_alarm(BCD_24, [0x01, 0x02, 0x03], 3723), Some(3723 + 86_400));
        assert_eq!(next_alarm(BCD_24, [0xff, 0xff, 0xff], 10), Some(11));
        assert_eq!(next_alarm(BCD_24, [0xff, 0xff, 0x30], 31), Some(90));
        assert_eq!(next_alarm(BCD_24, [0x99, 0, 0], 0), None);
    }

    #[test]
    fn nonsense_does_not_panic() {
        for byte in 0..=255 {
            let cells = [byte; 128];
            for format in [BCD_24, Format { binary: true, hours_24: false }] {
                let seconds = Time::decode(format, &cells).to_seconds();
                Time::from_seconds(seconds).encode(format, &mut [0; 128]);
                next_alarm(format, [byte; 3], seconds);
            }
        }
    }
}
