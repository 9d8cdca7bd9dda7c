// Official clients through nginx and HAProxy, in front of three nodes.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, describe, test as withoutLimit } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Fleet, kindOf, newest, transportModes } from '../conformance/js/lib/clients.js';
import { PythonPeer } from '../conformance/js/lib/python.js';
import { freshNamespace } from '../conformance/js/lib/servers.js';
import { Cluster, MAX_PAYLOAD, ORIGIN } from './lib/cluster.js';
import { configurations, start } from './lib/configurations.js';
import { startEcho } from './lib/echo.js';
import { monitoring } from './lib/monitoring.js';
import { DEADLINE_MS, until } from './lib/until.js';

const kinds = [kindOf('2.5.0'), newest];
const modes = Object.values(transportModes);
const { polling, websocket } = transportModes;
const test = (name, body) => withoutLimit(name, { timeout: 240_000 }, body);

const cluster = await Cluster.start();
const balancers = await Promise.all(configurations.map((each) => start(each, cluster.nodes)));
after(async () => {
  await Promise.all(balancers.map((balancer) => balancer.process.stop()));
  await cluster.stop();
});

/** Everybody says something in the room, and everybody hears everybody, once and in order. */
async function allHearAll(clients, room) {
  await Promise.all(
    clients.map(async (client, i) => {
      for (const word of ['one', 'two']) await client.call('room-emit', room, i, word);
    }),
  );
  for (const client of clients) {
    const heard = await client.take('room-msg', 2 * clients.length);
    for (const i of clients.keys()) {
      const words = heard.filter(([, from]) => from === i).map(([, , word]) => word);
      assert.deepEqual(words, ['one', 'two'], `from ${i} at ${client.kind.name}`);
    }
  }
}

async function nodesOf(clients) {
  const answers = await Promise.all(clients.map((client) => client.whoami()));
  return new Set(answers.map((answer) => answer.node));
}

