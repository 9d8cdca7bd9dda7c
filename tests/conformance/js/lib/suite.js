// What every official JavaScript client must see, whatever its version and transport.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Fleet, plain, transportModes } from './clients.js';
import { freshNamespace, servers } from './servers.js';
import { DEADLINE_MS, within } from './waiting.js';

const NESTED = {
  list: [1, 'two', null, true, 3.5, -7, [], {}],
  deep: { a: { b: { c: [{ d: 'e' }] } } },
  text: 'quote " backslash \\ slash / newline \n tab \t nul \u0000 separator \u2028 record \u001e',
};

/** Characters of one to four UTF-8 bytes, one and two UTF-16 units, joined and modified. */
const EMOJI = 'aé€😀 👩‍👩‍👧‍👦 🇫🇷 👍🏽 𝒳 \u{10ffff} ﷽ e\u0301';

function nestedBinary() {
  return {
    first: Buffer.from([0, 1, 2, 253, 254, 255]),
    inner: [{ second: Buffer.from('4{"_placeholder":true,"num":0}') }, 'between', Buffer.alloc(0)],
    text: EMOJI,
  };
}

function bytes(length) {
  const buffer = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i += 1) buffer[i] = (i * 31 + (i >> 8)) & 0xff;
  return buffer;
}

/** Declares the whole suite for one client. */
export function suiteFor(kind) {
  describe(kind.name, { concurrency: 3 }, () => {
    for (const mode of Object.values(transportModes)) {
      describe(`${kind.name}, ${mode.name}`, { concurrency: 1 }, () => {
        const it = (name, body) =>
          test(name, { timeout: 4 * DEADLINE_MS }, (t) => body(new Fleet(t)));
        connecting(it, kind, mode);
        messages(it, kind, mode);
        largePayloads(it, kind, mode);
        namespaces(it, kind, mode);
        rooms(it, kind, mode);
        endings(it, kind, mode);
        endurance(it, kind, mode);
      });
    }
  });
}

function connecting(it, kind, mode) {
  it('connects and is known to the server by its own id, protocol and transport', async (fleet) => {
    const client = await fleet.open(kind, mode, '/', { query: { city: 'Zürich', empty: '' } });
    const who = await client.whoami();
    assert.equal(who.id, client.id);
    assert.equal(who.eio, kind.eio);
    assert.equal(who.transport, mode.settles);
    assert.equal(typeof who.node, 'string');
    assert.equal(who.query.city, 'Zürich');
    assert.equal(who.query.empty, '');
    assert.equal(who.query.EIO, String(kind.eio));
  });

  it('gets an event emitted by the server while it connects', async (fleet) => {
    const client = await fleet.open(kind, mode);
    assert.deepEqual(await client.next('auth'), [{}]);
  });

  if (kind.eio === 4) {
    it('has its auth object handed to the server', async (fleet) => {
      const auth = { token: 'é😀', nested: { list: [1, null] } };
      const client = await fleet.open(kind, mode, '/', { auth });
      assert.deepEqual(plain(await client.next('auth')), [auth]);
    });
  }

  it('gets an id of its own for every connection', async (fleet) => {
    const [one, two] = await Promise.all([fleet.open(kind, mode), fleet.open(kind, mode)]);
    assert.notEqual(one.id, two.id);
  });

  it('connects when the handshake query repeats a name and holds odd characters', async (fleet) => {
    const client = await fleet.open(kind, mode, '/', { query: { 'a b&c=d': '1+1=2 & 3%' } });
    assert.equal((await client.whoami()).query['a b&c=d'], '1+1=2 & 3%');
  });
}

