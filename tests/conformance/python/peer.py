"""One blocking face for the official Python clients: sync and asyncio, 4.x and 5.x.

Nothing here sleeps: every wait ends with its condition or fails at its deadline.
"""

import asyncio
import os
import queue
import threading
import time
from importlib.metadata import version
from urllib.parse import urlencode

import engineio
import socketio

DEADLINE = float(os.environ.get("CONFORMANCE_DEADLINE_MS", "10000")) / 1000
VERSION = version("python-socketio")
EIO = 3 if VERSION.startswith("4.") else 4

EVENTS = [
    "auth",
    "message-back",
    "answer",
    "chat message",
    "room-msg",
    "broadcast",
    "gone",
    "flood",
]

MODES = {
    "polling": ["polling"],
    "websocket": ["websocket"],
    "upgrading": None,
}

_loop = None


def background_loop():
    """The event loop that all asyncio clients of this process share, in a thread of its own."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, daemon=True).start()
    return _loop


class Inbox:
    """Events in the order they came, each handed out once."""

    def __init__(self):
        self.items = []
        self.changed = threading.Condition()

    def put(self, *item):
        with self.changed:
            self.items.append(item)
            self.changed.notify_all()

    def next(self, event, namespace, matches=lambda *args: True, deadline=DEADLINE):
        until = time.monotonic() + deadline
        with self.changed:
            while True:
                for index, (space, name, args) in enumerate(self.items):
                    if name == event and space == namespace and matches(*args):
                        del self.items[index]
                        return list(args)
                remaining = until - time.monotonic()
                if remaining <= 0 or not self.changed.wait(remaining):
                    raise AssertionError(
                        f"still waiting for {event} in {namespace} after {deadline} s;"
                        f" unclaimed: {str(self.items)[:400]}"
                    )

    def unclaimed(self, event, namespace):
        with self.changed:
            return [
                list(args)
                for space, name, args in self.items
                if name == event and space == namespace
            ]


class Peer:
    """A client in one or more namespaces; `kind` is `sync`, `async` or `sync msgpack`."""

    def __init__(self, kind="sync", mode="websocket", reconnection=False):
        self.kind = kind
        self.mode = mode
        self.inbox = Inbox()
        self.answer = lambda *args: None
        self.beats = 0
        self.beat_changed = threading.Condition()
        options = {"reconnection": reconnection, "reconnection_delay": 0.05}
        options["randomization_factor"] = 0
        if "msgpack" in kind:
            options["serializer"] = "msgpack"
        if kind.startswith("async"):
            self.sio = self.run(self._make_async(options))
        else:
            self.sio = socketio.Client(**options)
            self._keep_order()
        self._count_beats()

    @staticmethod
    async def _make_async(options):
        return socketio.AsyncClient(**options)

    @property
    def path(self):
        return "msgpack" if "msgpack" in self.kind else "socket.io"

    def run(self, result):
        """Waits for the coroutine, or hands the plain result of the sync client through."""
        if not asyncio.iscoroutine(result):
            return result
        return asyncio.run_coroutine_threadsafe(result, background_loop()).result(2 * DEADLINE)

    def _keep_order(self):
        """Has incoming messages handled one after the other.

        The sync clients handle every message in a new thread, so that they may mix up what the
        server sent in order, attachments included. One thread for all of them does not.
        """
        start = self.sio.eio.start_background_task
        messages = queue.SimpleQueue()

        def work():
            while True:
                target, args = messages.get()
                try:
                    target(*args)
                except Exception as error:  # the test fails on what is missing
                    print(f"while handling a message: {error!r}")

        def in_order(target, *args, **kwargs):
            if target != self.sio.eio.handlers.get("message"):
                return start(target, *args, **kwargs)
            messages.put((target, args))

        threading.Thread(target=work, daemon=True).start()
        self.sio.eio.start_background_task = in_order

    def _count_beats(self):
        """Counts the heartbeats: pings that come in with EIO4, pongs with EIO3."""
        beat = engineio.packet.PONG if EIO == 3 else engineio.packet.PING
        receive = self.sio.eio._receive_packet

        def counting(packet):
            if packet.packet_type == beat:
                with self.beat_changed:
                    self.beats += 1
                    self.beat_changed.notify_all()
            return receive(packet)

        self.sio.eio._receive_packet = counting

    def await_beats(self, count):
        with self.beat_changed:
            if not self.beat_changed.wait_for(lambda: self.beats >= count, DEADLINE):
                raise AssertionError(f"{self.beats} heartbeats instead of {count}")

    def _listen(self, namespace):
        def recorder(event):
            def record(*args):
                self.inbox.put(namespace, event, args)

            return record

        for event in EVENTS + ["connect", "connect_error", "disconnect"]:
            self.sio.on(event, recorder(event), namespace=namespace)
        self.sio.on("question", lambda *args: self.answer(*args), namespace=namespace)

    def connect(self, server, namespace="/", query=None, auth=None, also=()):
        """Connects and waits until every namespace is joined."""
        self.namespace = namespace
        namespaces = [namespace, *also]
        for each in namespaces:
            self._listen(each)
        url = server + ("?" + urlencode(query) if query else "")
        options = {
            "transports": MODES[self.mode],
            "namespaces": namespaces,
            "socketio_path": self.path,
        }
        if EIO == 4:
            options.update(auth=auth, wait_timeout=DEADLINE)
        self.run(self.sio.connect(url, **options))
        for each in namespaces:
            self.inbox.next("connect", each)
        return self

    def start(self, server, namespace="/", query=None, auth=None):
        """Connects where a refusal is expected; returns what `connect_error` was given."""
        self.namespace = namespace
        self._listen(namespace)
        url = server + ("?" + urlencode(query) if query else "")
        options = {
            "transports": MODES[self.mode],
            "namespaces": [namespace],
            "socketio_path": self.path,
        }
        if EIO == 4:
            options.update(auth=auth, wait_timeout=DEADLINE)
        try:
            self.run(self.sio.connect(url, **options))
        except socketio.exceptions.ConnectionError:
            if EIO == 3:
                raise
        return self.inbox.next("connect_error", namespace)

    @property
    def id(self):
        if EIO == 4:
            return self.sio.get_sid(self.namespace)
        if self.namespace == "/":
            return self.sio.sid
        return f"{self.namespace}#{self.sio.sid}"

    @property
    def transport(self):
        return self.sio.transport()

    def emit(self, event, *args, namespace=None):
        self.run(self.sio.emit(event, args, namespace=namespace or self.namespace))

    def call(self, event, *args, namespace=None):
        """Emits and returns the list of what the acknowledgement carried."""
        done = threading.Event()
        result = []

        def callback(*answer):
            result.extend(answer)
            done.set()

        self.run(
            self.sio.emit(
                event, args, namespace=namespace or self.namespace, callback=callback
            )
        )
        if not done.wait(DEADLINE):
            raise AssertionError(f"no acknowledgement of {event} after {DEADLINE} s")
        return result

    def next(self, event, namespace=None, matches=lambda *args: True):
        return self.inbox.next(event, namespace or self.namespace, matches)

    def take(self, event, count):
        return [self.next(event) for _ in range(count)]

    def unclaimed(self, event):
        return self.inbox.unclaimed(event, self.namespace)

    def settle(self):
        """Everything the server sent before this point has arrived once this returns."""
        self.call("whoami")

    def whoami(self):
        return self.call("whoami")[0]

    def join(self, room):
        assert self.call("join", room) == ["ok"]

    def disconnect(self):
        """Disconnects once everything sent before has left.

        The write loop of the clients looks at their state between two POSTs: ended in the middle
        of one, it sends no DISCONNECT at all.
        """
        self.run(self.sio.eio.queue.join())
        self.run(self.sio.disconnect())

    def close(self):
        """Ends the client whatever its state."""
        try:
            self.sio.reconnection = False
            self.run(self.sio.disconnect())
        except Exception:  # the client may be half open; closing is best effort
            pass
