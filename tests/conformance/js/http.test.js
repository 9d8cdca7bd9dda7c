// The HTTP side of the mount points: handshakes, errors, headers, limits.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gunzipSync, inflateSync } from 'node:zlib';
import { Polling, Socket, closing, request, requestOrReset } from './lib/raw.js';
import { allowedOrigin, servers, tight } from './lib/servers.js';

const { main } = servers;
const ws = main.replace(/^http/, 'ws');

describe('handshakes', { concurrency: 4 }, () => {
  test('the health check answers 200', async () => {
    assert.equal((await request(`${main}/healthz`)).status, 200);
  });

  for (const [path, eio] of [
    ['/socket.io/', 4],
    ['/socket.io/', 3],
    ['/msgpack/', 4],
    ['/engine.io/', 4],
  ]) {
    test(`${path} with EIO=${eio} opens a polling session that may upgrade`, async () => {
      const { opening, handshake } = await Polling.open(main, { path, eio });
      const beat = path === '/engine.io/' ? [300, 200] : [1000, 3000];
      assert.match(handshake.sid, /^[\w-]{20}$/);
      assert.deepEqual(handshake.upgrades, ['websocket']);
      assert.deepEqual([handshake.pingInterval, handshake.pingTimeout], beat);
      if (eio === 4) assert.equal(handshake.maxPayload, 1_000_000);
      assert.match(opening.headers['content-type'], /^text\/plain; charset=utf-8$/i);
      assert.equal(opening.headers['content-length'], String(opening.body.length));
      assert.equal(opening.headers['cache-control'], 'no-store');
    });

    test(`${path} with EIO=${eio} opens a websocket session with no upgrades`, async (t) => {
      const socket = closing(t)(await Socket.session(main, { path, eio }));
      assert.match(socket.handshake.sid, /^[\w-]{20}$/);
      assert.deepEqual(socket.handshake.upgrades, []);
    });
  }

  test('the EIO4 polling handshake is one bare open packet', async () => {
    const answer = await request(`${main}/socket.io/?EIO=4&transport=polling`);
    assert.match(answer.text, /^0\{.*\}$/);
  });

  test('a cache buster of any value does not matter', async () => {
    for (const t of ['abc', '', '%F0%9F%98%80', 'a&t=b']) {
      assert.equal((await request(`${main}/socket.io/?EIO=4&transport=polling&t=${t}`)).status, 200);
    }
  });

  test('the answer to a POST is ok in an HTML type', async () => {
    const session = await Polling.open(main);
    const answer = await session.post('40');
    assert.equal(answer.status, 200);
    assert.equal(answer.text, 'ok');
    assert.match(answer.headers['content-type'], /^text\/html/);
  });

  test('a path that is not mounted is 404', async () => {
    assert.equal((await request(`${main}/nothing/?EIO=4&transport=polling`)).status, 404);
  });
});

