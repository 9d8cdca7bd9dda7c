"""What the official Python clients must see, whatever their version, kind and transport."""

import pytest

from peer import EIO

NESTED = {
    "list": [1, "two", None, True, 3.5, -7, [], {}],
    "deep": {"a": {"b": {"c": [{"d": "e"}]}}},
    "text": "quote \" backslash \\ newline \n tab \t nul \0 separator \u2028 record \x1e",
}
# The 4.x client takes an empty attachment for a missing one.
LEAST = b"" if EIO == 4 else b"\0"
BINARY = {"first": bytes([0, 1, 2, 253, 254, 255]), "inner": [{"second": b"x"}, 1, LEAST]}
EMOJI = "aé€😀 👩‍👩‍👧‍👦 🇫🇷 👍🏽 𝒳 \U0010ffff ﷽"


def pattern(length):
    return bytes((i * 31 + (i >> 8)) & 0xFF for i in range(length))


def settled(mode):
    return "polling" if mode == "polling" else "websocket"


@pytest.fixture
def client(opened, server, kind, mode):
    return opened(kind, mode).connect(server)


@pytest.fixture
def trio(opened, server, kind, mode, namespace, companion):
    return (
        opened(kind, mode).connect(server, namespace),
        opened(kind, mode).connect(server, namespace),
        companion(namespace),
    )


@pytest.fixture
def watcher(companion, namespace):
    other = companion(namespace)
    other.join("watchers")
    return other


def echo(client, *args):
    client.emit("message", *args)
    return client.next("message-back")


def nothing_more(event, *clients):
    for each in clients:
        each.settle()
    for each in clients:
        assert each.unclaimed(event) == []


# Connecting


def test_is_known_by_its_own_id_protocol_and_transport(opened, server, kind, mode):
    client = opened(kind, mode).connect(server, query={"city": "Zürich"})
    who = client.whoami()
    assert who["id"] == client.id
    assert who["eio"] == EIO
    assert who["transport"] == client.transport == settled(mode)
    assert who["query"]["city"] == "Zürich"


def test_gets_an_event_emitted_while_it_connects(client):
    assert client.next("auth") == [{}]


@pytest.mark.eio4
def test_has_its_auth_object_handed_to_the_server(opened, server, kind, mode):
    auth = {"token": "é😀", "nested": {"list": [1, None]}}
    assert opened(kind, mode).connect(server, auth=auth).next("auth") == [auth]


# Messages


def test_has_arguments_of_every_type_echoed(client):
    args = ["text", 42, -1.25e-7, True, False, None, "", NESTED, [[[]]]]
    assert echo(client, *args) == args


def test_has_a_message_without_arguments_echoed(client):
    assert echo(client) == []


def test_gets_its_arguments_back_in_the_acknowledgement(client):
    assert client.call("message-with-ack", 1, "two", NESTED) == [1, "two", NESTED]
    assert client.call("message-with-ack") == []


def test_answers_a_question_of_the_server(client):
    client.answer = lambda *args: ("heard", list(args))
    client.emit("ask-me", "why", NESTED)
    assert client.next("answer") == ["heard", ["why", NESTED]]


def test_answers_a_question_with_nothing(client):
    client.emit("ask-me")
    assert client.next("answer") == []


def test_has_nested_binary_echoed(client):
    assert echo(client, BINARY, b"\x04\x00\xff", "tail") == [BINARY, b"\x04\x00\xff", "tail"]


def test_gets_nested_binary_back_in_the_acknowledgement(client):
    assert client.call("message-with-ack", "head", BINARY) == ["head", BINARY]


def test_returns_nested_binary_in_an_answer(client):
    client.answer = lambda asked: ({"returned": asked}, pattern(300))
    client.emit("ask-me", BINARY)
    assert client.next("answer") == [{"returned": BINARY}, pattern(300)]


def test_keeps_the_order_of_text_and_binary_sent_together(client):
    sent = [[f"text {i}" if i % 3 else pattern(i + 1), i] for i in range(30)]
    for args in sent:
        client.emit("message", *args)
    assert client.take("message-back", 30) == sent


def test_has_emoji_echoed(client, mode):
    # python-engineio 3.x counts code points where the protocol counts UTF-16 units, so its
    # polling client can read no text payload with astral characters from any server but its own.
    text = "aé€ ﷽ e\u0301" if EIO == 3 and mode == "polling" else EMOJI
    assert echo(client, text, {text: [text]}, text * 50) == [text, {text: [text]}, text * 50]
    assert client.call("message-with-ack", text) == [text]


def test_has_emoji_beside_binary_echoed(client):
    args = [EMOJI, EMOJI.encode(), {"😀": ["€".encode(), "😀"]}]
    assert echo(client, *args) == args