function messages(it, kind, mode) {
  const echo = async (client, ...args) => {
    client.emit('message', ...args);
    return plain(await client.next('message-back'));
  };

  it('has arguments of every type echoed', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = ['text', 42, -1.25e-7, true, false, null, '', NESTED, [[[]]]];
    assert.deepEqual(await echo(client, ...args), args);
  });

  it('has a message without arguments echoed', async (fleet) => {
    const client = await fleet.open(kind, mode);
    assert.deepEqual(await echo(client), []);
  });

  it('has numbers at the edge of exactness echoed unchanged', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0.1, 5e-324, 2 ** 53];
    // The msgpack encoder of the client writes 1e300 as the integer 0.
    if (!kind.parser) args.push(1e300, -1e300);
    assert.deepEqual(await echo(client, ...args), args);
  });

  it('gets its arguments back in the acknowledgement', async (fleet) => {
    const client = await fleet.open(kind, mode);
    assert.deepEqual(plain(await client.call('message-with-ack', 1, 'two', NESTED)), [
      1,
      'two',
      NESTED,
    ]);
    assert.deepEqual(await client.call('message-with-ack'), []);
  });

  it('gets each of many acknowledgements in flight to its own call', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => client.call('message-with-ack', i, `call ${i}`)),
    );
    answers.forEach((answer, i) => assert.deepEqual(answer, [i, `call ${i}`]));
  });

  it('answers a question of the server through an acknowledgement', async (fleet) => {
    const client = await fleet.open(kind, mode);
    client.socket.on('question', (...args) => {
      const answer = args.pop();
      answer('heard', plain(args));
    });
    client.emit('ask-me', 'why', NESTED);
    assert.deepEqual(plain(await client.next('answer')), ['heard', ['why', NESTED]]);
  });

  it('answers a question with an acknowledgement that carries nothing', async (fleet) => {
    const client = await fleet.open(kind, mode);
    client.socket.on('question', (answer) => answer());
    client.emit('ask-me');
    assert.deepEqual(await client.next('answer'), []);
  });

  it('has nested binary echoed', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = [nestedBinary(), Buffer.from([4, 0, 255]), 'tail'];
    assert.deepEqual(await echo(client, ...args), plain(args));
  });

  it('has ten attachments in one message echoed in their places', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = Array.from({ length: 10 }, (_, i) => ({ i, data: bytes(i * 7) }));
    assert.deepEqual(await echo(client, ...args), plain(args));
  });

  it('gets nested binary back in the acknowledgement', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const binary = nestedBinary();
    assert.deepEqual(plain(await client.call('message-with-ack', 'head', binary)), [
      'head',
      plain(binary),
    ]);
  });

  it('gets nested binary in a question and returns it in the answer', async (fleet) => {
    const client = await fleet.open(kind, mode);
    client.socket.on('question', (asked, answer) => answer({ returned: asked }, bytes(300)));
    client.emit('ask-me', nestedBinary());
    assert.deepEqual(plain(await client.next('answer')), [
      { returned: plain(nestedBinary()) },
      bytes(300),
    ]);
  });

  it('keeps the order of text and binary messages sent together', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const sent = Array.from({ length: 30 }, (_, i) => [i % 3 ? `text ${i}` : bytes(i + 1), i]);
    for (const args of sent) client.emit('message', ...args);
    assert.deepEqual(plain(await client.take('message-back', 30)), plain(sent));
  });

  it('has emoji and other characters outside the basic plane echoed', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = [EMOJI, { [EMOJI]: [EMOJI] }, EMOJI.repeat(200)];
    assert.deepEqual(await echo(client, ...args), args);
    assert.deepEqual(plain(await client.call('message-with-ack', ...args)), args);
  });

  it('keeps apart several messages with emoji that travel in one payload', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const sent = Array.from({ length: 20 }, (_, i) => ['😀'.repeat(i), `€${i}`, EMOJI]);
    for (const args of sent) client.emit('message', ...args);
    assert.deepEqual(await client.take('message-back', 20), sent);
  });

  it('has emoji beside binary echoed', async (fleet) => {
    const client = await fleet.open(kind, mode);
    const args = [EMOJI, Buffer.from(EMOJI), { '😀': [Buffer.from('€'), '😀'] }];
    assert.deepEqual(await echo(client, ...args), plain(args));
  });

  it('survives event names with emoji and keeps working', async (fleet) => {
    const client = await fleet.open(kind, mode);
    let answered = false;
    client.socket.emit(`${EMOJI} event`, EMOJI, () => {
      answered = true;
    });
    client.socket.emit('😀', Buffer.from(EMOJI), EMOJI);
    assert.deepEqual(await echo(client, EMOJI), [EMOJI]);
    assert.equal(answered, false);
  });

  if (!kind.parser) {
    it('has half a surrogate pair echoed and goes on', async (fleet) => {
      const client = await fleet.open(kind, mode);
      assert.deepEqual(await echo(client, 'cut \ud83d off', 'x'), ['cut \ud83d off', 'x']);
      assert.deepEqual(await echo(client, 'after'), ['after']);
    });
  } else {
    it('has dates inside the arguments echoed', async (fleet) => {
      const client = await fleet.open(kind, mode);
      const when = new Date(Date.UTC(2018, 8, 15, 12, 30, 1, 250));
      assert.deepEqual(await echo(client, when, { when }), [when, { when }]);
    });
  }

  it('is not hurt by unknown events nor by their missing acknowledgement', async (fleet) => {
    const client = await fleet.open(kind, mode);
    let answered = false;
    client.socket.emit('no such event', { any: 'thing' }, () => {
      answered = true;
    });
    await client.settle();
    assert.equal(answered, false);
    assert.deepEqual(await echo(client, 'still here'), ['still here']);
  });

  it('is not hurt by arguments of types the server does not expect', async (fleet) => {
    const client = await fleet.open(kind, mode, freshNamespace());
    for (const odd of [{ room: 'r' }, [], null, 5, true, Buffer.from('r')]) {
      client.emit('join', odd);
      client.emit('leave', odd);
      client.emit('members', odd);
      client.emit('room-emit', odd, 'x');
      client.emit('room-except', odd, odd);
      client.emit('flood', odd, 'many', {});
    }
    for (const event of ['join', 'room-emit', 'chat message', 'members', 'whoami', 'flood']) {
      client.emit(event);
    }
    assert.deepEqual(await echo(client, 'still here'), ['still here']);
  });
}

