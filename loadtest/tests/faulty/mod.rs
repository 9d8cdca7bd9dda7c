//! A Socket.IO server that makes mistakes on purpose, and counts them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::tungstenite::Message;

/// Messages that may wait for one client.
const QUEUE: usize = 100_000;

/// A message that is held back to come late is let go by then, in order.
const HOLD: Duration = Duration::from_millis(300);

/// Every how many-th delivery is mistaken; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lose: u64,
    pub(crate) duplicate: u64,
    pub(crate) reorder: u64,
    /// Every how many-th skipping broadcast reaches its sender.
    pub(crate) leak: u64,
    /// Every how many-th room message reaches somebody who is not in the room.
    pub(crate) stray: u64,
    pub(crate) lose_ack: u64,
    pub(crate) duplicate_ack: u64,
    pub(crate) corrupt_ack: u64,
}

/// What was done wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) leaked: u64,
    pub(crate) strayed: u64,
    pub(crate) acks_lost: u64,
    pub(crate) acks_duplicated: u64,
    pub(crate) acks_corrupted: u64,
}

/// Sender and room; there is an order within one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    sender: u64,
    room: Option<String>,
}

impl Origin {
    fn new(sender: u64, room: Option<&str>) -> Self {
        let room = room.map(str::to_owned);
        Self { sender, room }
    }
}

struct Client {
    out: mpsc::Sender<Message>,
    room: Option<String>,
    /// A message that is to come behind the next of the same sender to the same room.
    held: RefCell<Option<(Origin, String)>>,
}

#[derive(Default)]
struct Server {
    faults: Faults,
    done: Arc<Mutex<Done>>,
    clients: RefCell<BTreeMap<u64, Rc<Client>>>,
    deliveries: Cell<u64>,
    skips: Cell<u64>,
    room_messages: Cell<u64>,
    acks: Cell<u64>,
    next_id: Cell<u64>,
}

/// Starts it on a free port; its address and its own count of its mistakes.
pub(crate) fn start(faults: Faults) -> (String, Arc<Mutex<Done>>) {
    let done = Arc::new(Mutex::new(Done::default()));
    let (shared, (tell, told)) = (Arc::clone(&done), std::sync::mpsc::sync_channel(1));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        LocalSet::new().block_on(&runtime.expect("a runtime"), async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            tell.send(format!("http://{address}"))
                .expect("the test waits");
            let server = Rc::new(Server {
                faults,
                done: shared,
                ..Server::default()
            });
            while let Ok((stream, _)) = listener.accept().await {
                let server = Rc::clone(&server);
                spawn_local(async move { server.serve(stream).await });
            }
        });
    });
    (told.recv().expect("the server has started"), done)
}

