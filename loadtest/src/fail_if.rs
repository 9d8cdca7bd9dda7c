//! Thresholds: `p99>50ms`, `loss>0`.

use std::collections::BTreeMap;
use std::time::Duration;

/// One condition under which a run has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf {
    text: String,
    metric: String,
    above: bool,
    or_equal: bool,
    limit: f64,
}

impl FailIf {
    /// Reads `metric>value`; the operator may be `<`, `>=` and `<=` as well.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str, known: &BTreeMap<String, f64>) -> Result<Self, String> {
        let at = text.find(['<', '>']);
        let at = at.ok_or_else(|| format!("--fail-if: no < or > in `{text}`"))?;
        let metric = text[..at].trim().to_owned();
        let above = text[at..].starts_with('>');
        let rest = &text[at + 1..];
        let (or_equal, value) = match rest.strip_prefix('=') {
            Some(value) => (true, value),
            None => (false, rest),
        };
        if !known.contains_key(&metric) {
            let names: Vec<_> = known.keys().cloned().collect();
            return Err(format!(
                "--fail-if: no `{metric}`; there are {}",
                names.join(", ")
            ));
        }
        let value = value.trim();
        let limit = match duration(value) {
            Some(time) if value.ends_with('s') => time.as_secs_f64() * 1e6,
            _ => {
                let number = value.strip_suffix('%').unwrap_or(value).parse();
                number.map_err(|_| format!("--fail-if: `{value}` is no value"))?
            }
        };
        Ok(Self {
            text: text.to_owned(),
            metric,
            above,
            or_equal,
            limit,
        })
    }

    /// The condition as it was written, if it holds.
    #[must_use]
    pub fn holds(&self, metrics: &BTreeMap<String, f64>) -> Option<&str> {
        let value = *metrics.get(&self.metric)?;
        let beyond = if self.above {
            value > self.limit
        } else {
            value < self.limit
        };
        let equal = (value - self.limit).abs() < f64::EPSILON;
        (beyond || self.or_equal && equal).then_some(&self.text)
    }
}

/// `500us`, `50ms`, `10s`, `2m`; a bare number is seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let units = [
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("", 1.0),
    ];
    let (unit, scale) = units.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let value: f64 = text[..text.len() - unit.len()].trim().parse().ok()?;
    Duration::try_from_secs_f64(value * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_compare_times_and_counts() {
        let metrics = BTreeMap::from([("p99".to_owned(), 60_000.0), ("loss".to_owned(), 0.0)]);
        let holds = |text: &str| {
            FailIf::parse(text, &metrics)
                .unwrap()
                .holds(&metrics)
                .is_some()
        };
        assert!(holds("p99>50ms") && !holds("p99 > 0.1s"));
        assert!(!holds("loss>0") && holds("loss>=0") && holds("loss<1"));
        assert!(
            FailIf::parse("p98>1ms", &metrics)
                .unwrap_err()
                .contains("p99")
        );
        assert!(FailIf::parse("p99>soon", &metrics).is_err());
    }
}
