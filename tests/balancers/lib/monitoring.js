// Prometheus on the nodes of these tests: alerts, dashboard, and the variables that deploy/ sets.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Fleet, newest, transportModes } from '../../conformance/js/lib/clients.js';
import { freshNamespace } from '../../conformance/js/lib/servers.js';
import { brokenAlerts, emptyPanels, query, targets } from '../../../deploy/test/queries.js';
import { Program, freePorts, logs } from './processes.js';
import { until } from './until.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../', import.meta.url));
const alerts = path.join(root, 'deploy/prometheus/alerts.yml');

async function startPrometheus(cluster) {
  const [port] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const data = path.join(logs, 'prometheus');
  mkdirSync(data);
  const config = path.join(logs, 'prometheus.yml');
  const addresses = cluster.nodes.map((node) => node.address);
  writeFileSync(config, JSON.stringify({
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [alerts],
    scrape_configs: [{ job_name: 'sockhop', static_configs: [{ targets: addresses }] }],
  }));
  const process = new Program('prometheus', 'prometheus', [
    `--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=127.0.0.1:${port}`,
  ]);
  await process.ready(async () => (await fetch(`${url}/-/ready`)).ok);
  return { url, process };
}

/** The `SOCKHOP__…` variables that a file of deploy/ sets; secrets and references get an example. */
function variables(file) {
  const text = readFileSync(path.join(root, file), 'utf8');
  const found = {};
  const examples = { SOCKHOP__REDIS__URL: 'redis://redis:6379', SOCKHOP__PRIVATE__SECRET: 'secret', SOCKHOP__PRIVATE__ADVERTISE: '10.0.0.1' };
  for (const [, name, value] of text.matchAll(/(SOCKHOP__\w+)(?:[:=] *| *\n +value: )?"?([^"\s\\]*)/g)) {
    found[name] = examples[name] ?? value;
  }
  return found;
}

export function monitoring(test, cluster, server) {
  const started = startPrometheus(cluster);
  started.catch(() => {});
  after(async () => (await started).process.stop());

  test('alert rules are well-formed, fire when they should, and only then', async () => {
    await run('promtool', ['check', 'rules', alerts]);
    await run('promtool', ['test', 'rules', path.join(root, 'deploy/prometheus/tests/alerts_test.yml')]);
  });

  test('every alert has a paragraph for operators', () => {
    const names = [...readFileSync(alerts, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
    const page = readFileSync(path.join(root, 'docs/operations.md'), 'utf8');
    assert.ok(names.length > 0);
    assert.deepEqual(names.filter((name) => !page.includes(`### ${name}\n`)), []);
  });

  test('every query of the dashboard has data, every alert is about metrics that exist', async (t) => {
    const { url } = await started;
    const client = await new Fleet(t).open(newest, transportModes.polling, freshNamespace(), { server });
    await until('some scrapes of all nodes', async () => {
      await client.settle();
      const scrapes = await query(url, 'count_over_time(sockhop_node_ready[1m])');
      return scrapes.length === cluster.nodes.length && scrapes.every(({ value }) => Number(value[1]) >= 4);
    });
    assert.ok((await targets(url)).every(({ up }) => up));
    assert.deepEqual(await emptyPanels(url, '30s'), []);
    const { broken } = await until('all rules to be evaluated', async () => {
      const result = await brokenAlerts(url);
      return !result.broken.some(({ why }) => why === 'health: unknown') && result;
    });
    assert.deepEqual(broken, []);
  });

  for (const file of ['docker-compose.yml', 'Dockerfile', 'deploy/kubernetes/deployment.yaml']) {
    test(`${file} sets keys that exist`, async () => {
      const found = variables(file);
      assert.ok(Object.keys(found).length >= 3, Object.keys(found).join());
      const node = path.join(path.dirname(process.env.CONTRACT), '../sockhop');
      await run(node, ['check-config'], { env: { PATH: process.env.PATH, ...found } });
    });
  }
}