function largePayloads(it, kind, mode) {
  // On polling these clients send binary packets as base64, and the body may not exceed
  // MAX_PAYLOAD; with msgpack every packet is binary.
  const limit = (binary) => (mode.settles === 'polling' && binary ? 740_000 : 900_000);
  const textLength = limit(Boolean(kind.parser));
  const binaryLength = limit(true);

  it(`has ${textLength / 1000} KB of text echoed`, async (fleet) => {
    const client = await fleet.open(kind, mode);
    const text = 'sockhop 0123456789 '.repeat(50_000).slice(0, textLength);
    client.emit('message', text);
    const [back] = await client.next('message-back');
    assert.ok(back === text, 'the text came back changed');
  });

  it(`has ${textLength / 1000} KB of multi-byte text echoed`, async (fleet) => {
    const client = await fleet.open(kind, mode);
    const text = '😀€é'.repeat(Math.floor(textLength / 9));
    assert.ok(textLength - Buffer.byteLength(text) < 9);
    const [back] = await client.call('message-with-ack', text);
    assert.ok(back === text, 'the text came back changed');
  });

  it(`has ${binaryLength / 1000} KB of binary echoed`, async (fleet) => {
    const client = await fleet.open(kind, mode);
    const sent = bytes(binaryLength);
    client.emit('message', { file: sent, name: 'x' });
    const [back] = await client.next('message-back');
    assert.ok(plain(back.file).equals(sent), 'the bytes came back changed');
  });

  it('gets 900 KB of binary from another client', async (fleet) => {
    const namespace = freshNamespace();
    const client = await fleet.open(kind, mode, namespace);
    const other = await fleet.companion(kind, namespace);
    const sent = bytes(900_000);
    other.emit('broadcast', 'file', sent);
    const [label, back] = await client.next('broadcast');
    assert.equal(label, 'file');
    assert.ok(plain(back).equals(sent), 'the bytes came changed');
    await client.settle();
  });
}