describe('request errors', { concurrency: 4 }, () => {
  const unknown = 'A'.repeat(20);
  const table = [
    ['a missing transport is unknown', 'GET', 'EIO=4', 0],
    ['an unknown transport is unknown', 'GET', 'EIO=4&transport=carrier-pigeon', 0],
    ['a name every object has is no transport', 'GET', 'EIO=4&transport=constructor', 0],
    ['an unknown session', 'GET', `EIO=4&transport=polling&sid=${unknown}`, 1],
    ['an unknown session of EIO3', 'GET', `EIO=3&transport=polling&sid=${unknown}`, 1],
    ['a POST to an unknown session', 'POST', `EIO=4&transport=polling&sid=${unknown}`, 1],
    ['a session id of odd length and characters', 'GET', 'EIO=4&transport=polling&sid=%00%F0', 1],
    ['a handshake by POST', 'POST', 'EIO=4&transport=polling', 2],
    ['a handshake by PUT', 'PUT', 'EIO=4&transport=polling', 2],
    ['a handshake by DELETE', 'DELETE', 'EIO=3&transport=polling', 2],
    ['a websocket transport without an upgrade', 'GET', 'EIO=4&transport=websocket', 3],
    ['a missing EIO', 'GET', 'transport=polling', 5],
    ['an empty EIO', 'GET', 'EIO=&transport=polling', 5],
    ['a future EIO', 'GET', 'EIO=5&transport=polling', 5],
    ['a past EIO', 'GET', 'EIO=2&transport=polling', 5],
    ['an EIO that is no number', 'GET', 'EIO=abc&transport=polling', 5],
  ];
  for (const path of ['/socket.io/', '/msgpack/', '/engine.io/']) {
    for (const [name, method, query, code] of table) {
      if (path === '/engine.io/' && query.startsWith('EIO=3')) continue;
      test(`${name} is refused with code ${code} at ${path}`, async () => {
        const answer = await request(`${main}${path}?${query}`, { method });
        assert.equal(answer.status, 400);
        assert.match(answer.headers['content-type'], /^application\/json/);
        assert.equal(answer.json.code, code);
        assert.equal(typeof answer.json.message, 'string');
      });
    }
  }

  test('EIO3 is refused with code 5 at the bare Engine.IO mount', async () => {
    const answer = await request(`${main}/engine.io/?EIO=3&transport=polling`);
    assert.equal(answer.status, 400);
    assert.equal(answer.json.code, 5);
  });

  for (const [name, query] of [
    ['without EIO', 'transport=websocket'],
    ['with an unknown EIO', 'EIO=7&transport=websocket'],
    ['without a transport', 'EIO=4'],
    ['with an unknown transport', 'EIO=4&transport=abc'],
    ['with an unknown session', `EIO=4&transport=websocket&sid=${unknown}`],
  ]) {
    test(`a websocket ${name} is refused with 400 before it is one`, async () => {
      assert.equal((await Socket.refusal(`${ws}/socket.io/?${query}`)).status, 400);
    });
  }

  test('a polling request on a websocket session is a bad request and harms nothing', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    await socket.join();
    const url = `${main}/socket.io/?EIO=4&transport=polling&sid=${socket.handshake.sid}`;
    for (const options of [{}, { method: 'POST', body: '41' }]) {
      const answer = await request(url, options);
      assert.equal(answer.status, 400);
      assert.equal(answer.json.code, 3);
    }
    await socket.echoes();
  });

  test('other methods on a session are refused and harm nothing', async () => {
    const session = await Polling.open(main);
    await session.join();
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      const { status } = await request(session.url, { method });
      assert.ok(status >= 400, `${method} was answered ${status}`);
    }
    assert.ok(await session.isAlive());
  });
});

