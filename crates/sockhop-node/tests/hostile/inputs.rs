//! The classes of input: the rows of the matrix.

use crate::peer::{Frame, upgrade_headers};

/// How an input is delivered.
#[derive(Clone)]
pub(crate) enum Input {
    /// A request of its own connection.
    Http(Http),
    /// Bytes on the session's WebSocket.
    Frames(Vec<u8>, Ending),
}

#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) method: &'static str,
    pub(crate) eio: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Option<Vec<u8>>,
    /// Bytes of the body that are not sent.
    pub(crate) missing: usize,
    pub(crate) ending: Ending,
    /// Whether a second such request comes along.
    pub(crate) twice: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Stays,
    HalfClose,
    Reset,
}

impl Http {
    /// Whether such a request waits where a GET may, as far as it is up to the session.
    pub(crate) fn may_wait(&self) -> bool {
        let plain = self.eio == "4" && self.transport == "polling" && self.headers.is_empty();
        plain && self.method == "GET"
    }
}

fn http(method: &'static str, body: Option<&[u8]>) -> Http {
    Http {
        method,
        eio: "4",
        transport: "polling",
        headers: Vec::new(),
        body: body.map(<[u8]>::to_vec),
        missing: 0,
        ending: Ending::Stays,
        twice: false,
    }
}

fn post(body: &[u8]) -> Http {
    http("POST", Some(body))
}

#[expect(clippy::too_many_lines, reason = "a flat table")]
fn http_inputs() -> Vec<(String, Http)> {
    let packets: [(&str, &[u8]); 13] = [
        ("POST open `0`", b"0"),
        ("POST close `1`", b"1"),
        ("POST ping `2`", b"2"),
        ("POST probe `2probe`", b"2probe"),
        ("POST pong `3`", b"3"),
        ("POST message `42[…]`", b"42[\"x\"]"),
        ("POST upgrade `5`", b"5"),
        ("POST noop `6`", b"6"),
        ("POST unknown type `7`", b"7"),
        ("POST binary without a packet `bAAAA`", b"bAAAA"),
        ("POST bad base64 `b!`", b"b!"),
        ("POST empty body", b""),
        ("POST invalid UTF-8", b"4\xff"),
    ];
    let mut inputs = vec![("GET".to_owned(), http("GET", None))];
    inputs.extend(packets.map(|(name, body)| (name.to_owned(), post(body))));
    let octets = vec!["Content-Type: application/octet-stream".to_owned()];
    let expect = vec!["Expect: 100-continue".to_owned()];
    let special = [
        (
            "GET of another EIO",
            Http {
                eio: "3",
                ..http("GET", None)
            },
        ),
        (
            "GET without EIO",
            Http {
                eio: "",
                ..http("GET", None)
            },
        ),
        (
            "POST of another EIO",
            Http {
                eio: "3",
                ..post(b"1:6")
            },
        ),
        (
            "GET transport=websocket, no upgrade",
            Http {
                transport: "websocket",
                ..http("GET", None)
            },
        ),
        (
            "GET transport unknown",
            Http {
                transport: "nothing",
                ..http("GET", None)
            },
        ),
        ("PUT", http("PUT", Some(b"6"))),
        ("OPTIONS", http("OPTIONS", None)),
        (
            "POST application/octet-stream",
            Http {
                headers: octets,
                ..post(b"42[\"x\"]")
            },
        ),
        ("POST of 1,000,001 bytes", post(&[b'6'; 1_000_001])),
        (
            "POST that ends within its body",
            Http {
                headers: expect.clone(),
                missing: 3,
                ending: Ending::HalfClose,
                ..post(b"42[\"x\"]")
            },
        ),
        (
            "POST reset within its body",
            Http {
                headers: expect,
                missing: 3,
                ending: Ending::Reset,
                ..post(b"42[\"x\"]")
            },
        ),
        (
            "GET reset while it waits",
            Http {
                ending: Ending::Reset,
                ..http("GET", None)
            },
        ),
        (
            "GET half-closed while it waits",
            Http {
                ending: Ending::HalfClose,
                ..http("GET", None)
            },
        ),
        (
            "two GETs",
            Http {
                twice: true,
                ..http("GET", None)
            },
        ),
        (
            "two POSTs, unfinished",
            Http {
                missing: 3,
                twice: true,
                ..post(b"42[\"x\"]")
            },
        ),
        (
            "WebSocket",
            Http {
                transport: "websocket",
                headers: upgrade_headers(),
                ..http("GET", None)
            },
        ),
        (
            "WebSocket of another EIO",
            Http {
                eio: "3",
                transport: "websocket",
                headers: upgrade_headers(),
                ..http("GET", None)
            },
        ),
        (
            "WebSocket, transport=polling",
            Http {
                headers: upgrade_headers(),
                ..http("GET", None)
            },
        ),
    ];
    inputs.extend(special.map(|(name, input)| (name.to_owned(), input)));
    inputs
}