function namespaces(it, kind, mode) {
  const refusal = async (client) => {
    const [reason] = await client.next('refused');
    return reason;
  };

  it('works in a namespace of its own', async (fleet) => {
    const client = await fleet.open(kind, mode, '/custom');
    assert.deepEqual(await client.next('auth'), [{}]);
    assert.deepEqual(plain(await client.call('message-with-ack', nestedBinary())), [
      plain(nestedBinary()),
    ]);
    assert.equal((await client.whoami()).id, client.id);
  });

  it('is refused with message and data where it lacks the token', async (fleet) => {
    const client = fleet.start(kind, mode, '/private');
    const reason = await refusal(client);
    if (kind.eio === 3) {
      assert.deepEqual(reason, { code: 401, hint: 'token' });
    } else {
      assert.equal(reason.message, 'unauthorized');
      assert.deepEqual(reason.data, { code: 401, hint: 'token' });
    }
    assert.equal(client.socket.connected, false);
  });

  it('is refused with a wrong token', async (fleet) => {
    const wrong = kind.eio === 3 ? { query: { token: 'no' } } : { auth: { token: ['letmein'] } };
    const reason = await refusal(fleet.start(kind, mode, '/private', wrong));
    assert.equal((kind.eio === 3 ? reason : reason.data).code, 401);
  });

  it('is admitted with the token in the handshake query', async (fleet) => {
    const client = await fleet.open(kind, mode, '/private', { query: { token: 'letmein' } });
    assert.deepEqual(await client.call('message-with-ack', 'in'), ['in']);
  });

  if (kind.eio === 4) {
    it('is admitted with the token in its auth object', async (fleet) => {
      const client = await fleet.open(kind, mode, '/private', { auth: { token: 'letmein' } });
      assert.deepEqual(await client.next('auth'), [{ token: 'letmein' }]);
      assert.deepEqual(await client.call('message-with-ack', 'in'), ['in']);
    });
  } else {
    it('is admitted with the token in the query of the namespace', async (fleet) => {
      const client = await fleet.open(kind, mode, '/private', { suffix: '?token=letmein' });
      assert.deepEqual(await client.call('message-with-ack', 'in'), ['in']);
    });

    it('is admitted by the query of the namespace over a connection without it', async (fleet) => {
      const root = await fleet.open(kind, mode);
      const admitted = await root.sibling('/private', { query: { token: 'letmein' } });
      assert.deepEqual(await admitted.call('message-with-ack', 'in'), ['in']);
      assert.equal((await root.whoami()).query.token, undefined);
    });
  }

  it('keeps its other namespaces when one refuses it', async (fleet) => {
    const root = await fleet.open(kind, mode);
    const refused = fleet.start(kind, mode, '/private');
    await refusal(refused);
    const custom = await root.sibling('/custom');
    assert.deepEqual(await custom.call('message-with-ack', 1), [1]);
    assert.deepEqual(await root.call('message-with-ack', 2), [2]);
  });

  it('is told that an unknown namespace is invalid', async (fleet) => {
    const reason = await refusal(fleet.start(kind, mode, '/nowhere'));
    const message = typeof reason === 'string' ? reason : reason.message;
    assert.equal(message, 'Invalid namespace');
  });

  it('is told that a name which only resembles a dynamic namespace is invalid', async (fleet) => {
    for (const name of ['/dyn-', '/dyn-1a', '/xdyn-1', '/dyn-1/2']) {
      const reason = await refusal(fleet.start(kind, mode, name));
      assert.equal(typeof reason === 'string' ? reason : reason.message, 'Invalid namespace', name);
    }
  });

  it('works in a dynamic namespace, again after the last one has left it', async (fleet) => {
    const namespace = freshNamespace();
    for (const round of [1, 2]) {
      const client = await fleet.open(kind, mode, namespace);
      await client.join('red');
      assert.deepEqual(await client.call('message-with-ack', round), [round]);
      assert.deepEqual(await client.call('members', 'red'), [[client.id]]);
      const gone = new Promise((resolve) => client.engine.once('close', resolve));
      client.close();
      await within(gone, 'the engine to close');
    }
  });

  it('keeps namespaces over one connection apart', async (fleet) => {
    const name = freshNamespace();
    const root = await fleet.open(kind, mode, freshNamespace());
    const side = await root.sibling(name);
    root.emit('broadcast-all', 'first');
    side.emit('broadcast-all', 'second');
    assert.deepEqual(await root.next('broadcast'), ['first']);
    assert.deepEqual(await side.next('broadcast'), ['second']);
    await root.settle();
    await side.settle();
    assert.deepEqual(root.unclaimed('broadcast'), []);
    assert.deepEqual(side.unclaimed('broadcast'), []);
    assert.notEqual(root.id, side.id);
  });

  it('has one namespace left after leaving the other', async (fleet) => {
    const root = await fleet.open(kind, mode);
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const side = await root.sibling(namespace);
    const id = side.id;
    side.socket.disconnect();
    assert.deepEqual(await watcher.next('gone'), [{ id, reason: 'client namespace disconnect' }]);
    assert.deepEqual(await root.call('message-with-ack', 'here'), ['here']);
  });
}

