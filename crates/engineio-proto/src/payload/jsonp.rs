//! Polling through script tags and forms, for pages that cannot do anything better.

use super::Body;

/// Wraps a text body in the call that a JSONP peer with index `j` evaluates.
///
/// *Shape:* `___eio[<j>](<JSON string of the body>);`. The two line separators that JSON allows in
/// strings and old JavaScript does not are escaped.
#[must_use]
pub fn wrap_jsonp(j: u32, body: &Body) -> Vec<u8> {
    let text = String::from_utf8_lossy(&body.bytes);
    let quoted = serde_json::Value::from(text)
        .to_string()
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    format!("___eio[{j}]({quoted});").into_bytes()
}

/// Restores the body that a JSONP peer put into the form field `d`, once form-decoded.
///
/// *Shape:* forms mangle line breaks, so the peer writes a line break as backslash and `n`, and a
/// backslash before an `n` twice.
#[must_use]
pub fn unwrap_jsonp(field: &str) -> String {
    let mut body = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        body.push_str(before);
        if let Some(after) = after.strip_prefix("\\n") {
            body.push_str("\\n");
            rest = after;
        } else if let Some(after) = after.strip_prefix('n') {
            body.push('\n');
            rest = after;
        } else {
            body.push('\\');
            rest = after;
        }
    }
    body.push_str(rest);
    body
}

#[cfg(test)]
mod tests {
    use super::super::BodyKind;
    use super::*;

    #[test]
    fn a_script_is_valid_in_old_javascript() {
        let body = Body {
            kind: BodyKind::Text,
            bytes: "4a\"\u{2028}\u{2029}\\\n\u{1e}2€".into(),
            compress: true,
        };
        let script = String::from_utf8(wrap_jsonp(7, &body)).unwrap();
        assert_eq!(
            script,
            "___eio[7](\"4a\\\"\\u2028\\u2029\\\\\\n\\u001e2€\");"
        );
    }

    #[test]
    fn line_breaks_survive_a_form() {
        for (field, body) in [
            ("4plain", "4plain"),
            (r"4a\nb", "4a\nb"),
            (r"4a\\nb", r"4a\nb"),
            (r"4a\\\nb", r"4a\\nb"),
            (r"4\\", r"4\\"),
            (r"4\x\", r"4\x\"),
        ] {
            assert_eq!(unwrap_jsonp(field), body, "{field}");
        }
    }
}
