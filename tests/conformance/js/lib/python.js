// Python clients for tests in JavaScript.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { DEADLINE_MS, Inbox, within } from './waiting.js';

const script = fileURLToPath(new URL('../../python/cross_peer.py', import.meta.url));

/** The variables with which `run.sh` names the interpreter of each generation. */
export const interpreters = {
  'python-socketio 4.6.1': 'PYTHON_V4',
  'python-socketio 5': 'PYTHON_V5',
};

const tagged = (value) => {
  if (Buffer.isBuffer(value)) return { $bytes: value.toString('hex') };
  if (Array.isArray(value)) return value.map(tagged);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, tagged(inner)]));
  }
  return value;
};
const untagged = (value) => {
  if (Array.isArray(value)) return value.map(untagged);
  if (value && typeof value === 'object') {
    if (typeof value.$bytes === 'string') return Buffer.from(value.$bytes, 'hex');
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, untagged(inner)]));
  }
  return value;
};

/** A Python client in a process of its own; see `cross_peer.py`. */
export class PythonPeer {
  #answers = new Inbox();

  constructor(t, name, kind, mode, { reconnection = false } = {}) {
    const variable = interpreters[name];
    const python = process.env[variable];
    if (!python) throw new Error(`${variable} is not set: run tests/conformance/run.sh`);
    const more = reconnection ? ['reconnecting'] : [];
    this.process = spawn(python, [script, kind, mode, ...more], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      this.#answers.put(JSON.parse(line));
    });
    const exited = new Promise((resolve) => this.process.on('exit', resolve));
    this.process.on('exit', (code) => this.#answers.end(`python exited with ${code}`));
    t.after(async () => {
      this.process.stdin.end();
      await within(exited, 'python to exit').catch(() => this.process.kill('SIGKILL'));
    });
  }

  async do(command, ...args) {
    this.process.stdin.write(`${JSON.stringify({ do: command, args: tagged(args) })}\n`);
    const answer = await this.#answers.next(`the answer to ${command}`, undefined, 3 * DEADLINE_MS);
    if (answer.error) throw new Error(`python, ${command}: ${answer.error}`);
    return untagged(answer.result);
  }
}