function suite(balancer) {
  const { url: server, sticky } = balancer;

  test('every client on every transport hears every other', async (t) => {
    const fleet = new Fleet(t);
    const namespace = freshNamespace();
    const opening = kinds.flatMap((kind) =>
      modes.flatMap((mode) => [1, 2].map(() => fleet.open(kind, mode, namespace, { server }))),
    );
    const clients = await Promise.all(opening);
    assert.ok((await nodesOf(clients)).size > 1, 'clients are on several nodes');
    await Promise.all(clients.map((client) => client.join('everybody')));
    await allHearAll(clients, 'everybody');
    const [members] = await clients[0].call('members', 'everybody');
    assert.deepEqual(members.sort(), clients.map((client) => client.id).sort());
  });

  for (const [flavour, mode] of [['sync', 'polling'], ['async', 'websocket'], ['sync', 'upgrading']]) {
    test(`python-socketio (${flavour}, ${mode}) talks with JavaScript`, async (t) => {
      const fleet = new Fleet(t);
      const namespace = freshNamespace();
      const python = new PythonPeer(t, 'python-socketio 5', flavour, mode);
      await python.do('connect', server, namespace);
      const clients = await Promise.all(
        kinds.map((kind, i) => fleet.open(kind, modes[i], namespace, { server })),
      );
      assert.deepEqual(await python.do('call', 'join', 'mixed'), ['ok']);
      for (const client of clients) await client.join('mixed');
      assert.deepEqual(await python.do('call', 'room-emit', 'mixed', 'from python'), ['ok']);
      for (const client of clients) {
        assert.deepEqual(await client.next('room-msg'), ['mixed', 'from python']);
      }
      await clients[0].call('room-broadcast', 'mixed', 'from JavaScript');
      assert.deepEqual(await python.do('next', 'room-msg'), ['mixed', 'from python']);
      assert.deepEqual(await python.do('next', 'room-msg'), ['mixed', 'from JavaScript']);
    });
  }

  for (const kind of kinds) {
    test(`${kind.name}: a large POST arrives whole`, async (t) => {
      const client = await new Fleet(t).open(kind, polling, freshNamespace(), { server });
      const text = 'é'.repeat(200_000) + 'x'.repeat(450_000);
      const [back] = await client.call('message-with-ack', text);
      assert.ok(back === text);
    });
  }

  test('a POST that is too large is refused by the node', async (t) => {
    const fleet = new Fleet(t);
    const client = await fleet.open(newest, polling, freshNamespace(), { server });
    const url = `${server}/socket.io/?EIO=4&transport=polling&sid=${client.engine.id}`;
    const body = 'x'.repeat(MAX_PAYLOAD + 50_000);
    const answer = await fetch(url, { method: 'POST', headers: { Origin: ORIGIN }, body });
    assert.equal(answer.status, 413);
    assert.equal(answer.headers.get('access-control-allow-origin'), ORIGIN);
    await (await fleet.open(newest, polling, freshNamespace(), { server })).settle();
  });

  test('a preflight is answered by any node, for a session of any node', async (t) => {
    const client = await new Fleet(t).open(newest, polling, freshNamespace(), { server });
    const url = `${server}/socket.io/?EIO=4&transport=polling&sid=${client.engine.id}`;
    const headers = { 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type' };
    for (let i = 0; i < 6; i += 1) {
      const answer = await fetch(url, { method: 'OPTIONS', headers: { ...headers, Origin: ORIGIN } });
      assert.ok(answer.ok, `status ${answer.status}`);
      assert.equal(answer.headers.get('access-control-allow-origin'), ORIGIN);
      assert.equal(answer.headers.get('access-control-allow-credentials'), 'true');
      assert.match(answer.headers.get('access-control-allow-methods'), /POST/);
    }
    const other = await fetch(url, { method: 'OPTIONS', headers: { ...headers, Origin: 'http://evil.example' } });
    assert.equal(other.headers.get('access-control-allow-origin'), null);
    await client.settle();
  });

  test(
    sticky ? 'all requests of a session go to its node' : 'requests of a session go to several nodes, without a cookie',
    async (t) => {
      const options = { server, withCredentials: sticky };
      const client = await new Fleet(t).open(newest, polling, freshNamespace(), options);
      for (let i = 0; i < 10; i += 1) await client.settle();
      const { node } = await client.whoami();
      const mine = await until('the log of the requests', () => {
        const all = balancer.accesses().filter(({ query }) => query.get('sid') === client.engine.id);
        return all.length >= 10 && all;
      });
      const nodes = new Set(mine.map((access) => cluster.nodes[access.node].name));
      if (sticky) assert.deepEqual([...nodes], [node]);
      else assert.ok(nodes.size > 1, `all requests went to ${[...nodes]}`);
    },
  );

  test('the balancer sets a cookie only where it is sticky by one', async () => {
    const answer = await fetch(`${server}/socket.io/?EIO=4&transport=polling`);
    const names = answer.headers.getSetCookie().map((cookie) => cookie.split('=')[0]);
    const own = balancer.name === 'nginx, sticky' ? ['sockhop_route'] : [];
    assert.deepEqual(names.sort(), ['io', ...own].sort());
  });

  for (const kind of kinds) {
    test(`${kind.name}: a poll may be silent for as long as the heartbeat is`, async (t) => {
      const fleet = new Fleet(t);
      const namespace = freshNamespace();
      const client = await fleet.open(kind, polling, namespace, { server });
      const speaker = await fleet.open(newest, websocket, namespace, { server });
      await client.join('silent');
      // Not a wait for something: the silence is what is tested.
      await pause(26_000);
      const began = performance.now();
      await speaker.call('room-emit', 'silent', 'awake');
      assert.deepEqual(await client.next('room-msg'), ['silent', 'awake']);
      assert.ok(performance.now() - began < 5_000, 'the message was not held back');
      assert.deepEqual(client.unclaimed('disconnect'), []);
    });
  }
}

/** The same configurations in front of servers that tell what they see. */
function passing(configuration) {
  const started = (async () => {
    const echoes = await Promise.all([startEcho(), startEcho(), startEcho()]);
    return { echoes, balancer: await start(configuration, echoes, '-echo') };
  })();
  started.catch(() => {});
  after(async () => {
    const { echoes, balancer } = await started;
    await balancer.process.stop();
    echoes.forEach((echo) => echo.stop());
  });

  test("the client's address is told, and what it claims is not believed", async () => {
    const { balancer } = await started;
    const answer = await fetch(`${balancer.url}/seen`, { headers: { 'X-Forwarded-For': '8.8.8.8' } });
    const seen = await answer.json();
    assert.equal(seen['x-forwarded-for'], '127.0.0.1');
    assert.equal(seen['x-forwarded-proto'], 'http');
    assert.equal(seen.host, new URL(balancer.url).host);
  });

  test('an answer is passed on as it is written', async () => {
    const { balancer, echoes } = await started;
    const answer = await fetch(`${balancer.url}/stream`);
    const reader = answer.body.getReader();
    const { value } = await reader.read();
    assert.equal(Buffer.from(value).toString(), 'first');
    echoes.forEach((echo) => echo.proceed());
    const rest = await reader.read();
    assert.equal(Buffer.from(rest.value).toString(), 'second');
  });

  test('a request is passed on as it comes', async () => {
    const { balancer, echoes } = await started;
    const sending = request(`${balancer.url}/upload`, { method: 'POST', headers: { 'Content-Length': 60_000 } });
    sending.write('x'.repeat(40_000));
    await until('the first part of the body', () => echoes.some((echo) => echo.uploaded() > 0));
    sending.end('x'.repeat(20_000));
    const [answer] = await once(sending, 'response');
    assert.equal(answer.statusCode, 200);
    answer.resume();
  });

  test('an upgraded connection carries bytes both ways', async () => {
    const { balancer } = await started;
    const asking = request(balancer.url, {
      headers: {
        Connection: 'Upgrade', Upgrade: 'websocket', 'X-Forwarded-For': '8.8.8.8',
        'Sec-WebSocket-Version': 13, 'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
      },
    });
    asking.end();
    const [answer, socket] = await once(asking, 'upgrade');
    assert.equal(answer.headers['x-seen'], 'websocket 127.0.0.1');
    socket.write('there and back');
    const [data] = await once(socket, 'data');
    assert.equal(data.toString(), 'there and back');
    socket.destroy();
  });
}

describe('balancers', { concurrency: configurations.length }, () => {
  for (const balancer of balancers) describe(balancer.name, { concurrency: 20 }, () => suite(balancer));
});

describe('what balancers pass on', { concurrency: configurations.length }, () => {
  for (const each of configurations) describe(each.name, { concurrency: 4 }, () => passing(each));
});

describe('monitoring', { concurrency: 4 }, () => monitoring(test, cluster, balancers[0].url));

describe('a node that dies', () => {
  test('its clients recover on every transport through every balancer', async (t) => {
    const fleet = new Fleet(t);
    const namespace = freshNamespace();
    const patience = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 1000 };
    const clients = await Promise.all(
      balancers.flatMap(({ url: server }) =>
        kinds.flatMap((kind) =>
          modes.map((mode) => fleet.open(kind, mode, namespace, { server, ...patience })),
        ),
      ),
    );
    const pythons = await Promise.all(
      balancers.map(async ({ url: server }, i) => {
        const python = new PythonPeer(t, 'python-socketio 5', i % 2 ? 'async' : 'sync', modes[i % 3].transports.at(-1), {
          reconnection: true,
        });
        await python.do('connect', server, namespace);
        return python;
      }),
    );
    const victim = cluster.nodes[1];
    assert.ok((await nodesOf(clients)).has(victim.name), 'somebody is on the node that dies');
    await victim.process.stop('SIGKILL');

    const settled = async (client) => {
      if (!client.socket.connected) return false;
      const [answer] = await Promise.race([client.call('whoami'), pause(2_000, [])]);
      return answer && answer.node !== victim.name;
    };
    await Promise.all(clients.map((client, i) => until(`client ${i} on a living node`, () => settled(client))));
    // The last victims of the dead node's half-finished requests have noticed by now: join anew.
    await until('all clients in one room', async () => {
      await Promise.all(clients.map((client) => client.join('survivors')));
      const [members] = await clients[0].call('members', 'survivors');
      return members.length === clients.length && clients.every((client) => client.socket.connected);
    });
    await allHearAll(clients, 'survivors');

    for (const [i, python] of pythons.entries()) {
      const recovered = async () => (await python.do('whoami')).node !== victim.name;
      await until(`python ${i} on a living node`, recovered, 3 * DEADLINE_MS);
      assert.deepEqual(await python.do('call', 'join', 'survivors'), ['ok']);
    }
    await clients[0].call('room-emit', 'survivors', 'to python');
    for (const python of pythons) assert.deepEqual(await python.do('next', 'room-msg'), ['survivors', 'to python']);

    await cluster.startNode(victim);
    for (const { name, url: server } of balancers) {
      await until(`${name} to use the node again`, async () => {
        const client = await fleet.open(newest, websocket, namespace, { server });
        const { node } = await client.whoami();
        client.close();
        return node === victim.name;
      });
    }
  });
});
