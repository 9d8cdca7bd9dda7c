// Engine.IO by hand: payloads, polls that overlap, upgrades that misbehave, heartbeats, endings.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import http from 'node:http';
import { Polling, Socket, closing, requestOrReset, splitV4 } from './lib/raw.js';
import { Fleet, newest, transportModes } from './lib/clients.js';
import { freshNamespace, servers, tight } from './lib/servers.js';
import { within } from './lib/waiting.js';

const { main } = servers;
const bare = { path: '/engine.io/' };

describe('bare Engine.IO', { concurrency: 4 }, () => {
  test('text and binary packets of one payload come back in order', async () => {
    const session = await Polling.open(main, bare);
    const payload = '4hello\x1ebAQIDBA==\x1e4\x1e4€😀\x1eb\x1e4tail';
    assert.equal((await session.post(payload)).text, 'ok');
    const packets = [];
    while (packets.length < 6) packets.push(await session.next());
    assert.equal(packets.join('\x1e'), payload);
  });

  test('text and binary frames of a websocket come back in order', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    const sent = ['4hello', Buffer.from([1, 2, 3, 4]), '4', Buffer.alloc(0), '4€😀', Buffer.from([4])];
    for (const frame of sent) socket.send(frame);
    for (const frame of sent) assert.deepEqual(await socket.next(), frame);
  });

  test('a binary frame is a message whatever its first byte', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    for (const first of [0, 1, 2, 3, 0x30, 0x31, 0xff]) {
      socket.send(Buffer.from([first, 9]));
      assert.deepEqual(await socket.next(), Buffer.from([first, 9]));
    }
  });

  test('a websocket message sent in fragments arrives whole', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    const [head, tail] = [Buffer.from('4frag😀').subarray(0, 7), Buffer.from('4frag😀').subarray(7)];
    socket.ws.send(head, { binary: false, fin: false });
    socket.ws.ping('between the fragments');
    socket.ws.send(tail, { binary: false, fin: true });
    assert.equal(await socket.next(), '4frag😀');
  });

  test('a websocket ping is answered with its data', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    const pong = new Promise((resolve) => socket.ws.once('pong', (data) => resolve(String(data))));
    socket.ws.ping('are you there');
    assert.equal(await within(pong, 'the pong'), 'are you there');
  });

  test('the server pings at the interval it announced', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    let last = performance.now();
    for (let i = 0; i < 5; i += 1) {
      assert.equal(await socket.frames.next('a ping'), '2');
      const gap = performance.now() - last;
      assert.ok(gap > 200 && gap < 700, `a ping after ${gap} ms instead of 300`);
      last = performance.now();
      socket.send('3');
    }
  });

  test('the server pings through polling', async () => {
    const session = await Polling.open(main, bare);
    for (let i = 0; i < 4; i += 1) {
      assert.equal((await session.poll()).text, '2');
      assert.equal((await session.send('3')).text, 'ok');
    }
  });

  test('a websocket that answers no ping is closed', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    assert.equal(await socket.frames.next('a ping'), '2');
    await socket.end();
  });

  test('messages do not stand in for the answer to a ping', async (t) => {
    const socket = closing(t)(await Socket.session(main, bare));
    const chatter = (async () => {
      for (;;) {
        socket.send('4x');
        await socket.frames.next('an echo', (frame) => frame === '4x');
      }
    })();
    await assert.rejects(chatter);
    await socket.end();
  });

  test('a session that is never polled is forgotten', async () => {
    const session = await Polling.open(main, bare);
    // Neither answer extends the session; the first 400 says that it is gone.
    const forgotten = async () => {
      while (await session.isAlive());
    };
    await within(forgotten(), 'the session to be forgotten');
  });

  test('a payload that is no payload closes the session and nothing else', async () => {
    const other = await Polling.open(main, bare);
    for (const body of ['abc', '4ok\x1eabc', '7', '4a\x1e']) {
      const session = await Polling.open(main, bare);
      // Whether this very request is refused differs between bodies; that the session is gone
      // does not.
      await requestOrReset(session.url, { method: 'POST', body });
      assert.equal(await session.isAlive(), false, body);
    }
    await other.send('4fine');
    assert.equal(await other.next(), '4fine');
  });

  test('an octet-stream POST is refused and closes the session', async () => {
    const session = await Polling.open(main, bare);
    const answer = await requestOrReset(session.url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/octet-stream' },
      body: Buffer.from('4x'),
    });
    assert.ok(answer === null || answer.status === 400);
    assert.equal((await session.poll()).status, 400);
  });

  for (const frame of ['abc', '9', '', '2', '2probe']) {
    test(`a websocket that sends ${JSON.stringify(frame)} is closed, the others live`, async (t) => {
      const track = closing(t);
      const other = track(await Socket.session(main, bare));
      const socket = track(await Socket.session(main, bare));
      socket.send(frame);
      // The pings are answered, so it is not the heartbeat that ends the session.
      await assert.rejects(socket.next(), /the websocket closed/);
      other.send('4alive');
      assert.equal(await other.next(), '4alive');
    });
  }
});

