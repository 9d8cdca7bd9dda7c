// Three `contract` processes and a Node.js server on a Redis of their own, which is restarted in
// the end.

import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { within } from '../../js/lib/waiting.js';
import { Peer, everything, fresh, pythonEmitter, until } from './members.js';

const children = [];
const names = ['c1', 'c2', 'c3', 'node'];
const urls = {};
let redisPort;
let redis;

/** A process; its output is kept for the error. */
function run(command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.told = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => { child.told = (child.told + data).slice(-10000); });
  }
  children.push(child);
  return child;
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Stops a process. */
async function stop(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.on('exit', resolve));
  child.kill(signal);
  await within(ended, 'the end of a process');
}

async function startRedis() {
  const args = ['--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--dir', tmpdir()];
  redis = run('redis-server', args.map(String));
  await until('Redis', () => redis.told.includes('Ready to accept connections'));
}

before(async () => {
  redisPort = await freePort();
  await startRedis();
  const url = `redis://127.0.0.1:${redisPort}`;
  for (const name of names.slice(0, 3)) {
    const port = await freePort();
    const env = { HOST: '127.0.0.1', PORT: port, NODE_ID: name, REDIS_URL: url };
    run(process.env.CLUSTER_CONTRACT, [], env);
    urls[name] = `http://127.0.0.1:${port}`;
    await until(name, () => fetch(`${urls[name]}/healthz`).then((it) => it.ok, () => false));
  }
  const script = fileURLToPath(new URL('../servers/node.js', import.meta.url));
  const node = run(process.execPath, [script, 'node', url]);
  const port = await until('the Node.js server', () => /listening (\d+)/.exec(node.told)?.[1]);
  urls.node = `http://127.0.0.1:${port}`;
});

after(() => Promise.all(children.map((child) => stop(child))));

async function clients(t, options) {
  const made = Object.fromEntries(names.map((name) => [name, new Peer(name, { url: urls[name], ...options })]));
  t.after(() => names.forEach((name) => made[name].close()));
  await Promise.all(names.map((name) => made[name].connected()));
  return made;
}

const say = (peer, ...args) => within(peer.socket.emitWithAck(...args), `an ack of ${peer.member}`);

const join = (peer, room) =>
  peer.member === 'node' ? peer.op('join', { rooms: [room] }) : say(peer, 'join', room);

async function inRoom(t, which = names) {
  const made = await clients(t);
  const room = fresh('room');
  await Promise.all(which.map((name) => join(made[name], room)));
  return { room, ...made };
}

async function emitter(t) {
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  await client.connect();
  t.after(() => client.close());
  return new Emitter(client);
}

test('an emit to a room reaches its members at all servers', async (t) => {
  const { room, ...made } = await inRoom(t, ['c1', 'c2', 'node']);
  await say(made.c3, 'room-emit', room, ...everything);
  for (const name of ['c1', 'c2', 'node']) {
    assert.deepEqual(await made[name].next('room-msg'), [room, ...everything]);
  }
  assert.ok(!made.c3.has('room-msg'));
});

test('the sender and the members of another room are left out', async (t) => {
  const { room, ...made } = await inRoom(t);
  const other = fresh('other');
  await join(made.c2, other);
  await join(made.node, other);
  // All from one server: there is no order between two.
  await say(made.c1, 'room-broadcast', room, 'first');
  await say(made.c1, 'room-except', room, other, 'second');
  await say(made.c1, 'room-emit', room, 'third');
  const heard = {};
  for (const name of names) {
    heard[name] = [];
    while (heard[name].at(-1) !== 'third') heard[name].push((await made[name].next('room-msg'))[1]);
  }
  assert.deepEqual(heard, {
    c1: ['second', 'third'],
    c2: ['first', 'third'],
    c3: ['first', 'second', 'third'],
    node: ['first', 'third'],
  });
});

test('broadcasts reach everybody', async (t) => {
  const made = await clients(t);
  const word = fresh('word');
  await say(made.c1, 'broadcast', word);
  for (const name of ['c2', 'c3', 'node']) assert.deepEqual(await made[name].next('broadcast'), [word]);
  await say(made.c2, 'broadcast-all', `${word}-all`);
  for (const name of names) assert.deepEqual(await made[name].next('broadcast'), [`${word}-all`]);
});

test('the members of a room are known wherever they are', async (t) => {
  const { room, ...made } = await inRoom(t);
  const ids = names.map((name) => made[name].id).sort();
  for (const name of ['c1', 'c2', 'c3']) {
    assert.deepEqual((await say(made[name], 'members', room)).sort(), ids);
  }
  const found = await made.node.op('fetchSockets', { rooms: [room] });
  assert.deepEqual(found.map(({ id }) => id).sort(), ids);
});

