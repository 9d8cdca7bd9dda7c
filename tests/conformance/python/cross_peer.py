"""A Python client steered from outside: JSON commands on stdin, JSON answers on stdout.

Started by `js/cross.test.js`, which has no Python client of its own. One command a line,
`{"do": <method of Peer>, "args": [...]}`, one answer a line, `{"result": ...}` or
`{"error": "..."}`. Binary travels as `{"$bytes": "<hex>"}`.
"""

import json
import sys

from peer import Peer

COMMANDS = {"connect", "call", "emit", "next", "whoami", "close", "settle", "unclaimed"}


def decode(value):
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        return {key: decode(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [decode(inner) for inner in value]
    return value


def encode(value):
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {key: encode(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(inner) for inner in value]
    return value


def main():
    peer = Peer(sys.argv[1], sys.argv[2], reconnection="reconnecting" in sys.argv[3:])
    peer.answer = lambda *args: ("python heard", list(args))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] not in COMMANDS:
                raise ValueError(f"no such command: {command['do']}")
            result = getattr(peer, command["do"])(*decode(command["args"]))
            answer = {"result": None if isinstance(result, Peer) else encode(result)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)
    peer.close()


if __name__ == "__main__":
    main()
