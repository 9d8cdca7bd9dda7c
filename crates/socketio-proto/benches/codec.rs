//! What one event costs to read and to write, in both parsers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use engineio_proto::{Message, Text};
use serde::Serialize;
use socketio_proto::{Client, ClientConfig, Parser, SocketioVersion, encode_event};

#[derive(Serialize)]
struct Chat {
    from: &'static str,
    at: u64,
    text: &'static str,
}

const CHAT: Chat = Chat {
    from: "somebody",
    at: 1_700_000_000_000,
    text: "the quick brown fox jumps over the lazy dog",
};

fn codec(criterion: &mut Criterion) {
    for (name, parser) in [("json", Parser::Json), ("msgpack", Parser::Msgpack)] {
        criterion.bench_function(&format!("{name}/encode an event"), |bencher| {
            bencher.iter(|| encode_event(parser, "/", None, "msg", black_box(&CHAT)));
        });
    }
    #[expect(clippy::disallowed_methods, reason = "a bench is a driver")]
    let now = Instant::now();
    let text = |text: &str| Message::Text(Text::from(text));
    let config = Arc::new(ClientConfig::default());
    let mut client: Client<()> = Client::new(now, config, SocketioVersion::V5);
    client
        .handle_message(now, text("0"))
        .expect("it is welcome");
    assert!(client.poll_event().is_some(), "a client asks to be let in");
    assert!(client.accept("/", "id").is_some(), "and is answered");
    let encoded = encode_event(Parser::Json, "/", None, "msg", &CHAT).expect("it can be written");
    let frame = encoded.frames().next().expect("an event has a frame");
    // Without the packet type of Engine.IO.
    let event = std::str::from_utf8(&frame.data()[1..]).expect("a text frame is text");
    let event = text(event);
    criterion.bench_function("json/handle an event", |bencher| {
        bencher.iter(|| {
            client
                .handle_message(now, event.clone())
                .expect("it is welcome");
            client.poll_event()
        });
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
