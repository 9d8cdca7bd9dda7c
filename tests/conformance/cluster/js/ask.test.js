// Everything that is more than an emit: acks, queries, moving and disconnecting sockets, events
// between servers.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Inbox } from '../../js/lib/waiting.js';
import {
  fresh, node, peers, redisClient, roommates, sockhop, until,
} from './members.js';

const both = [...sockhop, ...node];

/** Answers the next event of this name. */
async function answer(peer, event, ...args) {
  const { ack } = await peer.nextEvent(event);
  assert.ok(ack, `${peer.member}: no ack wanted`);
  ack(...args);
}

const ids = (found) => found.map(({ id }) => id).sort();

for (const member of both) {
  test(`${member} collects the acks of clients of both kinds`, async (t) => {
    const { room, ...clients } = await roommates(t, both);
    const answers = both.map((other) => answer(clients[other], 'question', other, 'surplus'));
    const it = { rooms: [room], event: 'question', args: ['?'], timeout: 8000 };
    const { complete, responses } = await clients[member].op('emitWithAck', it);
    await Promise.all(answers);
    assert.deepEqual([complete, responses.sort()], [true, [...both].sort()]);
  });

  test(`${member} gets the acks that came in time`, async (t) => {
    const { room, ...clients } = await roommates(t, both);
    const quick = both.filter((other) => !other.endsWith('B'));
    const answers = quick.map((other) => answer(clients[other], 'question', other));
    const it = { rooms: [room], event: 'question', args: [], timeout: 3000 };
    const { complete, responses } = await clients[member].op('emitWithAck', it);
    await Promise.all(answers);
    assert.deepEqual([complete, responses.sort()], [false, quick.sort()]);
  });

  test(`${member} fetches sockets of both kinds`, async (t) => {
    const { room, ...clients } = await roommates(t, both, { query: { from: 'test' } });
    for (const other of both) await clients[other].op('setData', { data: { of: other } });
    const found = await clients[member].op('fetchSockets', { rooms: [room] });
    assert.deepEqual(ids(found), both.map((other) => clients[other].id).sort());
    for (const other of both) {
      const socket = found.find(({ id }) => id === clients[other].id);
      assert.deepEqual(socket.rooms.sort(), [room, socket.id].sort());
      assert.deepEqual(socket.data, { of: other });
      assert.equal(socket.query.from, 'test');
    }
    const except = [clients.sockhopB.id, clients.nodeB.id];
    const some = await clients[member].op('fetchSockets', { rooms: [room], except });
    assert.deepEqual(ids(some), [clients.sockhopA.id, clients.nodeA.id].sort());
    const one = await clients[member].op('fetchSockets', { rooms: [clients.sockhopB.id] });
    assert.deepEqual(ids(one), [clients.sockhopB.id]);
  });

  test(`${member} moves sockets of both kinds`, async (t) => {
    const { room, ...clients } = await roommates(t, both);
    const second = fresh('room');
    const where = (other) => clients[other].op('rooms');
    await clients[member].op('socketsJoin', { rooms: [room], join: [second, `${second}-2`] });
    for (const other of both) {
      await until(`${other} in the room`, async () => (await where(other)).includes(second));
      assert.ok((await where(other)).includes(`${second}-2`));
    }
    await clients[member].op('socketsLeave', { rooms: [room], leave: [second] });
    for (const other of both) {
      await until(`${other} out of it`, async () => !(await where(other)).includes(second));
    }
  });

  test(`${member} disconnects sockets of both kinds`, async (t) => {
    for (const close of [false, true]) {
      const { room, ...clients } = await roommates(t, both);
      clients[member].op('disconnectSockets', { rooms: [room], close }).catch(() => {});
      for (const other of both) {
        const reason = await clients[other].ended();
        assert.ok(['io server disconnect', 'transport close'].includes(reason), reason);
      }
    }
  });

  test(`an event between servers of ${member} reaches all others`, async (t) => {
    const clients = await peers(t, both);
    const word = fresh('word');
    const greeted = async (peer) => {
      for (;;) {
        const [name, ...args] = await peer.next('greeted');
        if (args[0] === word) return [name, ...args];
      }
    };
    await clients[member].op('serverSideEmit', { args: [word, { a: [1] }] });
    for (const other of both.filter((it) => it !== member)) {
      assert.deepEqual(await greeted(clients[other]), [other, word, { a: [1] }]);
    }
  });

  test(`servers of both kinds answer ${member}`, async (t) => {
    const clients = await peers(t, [member]);
    const { complete, responses } = await clients[member].op('serverSideEmitWithAck', { args: [] });
    const expected = both.filter((it) => it !== member).sort();
    assert.deepEqual([complete, responses.sort()], [true, expected]);
  });

  test(`${member} knows the rooms and servers of both kinds`, async (t) => {
    const { room, ...clients } = await roommates(t, both);
    for (const other of both) await clients[other].op('join', { rooms: [`${room}-${other}`] });
    const rooms = await clients[member].op('allRooms');
    for (const other of both) assert.ok(rooms.includes(`${room}-${other}`), other);
    assert.equal(await clients[member].op('serverCount'), both.length);
  });
}

