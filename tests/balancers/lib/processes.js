// The programs of these tests: started, awaited, stopped.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { until } from './until.js';

export const logs = process.env.BALANCER_LOGS;
if (!logs) throw new Error('BALANCER_LOGS is not set: run tests/balancers/run.sh');

/** Ports that were free a moment ago, all different. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(
    servers.map((server) => new Promise((done) => server.listen(0, '127.0.0.1', done))),
  );
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

const running = new Set();
// Also when the run is broken off: no program outlives it.
process.once('exit', () => running.forEach((each) => each.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/** A program in the foreground of its own process, with its output in a log. */
export class Program {
  constructor(name, command, args, env = {}) {
    this.name = name;
    this.log = path.join(logs, `${name}.log`);
    const log = createWriteStream(this.log, { flags: 'a' });
    const inherited = { ...process.env };
    // nginx, HAProxy and the nodes read what is meant for them only.
    for (const key of Object.keys(inherited)) if (/^(REDIS_|SOCKHOP|NGINX)/.test(key)) delete inherited[key];
    this.child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...inherited, ...env } });
    this.child.stdout.pipe(log, { end: false });
    this.child.stderr.pipe(log, { end: false });
    running.add(this.child);
    this.gone = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(`cannot start: ${error.message}`));
      this.child.once('exit', (code, signal) => resolve(`ended with ${code ?? signal}`));
    });
    this.gone.then(() => running.delete(this.child));
  }

  /** Waits for the condition, and fails early when the program ends. */
  async ready(check) {
    const ended = this.gone.then((why) => {
      throw new Error(`${this.name} ${why}; see ${this.log}`);
    });
    ended.catch(() => {});
    await Promise.race([until(`${this.name} to be ready`, check), ended]);
    return this;
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    const slow = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await this.gone;
    clearTimeout(slow);
  }
}
