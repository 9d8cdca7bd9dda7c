//! Replies of Redis. The parser needs nothing of its crate, so its file is read again.

#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "a file of another crate, of which this uses a part"
)]
#[path = "../../crates/sockhop-redis/src/resp.rs"]
mod resp;

use resp::{Limits, Step, parse_push, parse_value, put_command};

const LIMITS: Limits = Limits {
    max_reply_bytes: 2_000,
    max_line_bytes: 200,
    max_items: 64,
    max_depth: 4,
};

/// Where a parser is after some bytes: the end of a reply, a wish for more, or a fault.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done(usize),
    NeedMore,
    Fault,
}

fn outcome<T>(step: Result<Step<T>, resp::RespError>, len: usize) -> Outcome {
    match step {
        Ok(Step::Done(_, end)) => {
            assert!(end <= len, "a reply ends within its bytes");
            Outcome::Done(end)
        }
        Ok(Step::NeedMore(needed)) => {
            assert!(needed > len, "what is there is not waited for");
            Outcome::NeedMore
        }
        Err(_) => Outcome::Fault,
    }
}

/// A reply is the same however many bytes of it are there: before its end nothing but a wish for more,
/// after it nothing changes.
pub fn resp(data: &[u8]) {
    type Parse = fn(&[u8]) -> Outcome;
    let parsers: [Parse; 2] = [
        |bytes| outcome(parse_value(bytes, 0, &LIMITS), bytes.len()),
        |bytes| outcome(parse_push(bytes, 0, &LIMITS), bytes.len()),
    ];
    for parse in parsers {
        let whole = parse(data);
        let step = (data.len() / 64).max(1);
        for len in (0..data.len()).step_by(step) {
            match parse(&data[..len]) {
                Outcome::NeedMore => {}
                Outcome::Done(end) => assert_eq!(whole, Outcome::Done(end)),
                Outcome::Fault => assert_eq!(whole, Outcome::Fault),
            }
        }
    }
    let mut command = bytes::BytesMut::new();
    put_command(&mut command, &[b"PUBLISH", data]);
    let limits = Limits::default();
    let read = outcome(parse_value(&command, 0, &limits), command.len());
    assert_eq!(read, Outcome::Done(command.len()));
}
