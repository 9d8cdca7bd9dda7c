"""A write-only manager: does what each line of its input says, then prints `done`.

    python emitter.py REDIS_URL
"""

import base64
import json
import sys

import socketio

manager = socketio.RedisManager(sys.argv[1], write_only=True)


def revived(value):
    """`{"$bytes": base64}` is binary data."""
    if isinstance(value, dict):
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return {key: revived(each) for key, each in value.items()}
    if isinstance(value, list):
        return [revived(each) for each in value]
    return value


def disconnect(sid, namespace):
    """What `manager.disconnect` of 5.18 would publish, had it not failed before for want of a
    server of its own."""
    message = {"method": "disconnect", "sid": sid, "namespace": namespace}
    manager._publish({**message, "host_id": manager.host_id})


for line in sys.stdin:
    method, args, options = json.loads(line)
    args = revived(args)
    if method == "emit" and isinstance(args[1], list):
        args[1] = tuple(args[1])
    call = disconnect if method == "disconnect" else getattr(manager, method)
    call(*args, **options)
    print("done", flush=True)
