// The cluster of docker-compose.yml, from its build to its end. Started by compose.sh; the steps
// build on each other.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import { after, describe, test as withoutLimit } from 'node:test';
import { promisify } from 'node:util';
import { Fleet, kindOf, newest, transportModes } from '../../tests/conformance/js/lib/clients.js';
import { until } from '../../tests/balancers/lib/until.js';
import { brokenAlerts, emptyPanels, panels, query, targets } from './queries.js';

const run = promisify(execFile);
const root = new URL('../../', import.meta.url).pathname;
const chat = `http://127.0.0.1:${process.env.SOCKHOP_PORT}`;
const prometheus = `http://127.0.0.1:${process.env.PROMETHEUS_PORT}`;
const modes = Object.values(transportModes);
const test = (name, body) => withoutLimit(name, { timeout: 20 * 60_000 }, body);

async function command(program, ...args) {
  try {
    const { stdout, stderr } = await run(program, args, { cwd: root, maxBuffer: 1 << 26 });
    appendFileSync(process.env.COMPOSE_LOG, `$ ${program} ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout.trim();
  } catch (error) {
    appendFileSync(process.env.COMPOSE_LOG, `$ ${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`);
    throw new Error(`${program} ${args.join(' ')}: ${error.code}\n${`${error.stderr}`.slice(-2000)}`);
  }
}
const compose = (...args) => command('docker-compose', ...args);
const docker = (...args) => command('docker', ...args);
const lines = (text) => text.split('\n').filter(Boolean);

/** Containers of a service that are running: `{ id, health }`. */
async function containers(service) {
  const ids = lines(await compose('ps', '-q', service));
  if (ids.length === 0) return [];
  const format = '{{.Id}} {{.State.Running}} {{with .State.Health}}{{.Status}}{{end}}';
  const all = lines(await docker('inspect', '--format', format, ...ids));
  return all.map((line) => line.split(' ')).filter(([, running]) => running === 'true')
    .map(([id, , health]) => ({ id, health }));
}

async function allReady(count) {
  await until(`${count} nodes to be healthy`, async () => {
    const nodes = await containers('sockhop');
    return nodes.length === count && nodes.every(({ health }) => health === 'healthy');
  }, 120_000);
}

const targetsUp = (count) => until(`${count} nodes up in Prometheus`, async () => {
  const nodes = (await targets(prometheus)).filter(({ job }) => job === 'sockhop');
  return nodes.length === count && nodes.every(({ up }) => up);
}, 60_000);

/** The part of a session id that names its node. */
const nodeOf = (client) => client.engine.id.slice(0, 4);

/** Clients of two generations on all transports, `rounds` of each. */
function open(fleet, rounds, options = {}) {
  const opening = [kindOf('2.5.0'), newest].flatMap((kind) =>
    modes.flatMap((mode) =>
      Array.from({ length: rounds }, () => fleet.open(kind, mode, '/', { server: chat, ...options })),
    ),
  );
  return Promise.all(opening);
}

let sayings = 0;
/** What one client says, all hear, exactly once. */
async function allHear(speaker, clients) {
  sayings += 1;
  const text = `saying ${sayings}`;
  const [answer] = await speaker.call('chat message', text);
  assert.equal(answer.ok, true);
  for (const client of clients) await client.next('chat message', (heard) => heard === text);
  for (const client of clients) {
    assert.ok(!client.unclaimed('chat message').some(([heard]) => heard === text), 'heard twice');
  }
}

/** Clients that come back when their node goes, and new ones that come all the time. */
class Crowd {
  #stopped = false;
  handshakes = 0;
  failures = [];

  async start(t) {
    this.clients = await open(new Fleet(t), 4, { reconnection: true, reconnectionDelay: 200, reconnectionDelayMax: 1000 });
    this.coming = this.#come();
    t.after(() => { this.#stopped = true; });
    return this;
  }

  async #come() {
    while (!this.#stopped) {
      try {
        const answer = await fetch(`${chat}/socket.io/?EIO=4&transport=polling`, { headers: { connection: 'close' } });
        await answer.text();
        if (answer.status !== 200) this.failures.push(`status ${answer.status}`);
      } catch (error) {
        this.failures.push(`${error.cause ?? error}`);
      }
      this.handshakes += 1;
      await new Promise((done) => { setTimeout(done, 50); });
    }
  }

  /** Everybody is back, on other nodes than `gone`, hears everybody, and no newcomer was refused. */
  async recovered(gone) {
    await until('all clients to be connected', () =>
      this.clients.every((client) => client.socket.connected && !gone.has(nodeOf(client))), 60_000);
    for (const speaker of this.clients.slice(0, 6)) await allHear(speaker, this.clients);
    this.#stopped = true;
    await this.coming;
    assert.ok(this.handshakes > 20, `${this.handshakes} handshakes`);
    assert.deepEqual(this.failures, []);
  }
}

describe('docker-compose', () => {
  after(() => { setTimeout(() => process.exit(process.exitCode), 5_000).unref(); });

  test('builds the image: small, not root, with a health check', async () => {
    await compose('--profile', 'loadtest', 'build');
    const format = '{{.Size}} {{.Config.User}} {{json .Config.Healthcheck.Test}}';
    const [size, user, health] = (await docker('image', 'inspect', '--format', format, 'sockhop')).split(' ');
    const base = /^FROM (debian:\S+)$/m.exec(readFileSync(`${root}Dockerfile`, 'utf8'))[1];
    const below = Number(await docker('image', 'inspect', '--format', '{{.Size}}', base));
    assert.ok(Number(size) - below < 40e6, `${Number(size) - below} bytes more than ${base}`);
    assert.match(user, /^[1-9]/);
    assert.match(health, /healthcheck/);
  });

  test('comes up: three healthy nodes behind the balancer', async () => {
    await compose('up', '-d');
    await allReady(3);
    const page = await until('the chat page', async () => (await fetch(`${chat}/`)).text());
    assert.match(page, /<html/i);
    assert.ok((await fetch(`${chat}/healthz`)).ok);
  });

  test('publishes ports on the loopback address only', async () => {
    const ids = lines(await docker('ps', '-q', '--filter', `label=com.docker.compose.project=${process.env.COMPOSE_PROJECT_NAME}`));
    const format = '{{range $port, $on := .NetworkSettings.Ports}}{{range $on}}{{.HostIp}} {{end}}{{end}}';
    const addresses = (await docker('inspect', '--format', format, ...ids)).split(/\s+/).filter(Boolean);
    assert.ok(addresses.length >= 2);
    assert.deepEqual([...new Set(addresses)], ['127.0.0.1']);
  });

  test('carries the chat across nodes, for every transport', async (t) => {
    const clients = await open(new Fleet(t), 4);
    assert.equal(new Set(clients.map(nodeOf)).size, 3, 'clients are on all nodes');
    const speakers = new Map(clients.map((client) => [nodeOf(client), client]));
    for (const speaker of speakers.values()) await allHear(speaker, clients);
  });

  test('the load test of the profile finds no message lost', async (t) => {
    const report = await compose('run', '--rm', '-T', 'loadtest');
    assert.match(report, /^churn: 300 of 300 connected/m);
    const owed = Number(/^ +owed +(\d+)$/m.exec(report)?.[1]);
    assert.ok(owed > 10_000, report);
    t.diagnostic(`${owed} deliveries owed`);
    // The nodes with the events of the load test are built by the same instructions as these.
    const { COMPOSE_FILE } = process.env;
    const files = `${COMPOSE_FILE}:deploy/loadtest/target.yml`.split(':').flatMap((file) => ['-f', file]);
    assert.match(await compose(...files, 'config'), /NODE: load_target/);
  });

  test('Prometheus has all targets up', async () => {
    await targetsUp(3);
    await until('all targets up', async () => (await targets(prometheus)).every(({ up }) => up));
  });

  test('every query of the dashboard has data', async (t) => {
    const clients = await open(new Fleet(t), 1);
    // Rates need two scrapes with traffic between them.
    await until('two scrapes', async () => {
      await allHear(clients[0], clients);
      const [sample] = await query(prometheus, 'min(count_over_time(sockhop_node_ready[1m]))');
      return Number(sample?.value[1]) >= 3;
    }, 60_000);
    assert.deepEqual(await emptyPanels(prometheus), []);
    t.diagnostic(`${panels().length} queries`);
  });

  test('every alert rule is evaluated, none fires', async () => {
    const { broken, names } = await until('all rules to be evaluated', async () => {
      const result = await brokenAlerts(prometheus);
      return !result.broken.some(({ why }) => why === 'health: unknown') && result;
    });
    assert.deepEqual(broken, []);
    assert.ok(names.length >= 8);
    await until('no alert', async () => (await query(prometheus, 'ALERTS{alertstate="firing"}')).length === 0, 60_000);
    await compose('exec', '-T', 'prometheus', 'promtool', 'check', 'config', '/etc/prometheus/prometheus.yml');
  });

  if (process.env.WITH_GRAFANA) {
    test('Grafana has the dashboard and reaches Prometheus', async () => {
      const grafana = `http://127.0.0.1:${process.env.GRAFANA_PORT}`;
      const found = await until('the dashboard', async () => {
        const answer = await fetch(`${grafana}/api/dashboards/uid/sockhop`);
        return answer.ok && answer.json();
      }, 120_000);
      assert.equal(found.dashboard.title, 'sockhop');
      const answer = await fetch(`${grafana}/api/datasources/proxy/uid/prometheus/api/v1/query?query=sockhop_node_ready`);
      assert.equal((await answer.json()).data.result.length, 3);
    });
  }

  test('Redis restarts, and nobody is disconnected', async (t) => {
    const clients = await open(new Fleet(t), 2, { reconnection: false });
    await compose('restart', '-t', '2', 'redis');
    await until('messages to cross nodes again', async () => {
      const text = `after Redis ${Date.now()}`;
      // Without an acknowledgement: the chat gives none for what other nodes may have missed.
      clients[0].emit('chat message', text);
      const heard = () => clients.every((client) => client.unclaimed('chat message').some(([each]) => each === text));
      return until('the message', heard, 1_000);
    });
    for (const client of clients) assert.deepEqual(client.unclaimed('disconnect'), []);
    await allReady(3);
  });

  test('all nodes are replaced one by one: clients reconnect, newcomers notice nothing', async (t) => {
    const crowd = await new Crowd().start(t);
    const before = new Set(crowd.clients.map(nodeOf));
    const old = (await containers('sockhop')).map(({ id }) => id);
    await command('deploy/rolling-restart.sh');
    await allReady(3);
    const now = (await containers('sockhop')).map(({ id }) => id);
    assert.ok(now.every((id) => !old.includes(id)), 'all nodes are new');
    await crowd.recovered(before);
  });

  test('scales to five nodes, and Prometheus follows', async (t) => {
    await compose('up', '-d', '--no-build', '--no-recreate', '--scale', 'sockhop=5');
    await allReady(5);
    await targetsUp(5);
    await until('clients on five nodes', async () => {
      const fleet = new Fleet(t);
      const clients = await open(fleet, 3);
      const nodes = new Set(clients.map(nodeOf)).size;
      if (nodes === 5) await allHear(clients[0], clients);
      fleet.closeAll();
      return nodes === 5;
    });
  });

  test('scales to two nodes: clients of the others reconnect, newcomers notice nothing', async (t) => {
    const crowd = await new Crowd().start(t);
    await compose('up', '-d', '--no-build', '--no-recreate', '--scale', 'sockhop=2');
    await allReady(2);
    await until('two nodes to be left', () => new Set(crowd.clients.map(nodeOf)).size <= 2, 60_000);
    await crowd.recovered(new Set());
    await targetsUp(2);
  });

  test('goes down and leaves nothing', async () => {
    await compose('down', '--volumes', '--timeout', '30');
    const filter = `label=com.docker.compose.project=${process.env.COMPOSE_PROJECT_NAME}`;
    assert.equal(await docker('ps', '-aq', '--filter', filter), '');
    assert.equal(await docker('volume', 'ls', '-q', '--filter', filter), '');
    assert.equal(await docker('network', 'ls', '-q', '--filter', filter), '');
  });
});
