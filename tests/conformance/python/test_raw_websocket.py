"""The hand-made client of the 2018 tutorials: `websocket-client` and EIO=3 frames, nothing else."""

import json
import threading
import uuid

import pytest
import websocket

from peer import DEADLINE, Inbox


class Script:
    """The tutorial's script, with events where it slept or asked the keyboard."""

    def __init__(self, server):
        self.frames = Inbox()
        self.closed = threading.Event()
        # url format: ws://host:port/socket.io/?EIO=3&transport=websocket
        self.app = websocket.WebSocketApp(
            server.replace("http", "ws", 1) + "/socket.io/?EIO=3&transport=websocket",
            on_message=lambda ws, message: self.frames.put("", "frame", (message,)),
            on_error=lambda ws, error: self.frames.put("", "error", (error,)),
            on_close=lambda ws, *status: self.closed.set(),
        )
        self.app.on_open = lambda ws: ws.send("2probe")
        self.thread = threading.Thread(target=self.app.run_forever, daemon=True)
        self.thread.start()

    def next(self, matches=lambda frame: True):
        return self.frames.next("frame", "", matches)[0]

    def send(self, frame):
        self.app.send(frame)

    def close(self):
        """Breaks off: a closing handshake would need the thread that is being ended."""
        self.app.keep_running = False
        if self.app.sock:
            self.app.sock.abort()
        self.thread.join(DEADLINE)


@pytest.fixture
def script(server):
    made = Script(server)
    yield made
    made.close()


def test_the_script_gets_the_handshake_the_connect_and_the_answer_to_its_probe(script):
    handshake = script.next()
    assert handshake[0] == "0"
    assert json.loads(handshake[1:])["upgrades"] == []
    script.next(lambda frame: frame == "40")
    script.next(lambda frame: frame == "3probe")


def test_the_script_chats_without_joining_anything(script):
    script.next(lambda frame: frame == "40")
    for text in [f"hello {uuid.uuid4()}", f"你好 😀 {uuid.uuid4()}"]:
        script.send('42["chat message","{0}"]'.format(text))
        script.next(lambda frame, text=text: frame == f'42["chat message","{text}"]')


def test_the_script_is_heard_by_another_one(script, server):
    other = Script(server)
    try:
        for each in (script, other):
            each.next(lambda frame: frame == "40")
        text = f"hello {uuid.uuid4()}"
        script.send(f'42["chat message","{text}"]')
        for each in (script, other):
            each.next(lambda frame: frame == f'42["chat message","{text}"]')
    finally:
        other.close()


def test_the_heartbeat_of_the_script_is_answered(script):
    script.next(lambda frame: frame == "3probe")
    for _ in range(5):
        script.send("2")
        script.next(lambda frame: frame == "3")


def test_the_script_lives_on_pings_alone_for_several_intervals(heartbeat_server):
    script = Script(heartbeat_server)
    try:
        script.next(lambda frame: frame == "3probe")
        for _ in range(10):
            # The rhythm of the client is what is under test; it ends early if it is cut off.
            assert not script.closed.wait(0.3), "the server closed the websocket"
            script.send("2")
            script.next(lambda frame: frame == "3")
        assert not script.closed.is_set()
    finally:
        script.close()


def test_the_script_is_cut_off_when_it_stops_pinging(heartbeat_server):
    script = Script(heartbeat_server)
    try:
        assert script.closed.wait(DEADLINE), "the server kept a silent client"
    finally:
        script.close()


def test_the_script_gets_an_acknowledgement(script):
    script.next(lambda frame: frame == "40")
    script.send('421["message-with-ack","x",{"y":[1]}]')
    script.next(lambda frame: frame == '431["x",{"y":[1]}]')


def test_the_script_ends_the_session_with_a_close_packet(script):
    script.next(lambda frame: frame == "40")
    script.send("1")
    assert script.closed.wait(DEADLINE), "the server kept the websocket open"