/// Whether this one is to be mistaken.
fn is_due(counter: &Cell<u64>, every: u64) -> bool {
    every > 0 && counter.get() % every == every - 1
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Server {
    #[expect(
        clippy::result_large_err,
        reason = "the type of the callback is tungstenite's"
    )]
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
        let mut room = None;
        let look = |request: &Request, response: Response| {
            let query = request.uri().query().unwrap_or_default();
            let value = query.split('&').find_map(|pair| pair.strip_prefix("room="));
            room = value.map(str::to_owned);
            Ok(response)
        };
        let accepted = tokio_tungstenite::accept_hdr_async(stream, look).await;
        let Ok(socket) = accepted else {
            return;
        };
        let (mut write, mut read) = socket.split();
        let (out, mut queue) = mpsc::channel(QUEUE);
        spawn_local(async move {
            while let Some(message) = queue.recv().await {
                if write.send(message).await.is_err() {
                    return;
                }
            }
        });
        let open = r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        let _ = out.try_send(open.into());
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let client = Rc::new(Client {
            out,
            room,
            held: RefCell::default(),
        });
        while let Some(Ok(message)) = read.next().await {
            let Ok(text) = message.into_text() else {
                break;
            };
            if text == "40" {
                self.clients.borrow_mut().insert(id, Rc::clone(&client));
                let _ = client.out.try_send(r#"40{"sid":"p"}"#.into());
            } else if let Some(event) = text.strip_prefix("42") {
                self.event(id, &client, event);
            }
        }
        self.clients.borrow_mut().remove(&id);
    }

    fn event(self: &Rc<Self>, id: u64, client: &Client, event: &str) {
        let (ack, args) = event.split_at(event.find('[').expect("an array"));
        let args: Vec<Value> = serde_json::from_str(args).expect("JSON");
        match args[0].as_str().expect("a name") {
            "echo" => self.answer(client, ack, &args[1]),
            "bcast" => self.broadcast(&Origin::new(id, None), &args[1], |_, _| true),
            "bcast_skip" => {
                let leaks = is_due(&self.skips, self.faults.leak);
                count(&self.skips);
                self.done.lock().expect("no panic").leaked += u64::from(leaks);
                if leaks {
                    let _ = client.out.try_send(packet(&args[1]).into());
                }
                self.broadcast(&Origin::new(id, None), &args[1], move |to, _| to != id);
            }
            "room_bcast" => {
                let strays = is_due(&self.room_messages, self.faults.stray);
                count(&self.room_messages);
                let is_outside = |other: &&Rc<Client>| other.room.as_deref() != args[1].as_str();
                let clients = self.clients.borrow();
                if strays && let Some(other) = clients.values().find(is_outside) {
                    let _ = other.out.try_send(packet(&args[2]).into());
                    self.done.lock().expect("no panic").strayed += 1;
                }
                drop(clients);
                let room = args[1].as_str();
                let origin = Origin::new(id, room);
                self.broadcast(&origin, &args[2], |_, client| {
                    client.room.as_deref() == room
                });
            }
            other => panic!("no event {other}"),
        }
    }

    fn answer(&self, client: &Client, ack: &str, payload: &Value) {
        let mut done = self.done.lock().expect("no panic");
        let answer: Message = format!("43{ack}[{payload}]").into();
        if is_due(&self.acks, self.faults.lose_ack) {
            done.acks_lost += 1;
        } else if is_due(&self.acks, self.faults.corrupt_ack) {
            done.acks_corrupted += 1;
            let _ = client.out.try_send(format!("43{ack}[\"other\"]").into());
        } else if is_due(&self.acks, self.faults.duplicate_ack) {
            done.acks_duplicated += 1;
            let _ = client.out.try_send(answer.clone());
            let _ = client.out.try_send(answer);
        } else {
            let _ = client.out.try_send(answer);
        }
        count(&self.acks);
    }

    fn broadcast(
        self: &Rc<Self>,
        from: &Origin,
        payload: &Value,
        reaches: impl Fn(u64, &Client) -> bool,
    ) {
        for (id, client) in &*self.clients.borrow() {
            if reaches(*id, client) {
                self.deliver(from, client, packet(payload));
            }
        }
    }

    fn deliver(self: &Rc<Self>, from: &Origin, client: &Rc<Client>, packet: String) {
        let mut done = self.done.lock().expect("no panic");
        let send = |packet: &str| drop(client.out.try_send(packet.to_owned().into()));
        if is_due(&self.deliveries, self.faults.lose) {
            done.lost += 1;
        } else if is_due(&self.deliveries, self.faults.reorder) && client.held.borrow().is_none() {
            *client.held.borrow_mut() = Some((from.clone(), packet));
            let client = Rc::clone(client);
            spawn_local(async move {
                tokio::time::sleep(HOLD).await;
                if let Some((_, packet)) = client.held.take() {
                    let _ = client.out.try_send(packet.into());
                }
            });
        } else {
            send(&packet);
            if is_due(&self.deliveries, self.faults.duplicate) {
                done.duplicated += 1;
                send(&packet);
            }
            let held = client.held.take();
            match held {
                Some((origin, packet)) if origin == *from => {
                    done.reordered += 1;
                    send(&packet);
                }
                other => *client.held.borrow_mut() = other,
            }
        }
        count(&self.deliveries);
    }
}

fn packet(payload: &Value) -> String {
    format!("42[\"msg\",{payload}]")
}
