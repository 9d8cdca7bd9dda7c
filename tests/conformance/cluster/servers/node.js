// A socket.io server with the Redis adapter, steered by its clients: the event `op` calls its API.
//
//   node node.js NAME REDIS_URL [specific]      prints `listening PORT`
//
// With `specific` it answers other servers on channels of their own.

import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const [name, redisUrl, specific] = process.argv.slice(2);
const publisher = createClient({ url: redisUrl });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) {
  client.on('error', (error) => console.error('redis:', error.message));
}
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const adapter = createAdapter(publisher, subscriber, {
  publishOnSpecificResponseChannel: specific === 'specific',
});
const io = new Server(http, { adapter });

/** The sockets of a namespace that `rooms` and `except` name. */
function target(namespace, { rooms = [], except = [], volatile, timeout }) {
  let operator = namespace.except(except).to(rooms);
  if (volatile) operator = operator.volatile;
  return timeout ? operator.timeout(timeout) : operator;
}

const operations = {
  emit: (socket, it) => void target(socket.nsp, it).emit(it.event, ...it.args),
  broadcast: (socket, it) => void socket.broadcast.to(it.rooms).emit(it.event, ...it.args),
  emitWithAck: (socket, it) =>
    new Promise((resolve) =>
      target(socket.nsp, it).emit(it.event, ...it.args, (error, responses) =>
        resolve({ complete: !error, responses }))),
  fetchSockets: async (socket, it) => {
    const found = await target(socket.nsp, it).fetchSockets();
    return found.map(({ id, rooms, data, handshake }) => (
      { id, rooms: [...rooms], data, query: handshake.query }));
  },
  socketsJoin: (socket, it) => void target(socket.nsp, it).socketsJoin(it.join),
  socketsLeave: (socket, it) => void target(socket.nsp, it).socketsLeave(it.leave),
  disconnectSockets: (socket, it) => void target(socket.nsp, it).disconnectSockets(it.close),
  allRooms: async (socket) => [...(await socket.nsp.adapter.allRooms())],
  sockets: async (socket, it) => [...(await socket.nsp.adapter.sockets(new Set(it.rooms)))],
  serverCount: (socket) => socket.nsp.adapter.serverCount(),
  serverSideEmit: (socket, it) => void socket.nsp.serverSideEmit('greet', ...it.args),
  serverSideEmitWithAck: (socket, it) =>
    new Promise((resolve) =>
      socket.nsp.serverSideEmit('greet', ...it.args, (error, responses) =>
        resolve({ complete: !error, responses }))),
  join: (socket, it) => socket.join(it.rooms),
  rooms: (socket) => [...socket.rooms],
  setData: (socket, it) => Object.assign(socket.data, it.data),
};

function install(namespace) {
  namespace.on('connection', (socket) => {
    socket.on('op', async (operation, it, ack) => {
      try {
        ack({ value: await operations[operation](socket, it) });
      } catch (error) {
        ack({ error: String(error) });
      }
    });
  });
  namespace.on('greet', (...args) => {
    const ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    namespace.local.emit('greeted', name, ...args);
    ack?.(name);
  });
}

install(io.of('/'));
install(io.of('/chat'));
http.listen(0, '127.0.0.1', () => console.log('listening', http.address().port));
