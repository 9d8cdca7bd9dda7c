//! The date of an answer, written once in a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

struct Written {
    second: u64,
    text: String,
}

thread_local! {
    static LAST: RefCell<Written> = const {
        RefCell::new(Written {
            second: 0,
            text: String::new(),
        })
    };
}

/// Appends the present as HTTP writes dates.
pub(crate) fn write_date(out: &mut Vec<u8>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let second = since.unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|last| {
        if last.second != second || last.text.is_empty() {
            last.second = second;
            last.text = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second)).to_string();
        }
        out.extend_from_slice(last.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_the_present() {
        let mut text = Vec::new();
        write_date(&mut text);
        let date = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        let age = SystemTime::now().duration_since(date).unwrap();
        assert!(age < Duration::from_secs(5), "{age:?}");
    }
}
