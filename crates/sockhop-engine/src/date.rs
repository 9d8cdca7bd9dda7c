//! The date of an answer, written once in a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use tokio::time::Instant;

/// What was written last.
struct Written {
    /// None: nothing yet.
    until: Option<Instant>,
    text: String,
}

thread_local! {
    static LAST: RefCell<Written> = const {
        RefCell::new(Written {
            until: None,
            text: String::new(),
        })
    };
}

/// Appends the present as HTTP writes dates. `now` only says whether the second is over: the caller
/// has looked at that clock already, and to look at the other takes as long again.
pub(crate) fn write_date(now: Instant, out: &mut Vec<u8>) {
    LAST.with_borrow_mut(|last| {
        if last.until.is_none_or(|until| until <= now) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let since = since.unwrap_or_default();
            let second = Duration::from_secs(since.as_secs());
            last.until = Some(now + Duration::from_secs(1) - (since - second));
            last.text = HttpDate::from(UNIX_EPOCH + second).to_string();
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
        write_date(Instant::now(), &mut text);
        let date = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        let age = SystemTime::now().duration_since(date).unwrap();
        assert!(age < Duration::from_secs(5), "{age:?}");
    }
}
