"""A python-socketio server with the Redis manager, steered by its clients: the event `op` calls
its API.

    python python.py NAME REDIS_URL      prints `listening PORT`
"""

import asyncio
import sys

import socketio
from aiohttp import web

name, redis_url = sys.argv[1:]
manager = socketio.AsyncRedisManager(redis_url)
sio = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager, cors_allowed_origins="*")
NAMESPACES = ["/", "/chat"]


def arguments(args):
    """A tuple is several arguments, anything else one."""
    return args[0] if len(args) == 1 else tuple(args)


class Operations:
    def __init__(self, namespace):
        self.namespace = namespace

    async def emit(self, sid, it):
        await sio.emit(
            it["event"],
            arguments(it["args"]),
            room=it.get("rooms") or None,
            skip_sid=it.get("except") or None,
            namespace=self.namespace,
        )

    async def call(self, sid, it):
        answered = asyncio.get_running_loop().create_future()

        def callback(*args):
            if not answered.done():
                answered.set_result(list(args))

        await sio.emit(
            it["event"],
            arguments(it["args"]),
            room=it["id"],
            callback=callback,
            namespace=self.namespace,
        )
        return await asyncio.wait_for(answered, it.get("timeout", 5000) / 1000)

    async def enterRoom(self, sid, it):
        await sio.enter_room(it["id"], it["room"], namespace=self.namespace)

    async def leaveRoom(self, sid, it):
        await sio.leave_room(it["id"], it["room"], namespace=self.namespace)

    async def closeRoom(self, sid, it):
        await sio.close_room(it["room"], namespace=self.namespace)

    async def disconnect(self, sid, it):
        await sio.disconnect(it["id"], namespace=self.namespace)

    async def join(self, sid, it):
        for room in it["rooms"]:
            await sio.enter_room(sid, room, namespace=self.namespace)

    async def rooms(self, sid, it):
        return [room for room in sio.rooms(sid, namespace=self.namespace) if room]


def install(namespace):
    operations = Operations(namespace)

    @sio.on("op", namespace=namespace)
    async def op(sid, operation, it):
        try:
            return {"value": await getattr(operations, operation)(sid, it)}
        except Exception as error:  # told to the test, whatever it is
            return {"error": repr(error)}


for namespace in NAMESPACES:
    install(namespace)


async def main():
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("listening", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