describe('overlapping requests', { concurrency: 4 }, () => {
  test('a second poll is refused, the first gets a close packet, the session ends', async () => {
    const session = await Polling.open(main);
    await session.join();
    const first = session.poll();
    // The first poll must be parked before the second arrives: the second goes out once the
    // server has answered a request that was sent after the first.
    await session.send('42["no such event"]');
    const second = await session.poll();
    assert.equal(second.status, 400);
    const answered = await first;
    assert.equal(answered.status, 200);
    assert.equal(answered.text, '1');
    assert.equal((await session.poll()).status, 400);
    assert.equal((await session.post('6')).status, 400);
  });

  test('a second POST while one is unfinished is refused and the session ends', async () => {
    const session = await Polling.open(main);
    await session.join();
    const begun = http.request(session.url, {
      method: 'POST',
      agent: false,
      headers: { 'Content-Type': 'text/plain', 'Content-Length': 100 },
    });
    const first = new Promise((resolve) => {
      begun.on('error', () => resolve('reset'));
      begun.on('response', (res) => resolve(res.resume().statusCode));
    });
    begun.write('42["message","unfinished');
    await within(
      new Promise((resolve) => begun.on('socket', (s) => s.once('connect', resolve))),
      'the unfinished POST to connect',
    );
    // Requests without a body are answered while the POST is unfinished; once its head has been
    // read, the next POST overlaps it.
    let second;
    do second = await requestOrReset(session.url, { method: 'POST', body: '6' });
    while (second?.status === 200);
    assert.ok(second === null || second.status === 400, `status ${second?.status}`);
    assert.notEqual(await within(first, 'the first POST to end'), 200);
    assert.equal((await session.poll()).status, 400);
  });

  test('a poll and POSTs side by side are what a session is made of', async () => {
    const session = await Polling.open(main);
    await session.join();
    for (let i = 0; i < 20; i += 1) {
      const parked = session.poll();
      assert.equal((await session.send(`42["message",${i}]`)).text, 'ok');
      const { text } = await parked;
      assert.deepEqual(splitV4(text).filter((each) => each !== '2'), [`42["message-back",${i}]`]);
      if (splitV4(text).includes('2')) await session.send('3');
    }
  });

  test('a poll given up by the client ends the session', async (t) => {
    const namespace = freshNamespace();
    const watcher = await new Fleet(t).watcher(newest, namespace);
    const session = await Polling.open(main);
    const id = await session.join(namespace);
    let parked;
    const given = session.poll({ onRequest: (req) => (parked = req) });
    given.catch(() => {});
    await session.send(`42${namespace},["no such event"]`);
    parked.destroy();
    const [gone] = await watcher.next('gone');
    assert.equal(gone.id, id);
    assert.match(gone.reason, /^transport (error|close)$/);
    assert.equal((await session.post('6')).status, 400);
  });
});