def test_sends_emoji_to_others(client, kind, companion, namespace, opened, server, mode):
    other = companion(namespace)
    sender = opened(kind, mode).connect(server, namespace)
    sender.emit("broadcast", EMOJI)
    assert other.next("broadcast") == [EMOJI]


def test_survives_event_names_with_emoji(client):
    client.emit(f"{EMOJI} event", EMOJI)
    client.emit("😀", b"x", EMOJI)
    assert echo(client, "still here") == ["still here"]


def test_is_not_hurt_by_odd_arguments(client):
    for odd in [{"room": "r"}, [], None, 5, True, b"r"]:
        for event in ["join", "leave", "members", "room-emit", "room-except", "flood"]:
            client.emit(event, odd)
    assert echo(client, "still here") == ["still here"]


# Large payloads


def test_has_900_kb_of_text_echoed(client, kind, mode):
    # Base64 on polling costs a third, and MAX_PAYLOAD is a million bytes.
    length = 740_000 if "msgpack" in kind and mode == "polling" else 900_000
    text = ("sockhop 0123456789 " * 50_000)[:length]
    assert echo(client, text) == [text]


def test_has_900_kb_of_binary_echoed(client, mode):
    length = 740_000 if mode == "polling" and EIO == 4 else 900_000
    assert echo(client, {"file": pattern(length)}) == [{"file": pattern(length)}]


def test_gets_900_kb_of_binary_from_another_client(
    opened, server, kind, mode, namespace, companion
):
    client = opened(kind, mode).connect(server, namespace)
    companion(namespace).emit("broadcast", "file", pattern(900_000))
    assert client.next("broadcast") == ["file", pattern(900_000)]


# Namespaces


def test_works_in_several_namespaces_over_one_connection(opened, server, kind, mode, namespace):
    client = opened(kind, mode).connect(server, namespace, also=["/custom"])
    assert client.call("message-with-ack", BINARY) == [BINARY]
    assert client.call("message-with-ack", 2, namespace="/custom") == [2]
    assert client.whoami()["id"] == client.id
    client.emit("broadcast-all", "mine")
    assert client.next("broadcast") == ["mine"]
    client.call("whoami", namespace="/custom")
    assert client.inbox.unclaimed("broadcast", "/custom") == []


def test_is_refused_with_message_and_data_without_the_token(opened, server, kind, mode):
    (reason,) = opened(kind, mode).start(server, "/private")
    data = {"code": 401, "hint": "token"}
    assert reason == (data if EIO == 3 else {"message": "unauthorized", "data": data})


def test_is_admitted_with_the_token_in_the_query(opened, server, kind, mode):
    client = opened(kind, mode).connect(server, "/private", query={"token": "letmein"})
    assert client.call("message-with-ack", "in") == ["in"]


@pytest.mark.eio4
def test_is_admitted_with_the_token_in_its_auth_object(opened, server, kind, mode):
    client = opened(kind, mode).connect(server, "/private", auth={"token": "letmein"})
    assert client.call("message-with-ack", "in") == ["in"]


def test_is_told_that_an_unknown_namespace_is_invalid(opened, server, kind, mode):
    (reason,) = opened(kind, mode).start(server, "/nowhere")
    message = reason if isinstance(reason, str) else reason["message"]
    assert message == "Invalid namespace"


# Rooms


def test_reaches_the_members_of_a_room_and_nobody_else(trio):
    one, two, three = trio
    one.join("réd")
    three.join("réd")
    assert one.call("room-emit", "réd", "hello", {"n": 1}) == ["ok"]
    assert one.next("room-msg") == ["réd", "hello", {"n": 1}]
    assert three.next("room-msg") == ["réd", "hello", {"n": 1}]
    nothing_more("room-msg", one, two, three)


def test_skips_the_sender_when_it_broadcasts_to_a_room(trio):
    one, two, three = trio
    for each in trio:
        each.join("red")
    assert one.call("room-broadcast", "red", BINARY) == ["ok"]
    assert two.next("room-msg") == ["red", BINARY]
    assert three.next("room-msg") == ["red", BINARY]
    nothing_more("room-msg", one, two, three)


def test_leaves_out_the_members_of_an_excepted_room(trio):
    one, two, three = trio
    for each in trio:
        each.join("red")
    two.join("muted")
    assert three.call("room-except", "red", "muted", "psst") == ["ok"]
    assert one.next("room-msg") == ["red", "psst"]
    assert three.next("room-msg") == ["red", "psst"]
    nothing_more("room-msg", one, two, three)


def test_hears_nothing_of_a_room_after_leaving_it(trio):
    one, two, three = trio
    one.join("red")
    two.join("red")
    assert one.call("leave", "red") == ["ok"]
    assert three.call("room-emit", "red", "hi") == ["ok"]
    assert two.next("room-msg") == ["red", "hi"]
    nothing_more("room-msg", one, two, three)