test('a Node.js server emits, moves and disconnects', async (t) => {
  const { room, ...made } = await inRoom(t);
  await made.node.op('emit', { rooms: [room], except: [made.c2.id], event: 'news', args: everything });
  for (const name of ['c1', 'c3', 'node']) assert.deepEqual(await made[name].next('news'), everything);
  await made.node.op('socketsJoin', { rooms: [room], join: [`${room}-2`] });
  await until('all joined', async () => (await say(made.c1, 'members', `${room}-2`)).length === 4);
  assert.ok(!made.c2.has('news'));
  await made.node.op('disconnectSockets', { rooms: [made.c3.id], close: true });
  await made.c3.ended();
});

test('namespaces on demand hear emitters', async (t) => {
  const namespace = `/dyn-${process.pid}`;
  const peer = new Peer('c2', { url: urls.c2, namespace });
  t.after(() => peer.close());
  await peer.connected();
  await join(peer, 'red');
  (await emitter(t)).of(namespace).to('red').emit('node says', 1);
  assert.deepEqual(await peer.next('node says'), [1]);
  const python = pythonEmitter(t, `redis://127.0.0.1:${redisPort}`);
  await python('emit', ['python says', [2, 3]], { room: 'red', namespace });
  assert.deepEqual(await peer.next('python says'), [2, 3]);
  await python('disconnect', [peer.id, namespace]);
  assert.equal(await peer.ended(), 'io server disconnect');
});

test('a write-only manager of Python is heard by each process once', async (t) => {
  const { room, ...made } = await inRoom(t);
  const python = pythonEmitter(t, `redis://127.0.0.1:${redisPort}`);
  await python('enter_room', [made.c1.id, '/', `${room}-2`]);
  await python('emit', ['news', { a: { $bytes: 'AP8=' } }], { room: `${room}-2` });
  assert.deepEqual(await made.c1.next('news'), [{ a: Buffer.from([0, 255]) }]);
  await python('emit', ['once', 'x'], { skip_sid: [made.c2.id] });
  await python('emit', ['end', 'x'], {});
  for (const name of ['c1', 'c2', 'c3']) {
    await made[name].next('end');
    if (name !== 'c2') await made[name].next('once');
    assert.ok(!made[name].has('once'), name);
  }
});

test('what comes on the channels of the dialects harms nobody', async (t) => {
  const made = await clients(t);
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  await client.connect();
  t.after(() => client.close());
  // In a namespace that the Node.js server does not have: its process ends of some of it.
  const namespace = `/dyn-9${process.pid}`;
  const peer = new Peer('c2', { url: urls.c2, namespace });
  t.after(() => peer.close());
  await peer.connected();
  const channels = [
    'socketio', `socket.io#${namespace}#`, `socket.io-request#${namespace}#`,
    `socket.io-response#${namespace}#`,
  ];
  const rubbish = [
    '', '{', '[]', 'null', '\x80\x04\x95', '\x93\xa1x', '{"type":6}', '{"method":"emit"}',
    '['.repeat(100000), `{"method":"emit","event":"e","namespace":"/","data":${'['.repeat(5000)}`,
    '{"type":2,"opts":{"rooms":"x","except":5},"rooms":{}}', '\xdd\xff\xff\xff\xff',
    '{"type":7,"requestId":"r","packet":{"type":2,"data":[]},"opts":{}}',
    '{"type":5,"requestId":"r","opts":{"rooms":[[]]}}', '{"type":1e300,"requestId":[]}',
    '{"method":"callback","host_id":"sockhop:","id":-1,"args":[]}',
    '{"method":"emit","event":"disconnect","data":[],"namespace":"/"}',
    '{"method":"emit","event":"e","data":[{"_placeholder":true,"num":9}],"namespace":"/","binary":true}',
  ];
  for (const channel of channels) {
    for (const text of rubbish) {
      await client.publish(channel, Buffer.from(text, 'latin1'));
    }
  }
  const word = fresh('word');
  await say(made.c1, 'broadcast-all', word);
  for (const name of names) assert.deepEqual(await made[name].next('broadcast'), [word]);
  await say(peer, 'broadcast-all', word);
  assert.deepEqual(await peer.next('broadcast'), [word]);
});

test('after a restart of Redis all servers hear each other again', async (t) => {
  const { room, ...made } = await inRoom(t);
  await stop(redis, 'SIGKILL');
  await startRedis();
  for (const [from, event] of [['c1', 'room-msg'], ['node', 'news']]) {
    await until(`emits of ${from}`, async () => {
      const word = fresh('word');
      if (from === 'node') await made.node.op('emit', { rooms: [room], event, args: [room, word] });
      else await say(made[from], 'room-emit', room, word);
      const hears = async (name) => {
        for (let i = 0; i < 20; i += 1) {
          if (made[name].has(event, (args) => args[1] === word)) return true;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return false;
      };
      return (await Promise.all(names.map(hears))).every(Boolean);
    });
  }
});