describe('upgrades', { concurrency: 4 }, () => {
  const begin = async (server = main) => {
    const session = await Polling.open(server);
    await session.join();
    return session;
  };
  const echoes = async (session) => {
    await session.send('4212["message-with-ack","poll"]');
    assert.equal(await session.next(), '4312["poll"]');
  };

  test('the whole way, step by step', async (t) => {
    const session = await begin();
    const socket = closing(t)(await Socket.open(session.webSocketUrl));
    socket.eio = 4;
    const parked = session.poll();
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    const answer = await parked;
    assert.equal(answer.text, '6');
    // Until the client says so, polling carries the messages.
    await session.send('42["message","before"]');
    assert.equal(await session.next(), '42["message-back","before"]');
    // What the server has in hand when the upgrade ends leaves through the websocket.
    await session.send('42["message","between"]');
    socket.send('5');
    assert.equal(await socket.next(), '42["message-back","between"]');
    await socket.echoes();
    const late = await session.poll();
    assert.equal(late.status, 400);
    assert.equal(late.json.code, 3);
    await socket.echoes();
  });

  test('messages sent right behind the upgrade packet arrive', async (t) => {
    const session = await begin();
    const socket = closing(t)(await Socket.open(session.webSocketUrl));
    socket.eio = 4;
    for (const frame of ['2probe', '5', '42["message",1]', '42["message",2]']) socket.send(frame);
    assert.equal(await socket.next(), '3probe');
    assert.equal(await socket.next(), '42["message-back",1]');
    assert.equal(await socket.next(), '42["message-back",2]');
  });

  test('binary crosses the upgrade', async (t) => {
    const session = await begin();
    await session.send('451-["message",{"_placeholder":true,"num":0}]', 'bAQID');
    const socket = closing(t)(await session.upgrade());
    assert.equal(await socket.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
    assert.deepEqual(await socket.next(), Buffer.from([1, 2, 3]));
  });

  test('a probing websocket that says nothing is closed, polling goes on', async (t) => {
    const session = await begin(servers.tight);
    const socket = closing(t)(await Socket.open(session.webSocketUrl));
    const closed = socket.end();
    let done = false;
    closed.then(() => (done = true));
    while (!done) await echoes(session);
    await echoes(session);
  });

  test('a probe that is never completed is closed, polling goes on', async (t) => {
    const session = await begin(servers.tight);
    const socket = closing(t)(await Socket.open(session.webSocketUrl));
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    let done = false;
    socket.end().then(() => (done = true));
    while (!done) await echoes(session);
    await echoes(session);
  });

  for (const [name, frames] of [
    ['a message', ['4hello']],
    ['a Socket.IO packet', ['42["message",1]']],
    ['a ping without the word probe', ['2']],
    ['a pong', ['3probe']],
    ['a close packet', ['1']],
    ['the upgrade packet without a probe', ['5']],
    ['a packet of no type', ['xyz']],
    ['an empty frame', ['']],
    ['binary', [Buffer.from('2probe')]],
    ['a message after the probe', ['2probe', '4hello']],
  ]) {
    test(`a probing websocket that sends ${name} is closed alone, polling goes on`, async (t) => {
      const session = await begin();
      const socket = closing(t)(await Socket.open(session.webSocketUrl));
      for (const frame of frames) socket.send(frame);
      await socket.end();
      await echoes(session);
      const proper = closing(t)(await session.upgrade());
      proper.eio = 4;
      await proper.echoes();
    });
  }

  test('a probing websocket that goes away leaves polling working', async (t) => {
    const session = await begin();
    for (const end of ['close', 'terminate']) {
      const socket = closing(t)(await Socket.open(session.webSocketUrl));
      socket.send('2probe');
      assert.equal(await socket.next(), '3probe');
      socket.ws[end]();
      await socket.closed;
      await echoes(session);
    }
    const proper = closing(t)(await session.upgrade());
    await proper.echoes();
  });

  test('a second websocket during the upgrade is turned away and changes nothing', async (t) => {
    const track = closing(t);
    const session = await begin();
    const first = track(await Socket.open(session.webSocketUrl));
    first.eio = 4;
    first.send('2probe');
    assert.equal(await first.next(), '3probe');
    const second = track(new Socket(session.webSocketUrl));
    second.ws.on('error', () => {});
    await second.end();
    first.send('5');
    await first.echoes();
  });

  test('a second websocket after the upgrade is turned away and changes nothing', async (t) => {
    const track = closing(t);
    const session = await begin();
    const first = track(await session.upgrade());
    await first.echoes();
    const second = track(new Socket(session.webSocketUrl));
    second.ws.on('error', () => {});
    await second.end();
    await first.echoes();
  });

  test('a websocket session cannot be taken over by a second websocket', async (t) => {
    const track = closing(t);
    const first = track(await Socket.session(main));
    await first.join();
    const url = `${main.replace(/^http/, 'ws')}/socket.io/?EIO=4&transport=websocket`;
    const second = track(new Socket(`${url}&sid=${first.handshake.sid}`));
    second.ws.on('error', () => {});
    await second.end();
    await first.echoes();
  });

  test('the official client survives its websocket being refused and stays on polling', async (t) => {
    const session = await new Fleet(t).open(newest, transportModes.polling);
    const url = `${main.replace(/^http/, 'ws')}/socket.io/?EIO=4&transport=websocket`;
    const socket = closing(t)(await Socket.open(`${url}&sid=${session.engine.id}`));
    socket.send('4nonsense');
    await socket.end();
    assert.deepEqual(await session.call('message-with-ack', 'here'), ['here']);
  });
});

describe('endings', { concurrency: 4 }, () => {
  const watched = async (t, server = main) => {
    const namespace = freshNamespace();
    const watcher = await new Fleet(t).watcher(newest, namespace, { server });
    return [namespace, async (id, reason) => {
      const [gone] = await watcher.next('gone');
      assert.equal(gone.id, id);
      if (reason instanceof RegExp) assert.match(gone.reason, reason);
      else assert.equal(gone.reason, reason);
    }];
  };

  test('a close packet on polling ends the session and frees the pending poll', async (t) => {
    const [namespace, sees] = await watched(t);
    const session = await Polling.open(main);
    const id = await session.join(namespace);
    const parked = session.poll();
    await session.send('6');
    assert.equal((await session.post('1')).text, 'ok');
    const answer = await parked;
    assert.equal(answer.status, 200);
    assert.equal(answer.text, '6');
    assert.equal((await session.poll()).json.code, 1);
    await sees(id, 'transport close');
  });

  test('a close packet on a websocket ends the session', async (t) => {
    const [namespace, sees] = await watched(t);
    const socket = closing(t)(await Socket.session(main));
    const id = await socket.join(namespace);
    socket.send('1');
    await assert.rejects(socket.next(), /the websocket closed/);
    await sees(id, 'transport close');
  });

  for (const [name, code] of [
    ['with a code', 1000],
    ['without a code', undefined],
  ]) {
    test(`a websocket closed by the client ${name} ends the session`, async (t) => {
      const [namespace, sees] = await watched(t);
      const socket = closing(t)(await Socket.session(main));
      const id = await socket.join(namespace);
      socket.ws.close(code);
      await sees(id, 'transport close');
    });
  }

  test('a websocket that answers no ping is gone for "ping timeout"', async (t) => {
    const [namespace, sees] = await watched(t, servers.tight);
    const socket = closing(t)(await Socket.session(servers.tight));
    const id = await socket.join(namespace);
    await sees(id, 'ping timeout');
    await socket.end();
  });

  test('a polling client that answers no ping is gone for "ping timeout"', async (t) => {
    const [namespace, sees] = await watched(t, servers.tight);
    const session = await Polling.open(servers.tight);
    const id = await session.join(namespace);
    assert.equal((await session.poll()).text, '2');
    const last = session.poll();
    last.catch(() => {});
    await sees(id, 'ping timeout');
    await last;
    assert.equal((await session.poll()).status, 400);
  });

  test('an EIO3 client that sends no ping is gone for "ping timeout"', async (t) => {
    const [namespace, sees] = await watched(t, servers.tight);
    const socket = closing(t)(await Socket.session(servers.tight, { eio: 3 }));
    assert.equal(await socket.next(), '40');
    assert.match(await socket.next(), /auth/);
    await socket.join(namespace);
    await sees(`${namespace}#${socket.handshake.sid}`, 'ping timeout');
    await socket.end();
  });

  test('overlapping polls are a "transport error"', async (t) => {
    const [namespace, sees] = await watched(t);
    const session = await Polling.open(main);
    const id = await session.join(namespace);
    const first = session.poll();
    await session.send(`42${namespace},["no such event"]`);
    await session.poll();
    await first;
    await sees(id, 'transport error');
  });

  test('a frame that is no packet is a "parse error"', async (t) => {
    const [namespace, sees] = await watched(t);
    const socket = closing(t)(await Socket.session(main));
    const id = await socket.join(namespace);
    socket.send('abc');
    await sees(id, 'parse error');
    const session = await Polling.open(main);
    const other = await session.join(namespace);
    await requestOrReset(session.url, { method: 'POST', body: 'abc' });
    await sees(other, 'parse error');
  });

  test('too large a frame is a "transport error"', async (t) => {
    const [namespace, sees] = await watched(t, servers.tight);
    const socket = closing(t)(await Socket.session(servers.tight));
    const id = await socket.join(namespace);
    socket.ws.on('error', () => {});
    socket.send(`4${'x'.repeat(tight.maxPayload)}`);
    await sees(id, /^transport (error|close)$/);
  });

  test('the server closing hands a parked poll the disconnect and then the end', async () => {
    const session = await Polling.open(main);
    await session.join();
    const parked = session.poll();
    await session.send('42["disconnect-me",true]');
    const packets = splitV4((await parked).text);
    for (;;) {
      if (packets.includes('1')) break;
      const answer = await session.poll();
      if (answer.status === 400) break;
      packets.push(...splitV4(answer.text));
    }
    assert.equal(packets[0], '41');
    assert.ok(packets.includes('1'), packets.join(' '));
    assert.equal((await session.poll()).status, 400);
  });

  test('the server closing while nobody polls is told to the next poll', async () => {
    const session = await Polling.open(main);
    await session.join();
    await session.send('42["disconnect-me",true]');
    const packets = [];
    for (let answer = await session.poll(); ; answer = await session.poll()) {
      if (answer.status === 400) break;
      packets.push(...splitV4(answer.text));
    }
    assert.ok(packets.includes('41') && packets.includes('1'), packets.join(' '));
  });

  test('the server closing a websocket says 41 and then closes it', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    await socket.join();
    socket.send('42["disconnect-me",true]');
    assert.equal(await socket.next(), '41');
    assert.ok([1005, 1000].includes(await socket.end()));
  });

  test('the server dropping a websocket closes it without a disconnect packet', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    await socket.join();
    socket.send('42["drop-me"]');
    await assert.rejects(socket.next(), /the websocket closed/);
  });
});
