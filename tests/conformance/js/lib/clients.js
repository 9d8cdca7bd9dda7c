// The official clients under test, and one face for all their generations.

import { createRequire } from 'node:module';
import { setMaxListeners } from 'node:events';
import { servers } from './servers.js';
import { Inbox, within } from './waiting.js';

const require = createRequire(import.meta.url);
const msgpack = require('socket.io-msgpack-parser');

/** Pinned in package.json through npm aliases. `eio` is the Engine.IO generation spoken. */
const versions = [
  { version: '2.1.1', eio: 3 },
  { version: '2.2.0', eio: 3 },
  { version: '2.5.0', eio: 3 },
  { version: '3.1.3', eio: 4 },
  { version: '4.0.0', eio: 4 },
  { version: '4.8.4', eio: 4 },
];

const json = versions.map((each) => ({
  ...each,
  name: `socket.io-client ${each.version}`,
  io: require(`client-${each.version}`),
  path: '/socket.io/',
}));

export const jsonKinds = json;
export const msgpackKinds = json
  .filter((each) => each.eio === 4)
  .map((each) => ({
    ...each,
    name: `${each.name} with the msgpack parser`,
    path: '/msgpack/',
    parser: msgpack,
  }));

export const newest = json.at(-1);

/** The client of that version, with the JSON or the msgpack parser. */
export function kindOf(version, { parser = 'json' } = {}) {
  const kinds = parser === 'json' ? jsonKinds : msgpackKinds;
  const kind = kinds.find((each) => each.version === version);
  if (!kind) throw new Error(`no client ${version} with the ${parser} parser`);
  return kind;
}

export const transportModes = {
  polling: { name: 'polling only', transports: ['polling'], settles: 'polling' },
  websocket: { name: 'websocket only', transports: ['websocket'], settles: 'websocket' },
  upgrading: {
    name: 'polling upgraded to websocket',
    transports: ['polling', 'websocket'],
    settles: 'websocket',
  },
};

/** Events the contract sends; 2.x clients have no catch-all, so they are listed. */
const EVENTS = [
  'auth',
  'message-back',
  'answer',
  'chat message',
  'room-msg',
  'broadcast',
  'gone',
  'flood',
];

/** A socket of one namespace, recording whatever reaches it from the first moment on. */
export class Client {
  #inbox = new Inbox();

  constructor(kind, socket) {
    this.kind = kind;
    this.socket = socket;
    for (const event of EVENTS) {
      socket.on(event, (...args) => this.#inbox.put({ event, args }));
    }
    socket.on('connect', () => this.#inbox.put({ event: 'connect', args: [] }));
    socket.on('disconnect', (reason) => this.#inbox.put({ event: 'disconnect', args: [reason] }));
    // 2.x reports a refusal as `error` with what the server sent; later ones as `connect_error`
    // with an Error that carries `data`.
    const refusal = kind.eio === 3 ? 'error' : 'connect_error';
    socket.on(refusal, (reason) => this.#inbox.put({ event: 'refused', args: [reason] }));
  }

  get id() {
    return this.socket.id;
  }

  get engine() {
    return this.socket.io.engine;
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** Emits and resolves with the list of what the acknowledgement carried. */
  call(event, ...args) {
    const answer = new Promise((resolve) => {
      this.socket.emit(event, ...args, (...results) => resolve(results));
    });
    return within(answer, `the acknowledgement of ${event}`);
  }

  /** The arguments of the next such event. */
  async next(event, matches = () => true) {
    const item = await this.#inbox.next(
      `event ${event} at ${this.kind.name}`,
      (each) => each.event === event && matches(...each.args),
    );
    return item.args;
  }

  async take(event, count) {
    const items = await this.#inbox.take(
      count,
      `event ${event} at ${this.kind.name}`,
      (each) => each.event === event,
    );
    return items.map((each) => each.args);
  }

  /** Events of that name which arrived and which no test step has asked for. */
  unclaimed(event) {
    return this.#inbox.unclaimed.filter((each) => each.event === event).map((each) => each.args);
  }

  /** Everything the server sent before this point has arrived once this resolves. */
  async settle() {
    await this.call('whoami');
  }

  async whoami() {
    const [answer] = await this.call('whoami');
    return answer;
  }

  async join(room) {
    const [answer] = await this.call('join', room);
    if (answer !== 'ok') throw new Error(`join answered ${JSON.stringify(answer)}`);
  }

  /** Resolves once the engine has moved to the transport. */
  async reached(transport) {
    const engine = this.engine;
    if (engine.transport.name === transport && !engine.upgrading) return;
    await within(
      new Promise((resolve) => engine.on('upgrade', (to) => to.name === transport && resolve())),
      `the upgrade of ${this.kind.name} to ${transport}`,
    );
  }

  /** Another namespace over the same connection; the manager opens it at once. */
  async sibling(namespace, options) {
    const client = new Client(this.kind, this.socket.io.socket(namespace, options));
    await client.next('connect');
    return client;
  }

  close() {
    const manager = this.socket.io;
    if (typeof manager.reconnection === 'function') manager.reconnection(false);
    this.socket.disconnect();
    manager.engine?.close();
  }
}

/** Opens clients and closes whatever is still open when the test ends. */
export class Fleet {
  #clients = [];

  constructor(t) {
    t.after(() => this.closeAll());
    setMaxListeners(0);
  }

  /** Starts a client without waiting for anything. */
  start(kind, mode, namespace = '/', { server = servers.main, suffix = '', ...options } = {}) {
    const socket = kind.io(`${server}${namespace === '/' ? '/' : namespace}${suffix}`, {
      path: kind.path,
      transports: mode.transports,
      forceNew: true,
      reconnection: false,
      ...(kind.parser && { parser: kind.parser }),
      ...options,
    });
    const client = new Client(kind, socket);
    this.#clients.push(client);
    return client;
  }

  /** Starts a client and waits until it is connected and on its final transport. */
  async open(kind, mode, namespace, options) {
    const client = this.start(kind, mode, namespace, options);
    await client.next('connect');
    await client.reached(mode.settles);
    return client;
  }

  /** A newest client on websocket at the same mount point: the other party of a test. */
  companion(kind, namespace, options) {
    const other = kind.parser ? kindOf(newest.version, { parser: 'msgpack' }) : newest;
    return this.open(other, transportModes.websocket, namespace, options);
  }

  /** A companion that hears of every socket leaving the namespace. */
  async watcher(kind, namespace, options) {
    const client = await this.companion(kind, namespace, options);
    await client.join('watchers');
    return client;
  }

  closeAll() {
    for (const client of this.#clients.splice(0)) client.close();
  }
}

/** The same value with every kind of binary turned into Buffer, for comparisons. */
export function plain(value) {
  if (Buffer.isBuffer(value)) return Buffer.from(value);
  if (value instanceof ArrayBuffer) return Buffer.from(value);
  if (ArrayBuffer.isView(value)) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Date) return value;
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}
