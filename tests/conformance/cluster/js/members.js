// The members of the cluster under test, their clients, and the emitters beside it. `run.sh` starts
// the servers and fills the environment in.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Emitter } from '@socket.io/redis-emitter';
import { createClient } from 'redis';
import { io } from 'socket.io-client';
import msgpack from 'socket.io-msgpack-parser';
import { Inbox, within } from '../../js/lib/waiting.js';

function variable(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run tests/conformance/cluster/run.sh`);
  return value;
}

export const redisUrl = variable('CLUSTER_REDIS_URL');

/** Where each member listens. */
const urls = {
  sockhopA: variable('CLUSTER_SOCKHOP_A'),
  sockhopB: variable('CLUSTER_SOCKHOP_B'),
  nodeA: variable('CLUSTER_NODE_A'),
  nodeB: variable('CLUSTER_NODE_B'),
  python: variable('CLUSTER_PYTHON'),
};

export const sockhop = ['sockhopA', 'sockhopB'];
export const node = ['nodeA', 'nodeB'];
export const all = [...sockhop, ...node, 'python'];

let counter = 0;

/** A name that no other test uses. */
export function fresh(what) {
  counter += 1;
  return `${what}-${process.pid}-${counter}`;
}

/** A client of one member. What it hears it keeps until somebody asks. */
export class Peer {
  #inbox = new Inbox();
  #gone;

  constructor(member, { namespace = '/', parser = 'json', query, url = urls[member] } = {}) {
    this.member = member;
    this.socket = io(url + namespace, {
      forceNew: true,
      reconnection: false,
      transports: ['websocket'],
      query,
      ...(parser === 'msgpack' ? { path: '/msgpack/', parser: msgpack } : {}),
    });
    this.socket.onAny((event, ...args) => {
      const ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
      this.#inbox.put({ event, args, ack });
    });
    this.#gone = new Promise((resolve) => this.socket.on('disconnect', resolve));
  }

  get id() {
    return this.socket.id;
  }

  async connected() {
    await within(new Promise((resolve, reject) => {
      this.socket.on('connect', resolve);
      this.socket.on('connect_error', reject);
    }), `a client of ${this.member}`);
    return this;
  }

  /** Lets the member of this client do something. */
  async op(operation, it = {}) {
    const answer = this.socket.emitWithAck('op', operation, it);
    const { value, error } = await within(answer, `${operation} of ${this.member}`);
    if (error) throw new Error(`${operation} of ${this.member}: ${error}`);
    return value;
  }

  /** The arguments of the next event of this name. */
  async next(event) {
    return (await this.nextEvent(event)).args;
  }

  nextEvent(event) {
    return this.#inbox.next(`${event} at ${this.member}`, (it) => it.event === event);
  }

  /** Whether such an event has come and nobody has asked for it. */
  has(event, matches = () => true) {
    return this.#inbox.unclaimed.some((it) => it.event === event && matches(it.args));
  }

  /** The reason, once the server has ended this client. */
  ended() {
    return within(this.#gone, `the end of a client of ${this.member}`);
  }

  close() {
    this.socket.disconnect();
  }
}

/** Clients of these members, by their names, until the test ends. */
export async function peers(t, members, options) {
  const made = {};
  for (const member of members) made[member] = new Peer(member, options);
  t.after(() => Object.values(made).forEach((peer) => peer.close()));
  await Promise.all(Object.values(made).map((peer) => peer.connected()));
  return made;
}

/** Clients of these members that are in a room of their own, so that tests do not hear each other. */
export async function roommates(t, members, options) {
  const room = fresh('room');
  const made = await peers(t, members, options);
  await Promise.all(Object.values(made).map((peer) => peer.op('join', { rooms: [room] })));
  return { room, ...made };
}

/** What holds once `check` returns something; asks again until the deadline. */
export async function until(what, check) {
  let stopped = false;
  const attempt = async () => {
    for (;;) {
      const value = await check();
      if (value || stopped) return value;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  try {
    return await within(attempt(), what);
  } finally {
    stopped = true;
  }
}

/** A connection to Redis. */
export async function redisClient(t) {
  const client = createClient({ url: redisUrl });
  await client.connect();
  t.after(() => client.close());
  return client;
}

/** A `@socket.io/redis-emitter`. */
export async function nodeEmitter(t, namespace = '/') {
  return new Emitter(await redisClient(t)).of(namespace);
}

/** A write-only manager of python-socketio: `await emitter(method, args, options)`. */
export function pythonEmitter(t, url = redisUrl) {
  const script = fileURLToPath(new URL('../servers/emitter.py', import.meta.url));
  const child = spawn(variable('CLUSTER_PYTHON_BIN'), ['-B', script, url], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.stdin.end());
  const lines = new Inbox();
  createInterface({ input: child.stdout }).on('line', (line) => lines.put(line));
  child.on('exit', () => lines.end('the emitter has ended'));
  return async (method, args, options = {}) => {
    child.stdin.write(`${JSON.stringify([method, args, options])}\n`);
    await lines.next('the Python emitter');
  };
}

/** Arguments of every kind that JSON and binary data have. */
export const everything = [
  1, -70000, 2 ** 40, 1.5, 'ü€😀', true, null, { list: [1, [2, {}]], data: Buffer.from([0, 255]) }, Buffer.alloc(300, 7),
];
