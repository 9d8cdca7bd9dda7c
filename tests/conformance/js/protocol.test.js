// Socket.IO packets by hand: what must be answered to the byte, what must be tolerated, and what
// must close the one session that sent it.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { Polling, Socket, closing, request, requestOrReset } from './lib/raw.js';
import { freshNamespace, servers } from './lib/servers.js';

const { main } = servers;
const { encode, decode } = createRequire(
  createRequire(import.meta.url).resolve('socket.io-msgpack-parser'),
)('notepack.io');

/** A session that must survive whatever the tests of a group do to others. */
function bystander() {
  let socket;
  before(async () => {
    socket = await Socket.session(main, { eio: 3 });
    // An EIO3 session, which needs no answering of pings between the checks.
    assert.equal(await socket.next(), '40');
  });
  after(() => socket.terminate());
  return async () => {
    socket.send('2');
    socket.send('4277["message-with-ack","unharmed"]');
    await socket.frames.next('the pong', (frame) => frame === '3');
    await socket.frames.next('the acknowledgement', (frame) => frame === '4377["unharmed"]');
  };
}

const joined = async (t, namespace = '/') => {
  const socket = closing(t)(await Socket.session(main));
  await socket.join(namespace);
  return socket;
};

describe('packets to the byte', { concurrency: 4 }, () => {
  test('CONNECT is answered with an id of its own, the auth event follows', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    socket.send('40{"token":"é😀"}');
    const connected = await socket.next();
    const { sid, ...rest } = JSON.parse(connected.slice(2));
    assert.match(sid, /^[\w-]{20}$/);
    assert.deepEqual(rest, {});
    assert.notEqual(sid, socket.handshake.sid);
    assert.equal(await socket.next(), '42["auth",{"token":"é😀"}]');
  });

  for (const frame of ['40/custom', '40/custom,', '40/custom,{}']) {
    test(`${frame} joins the namespace`, async (t) => {
      const socket = closing(t)(await Socket.session(main));
      socket.send(frame);
      assert.match(await socket.next(), /^40\/custom,\{"sid":"[\w-]{20}"\}$/);
    });
  }

  test('a refusal carries the message and the data', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    socket.send('40/private,{"token":"no"}');
    assert.equal(
      await socket.next(),
      '44/private,{"message":"unauthorized","data":{"code":401,"hint":"token"}}',
    );
    socket.send('40/private,{"token":"letmein"}');
    assert.match(await socket.next(), /^40\/private,\{"sid"/);
  });

  test('an unknown namespace is refused by name', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    socket.send('40/nowhere,');
    assert.equal(await socket.next(), '44/nowhere,{"message":"Invalid namespace"}');
  });

  test('events and acknowledgements keep their JSON as it is', async (t) => {
    const socket = await joined(t);
    socket.send('42["message",1,"2",{"3":[true]},null,1.50,"\\u20ac\\ud83d\\ude00"]');
    const echoed = await socket.next();
    assert.equal(echoed.slice(0, 16), '42["message-back');
    assert.deepEqual(JSON.parse(echoed.slice(2)), ['message-back', 1, '2', { 3: [true] }, null, 1.5, '€😀']);
    socket.send('42456["message-with-ack",1,"2",{"3":[false]}]');
    assert.equal(await socket.next(), '43456[1,"2",{"3":[false]}]');
    socket.send('420["message-with-ack"]');
    assert.equal(await socket.next(), '430[]');
  });

  test('attachments follow their packet in order', async (t) => {
    const socket = await joined(t, '/custom');
    const places = '{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}';
    socket.send(`452-/custom,789["message-with-ack",${places}]`);
    socket.send(Buffer.from([1]));
    socket.send(Buffer.from([2]));
    assert.equal(
      await socket.next(),
      '462-/custom,789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
    );
    assert.deepEqual([await socket.next(), await socket.next()], [Buffer.from([2]), Buffer.from([1])]);
  });

  test('messages of other namespaces may come between the attachments of a server', async (t) => {
    const socket = await joined(t);
    socket.send('40/custom,');
    await socket.next();
    await socket.next();
    for (let i = 0; i < 20; i += 1) {
      socket.send('451-["message",{"_placeholder":true,"num":0}]');
      socket.send(Buffer.from([i]));
      socket.send(`42/custom,["message",${i}]`);
    }
    for (let i = 0; i < 20; i += 1) {
      assert.equal(await socket.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
      assert.deepEqual(await socket.next(), Buffer.from([i]));
      assert.equal(await socket.next(), `42/custom,["message-back",${i}]`);
    }
  });

  test('questions carry an id and are answered by it, once', async (t) => {
    const socket = await joined(t);
    socket.send('42["ask-me","a"]');
    const [, id] = /^42(\d+)\["question","a"\]$/.exec(await socket.next());
    socket.send(`43${id}["one",2]`);
    socket.send(`43${id}["twice"]`);
    socket.send('43999999["never asked"]');
    assert.equal(await socket.next(), '42["answer","one",2]');
    await socket.echoes();
  });

  test('leaving a namespace is answered with silence and may be undone', async (t) => {
    const socket = await joined(t);
    socket.send('40/custom');
    await socket.next();
    await socket.next();
    socket.send('41/custom');
    await socket.echoes();
    socket.send('40/custom,');
    assert.match(await socket.next(), /^40\/custom,\{"sid"/);
  });

  test('polling carries several packets of one body in order', async () => {
    const session = await Polling.open(main);
    await session.join();
    await session.send('42["message",1]', '451-["message",{"_placeholder":true,"num":0}]', 'bAQID', '422["message-with-ack","x"]');
    const packets = [];
    while (packets.length < 4) packets.push(await session.next());
    assert.deepEqual(packets, [
      '42["message-back",1]',
      '451-["message-back",{"_placeholder":true,"num":0}]',
      'bAQID',
      '432["x"]',
    ]);
  });

  test('no polling body holds more than 16 packets', async () => {
    const session = await Polling.open(main);
    await session.join();
    await session.send('40/custom');
    assert.match(await session.next(), /^40\/custom/);
    assert.match(await session.next(), /auth/);
    await session.send(...Array.from({ length: 100 }, (_, i) => `42["message",${i}]`));
    const heard = [];
    while (heard.length < 100) {
      const answer = await session.poll();
      const packets = answer.text.split('\x1e');
      assert.ok(packets.length <= 16, `${packets.length} packets in one body`);
      if (packets.includes('2')) await session.send('3');
      heard.push(...packets.filter((each) => each !== '2'));
    }
    heard.forEach((packet, i) => assert.equal(packet, `42["message-back",${i}]`));
  });

  test('no bodies of a polling client grow past MAX_PAYLOAD', async () => {
    const session = await Polling.open(main);
    await session.join();
    const text = 'x'.repeat(100_000);
    for (let i = 0; i < 8; i += 1) await session.send(`42["message","${text}"]`);
    let heard = 0;
    while (heard < 8) {
      const answer = await session.poll();
      assert.ok(answer.body.length <= 1_000_000, `${answer.body.length} bytes`);
      const packets = answer.text.split('\x1e');
      if (packets.includes('2')) await session.send('3');
      heard += packets.filter((each) => each !== '2').length;
    }
  });
});

