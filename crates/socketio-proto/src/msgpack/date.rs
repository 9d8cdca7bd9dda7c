//! Points in time as JavaScript writes them.

/// The furthest point in time that a JavaScript `Date` can hold, in milliseconds.
const MAX_MS: i64 = 8_640_000_000_000_000;

const MS_PER_DAY: i64 = 86_400_000;

/// `Date.prototype.toISOString`: `2024-02-29T12:34:56.789Z`. `None` beyond what a `Date` can hold.
///
/// *Units:* `ms` since 1970, UTC.
pub(super) fn iso8601(ms: i64) -> Option<String> {
    if !(-MAX_MS..=MAX_MS).contains(&ms) {
        return None;
    }
    let (year, month, day) = civil_from_days(ms.div_euclid(MS_PER_DAY));
    let [hours, minutes, seconds, milliseconds] = time_of_day(ms.rem_euclid(MS_PER_DAY));
    let year = match year {
        0..=9999 => format!("{year:04}"),
        // A sign and six digits outside of four.
        _ => format!("{year:+07}"),
    };
    Some(format!(
        "{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z"
    ))
}

fn time_of_day(ms: i64) -> [i64; 4] {
    let seconds = ms.div_euclid(1000);
    let minutes = seconds.div_euclid(60);
    [
        minutes.div_euclid(60),
        minutes.rem_euclid(60),
        seconds.rem_euclid(60),
        ms.rem_euclid(1000),
    ]
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
///
/// Counted in eras of 400 years that begin on the first of March, so that the leap day is the last
/// day of its year.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the caller keeps the days within 100 million of 1970"
)]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let since_march_0 = days + 719_468;
    let era = since_march_0.div_euclid(DAYS_PER_ERA);
    let day_of_era = since_march_0.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_javascript_writes_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_709_210_096_789, "2024-02-29T12:34:56.789Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
            (MAX_MS, "+275760-09-13T00:00:00.000Z"),
            (-MAX_MS, "-271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(ms).as_deref(), Some(text));
        }
        assert_eq!(iso8601(MAX_MS + 1), None);
    }
}
