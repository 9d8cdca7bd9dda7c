"""The benchmark's events on python-socketio and uvicorn."""

import os
from urllib.parse import parse_qs

import socketio
import uvicorn

redis = os.environ.get("REDIS")
sio = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(redis) if redis else None,
)


@sio.event
async def connect(sid, environ):
    await sio.enter_room(sid, "all")
    room = parse_qs(environ.get("QUERY_STRING", "")).get("room")
    if room:
        await sio.enter_room(sid, room[0])


@sio.event
async def echo(sid, *args):
    return args


@sio.event
async def echo_emit(sid, *args):
    await sio.emit("echo", args, to=sid)


@sio.event
async def bcast(sid, payload):
    await sio.emit("msg", payload, room="all")


@sio.event
async def bcast_skip(sid, payload):
    await sio.emit("msg", payload, room="all", skip_sid=sid)


@sio.event
async def room_bcast(sid, room, payload):
    await sio.emit("msg", payload, room=room)


uvicorn.run(
    socketio.ASGIApp(sio),
    host="0.0.0.0",
    port=int(os.environ.get("PORT", 3000)),
    log_level="warning",
    access_log=False,
    backlog=4096,
)
