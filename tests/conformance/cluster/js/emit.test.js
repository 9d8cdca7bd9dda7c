// Broadcasts: from every member and emitter to the clients of every other.

import assert from 'node:assert/strict';
import test from 'node:test';
import {
  all, everything, fresh, node, nodeEmitter, peers, pythonEmitter, roommates, sockhop,
} from './members.js';

const hearing = (member) =>
  member.startsWith('node') ? [...sockhop, ...node]
    : member === 'python' ? [...sockhop, 'python'] : all;

for (const member of all) {
  const others = hearing(member);

  test(`an emit of ${member} to everybody reaches the clients of ${others}`, async (t) => {
    const clients = await peers(t, others);
    const event = fresh('event');
    await clients[member].op('emit', { event, args: everything });
    for (const other of others) assert.deepEqual(await clients[other].next(event), everything);
  });

  test(`an emit of ${member} to a room reaches its members once`, async (t) => {
    const { room, ...clients } = await roommates(t, others);
    const outsiders = await peers(t, others);
    const more = fresh('room');
    await Promise.all(others.map((other) => clients[other].op('join', { rooms: [more] })));
    await clients[member].op('emit', { rooms: [room], event: 'one', args: [1] });
    await clients[member].op('emit', { rooms: [room, more], event: 'two', args: [2] });
    await clients[member].op('emit', { event: `last-${room}`, args: [] });
    for (const other of others) {
      assert.deepEqual(await clients[other].next('one'), [1]);
      assert.deepEqual(await clients[other].next('two'), [2]);
      await clients[other].next(`last-${room}`);
      await outsiders[other].next(`last-${room}`);
      assert.ok(!clients[other].has('one') && !clients[other].has('two'), `${other}: twice`);
      assert.ok(!outsiders[other].has('one') && !outsiders[other].has('two'), `${other}: leaked`);
    }
  });

  test(`an emit of ${member} spares the sockets that it skips`, async (t) => {
    const { room, ...clients } = await roommates(t, others);
    for (const spared of others) {
      const event = fresh('event');
      const except = [clients[spared].id];
      await clients[member].op('emit', { rooms: [room], except, event, args: [] });
      await clients[member].op('emit', { rooms: [room], event: 'end', args: [] });
      for (const other of others) {
        if (other !== spared) await clients[other].next(event);
        await clients[other].next('end');
        assert.ok(!clients[other].has(event), `${other} without ${spared}`);
      }
    }
  });

  test(`an emit of ${member} in a namespace stays there`, async (t) => {
    const inside = await peers(t, others, { namespace: '/chat' });
    const outside = await peers(t, others);
    const event = fresh('event');
    await inside[member].op('emit', { event, args: ['x'] });
    await outside[member].op('emit', { event: `${event}-end`, args: [] });
    for (const other of others) {
      assert.deepEqual(await inside[other].next(event), ['x']);
      await outside[other].next(`${event}-end`);
      assert.ok(!outside[other].has(event));
    }
  });

  test(`an emit of ${member} to the id of a socket reaches it alone`, async (t) => {
    const clients = await peers(t, others);
    for (const one of others) {
      const event = fresh('event');
      await clients[member].op('emit', { rooms: [clients[one].id], event, args: [] });
      await clients[one].next(event);
    }
  });
}

for (const member of [...sockhop, ...node]) {
  const others = [...sockhop, ...node];

  test(`an emit of ${member} spares the members of a room`, async (t) => {
    const { room, ...clients } = await roommates(t, others);
    const muted = fresh('muted');
    await clients.sockhopB.op('join', { rooms: [muted] });
    await clients.nodeB.op('join', { rooms: [muted] });
    await clients[member].op('emit', { rooms: [room], except: [muted], event: 'news', args: [] });
    await clients[member].op('emit', { rooms: [room], event: 'end', args: [] });
    for (const other of others) {
      await (other.endsWith('A') ? clients[other].next('news') : clients[other].next('end'));
    }
    assert.ok(!clients.sockhopB.has('news') && !clients.nodeB.has('news'));
  });

  test(`a broadcast of a socket of ${member} does not come back to it`, async (t) => {
    const { room, ...clients } = await roommates(t, others);
    await clients[member].op('broadcast', { rooms: [room], event: 'news', args: [7] });
    await clients[member].op('emit', { rooms: [room], event: 'end', args: [] });
    for (const other of others) {
      if (other !== member) assert.deepEqual(await clients[other].next('news'), [7]);
    }
    await clients[member].next('end');
    assert.ok(!clients[member].has('news'));
  });

  test(`a volatile emit of ${member} reaches clients that are ready`, async (t) => {
    const { room, ...clients } = await roommates(t, others);
    await clients[member].op('emit', { rooms: [room], volatile: true, event: 'v', args: [1] });
    for (const other of others) assert.deepEqual(await clients[other].next('v'), [1]);
  });
}

test('clients of the MessagePack parser hear members of every kind', async (t) => {
  const { room, ...clients } = await roommates(t, all);
  const listener = (await peers(t, ['sockhopA'], { parser: 'msgpack' })).sockhopA;
  await listener.op('join', { rooms: [room] });
  for (const member of all) {
    await clients[member].op('emit', { rooms: [room], event: member, args: everything });
    assert.deepEqual(await listener.next(member), everything);
  }
  await listener.op('emit', { rooms: [room], event: 'back', args: everything });
  for (const member of all) assert.deepEqual(await clients[member].next('back'), everything);
});