function rooms(it, kind, mode) {
  const trio = async (fleet) => {
    const namespace = freshNamespace();
    const clients = await Promise.all([
      fleet.open(kind, mode, namespace),
      fleet.open(kind, mode, namespace),
      fleet.companion(kind, namespace),
    ]);
    return clients;
  };
  /** Nobody has anything of that name beyond what the test has claimed. */
  const nothingMore = async (event, ...clients) => {
    await Promise.all(clients.map((client) => client.settle()));
    for (const client of clients) assert.deepEqual(client.unclaimed(event), []);
  };

  it('reaches the members of a room, itself included, and nobody else', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    await one.join('réd 😀');
    await three.join('réd 😀');
    assert.deepEqual(await one.call('room-emit', 'réd 😀', 'hello', { n: 1 }), ['ok']);
    const expected = ['réd 😀', 'hello', { n: 1 }];
    assert.deepEqual(await one.next('room-msg'), expected);
    assert.deepEqual(await three.next('room-msg'), expected);
    await nothingMore('room-msg', one, two, three);
  });

  it('reaches a room without being a member of it', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    await two.join('blue');
    assert.deepEqual(await one.call('room-emit', 'blue', 'hi'), ['ok']);
    assert.deepEqual(await two.next('room-msg'), ['blue', 'hi']);
    assert.deepEqual(await one.call('room-emit', 'nobody is here', 'hi'), ['ok']);
    await nothingMore('room-msg', one, two, three);
  });

  it('skips the sender when it broadcasts to a room', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    for (const client of [one, two, three]) await client.join('red');
    assert.deepEqual(await one.call('room-broadcast', 'red', 'hi'), ['ok']);
    assert.deepEqual(await two.next('room-msg'), ['red', 'hi']);
    assert.deepEqual(await three.next('room-msg'), ['red', 'hi']);
    await nothingMore('room-msg', one, two, three);
  });

  it('leaves out the members of an excepted room', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    for (const client of [one, two, three]) await client.join('red');
    await two.join('muted');
    assert.deepEqual(await three.call('room-except', 'red', 'muted', 'psst'), ['ok']);
    assert.deepEqual(await one.next('room-msg'), ['red', 'psst']);
    assert.deepEqual(await three.next('room-msg'), ['red', 'psst']);
    await nothingMore('room-msg', one, two, three);
  });

  it('hears nothing of a room after leaving it', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    await one.join('red');
    await two.join('red');
    assert.deepEqual(await one.call('leave', 'red'), ['ok']);
    assert.deepEqual(await one.call('leave', 'never joined'), ['ok']);
    assert.deepEqual(await three.call('room-emit', 'red', 'hi'), ['ok']);
    assert.deepEqual(await two.next('room-msg'), ['red', 'hi']);
    await nothingMore('room-msg', one, two, three);
  });

  it('gets one copy although it joined the room twice', async (fleet) => {
    const [one, two] = await trio(fleet);
    await one.join('red');
    await one.join('red');
    await two.call('room-emit', 'red', 'once');
    assert.deepEqual(await one.next('room-msg'), ['red', 'once']);
    await nothingMore('room-msg', one, two);
  });

  it('is reachable through the room of its own id', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    assert.deepEqual(await two.call('room-emit', one.id, 'for you'), ['ok']);
    assert.deepEqual(await one.next('room-msg'), [one.id, 'for you']);
    await nothingMore('room-msg', one, two, three);
  });

  it('sends nested binary to a room', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    for (const client of [two, three]) await client.join('red');
    await one.call('room-emit', 'red', nestedBinary(), bytes(1000));
    for (const client of [two, three]) {
      assert.deepEqual(plain(await client.next('room-msg')), [
        'red',
        plain(nestedBinary()),
        bytes(1000),
      ]);
    }
    await nothingMore('room-msg', one, two, three);
  });

  it('reaches everybody else with a broadcast', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    assert.deepEqual(await one.call('broadcast', 'all but me', EMOJI), ['ok']);
    assert.deepEqual(await two.next('broadcast'), ['all but me', EMOJI]);
    assert.deepEqual(await three.next('broadcast'), ['all but me', EMOJI]);
    await nothingMore('broadcast', one, two, three);
  });

  it('reaches everybody, itself included, with a broadcast to all', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    assert.deepEqual(await one.call('broadcast-all', bytes(50)), ['ok']);
    for (const client of [one, two, three]) {
      assert.deepEqual(plain(await client.next('broadcast')), [bytes(50)]);
    }
    await nothingMore('broadcast', one, two, three);
  });

  it('chats as in the tutorials', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    one.emit('chat message', 'hello');
    two.emit('chat message', 'hi 😀');
    for (const client of [one, two, three]) {
      const said = (await client.take('chat message', 2)).map(([text]) => text);
      assert.deepEqual(said.sort(), ['hello', 'hi 😀']);
    }
    await nothingMore('chat message', one, two, three);
  });

  it('sees who is in a room', async (fleet) => {
    const [one, two, three] = await trio(fleet);
    assert.deepEqual(await one.call('members', 'red'), [[]]);
    await one.join('red');
    await three.join('red');
    const [members] = await two.call('members', 'red');
    assert.deepEqual([...members].sort(), [one.id, three.id].sort());
    await three.call('leave', 'red');
    assert.deepEqual(await two.call('members', 'red'), [[one.id]]);
  });
}