test('requests of older adapters are answered', async (t) => {
  const { room, ...clients } = await roommates(t, both);
  const redis = await redisClient(t);
  const listener = await redisClient(t);
  const heard = new Inbox();
  for (const channel of ['socket.io-response#/#', 'socket.io-response#/#older#']) {
    await listener.subscribe(channel, (text) => heard.put(JSON.parse(text)));
  }
  const ask = (request) =>
    redis.publish('socket.io-request#/#', JSON.stringify({ uid: 'older', ...request }));
  const answers = (requestId, count) =>
    heard.take(count, requestId, (it) => it.requestId === requestId);

  await ask({ requestId: 'sockets', type: 0, rooms: [room] });
  const found = (await answers('sockets', both.length)).flatMap(({ sockets }) => sockets);
  assert.deepEqual(found.sort(), both.map((other) => clients[other].id).sort());

  const sid = clients.sockhopB.id;
  const inRoom = async () => (await clients.sockhopB.op('rooms')).includes(`${room}-2`);
  await ask({ requestId: 'join', type: 2, sid, room: `${room}-2` });
  await answers('join', 1);
  assert.ok(await inRoom());
  await ask({ requestId: 'leave', type: 3, sid, room: `${room}-2` });
  await answers('leave', 1);
  assert.ok(!(await inRoom()));
  await ask({ requestId: 'end', type: 4, sid, close: true });
  await answers('end', 1);
  await clients.sockhopB.ended();
});

for (const [from, to] of [
  ['python', 'sockhopA'], ['sockhopA', 'python'], ['sockhopA', 'sockhopB'],
  ['sockhopB', 'nodeA'], ['nodeA', 'sockhopB'],
]) {
  test(`${from} calls a client of ${to}`, async (t) => {
    const clients = await peers(t, [from, to]);
    const answered = answer(clients[to], 'question', 'yes', { b: 2 });
    const it = { id: clients[to].id, event: 'question', args: [1], timeout: 8000 };
    if (from.startsWith('node')) {
      const asked = { ...it, rooms: [it.id] };
      assert.deepEqual((await clients[from].op('emitWithAck', asked)).responses, ['yes']);
    } else {
      const value = await clients[from].op('call', it);
      // Servers of Node.js tell only the first argument.
      assert.deepEqual(value, to.startsWith('node') ? ['yes'] : ['yes', { b: 2 }]);
    }
    await answered;
  });
}

for (const [from, to] of [['python', sockhop], ['sockhopA', ['python', 'sockhopB']]]) {
  test(`${from} moves and disconnects single sockets of ${to}`, async (t) => {
    const clients = await peers(t, [...new Set([from, ...to])]);
    const room = fresh('room');
    const where = (other) => clients[other].op('rooms');
    for (const other of to) {
      const { id } = clients[other];
      await clients[from].op('enterRoom', { id, room });
      await until(`${other} in`, async () => (await where(other)).includes(room));
      await clients[from].op('leaveRoom', { id, room });
      await until(`${other} out`, async () => !(await where(other)).includes(room));
      await clients[from].op('enterRoom', { id, room });
      await until(`${other} in again`, async () => (await where(other)).includes(room));
    }
    await clients[from].op('closeRoom', { room });
    for (const other of to) {
      await until(`${other} closed`, async () => !(await where(other)).includes(room));
      await clients[from].op('disconnect', { id: clients[other].id });
      assert.equal(await clients[other].ended(), 'io server disconnect');
    }
  });
}

test('a Node.js server that hangs is missing, and the others are heard', async (t) => {
  const { room, ...clients } = await roommates(t, both);
  const pid = Number(process.env.CLUSTER_NODE_B_PID);
  process.kill(pid, 'SIGSTOP');
  try {
    const rest = both.filter((other) => other !== 'nodeB');
    const answers = rest.map((other) => answer(clients[other], 'question', other));
    const it = { rooms: [room], event: 'question', args: [], timeout: 3000 };
    const { complete, responses } = await clients.sockhopA.op('emitWithAck', it);
    await Promise.all(answers);
    assert.deepEqual([complete, responses.sort()], [false, rest.sort()]);
    const found = await clients.sockhopA.op('fetchSockets', { rooms: [room], timeout: 500 });
    assert.deepEqual(ids(found), rest.map((other) => clients[other].id).sort());
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const { complete, responses } = await clients.sockhopA.op('serverSideEmitWithAck', { args: [] });
  assert.deepEqual([complete, responses.length], [true, both.length - 1]);
});