test('messages of one member arrive in their order', async (t) => {
  // Not of Python: its handlers run beside each other, and publish over several connections.
  for (const member of [...sockhop, ...node]) {
    const { room, ...clients } = await roommates(t, hearing(member));
    const count = 200;
    for (let i = 0; i < count; i += 1) {
      clients[member].socket.emit('op', 'emit', { rooms: [room], event: 'tick', args: [i] }, () => {});
    }
    for (const other of hearing(member)) {
      for (let i = 0; i < count; i += 1) {
        assert.deepEqual(await clients[other].next('tick'), [i], `${member} to ${other}`);
      }
    }
  }
});

test('@socket.io/redis-emitter emits to everybody, rooms and namespaces', async (t) => {
  const others = [...sockhop, ...node];
  const { room, ...clients } = await roommates(t, others);
  const inside = await peers(t, others, { namespace: '/chat' });
  const emitter = await nodeEmitter(t);
  const event = fresh('event');
  emitter.emit(event, ...everything);
  emitter.to(room).except(clients.sockhopB.id).emit('to room', 1);
  (await nodeEmitter(t, '/chat')).emit(`${event}-chat`, 3);
  for (const other of others) {
    assert.deepEqual(await clients[other].next(event), everything);
    assert.deepEqual(await inside[other].next(`${event}-chat`), [3]);
    if (other === 'sockhopB') assert.ok(!clients[other].has('to room'));
    else assert.deepEqual(await clients[other].next('to room'), [1]);
  }
  // Now nothing else is on its way to anybody.
  emitter.to(room).volatile.emit('volatile', 2);
  for (const other of others) assert.deepEqual(await clients[other].next('volatile'), [2]);
});

test('@socket.io/redis-emitter moves and disconnects sockets', async (t) => {
  const others = [...sockhop, ...node];
  const { room, ...clients } = await roommates(t, others);
  const emitter = await nodeEmitter(t);
  emitter.in(room).socketsJoin(`${room}-2`);
  emitter.to(`${room}-2`).emit('joined');
  for (const other of others) await clients[other].next('joined');
  emitter.in(room).socketsLeave(`${room}-2`);
  emitter.to(`${room}-2`).emit('nobody');
  emitter.to(room).emit('end');
  for (const other of others) {
    await clients[other].next('end');
    assert.ok(!clients[other].has('nobody'));
  }
  emitter.in(room).disconnectSockets();
  for (const other of others) assert.equal(await clients[other].ended(), 'io server disconnect');
});

test('a write-only manager of Python emits', async (t) => {
  const others = [...sockhop, 'python'];
  const { room, ...clients } = await roommates(t, others);
  const inside = await peers(t, others, { namespace: '/chat' });
  const emitter = pythonEmitter(t);
  const data = { $bytes: Buffer.from([0, 255]).toString('base64') };
  await emitter('emit', ['to room', [1, { a: [data, data] }]], { room });
  await emitter('emit', ['to list', 'one'], { room: [room, `${room}-2`] });
  await emitter('emit', ['skip one', null], { room, skip_sid: clients.sockhopA.id });
  await emitter('emit', ['skip two', { b: 1 }], {
    room, skip_sid: [clients.sockhopA.id, clients.python.id],
  });
  await emitter('emit', ['in chat', [[1, 2]]], { namespace: '/chat' });
  await emitter('emit', ['end', []], { room });
  const buffer = Buffer.from([0, 255]);
  for (const other of others) {
    assert.deepEqual(await clients[other].next('to room'), [1, { a: [buffer, buffer] }]);
    assert.deepEqual(await clients[other].next('to list'), ['one']);
    assert.deepEqual(await inside[other].next('in chat'), [[1, 2]]);
    assert.deepEqual(await clients[other].next('end'), []);
  }
  assert.deepEqual(await clients.sockhopB.next('skip one'), []);
  assert.deepEqual(await clients.sockhopB.next('skip two'), [{ b: 1 }]);
  assert.deepEqual(await clients.python.next('skip one'), []);
  assert.ok(!clients.sockhopA.has('skip one') && !clients.sockhopA.has('skip two'));
});

test('a write-only manager of Python moves and disconnects sockets', async (t) => {
  const others = [...sockhop, 'python'];
  const { room, ...clients } = await roommates(t, others);
  const second = `${room}-2`;
  const emitter = pythonEmitter(t);
  for (const other of others) {
    await emitter('enter_room', [clients[other].id, '/', second]);
  }
  await emitter('emit', ['joined', []], { room: second });
  for (const other of others) await clients[other].next('joined');
  await emitter('leave_room', [clients.sockhopA.id, '/', second]);
  await emitter('emit', ['without', []], { room: second });
  await clients.sockhopB.next('without');
  await emitter('close_room', [second, '/']);
  await emitter('emit', ['nobody', []], { room: second });
  await emitter('emit', ['end', []], { room });
  for (const other of others) {
    await clients[other].next('end');
    assert.ok(!clients[other].has('nobody'));
  }
  assert.ok(!clients.sockhopA.has('without'));
  for (const other of others) {
    await emitter('disconnect', [clients[other].id, '/']);
    assert.equal(await clients[other].ended(), 'io server disconnect');
  }
});
