//! Clients that leave things half done, at a stated rate: what `sockhop-loadtest run echo
//! --at "10s=abuse polls …"` starts beside the clients whose round trips it measures.
//!
//! `docs/hostile-input.md` has the commands and what came out.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use sockhop_loadtest::websocket::{TEXT, push_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Clients at a time; whoever is due later waits, and the rate is not kept.
const AT_ONCE: usize = 512;

/// How long a parked poll or a silent probe is left alone before it is cut off.
const LINGER: Duration = Duration::from_millis(50);

#[derive(Debug, Parser)]
struct Cli {
    /// What is left half done
    what: What,
    /// The server, a `bench` example
    #[arg(long, default_value = "127.0.0.1:3000")]
    address: String,
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Clients that begin per second
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
    /// Broadcasts per second to those that never read
    #[arg(long, default_value_t = 20)]
    broadcasts: u64,
    /// Bytes of each
    #[arg(long, default_value_t = 4_096)]
    bytes: usize,
    /// Seconds for which those that never read stay
    #[arg(long, default_value_t = 20)]
    hold: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Polling sessions that nobody comes back to
    Handshakes,
    /// WebSockets that never finish their probe
    Upgrades,
    /// GETs that are reset or closed while they wait
    Polls,
    /// WebSockets that never read, under broadcasts to them
    Readers,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let cli = Arc::new(Cli::parse());
    let begin = Instant::now();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    let mut readers = Vec::new();
    for number in 0..cli.count {
        let due = begin + Duration::from_secs_f64(number as f64 / cli.rate as f64);
        tokio::time::sleep_until(due.into()).await;
        let slot = Arc::clone(&slots).acquire_owned().await;
        let (cli, refused) = (Arc::clone(&cli), Arc::clone(&refused));
        clients.spawn(async move {
            let left = leave(&cli, number).await;
            if left.is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            drop(slot);
            left.ok().flatten()
        });
        while let Some(done) = clients.try_join_next() {
            readers.extend(done.ok().flatten());
        }
    }
    while let Some(done) = clients.join_next().await {
        readers.extend(done.ok().flatten());
    }
    let took = begin.elapsed();
    if cli.what == What::Readers {
        speak(&cli).await?;
    }
    writeln!(
        std::io::stderr(),
        "{} {:?} in {took:.1?}, {} refused, {} open to the end",
        cli.count,
        cli.what,
        refused.load(Ordering::Relaxed),
        readers.len()
    )
}

/// One client, and what it leaves open.
async fn leave(cli: &Cli, number: usize) -> std::io::Result<Option<TcpStream>> {
    match cli.what {
        What::Handshakes => drop(handshake(cli).await?),
        What::Upgrades => {
            let sid = handshake(cli).await?;
            let query = format!("&sid={sid}");
            let mut websocket = websocket(cli, &query).await?;
            if number.is_multiple_of(2) {
                websocket.write_all(&frame("2probe")).await?;
            }
            tokio::time::sleep(LINGER).await;
        }
        What::Polls => {
            let sid = handshake(cli).await?;
            let mut poll = TcpStream::connect(&cli.address).await?;
            let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
            poll.write_all(request(&target, "").as_bytes()).await?;
            tokio::time::sleep(LINGER).await;
            if number.is_multiple_of(2) {
                poll.set_zero_linger()?;
            }
        }
        What::Readers => {
            let mut websocket = websocket(cli, "&room=deaf").await?;
            websocket.write_all(&frame("40")).await?;
            return Ok(Some(websocket));
        }
    }
    Ok(None)
}

/// Opens a polling session; its id.
async fn handshake(cli: &Cli) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(&cli.address).await?;
    let target = "/socket.io/?EIO=4&transport=polling";
    let close = "Connection: close\r\n";
    stream.write_all(request(target, close).as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let sid = answer.split_once("\"sid\":\"").map(|(_, rest)| rest);
    let sid = sid.and_then(|rest| rest.split('"').next());
    sid.map(str::to_owned)
        .ok_or_else(|| std::io::Error::other("no session"))
}

async fn websocket(cli: &Cli, query: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(&cli.address).await?;
    let target = format!("/socket.io/?EIO=4&transport=websocket{query}");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    stream
        .write_all(request(&target, upgrade).as_bytes())
        .await?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await?;
    match &first == b"HTTP/1.1 101" {
        true => Ok(stream),
        false => Err(std::io::Error::other("no WebSocket")),
    }
}

/// Broadcasts to those that never read, until they have been held for long enough.
async fn speak(cli: &Cli) -> std::io::Result<()> {
    let mut speaker = websocket(cli, "").await?;
    speaker.write_all(&frame("40")).await?;
    let event = format!(r#"42["room_bcast","deaf","{}"]"#, "x".repeat(cli.bytes));
    let event = frame(&event);
    let begin = Instant::now();
    for number in 0..cli.hold * cli.broadcasts {
        let due = begin + Duration::from_secs_f64(number as f64 / cli.broadcasts as f64);
        tokio::time::sleep_until(due.into()).await;
        speaker.write_all(&event).await?;
    }
    Ok(())
}

fn request(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, TEXT, &[text.as_bytes()], [1, 2, 3, 4]);
    bytes
}