describe('cross-origin requests', { concurrency: 4 }, () => {
  const url = `${main}/socket.io/?EIO=4&transport=polling`;
  const Origin = allowedOrigin;
  const allows = ({ headers }) => {
    assert.equal(headers['access-control-allow-origin'], Origin);
    assert.equal(headers['access-control-allow-credentials'], 'true');
  };
  const denies = ({ headers }) => {
    assert.ok(
      [undefined, Origin].includes(headers['access-control-allow-origin']),
      `Access-Control-Allow-Origin: ${headers['access-control-allow-origin']}`,
    );
  };

  for (const path of ['/socket.io/', '/msgpack/', '/engine.io/']) {
    test(`the allowed origin may read every answer of ${path}`, async () => {
      const session = await Polling.open(main, { path, headers: { Origin } });
      allows(session.opening);
      allows(await session.post('6', { headers: { Origin } }));
      const pending = session.poll({ headers: { Origin } });
      await session.post('1');
      allows(await pending);
    });
  }

  test('the allowed origin may read an error', async () => {
    allows(await request(`${main}/socket.io/?EIO=4&transport=none`, { headers: { Origin } }));
    allows(await request(`${url}&sid=unknown`, { headers: { Origin } }));
  });

  test('answers that depend on the origin say so', async () => {
    const answer = await request(url, { headers: { Origin } });
    assert.match(answer.headers.vary ?? '', /origin/i);
  });

  test('the allowed origin has its preflight granted', async () => {
    const session = await Polling.open(main);
    for (const target of [url, session.url]) {
      const answer = await request(target, {
        method: 'OPTIONS',
        headers: {
          Origin,
          'Access-Control-Request-Method': 'POST',
          'Access-Control-Request-Headers': 'content-type,x-custom',
        },
      });
      assert.ok(answer.status >= 200 && answer.status < 300, `status ${answer.status}`);
      allows(answer);
      const methods = answer.headers['access-control-allow-methods'].split(/\s*,\s*/);
      assert.ok(methods.includes('GET') && methods.includes('POST'), methods.join());
      const names = answer.headers['access-control-allow-headers'].toLowerCase();
      assert.match(names, /content-type/);
    }
    assert.ok(await session.isAlive());
  });

  for (const origin of [
    'http://evil.example',
    'http://app.example.evil.example',
    'https://app.example',
    'http://app.example:8080',
    'null',
  ]) {
    test(`the origin ${origin} is not let in`, async () => {
      const headers = { Origin: origin };
      denies(await request(url, { headers }));
      denies(await request(`${main}/socket.io/?EIO=4`, { headers }));
      const preflight = await request(url, {
        method: 'OPTIONS',
        headers: { ...headers, 'Access-Control-Request-Method': 'POST' },
      });
      denies(preflight);
    });
  }

  test('a request without an origin gets no wildcard', async () => {
    denies(await request(url));
  });
});

describe('cookies', { concurrency: 4 }, () => {
  test('the polling handshake sets the cookie and nothing later does', async () => {
    const session = await Polling.open(main);
    assert.deepEqual(session.opening.headers['set-cookie'], [
      `io=${session.sid}; Path=/; HttpOnly; SameSite=Lax`,
    ]);
    const post = await session.post('40');
    assert.equal(post.headers['set-cookie'], undefined);
    const poll = await session.poll();
    assert.equal(poll.headers['set-cookie'], undefined);
  });

  test('the websocket handshake sets no cookie', async (t) => {
    const socket = new Socket(`${ws}/socket.io/?EIO=4&transport=websocket`);
    closing(t)(socket);
    const headers = new Promise((resolve) => socket.ws.on('upgrade', (res) => resolve(res.headers)));
    await socket.opened;
    assert.equal((await headers)['set-cookie'], undefined);
  });

  test('a cookie of another session is not mistaken for a session', async () => {
    const first = await Polling.open(main);
    const second = await Polling.open(main, { headers: { Cookie: `io=${first.sid}` } });
    assert.notEqual(first.sid, second.sid);
  });
});

describe('compression', { concurrency: 4 }, () => {
  const long = 'compressible '.repeat(400);
  const bodyWith = async (accept, text = long) => {
    const session = await Polling.open(main);
    await session.join();
    await session.send(`42["message",${JSON.stringify(text)}]`);
    const answer = await session.poll({ headers: accept ? { 'Accept-Encoding': accept } : {} });
    return [answer, `42["message-back",${JSON.stringify(text)}]`];
  };

  test('a long body is gzipped for a client that accepts it', async () => {
    const [answer, expected] = await bodyWith('gzip, deflate');
    assert.equal(answer.headers['content-encoding'], 'gzip');
    assert.equal(gunzipSync(answer.body).toString(), expected);
    assert.ok(answer.body.length < expected.length / 4);
    const length = answer.headers['content-length'];
    assert.ok([undefined, String(answer.body.length)].includes(length), `length ${length}`);
  });

  test('a long body is deflated for a client that accepts only that', async () => {
    const [answer, expected] = await bodyWith('deflate');
    assert.equal(answer.headers['content-encoding'], 'deflate');
    assert.equal(inflateSync(answer.body).toString(), expected);
  });

  test('a long body stays plain for a client that accepts nothing', async () => {
    for (const accept of [undefined, 'identity', 'br;q=0']) {
      const [answer, expected] = await bodyWith(accept);
      assert.equal(answer.headers['content-encoding'], undefined);
      assert.equal(answer.text, expected);
    }
  });

  test('a short body stays plain', async () => {
    const [answer, expected] = await bodyWith('gzip', 'short');
    assert.equal(answer.headers['content-encoding'], undefined);
    assert.equal(answer.text, expected);
  });
});

