use super::*;

const LIMITS: ReadLimits = ReadLimits {
    max_message_bytes: 1000,
    max_fragments: 4,
};

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend_from_slice(&mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn read_all(chunks: &[&[u8]]) -> Result<Vec<Incoming>, ReadError> {
    let mut reader = FrameReader::default();
    let mut out = Vec::new();
    for chunk in chunks {
        let mut chunk = *chunk;
        while let Some(incoming) = reader.read(&mut chunk, LIMITS)? {
            out.push(incoming);
        }
        assert!(
            chunk.is_empty(),
            "a reader without a message has consumed everything"
        );
    }
    Ok(out)
}

fn text(content: &str) -> Incoming {
    Incoming::Message(Message::Text(content.into()))
}

#[test]
fn messages_are_found_however_the_bytes_are_cut() {
    let long = "y".repeat(300);
    let stream = [
        frame(0x81, b"4hello"),
        frame(0x82, &[1, 2, 3]),
        frame(0x81, long.as_bytes()),
    ]
    .concat();
    let expected = vec![
        text("4hello"),
        Incoming::Message(Message::Binary(vec![1, 2, 3].into())),
        text(&long),
    ];
    for size in 1..stream.len() {
        let chunks: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(read_all(&chunks).unwrap(), expected, "in chunks of {size}");
    }
}

#[test]
fn a_ping_may_come_between_the_fragments_of_a_message() {
    let stream = [
        frame(0x01, b"he"),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x80, b"llo"),
    ];
    let expected = vec![Incoming::Ping("p".into()), text("hello")];
    assert_eq!(read_all(&[&stream.concat()]).unwrap(), expected);
}

#[test]
fn broken_rules_are_protocol_errors() {
    let unmasked = vec![0x81, 1, b'x'];
    for (rule, bytes) in [
        ("a client masks", unmasked),
        ("no extension is negotiated", frame(0xc1, b"x")),
        ("reserved bit 2", frame(0xa1, b"x")),
        ("reserved opcode", frame(0x83, b"x")),
        ("reserved control opcode", frame(0x8b, b"x")),
        ("control frames are final", frame(0x09, b"x")),
        ("control frames are short", frame(0x89, &[0; 126])),
        ("a continuation continues something", frame(0x80, b"x")),
        (
            "a message does not start within another",
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
        ),
        ("a close code has two bytes", frame(0x88, b"x")),
    ] {
        assert_eq!(read_all(&[&bytes]), Err(ReadError::Protocol), "{rule}");
    }
}

#[test]
fn text_must_be_utf8() {
    assert_eq!(read_all(&[&frame(0x81, &[0xff])]), Err(ReadError::Encoding));
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_the_payload_arrives() {
    for len in [1001_u64, 1 << 32, u64::MAX >> 1, u64::MAX] {
        let mut bytes = vec![0x82, 0xff];
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        assert!(read_all(&[&bytes]).is_err(), "{len}");
    }
}

#[test]
fn fragments_count_in_bytes_and_in_number() {
    let mut many = frame(0x01, b"");
    (0..4).for_each(|_| many.extend(frame(0x00, b"")));
    assert_eq!(read_all(&[&many]), Err(ReadError::TooLarge));
    let long = [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 401])].concat();
    assert_eq!(read_all(&[&long]), Err(ReadError::TooLarge));
}

#[test]
fn close_is_reported() {
    assert_eq!(
        read_all(&[&frame(0x88, &[3, 232])]).unwrap(),
        vec![Incoming::Close]
    );
}