function endings(it, kind, mode) {
  it('tells the server when it leaves', async (fleet) => {
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const client = await fleet.open(kind, mode, namespace);
    const id = client.id;
    client.socket.disconnect();
    assert.deepEqual(await client.next('disconnect'), ['io client disconnect']);
    assert.deepEqual(await watcher.next('gone'), [{ id, reason: 'client namespace disconnect' }]);
  });

  it('is told when the server closes its namespace, and keeps the others', async (fleet) => {
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const client = await fleet.open(kind, mode, namespace);
    const other = await client.sibling('/custom');
    const id = client.id;
    client.emit('disconnect-me');
    assert.deepEqual(await client.next('disconnect'), ['io server disconnect']);
    assert.deepEqual(await watcher.next('gone'), [{ id, reason: 'server namespace disconnect' }]);
    assert.deepEqual(await other.call('message-with-ack', 'kept'), ['kept']);
  });

  it('comes back into a namespace the server closed, over the same connection', async (fleet) => {
    const client = await fleet.open(kind, mode, '/custom');
    const keeper = await client.sibling(freshNamespace());
    client.emit('disconnect-me', false);
    await client.next('disconnect');
    client.socket.connect();
    await client.next('connect');
    assert.deepEqual(await client.call('message-with-ack', 'again'), ['again']);
    assert.deepEqual(await keeper.call('message-with-ack', 'kept'), ['kept']);
  });

  it('loses every namespace when the server closes the connection', async (fleet) => {
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const client = await fleet.open(kind, mode, namespace);
    const other = await client.sibling('/custom');
    const id = client.id;
    const closed = new Promise((resolve) => client.engine.once('close', resolve));
    client.emit('disconnect-me', true);
    assert.deepEqual(await client.next('disconnect'), ['io server disconnect']);
    assert.deepEqual(await other.next('disconnect'), ['io server disconnect']);
    assert.deepEqual(await watcher.next('gone'), [{ id, reason: 'server namespace disconnect' }]);
    await within(closed, 'the connection to close');
  });

  it('has its transport closing noticed by the server', async (fleet) => {
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const client = await fleet.open(kind, mode, namespace);
    const id = client.id;
    client.engine.close();
    assert.deepEqual(await client.next('disconnect'), ['forced close']);
    assert.deepEqual(await watcher.next('gone'), [{ id, reason: 'transport close' }]);
  });

  if (mode.settles === 'websocket') {
    it('has its websocket breaking off noticed by the server', async (fleet) => {
      const namespace = freshNamespace();
      const watcher = await fleet.watcher(kind, namespace);
      const client = await fleet.open(kind, mode, namespace);
      const id = client.id;
      client.engine.transport.ws.terminate();
      await client.next('disconnect');
      const [gone] = await watcher.next('gone');
      assert.equal(gone.id, id);
      assert.match(gone.reason, /^transport (close|error)$/);
    });
  }

  it('sees the transport close when the server drops it', async (fleet) => {
    const namespace = freshNamespace();
    const watcher = await fleet.watcher(kind, namespace);
    const client = await fleet.open(kind, mode, namespace);
    const id = client.id;
    client.emit('drop-me');
    assert.deepEqual(await client.next('disconnect'), ['transport close']);
    const [gone] = await watcher.next('gone');
    assert.equal(gone.id, id);
    // Node says "forced close" here; the contract's list of reasons has only "transport close".
    assert.match(gone.reason, /^(forced|transport) close$/);
  });

  it('reconnects by itself after being dropped and starts afresh', async (fleet) => {
    const namespace = freshNamespace();
    const client = await fleet.open(kind, mode, namespace, {
      reconnection: true,
      reconnectionDelay: 20,
      randomizationFactor: 0,
    });
    await client.join('red');
    for (const round of [1, 2]) {
      const before = client.id;
      client.emit('drop-me');
      assert.deepEqual(await client.next('disconnect'), ['transport close']);
      await client.next('connect');
      await client.reached(mode.settles);
      assert.notEqual(client.id, before);
      assert.equal((await client.whoami()).id, client.id);
      assert.deepEqual(await client.call('members', 'red'), [[]]);
      assert.deepEqual(await client.call('message-with-ack', round), [round]);
    }
  });
}

