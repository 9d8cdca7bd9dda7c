// Engine.IO 3 by hand: length-counted and binary payloads, b64, JSONP, the client-driven ping,
// and the namespaces of Socket.IO protocol 4.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import vm from 'node:vm';
import {
  Polling,
  Socket,
  closing,
  frameV3Binary,
  joinV3,
  request,
  requestOrReset,
  splitV3,
  splitV3Binary,
} from './lib/raw.js';
import { freshNamespace, servers } from './lib/servers.js';
import { within } from './lib/waiting.js';

const { main } = servers;
const V3 = { eio: 3 };
const octets = { 'Content-Type': 'application/octet-stream' };

/** An EIO3 session past its `40` and its `auth` event. */
async function polling(extra = '') {
  const session = await Polling.open(main, { eio: 3, extra });
  await session.join();
  return session;
}

async function websocket(t, extra = '') {
  const socket = closing(t)(await Socket.session(main, { eio: 3, extra }));
  assert.equal(await socket.next(), '40');
  assert.match(await socket.next(), /^42\["auth",\{/);
  return socket;
}

describe('EIO3 payloads', { concurrency: 4 }, () => {
  test('the handshake is a payload of one counted packet', async () => {
    const { opening } = await Polling.open(main, V3);
    const packets = splitV3(opening.text);
    assert.match(packets[0], /^0\{/);
  });

  test('the main namespace is connected unasked, with a bare CONNECT', async () => {
    const session = await Polling.open(main, V3);
    assert.equal(await session.next(), '40');
    assert.equal(await session.next(), '42["auth",{}]');
  });

  test('lengths count UTF-16 code units in both directions', async () => {
    const session = await polling();
    const packet = '42["message","€😀"]';
    assert.equal(packet.length, 19);
    assert.equal((await session.post(`19:${packet}`)).text, 'ok');
    const answer = await session.poll();
    assert.equal(answer.text, '24:42["message-back","€😀"]');
    assert.match(answer.headers['content-type'], /^text\/plain; charset=utf-8$/i);
  });

  test('several packets with astral characters in one body are cut apart rightly', async () => {
    const session = await polling();
    const texts = ['😀😀😀', 'é', '', '𝒳€', 'plain', '👩‍👩‍👧‍👦'];
    await session.send(...texts.map((text) => `42["message","${text}"]`));
    for (const text of texts) assert.equal(await session.next(), `42["message-back","${text}"]`);
  });

  for (const [name, body] of [
    ['a length that is no number', 'x:42'],
    ['no colon', '42["message",1]'],
    ['a length past the end', '100:42["message",1]'],
    ['a negative length', '-1:4'],
    ['an absurd length', `${'9'.repeat(400)}:4`],
    ['an unknown packet type', '2:9x'],
    ['an empty body', ''],
  ]) {
    test(`a body with ${name} closes the session and nothing else`, async () => {
      const other = await polling();
      const session = await polling();
      await requestOrReset(session.url, { method: 'POST', body });
      const after = await requestOrReset(session.url, { method: 'POST', body: joinV3('6') });
      assert.equal(after.status, 400);
      assert.ok(await other.isAlive());
    });
  }

  test('a body holding binary is sent in the binary framing', async () => {
    const session = await polling();
    await session.post(
      Buffer.concat([
        frameV3Binary('451-["message","€😀",{"_placeholder":true,"num":0}]'),
        frameV3Binary(Buffer.from([4, 1, 2, 3, 255])),
      ]),
      { headers: octets },
    );
    const packets = [];
    while (packets.length < 2) {
      const answer = await session.poll();
      assert.equal(answer.status, 200);
      assert.match(answer.headers['content-type'], /^application\/octet-stream/);
      packets.push(...splitV3Binary(answer.body));
    }
    assert.equal(packets[0].binary, false);
    assert.equal(
      packets[0].content.toString(),
      '451-["message-back","€😀",{"_placeholder":true,"num":0}]',
    );
    assert.equal(packets[1].binary, true);
    assert.deepEqual(packets[1].content, Buffer.from([4, 1, 2, 3, 255]));
  });

  test('a text packet in binary framing is counted in bytes', async () => {
    const session = await polling();
    await session.post(frameV3Binary('42["message","€😀"]'), { headers: octets });
    assert.equal(await session.next(), '42["message-back","€😀"]');
  });

  for (const [name, body] of [
    ['a digit above nine', [0, 10, 255, 0x34]],
    ['no end of the length', [0, 1, 1, 1]],
    ['a very long length', [0, ...Array(400).fill(9), 255, 0x34]],
  ]) {
    test(`a binary body with ${name} closes the session and nothing else`, async () => {
      const other = await polling();
      const session = await polling();
      await requestOrReset(session.url, {
        method: 'POST',
        headers: octets,
        body: Buffer.from(body),
      });
      const after = await requestOrReset(session.url, { method: 'POST', body: joinV3('6') });
      assert.equal(after.status, 400);
      assert.ok(await other.isAlive());
    });
  }

  for (const [name, body] of [
    ['an unknown marker', [2, 1, 255, 0x34]],
    ['a length past the end', [0, 9, 255, 0x34]],
  ]) {
    // Node takes what it can get here; closing the session is as good.
    test(`a binary body with ${name} harms no other session`, async () => {
      const other = await polling();
      const session = await polling();
      await requestOrReset(session.url, {
        method: 'POST',
        headers: octets,
        body: Buffer.from(body),
      });
      assert.ok(await other.isAlive());
    });
  }

  test('a binary websocket frame starts with its type byte in both directions', async (t) => {
    const socket = await websocket(t);
    socket.send('451-["message",{"_placeholder":true,"num":0}]');
    socket.send(Buffer.from([4, 9, 8, 7]));
    assert.equal(await socket.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
    assert.deepEqual(await socket.next(), Buffer.from([4, 9, 8, 7]));
  });
});

describe('EIO3 with b64=1', { concurrency: 4 }, () => {
  const event = '451-["message",{"_placeholder":true,"num":0}]';
  const back = '451-["message-back",{"_placeholder":true,"num":0}]';

  test('binary is base64 text inside a counted payload', async () => {
    const session = await polling('&b64=1');
    await session.send(event, 'b4AQL/');
    const packets = [];
    while (packets.length < 2) {
      const answer = await session.poll();
      assert.match(answer.headers['content-type'], /^text\/plain/);
      packets.push(...splitV3(answer.text));
    }
    assert.deepEqual(packets, [back, 'b4AQL/']);
  });

  test('binary is base64 text on a websocket', async (t) => {
    const socket = await websocket(t, '&b64=1');
    socket.send(event);
    socket.send('b4AQL/');
    assert.equal(await socket.next(), back);
    assert.equal(await socket.next(), 'b4AQL/');
  });

  test('base64 is understood from a client that did not announce it', async (t) => {
    const socket = await websocket(t);
    socket.send(event);
    socket.send('b4AQL/');
    assert.equal(await socket.next(), back);
    assert.deepEqual(await socket.next(), Buffer.from([4, 1, 2, 255]));
  });
});

describe('JSONP polling', { concurrency: 4 }, () => {
  /** Runs the script as the page would and returns the payload handed to `___eio[index]`. */
  const evaluate = (script, index) => {
    let payload;
    const sandbox = { ___eio: { [index]: (text) => (payload = text) } };
    vm.runInNewContext(script, sandbox);
    assert.equal(typeof payload, 'string', script);
    return payload;
  };
  /** What the JSONP client puts into its form (engine.io-client 3, `polling-jsonp.js`). */
  const form = (payload) => ({
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: `d=${encodeURIComponent(
      payload.replace(/\\n/g, '\\\n').replace(/\n/g, '\\n'),
    ).replace(/%20/g, '+')}`,
  });
  const open = async (index = 3, extra = '') => {
    const url = `${main}/socket.io/?EIO=3&transport=polling&j=${index}${extra}`;
    const opening = await request(url);
    assert.equal(opening.status, 200);
    const packets = splitV3(evaluate(opening.text, index));
    const { sid } = JSON.parse(packets[0].slice(1));
    const pending = packets.slice(1);
    const next = async () => {
      while (!pending.length) {
        const answer = await request(`${url}&sid=${sid}`);
        pending.push(...splitV3(evaluate(answer.text, index)));
      }
      return pending.shift();
    };
    assert.equal(await next(), '40');
    assert.match(await next(), /auth/);
    return { url: `${url}&sid=${sid}`, sid, opening, next };
  };

  test('answers are scripts that call the announced callback', async () => {
    const session = await open(7);
    assert.match(session.opening.text, /^___eio\[7\]\(".*"\);$/s);
    assert.match(session.opening.headers['content-type'], /^text\/(plain|javascript)/);
  });

  test('messages go out by form and come back by script', async () => {
    const session = await open();
    const answer = await request(session.url, form(joinV3('42["message","héllo 😀 + & %"]')));
    assert.equal(answer.status, 200);
    assert.equal(answer.text, 'ok');
    assert.equal(await session.next(), '42["message-back","héllo 😀 + & %"]');
  });

  test('newlines and backslashes survive the form', async () => {
    const session = await open();
    for (const text of ['a\nb', 'a\\nb', '\\', '\\\\n', 'tab\tquote"', '\n\n\n']) {
      const packet = `42["message",${JSON.stringify(text)}]`;
      await request(session.url, form(joinV3(packet)));
      assert.equal(await session.next(), packet.replace('"message"', '"message-back"'));
    }
  });

  test('line separators and closing tags do not break the script', async () => {
    const session = await open();
    const text = '\u2028\u2029</script>';
    await request(session.url, form(joinV3(`42["message","${text}"]`)));
    const answer = await request(session.url);
    assert.doesNotMatch(answer.text, /[\u2028\u2029]/);
    assert.deepEqual(splitV3(evaluate(answer.text, 3)), [`42["message-back","${text}"]`]);
  });

  test('binary is base64 inside the script', async () => {
    const session = await open(0, '&b64=1');
    const event = '451-["message",{"_placeholder":true,"num":0}]';
    await request(session.url, form(joinV3(event, 'b4AQL/')));
    assert.match(await session.next(), /^451-\["message-back"/);
    assert.equal(await session.next(), 'b4AQL/');
  });

  test('the callback index holds nothing but digits', async () => {
    const url = `${main}/socket.io/?EIO=3&transport=polling&j=1%5D%3Balert(1)%2F%2F`;
    const answer = await request(url);
    assert.ok(answer.status === 400 || /^___eio\[\d+\]\(/.test(answer.text), answer.text);
  });
});

describe('the EIO3 heartbeat', { concurrency: 4 }, () => {
  test('a ping is answered with a pong carrying its data', async (t) => {
    const socket = await websocket(t);
    socket.send('2');
    assert.equal(await socket.next(), '3');
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    socket.send('2some data');
    assert.equal(await socket.next(), '3some data');
    const session = await polling();
    await session.send('2');
    assert.equal(await session.next(), '3');
  });

  test('the server sends no ping of its own', async (t) => {
    const socket = closing(t)(await Socket.session(servers.heartbeat, V3));
    const other = closing(t)(await Socket.session(servers.heartbeat));
    await other.join();
    // Three pings to an EIO4 session later, the EIO3 session has heard none.
    for (let pings = 0; pings < 3; ) {
      const frame = await other.frames.next('a ping');
      if (frame !== '2') continue;
      pings += 1;
      other.send('3');
      socket.send('2');
      await socket.frames.next('the pong', (each) => each === '3');
    }
    assert.deepEqual(socket.frames.unclaimed.filter((each) => each === '2'), []);
  });

  test('an upgrade works in the old framing', async (t) => {
    const session = await polling();
    const socket = closing(t)(await Socket.open(session.webSocketUrl));
    const parked = session.poll();
    socket.send('2probe');
    assert.equal(await socket.next(), '3probe');
    assert.equal((await parked).text, '1:6');
    socket.send('5');
    await socket.echoes();
    assert.equal((await session.poll()).status, 400);
  });

  test('overlapping polls are answered in the old framing', async () => {
    const session = await polling();
    const first = session.poll();
    await session.send('42["no such event"]');
    assert.equal((await session.poll()).status, 400);
    assert.equal((await first).text, '1:1');
    assert.equal((await session.poll()).status, 400);
  });

  test('closing by packet frees the poll in the old framing', async () => {
    const session = await polling();
    const parked = session.poll();
    await session.send('6');
    await session.send('1');
    assert.equal((await parked).text, '1:6');
    assert.equal((await session.poll()).json.code, 1);
  });
});

describe('Socket.IO protocol 4', { concurrency: 4 }, () => {
  test('a namespace is joined with or without the comma and answered without an id', async (t) => {
    for (const frame of ['40/custom', '40/custom,']) {
      const socket = await websocket(t);
      socket.send(frame);
      assert.equal(await socket.next(), '40/custom,');
      assert.equal(await socket.next(), '42/custom,["auth",{}]');
      socket.send('42/custom,5["message-with-ack","in"]');
      assert.equal(await socket.next(), '43/custom,5["in"]');
    }
  });

  test('the id is the engine id, prefixed outside the main namespace', async (t) => {
    const socket = await websocket(t);
    const { sid } = socket.handshake;
    const namespace = freshNamespace();
    socket.send('421["whoami"]');
    const answer = JSON.parse((await socket.next()).slice(3));
    assert.equal(answer[0].id, sid);
    assert.equal(answer[0].eio, 3);
    await socket.join(namespace);
    socket.send(`42${namespace},1["whoami"]`);
    const inside = await socket.next();
    assert.equal(JSON.parse(inside.slice(inside.indexOf('[')))[0].id, `${namespace}#${sid}`);
  });

  test('a query on the namespace admits to the private one', async (t) => {
    const socket = await websocket(t);
    socket.send('40/private?token=letmein,');
    assert.equal(await socket.next(), '40/private,');
    assert.match(await socket.next(), /^42\/private,\["auth"/);
  });

  test('a query of the handshake admits to the private namespace', async (t) => {
    const socket = await websocket(t, '&token=letmein');
    socket.send('40/private');
    assert.equal(await socket.next(), '40/private,');
  });

  test('a refusal is an ERROR packet whose payload is the data', async (t) => {
    const socket = await websocket(t);
    socket.send('40/private?token=wrong,');
    const frame = await socket.next();
    assert.equal(frame.slice(0, 11), '44/private,');
    assert.deepEqual(JSON.parse(frame.slice(11)), { code: 401, hint: 'token' });
    await socket.echoes();
  });

  test('an unknown namespace is an ERROR packet that says so', async (t) => {
    const socket = await websocket(t);
    socket.send('40/nowhere');
    const frame = await socket.next();
    assert.equal(frame.slice(0, 11), '44/nowhere,');
    const payload = JSON.parse(frame.slice(11));
    assert.equal(typeof payload === 'string' ? payload : payload.message, 'Invalid namespace');
    await socket.echoes();
  });

  test('the raw conversation of the tutorials works', async (t) => {
    // Not on the main server: everybody in `/` hears this.
    const socket = closing(t)(await Socket.session(servers.heartbeat, V3));
    socket.send('2probe');
    const heard = [];
    while (!(heard.includes('40') && heard.includes('3probe'))) heard.push(await socket.next());
    const text = `hello ${process.pid} ${Math.random()}`;
    socket.send(`42["chat message","${text}"]`);
    await within(
      (async () => {
        while ((await socket.next()) !== `42["chat message","${text}"]`);
      })(),
      'the chat message to come back',
    );
  });
});
