// The four configurations of deploy/, with the addresses and the paths of this run put in.

import { mkdirSync, readFileSync, writeFileSync, chmodSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Program, freePorts, logs } from './processes.js';

const deploy = fileURLToPath(new URL('../../../deploy/', import.meta.url));

export const configurations = [
  { name: 'nginx, round robin', program: 'nginx', file: 'round-robin.conf', sticky: false },
  { name: 'nginx, sticky', program: 'nginx', file: 'sticky.conf', sticky: true },
  { name: 'HAProxy, round robin', program: 'haproxy', file: 'round-robin.cfg', sticky: false },
  { name: 'HAProxy, sticky', program: 'haproxy', file: 'sticky.cfg', sticky: true },
];

/** Replaces all of a text; not to find it means that the configuration has changed. */
function put(text, found, instead, times = 1) {
  const parts = text.split(found);
  if (parts.length !== times + 1) {
    throw new Error(`"${found}" is ${parts.length - 1} times in the configuration, not ${times}`);
  }
  return parts.join(instead);
}

function nginx(text, port, nodes, log, dir) {
  mkdirSync(dir, { recursive: true });
  // The workers of a master that is root are somebody else.
  chmodSync(dir, 0o777);
  text = put(text, 'listen 80 ', `listen 127.0.0.1:${port} `);
  nodes.forEach((node, i) => {
    text = put(text, `10.0.0.1${i + 1}:8080`, node.address);
  });
  text = put(text, '/run/nginx.pid', `${dir}/nginx.pid`);
  text = put(text, '/dev/stdout', log);
  // Here the log says which session went where.
  text = put(text, '$request_method $uri ', '$request_method $request_uri ');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `    ${name}_temp_path ${dir}/${name};\n`)
    .join('');
  return put(text, 'http {\n', `http {\n${temporary}`);
}

function haproxy(text, port, nodes) {
  text = put(text, 'bind :80\n', `bind 127.0.0.1:${port}\n`);
  nodes.forEach((node, i) => {
    const line = `server node${i + 1} 10.0.0.1${i + 1}:8080`;
    text = put(text, line, `server node${i + 1} ${node.address}`, 2);
  });
  return put(text, '%HM %HP', '%HM %HU');
}

/** Runs one configuration in front of the nodes, each `{ address }`. */
export async function start(configuration, nodes, label = '') {
  const { program, file } = configuration;
  const name = `${program}-${file.replace(/\..*/, '')}${label}`;
  const [port] = await freePorts(1);
  const dir = path.join(logs, name);
  const access = program === 'nginx' ? `${dir}.access.log` : `${dir}.log`;
  let text = readFileSync(path.join(deploy, program, file), 'utf8');
  text =
    program === 'nginx' ? nginx(text, port, nodes, access, dir) : haproxy(text, port, nodes);
  const config = path.join(logs, `${name}.conf`);
  writeFileSync(config, text);
  const args = program === 'nginx' ? ['-c', config, '-g', 'daemon off;'] : ['-db', '-f', config];
  const url = `http://127.0.0.1:${port}`;
  const process = new Program(name, program, args);
  // HAProxy starts without knowing its nodes, nginx does not mind.
  await process.ready(async () => (await fetch(`${url}/healthz`)).ok);
  return { ...configuration, url, process, accesses: () => accesses(access, nodes) };
}

/** Every request of the log that was given to a node: `{ query, node }`. */
function accesses(file, nodes) {
  const found = [];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const query = / \/[^ ]*\?([^ ]+)/.exec(line)?.[1];
    const node = nodes.findIndex(
      ({ address }, i) => line.includes(address) || line.includes(`/node${i + 1} `),
    );
    if (query && node >= 0) found.push({ query: new URLSearchParams(query), node });
  }
  return found;
}