describe('violations', { concurrency: 4 }, () => {
  const unharmed = bystander();
  const B = Buffer.from([1]);
  const place = '{"_placeholder":true,"num":0}';
  const table = [
    ['a packet of no type', ['4abc']],
    ['a message without a packet', ['4']],
    ['an unknown packet type', ['47["message"]']],
    ['an event that is an object', ['42{}']],
    ['an event that is a string', ['42"message"']],
    ['an event that is an empty list', ['42[]']],
    ['an event whose name is null', ['42[null]']],
    ['an event whose name is an object', ['42[{}]']],
    ['an event of broken JSON', ['42["message"']],
    ['an event with something behind its JSON', ['42["message"]x']],
    ['an acknowledgement id that is no number', ['42abc["message-with-ack",1,"2",{"3":[false]}]']],
    ['an acknowledgement that is no list', ['431{"a":1}']],
    ['the reserved event connect', ['42["connect"]']],
    ['the reserved event connect_error', ['42["connect_error",1]']],
    ['the reserved event disconnect', ['42["disconnect","x"]']],
    ['the reserved event disconnecting', ['42["disconnecting"]']],
    ['the reserved event newListener', ['42["newListener"]']],
    ['the reserved event removeListener', ['42["removeListener"]']],
    ['an event for a namespace it has not joined', ['42/custom,["message",1]']],
    ['a second CONNECT', ['40']],
    ['a CONNECT whose auth is a list', ['40/custom,[]']],
    ['a CONNECT whose auth is a string', ['40/custom,"letmein"']],
    ['a DISCONNECT with a payload', ['41["x"]']],
    ['a ping of its own', ['2']],
    ['binary that nobody announced', [B]],
    ['text where an attachment is due', [`451-["message",${place}]`, '42["message",1]']],
    ['a placeholder out of range', [`451-["message",{"_placeholder":true,"num":1}]`, B]],
    ['a negative placeholder', [`451-["message",{"_placeholder":true,"num":-1}]`, B]],
    ['an attachment count that is no number', [`45x-["message",${place}]`]],
    ['an attachment count without its dash', [`451["message",${place}]`]],
    ['a negative attachment count', [`45-1-["message",${place}]`]],
    ['a frame that is no packet', ['hello']],
    ['an empty frame', ['']],
  ];
  for (const [name, frames] of table) {
    test(`${name} closes that session only`, async (t) => {
      const socket = await joined(t);
      for (const frame of frames) socket.send(frame);
      // The pings are answered meanwhile, so it is not the heartbeat that ends the session.
      await assert.rejects(async () => {
        for (;;) await socket.next();
      }, /the websocket closed/);
      await unharmed();
    });
  }

  for (const [name, frames] of [
    ['an event before any CONNECT', ['42["message",1]']],
    ['a DISCONNECT before any CONNECT', ['41']],
    ['an acknowledgement before any CONNECT', ['430[]']],
    ['nonsense before any CONNECT', ['4abc']],
    ['binary before any CONNECT', [B]],
  ]) {
    test(`${name} closes that session only`, async (t) => {
      const socket = closing(t)(await Socket.session(main));
      const begun = performance.now();
      for (const frame of frames) socket.send(frame);
      await assert.rejects(socket.next(), /the websocket closed/);
      assert.ok(performance.now() - begun < 1500, 'it was the connect timeout that closed it');
      await unharmed();
    });
  }

  for (const [name, packet] of [
    ['a packet of no type', '4abc'],
    ['an event of broken JSON', '42["message"'],
    ['an event for a namespace it has not joined', '42/custom,["message",1]'],
    ['a reserved event', '42["disconnect"]'],
  ]) {
    test(`${name} over polling closes that session only`, async () => {
      const session = await Polling.open(main);
      await session.join();
      await requestOrReset(session.url, { method: 'POST', body: packet });
      for (;;) {
        const answer = await session.poll();
        if (answer.status === 400) break;
      }
      await unharmed();
    });
  }

  test('a billion announced attachments cost nothing', async (t) => {
    const socket = await joined(t);
    socket.send(`451000000000-["message",${place}]`);
    socket.send(B);
    await unharmed();
    assert.equal((await request(`${main}/healthz`)).status, 200);
  });

  test('deep nesting and huge numbers harm nobody', async (t) => {
    for (const text of [
      `42["message",${'['.repeat(100_000)}${']'.repeat(100_000)}]`,
      `42["message",${'9'.repeat(10_000)}]`,
      `42["message",1e999999]`,
      `42${'9'.repeat(30)}["message-with-ack"]`,
      `4299999999999999999999["message-with-ack"]`,
      `42["flood","nobody",1e308,1e308]`,
    ]) {
      const socket = await joined(t, '/');
      socket.send(text);
      await unharmed();
    }
  });

  test('text that is not UTF-8 harms nobody', async (t) => {
    const socket = await joined(t);
    socket.ws.on('error', () => {});
    socket.ws.send(Buffer.from([0x34, 0x32, 0xff, 0xfe]), { binary: false });
    await socket.end();
    const session = await Polling.open(main);
    await session.join();
    await requestOrReset(session.url, {
      method: 'POST',
      headers: { 'Content-Type': 'text/plain' },
      body: Buffer.from([0x34, 0x32, 0xff, 0xfe]),
    });
    await unharmed();
  });

  test('room names that every object has are room names like others', async (t) => {
    const namespace = freshNamespace();
    const socket = await joined(t, namespace);
    for (const room of ['__proto__', 'constructor', '', ' ', '*', '#']) {
      socket.send(`42${namespace},1["join",${JSON.stringify(room)}]`);
      assert.equal(await socket.next(), `43${namespace},1["ok"]`);
      socket.send(`42${namespace},["room-emit",${JSON.stringify(room)},1]`);
      assert.equal(await socket.next(), `42${namespace},["room-msg",${JSON.stringify(room)},1]`);
    }
  });
});