describe('limits', { concurrency: 4 }, () => {
  const fits = (length) => {
    const frame = '42["message",""]';
    return frame.replace('""', `"${'x'.repeat(length - frame.length)}"`);
  };

  test('a POST body of exactly MAX_PAYLOAD bytes is taken', async () => {
    for (const [server, max] of [
      [main, 1_000_000],
      [servers.tight, tight.maxPayload],
    ]) {
      const session = await Polling.open(server);
      await session.join();
      assert.equal((await session.post(fits(max))).status, 200);
      assert.ok((await session.next()).startsWith('42["message-back","xxx'));
    }
  });

  test('a POST body over MAX_PAYLOAD is refused with 413 or a closed connection', async () => {
    const session = await Polling.open(main);
    await session.join();
    const other = await Polling.open(main);
    await other.join();
    const answer = await requestOrReset(session.url, {
      method: 'POST',
      headers: { 'Content-Type': 'text/plain' },
      body: fits(1_000_001),
    });
    assert.ok(answer === null || answer.status === 413, `status ${answer?.status}`);
    assert.ok(await other.isAlive());
  });

  test('a chunked POST body over MAX_PAYLOAD is refused too', async () => {
    const session = await Polling.open(servers.tight);
    const answer = await requestOrReset(session.url, {
      method: 'POST',
      headers: { 'Transfer-Encoding': 'chunked', 'Content-Type': 'text/plain' },
      body: fits(tight.maxPayload + 50_000),
    });
    assert.ok(answer === null || answer.status === 413, `status ${answer?.status}`);
  });

  test('a websocket message of exactly MAX_PAYLOAD bytes is taken', async (t) => {
    const socket = closing(t)(await Socket.session(main));
    await socket.join();
    socket.send(fits(1_000_000));
    assert.ok((await socket.next()).startsWith('42["message-back","xxx'));
  });

  for (const binary of [false, true]) {
    const what = binary ? 'binary' : 'text';
    test(`a ${what} websocket message over MAX_PAYLOAD closes that websocket only`, async (t) => {
      const track = closing(t);
      const [big, other] = [
        track(await Socket.session(servers.main)),
        track(await Socket.session(servers.main)),
      ];
      await other.join();
      await big.join();
      const frame = fits(1_000_001);
      big.ws.on('error', () => {});
      big.send(binary ? Buffer.from(frame) : frame);
      const code = await big.end();
      assert.ok([1009, 1006, 1005].includes(code), `closed with ${code}`);
      await other.echoes();
    });
  }

  test('a session that joins no namespace is closed', async (t) => {
    const socket = closing(t)(await Socket.session(servers.tight));
    // `next` answers the pings, so it is not the heartbeat that ends the session.
    await assert.rejects(socket.next(), /the websocket closed/);
    const polling = await Polling.open(servers.tight);
    for (;;) {
      const answer = await polling.poll();
      if (answer.status === 400) break;
      assert.equal(answer.status, 200);
      if (answer.text === '2') await requestOrReset(polling.url, { method: 'POST', body: '3' });
    }
  });

  test('an EIO3 session needs to join nothing', async (t) => {
    const socket = closing(t)(await Socket.session(servers.tight, { eio: 3 }));
    assert.equal(await socket.next(), '40');
    assert.match(await socket.next(), /^42\["auth"/);
    // Four heartbeats span more than CONNECT_TIMEOUT.
    for (let i = 0; i < 4; i += 1) {
      const pinged = new Promise((resolve) => setTimeout(resolve, tight.pingInterval / 2));
      await pinged; // the client of EIO3 sets the rhythm
      socket.send('2');
      assert.equal(await socket.next(), '3');
    }
    await socket.echoes();
  });
});