function endurance(it, kind, mode) {
  it('lives through five heartbeats', async (fleet) => {
    const client = await fleet.open(kind, mode, '/', { server: servers.heartbeat });
    const beat = kind.eio === 3 ? 'pong' : 'ping';
    await within(
      new Promise((resolve) => {
        let beats = 0;
        client.engine.on('packet', (packet) => {
          if (packet.type === beat) beats += 1;
          if (beats === 5) resolve();
        });
      }),
      'five heartbeats',
    );
    assert.deepEqual(await client.call('message-with-ack', 'alive'), ['alive']);
    assert.deepEqual(client.unclaimed('disconnect'), []);
  });

  it('has 200 messages sent at once echoed in order', async (fleet) => {
    const client = await fleet.open(kind, mode);
    for (let i = 0; i < 200; i += 1) client.emit('message', i, `message ${i}`);
    const back = await client.take('message-back', 200);
    back.forEach((args, i) => assert.deepEqual(args, [i, `message ${i}`]));
  });

  it('gets 200 messages that the server sends in one go', async (fleet) => {
    const client = await fleet.open(kind, mode, freshNamespace());
    await client.join('flooded');
    assert.deepEqual(await client.call('flood', 'flooded', 200, 64), ['ok']);
    const texts = await client.take('flood', 200);
    for (const [text] of texts) assert.equal(text, 'x'.repeat(64));
    await client.settle();
    assert.deepEqual(client.unclaimed('flood'), []);
  });

  it('gets 200 binary messages of another client in order', async (fleet) => {
    const namespace = freshNamespace();
    const client = await fleet.open(kind, mode, namespace);
    const other = await fleet.companion(kind, namespace);
    for (let i = 0; i < 200; i += 1) other.emit('broadcast', i, bytes(i % 50));
    const heard = await client.take('broadcast', 200);
    heard.forEach(([n, data], i) => {
      assert.equal(n, i);
      assert.ok(plain(data).equals(bytes(i % 50)));
    });
  });

  if (mode === transportModes.upgrading) {
    it('loses, repeats and reorders nothing while it upgrades', async (fleet) => {
      const client = fleet.start(kind, mode);
      await client.next('connect');
      const upgraded = client.reached('websocket');
      let done = false;
      upgraded.then(() => {
        done = true;
      });
      // A message goes out with every echo that comes in, so some are under way at each step of
      // the upgrade; it ends 20 messages after the upgrade has.
      let sent = 0;
      const send = () => client.emit('message', sent++, sent % 5 ? 'text' : bytes(20));
      for (let i = 0; i < 10; i += 1) send();
      let received = 0;
      let rest = 20;
      while (received < sent) {
        const [n] = await client.next('message-back');
        assert.equal(n, received);
        received += 1;
        if (!done && sent < 20_000) send();
        else if (rest-- > 0) send();
      }
      await upgraded;
      assert.equal((await client.whoami()).transport, 'websocket');
      assert.deepEqual(client.unclaimed('message-back'), []);
    });
  }
}