#[expect(clippy::too_many_lines, reason = "a flat table")]
fn frame_inputs() -> Vec<(String, Input)> {
    let frame = |first: u8, payload: &str| Frame {
        first,
        ..Frame::text(payload)
    };
    let declared = |len: u64| Frame {
        declared: Some(len),
        ..Frame::text("")
    };
    let texts = [
        "0",
        "1",
        "2",
        "2probe",
        "3",
        "40",
        "42[\"x\"]",
        "5",
        "6",
        "7",
        "",
    ];
    let mut inputs: Vec<_> = texts
        .iter()
        .map(|text| {
            (
                format!("frame `{text}`"),
                Frame::text(text).bytes(),
                Ending::Stays,
            )
        })
        .collect();
    let empty = frame(0x00, "").bytes();
    let invalid = Frame {
        payload: vec![b'4', 0xff],
        ..Frame::text("")
    };
    let unmasked = Frame {
        masked: false,
        ..Frame::text("6")
    };
    let in_fragments = [
        frame(0x01, ""),
        frame(0x00, ""),
        frame(0x00, "6"),
        frame(0x80, ""),
    ];
    let special: [(&str, Vec<u8>, Ending); 18] = [
        ("frame binary", frame(0x82, "x").bytes(), Ending::Stays),
        ("frame with RSV1", frame(0xc1, "6").bytes(), Ending::Stays),
        ("frame with RSV2", frame(0xa1, "6").bytes(), Ending::Stays),
        ("frame with RSV3", frame(0x91, "6").bytes(), Ending::Stays),
        (
            "frame of a reserved kind",
            frame(0x83, "6").bytes(),
            Ending::Stays,
        ),
        ("frame unmasked", unmasked.bytes(), Ending::Stays),
        (
            "frame that continues nothing",
            frame(0x80, "6").bytes(),
            Ending::Stays,
        ),
        (
            "fragments of no length, then an end",
            in_fragments.map(|part| part.bytes()).concat(),
            Ending::Stays,
        ),
        (
            "fragments without end",
            [frame(0x01, "6").bytes(), empty.repeat(1100)].concat(),
            Ending::Stays,
        ),
        (
            "declared 1,000,001 bytes",
            declared(1_000_001).bytes(),
            Ending::Stays,
        ),
        (
            "declared 2^63 bytes",
            declared(1 << 63).bytes(),
            Ending::Stays,
        ),
        (
            "declared 2^64-1 bytes",
            declared(u64::MAX).bytes(),
            Ending::Stays,
        ),
        ("frame of invalid UTF-8", invalid.bytes(), Ending::Stays),
        (
            "frame ping of 126 bytes",
            frame(0x89, &"x".repeat(126)).bytes(),
            Ending::Stays,
        ),
        ("frame pong", frame(0x8a, "x").bytes(), Ending::Stays),
        ("frame close", frame(0x88, "").bytes(), Ending::Stays),
        ("half-close", Vec::new(), Ending::HalfClose),
        ("RST", Vec::new(), Ending::Reset),
    ];
    inputs.extend(special.map(|(name, bytes, ending)| (name.to_owned(), bytes, ending)));
    let input = |(name, bytes, ending)| (name, Input::Frames(bytes, ending));
    inputs.into_iter().map(input).collect()
}

/// All inputs by their names, in the order of the matrix.
pub(crate) fn inputs() -> Vec<(String, Input)> {
    let requests = http_inputs().into_iter();
    let requests = requests.map(|(name, http)| (name, Input::Http(http)));
    requests.chain(frame_inputs()).collect()
}