def test_reaches_everybody_else_with_a_broadcast(trio):
    one, two, three = trio
    assert one.call("broadcast", "all but me") == ["ok"]
    assert two.next("broadcast") == ["all but me"]
    assert three.next("broadcast") == ["all but me"]
    nothing_more("broadcast", one, two, three)


def test_reaches_itself_too_with_a_broadcast_to_all(trio):
    one = trio[0]
    assert one.call("broadcast-all", pattern(50)) == ["ok"]
    for each in trio:
        assert each.next("broadcast") == [pattern(50)]
    nothing_more("broadcast", *trio)


def test_chats_as_in_the_tutorials(trio):
    trio[0].emit("chat message", "hello")
    for each in trio:
        assert each.next("chat message") == ["hello"]


def test_sees_who_is_in_a_room(trio):
    one, two, three = trio
    assert one.call("members", "red") == [[]]
    one.join("red")
    three.join("red")
    assert sorted(two.call("members", "red")[0]) == sorted([one.id, three.id])


# Endings


def test_tells_the_server_when_it_leaves(opened, server, kind, mode, namespace, watcher):
    client = opened(kind, mode).connect(server, namespace)
    gone_id = client.id
    client.disconnect()
    if EIO == 4:
        assert client.next("disconnect") == ["client disconnect"]
    (gone,) = watcher.next("gone")
    assert gone["id"] == gone_id
    # The DISCONNECT packet and the end of the connection come together, and Node handles the
    # latter first. 4.x may even break off before its packet has left.
    assert gone["reason"] in [
        "client namespace disconnect",
        "transport close",
        *(["transport error"] if EIO == 3 else []),
    ]


def test_is_told_when_the_server_closes_its_namespace(
    opened, server, kind, mode, namespace, watcher
):
    client = opened(kind, mode).connect(server, namespace, also=["/custom"])
    gone_id = client.id
    client.emit("disconnect-me")
    reason = client.next("disconnect")
    if EIO == 4:
        assert reason == ["server disconnect"]
    assert watcher.next("gone") == [{"id": gone_id, "reason": "server namespace disconnect"}]
    assert client.call("message-with-ack", "kept", namespace="/custom") == ["kept"]


def test_is_told_when_the_server_closes_the_connection(
    opened, server, kind, mode, namespace, watcher
):
    client = opened(kind, mode).connect(server, namespace)
    gone_id = client.id
    client.emit("disconnect-me", True)
    reason = client.next("disconnect")
    if EIO == 4:
        # The sync client may notice the end of the websocket before it handles the packet.
        assert reason in [["server disconnect"], ["transport error"]]
    assert watcher.next("gone") == [{"id": gone_id, "reason": "server namespace disconnect"}]


def test_connects_again_after_being_dropped(opened, server, kind, mode, namespace, watcher):
    client = opened(kind, mode).connect(server, namespace)
    before = client.id
    client.emit("drop-me")
    client.next("disconnect")
    (gone,) = watcher.next("gone")
    assert gone["id"] == before
    assert gone["reason"] in ["transport close", "forced close"]
    again = opened(kind, mode).connect(server, namespace)
    assert again.id != before
    assert again.call("message-with-ack", "back") == ["back"]


@pytest.mark.modes("websocket", "upgrading")  # on polling they take the close packet as final
def test_reconnects_by_itself_after_its_websocket_was_dropped(
    opened, server, kind, mode, namespace
):
    client = opened(kind, mode, reconnection=True).connect(server, namespace)
    client.join("red")
    before = client.id
    client.emit("drop-me")
    client.next("disconnect")
    client.next("connect")
    assert client.id != before
    assert client.whoami()["id"] == client.id
    assert client.call("members", "red") == [[]]


# Endurance


def test_lives_through_five_heartbeats(opened, heartbeat_server, kind, mode):
    client = opened(kind, mode).connect(heartbeat_server)
    client.await_beats(5)
    assert client.call("message-with-ack", "alive") == ["alive"]
    assert client.unclaimed("disconnect") == []


def test_has_200_messages_echoed_in_order(client):
    for i in range(200):
        client.emit("message", i, f"message {i}")
    assert client.take("message-back", 200) == [[i, f"message {i}"] for i in range(200)]


def test_gets_200_messages_that_the_server_sends_in_one_go(
    opened, server, kind, mode, namespace
):
    client = opened(kind, mode).connect(server, namespace)
    client.join("flooded")
    assert client.call("flood", "flooded", 200, 64) == ["ok"]
    assert client.take("flood", 200) == [["x" * 64]] * 200
    nothing_more("flood", client)


def test_gets_200_binary_messages_of_another_client_in_order(
    opened, server, kind, mode, namespace, companion
):
    client = opened(kind, mode).connect(server, namespace)
    other = companion(namespace)
    for i in range(200):
        other.emit("broadcast", i, pattern(i % 50 + 1))
    assert client.take("broadcast", 200) == [[i, pattern(i % 50 + 1)] for i in range(200)]