describe('msgpack packets by hand', { concurrency: 4 }, () => {
  const unharmed = bystander();
  const open = async (t) => {
    const socket = closing(t)(await Socket.session(main, { path: '/msgpack/' }));
    const next = async () => {
      const frame = await socket.next();
      assert.ok(Buffer.isBuffer(frame), `text instead of msgpack: ${frame}`);
      return decode(frame);
    };
    const send = (packet) => socket.send(encode(packet));
    return { socket, next, send };
  };
  const connected = async (t) => {
    const session = await open(t);
    session.send({ type: 0, data: undefined, nsp: '/' });
    const answer = await session.next();
    assert.deepEqual([answer.type, answer.nsp], [0, '/']);
    assert.match(answer.data.sid, /^[\w-]{20}$/);
    const auth = await session.next();
    assert.deepEqual([auth.type, auth.data], [2, ['auth', {}]]);
    return session;
  };

  test('a packet is one map, binary included', async (t) => {
    const { send, next } = await connected(t);
    send({ type: 2, data: ['message-with-ack', Buffer.from([1, 2]), 'x'], nsp: '/', id: 7 });
    const { type, data, nsp, id } = await next();
    assert.deepEqual({ type, nsp, id }, { type: 3, nsp: '/', id: 7 });
    assert.deepEqual(data, [Buffer.from([1, 2]), 'x']);
  });

  test('the options the client adds are ignored', async (t) => {
    const { send, next } = await connected(t);
    send({ type: 2, data: ['message', 1], options: { compress: true }, nsp: '/' });
    assert.deepEqual((await next()).data, ['message-back', 1]);
  });

  test('a refusal carries message and data', async (t) => {
    const { send, next } = await open(t);
    send({ type: 0, data: { token: 'no' }, nsp: '/private' });
    const { type, data, nsp } = await next();
    assert.deepEqual({ type, nsp }, { type: 4, nsp: '/private' });
    assert.deepEqual(data, { message: 'unauthorized', data: { code: 401, hint: 'token' } });
  });

  for (const [name, frame] of [
    ['text instead of binary', '42["message",1]'],
    ['bytes that are no msgpack', Buffer.from([0xc1, 0xff])],
    ['a map cut short', Buffer.from([0x83, 0xa4])],
    ['no map', encode(['message'])],
    ['an unknown type', encode({ type: 9, data: [], nsp: '/' })],
    ['a type of the JSON parser', encode({ type: 5, data: ['message'], nsp: '/' })],
    ['an event that is no list', encode({ type: 2, data: 'message', nsp: '/' })],
    ['an acknowledgement that is no list', encode({ type: 3, data: 'message', nsp: '/', id: 1 })],
    ['an id that is no number', encode({ type: 2, data: ['message'], nsp: '/', id: 'x' })],
    ['an array that claims four billion items', Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])],
  ]) {
    test(`${name} closes that session only`, async (t) => {
      const { socket } = await connected(t);
      socket.send(frame);
      await assert.rejects(async () => {
        for (;;) await socket.next();
      }, /the websocket closed/);
      await unharmed();
    });
  }
});
