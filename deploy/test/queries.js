// Every query of the dashboard and of the alerts, put to a Prometheus that scrapes live nodes.
//
//   node deploy/test/queries.js http://127.0.0.1:9090
//
// says which have no answer.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const dashboard = fileURLToPath(new URL('../grafana/dashboards/sockhop.json', import.meta.url));

async function api(prometheus, path, parameters = {}) {
  const answer = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const { status, data, error } = await answer.json();
  if (status !== 'success') throw new Error(`${error} (${JSON.stringify(parameters)})`);
  return data;
}

export const query = async (prometheus, expression) =>
  (await api(prometheus, 'query', { query: expression })).result;

/** The queries of all panels, as Grafana sends them for all nodes. */
export function panels(interval = '1m') {
  const { panels: all } = JSON.parse(readFileSync(dashboard, 'utf8'));
  const values = { $__rate_interval: interval, $job: 'sockhop', $instance: '.*' };
  return all.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => {
      const expression = expr.replace(/\$\w+/g, (name) => {
        if (!(name in values)) throw new Error(`${title}: ${name} has no value`);
        return values[name];
      });
      return { title, expression };
    }),
  );
}

/** The panels without data. Not a number is data: it is nothing divided by nothing. */
export async function emptyPanels(prometheus, interval) {
  const empty = [];
  for (const panel of panels(interval)) {
    if ((await query(prometheus, panel.expression)).length === 0) empty.push(panel);
  }
  return empty;
}

/** The alerts that do not work: evaluated with an error, or about a metric that does not exist. */
export async function brokenAlerts(prometheus) {
  const { groups } = await api(prometheus, 'rules');
  const alerts = groups.flatMap((group) => group.rules);
  if (alerts.length === 0) throw new Error('Prometheus has no rules');
  const broken = [];
  for (const { name, query: expression, health, lastError } of alerts) {
    if (health !== 'ok') broken.push({ name, why: lastError || `health: ${health}` });
    await query(prometheus, expression);
    for (const metric of new Set(expression.match(/\bsockhop_\w+/g) ?? [])) {
      if ((await query(prometheus, metric)).length === 0) broken.push({ name, why: `there is no ${metric}` });
    }
  }
  return { broken, names: alerts.map((alert) => alert.name) };
}

/** What Prometheus scrapes: `{ job, instance, up }`. */
export async function targets(prometheus) {
  const { activeTargets } = await api(prometheus, 'targets', { state: 'active' });
  return activeTargets.map(({ labels, health }) => ({ ...labels, up: health === 'up' }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const prometheus = process.argv[2] ?? 'http://127.0.0.1:9090';
  const empty = await emptyPanels(prometheus);
  const { broken, names } = await brokenAlerts(prometheus);
  for (const { title, expression } of empty) console.log(`no data: ${title}: ${expression}`);
  for (const { name, why } of broken) console.log(`broken: ${name}: ${why}`);
  console.log(`${panels().length} queries, ${names.length} alerts, ${empty.length + broken.length} without an answer`);
  process.exit(empty.length + broken.length > 0 ? 1 : 0);
}
