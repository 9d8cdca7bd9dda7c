// Engine.IO by hand: plain HTTP requests and a plain WebSocket, nothing decoded on the way.

import http from 'node:http';
import { WebSocket } from 'ws';
import { DEADLINE_MS, Inbox, within } from './waiting.js';

/** One HTTP exchange. The body is a Buffer; `text` decodes it. A broken connection rejects. */
export function request(url, { method = 'GET', headers = {}, body, onRequest } = {}) {
  const exchange = new Promise((resolve, reject) => {
    const req = http.request(url, { method, headers, agent: false }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('error', reject);
      res.on('end', () => {
        const whole = Buffer.concat(chunks);
        resolve({
          status: res.statusCode,
          headers: res.headers,
          body: whole,
          get text() {
            return whole.toString('utf8');
          },
          get json() {
            return JSON.parse(whole.toString('utf8'));
          },
        });
      });
    });
    req.on('error', reject);
    onRequest?.(req);
    req.end(body);
  });
  const { pathname, search } = new URL(url);
  return within(exchange, `the answer to ${method} ${pathname}${search.slice(0, 80)}`);
}

/** The answer, or `null` when the server broke the connection instead of answering. */
export async function requestOrReset(url, options) {
  try {
    return await request(url, options);
  } catch (error) {
    if (['ECONNRESET', 'EPIPE'].includes(error.code) || /socket hang up/.test(error.message)) {
      return null;
    }
    throw error;
  }
}

/** Packets of an EIO4 text payload. */
export const splitV4 = (text) => text.split('\x1e');

/** Packets of an EIO3 text payload; lengths count UTF-16 code units, as JavaScript does. */
export function splitV3(text) {
  const packets = [];
  for (let at = 0; at < text.length; ) {
    const colon = text.indexOf(':', at);
    const digits = text.slice(at, colon);
    if (colon < 0 || !/^\d+$/.test(digits)) throw new Error(`bad length at ${at} in ${text}`);
    const end = colon + 1 + Number(digits);
    if (end > text.length) throw new Error(`length ${digits} runs past the end of ${text}`);
    packets.push(text.slice(colon + 1, end));
    at = end;
  }
  return packets;
}

export const joinV3 = (...packets) => packets.map((each) => `${each.length}:${each}`).join('');

/** Packets of an EIO3 binary payload, as `{ binary, content }`. */
export function splitV3Binary(buffer) {
  const packets = [];
  for (let at = 0; at < buffer.length; ) {
    const binary = buffer[at] === 1;
    if (buffer[at] > 1) throw new Error(`bad marker ${buffer[at]} at ${at}`);
    let length = 0;
    for (at += 1; buffer[at] !== 0xff; at += 1) {
      if (!(buffer[at] <= 9)) throw new Error(`bad length digit ${buffer[at]} at ${at}`);
      length = length * 10 + buffer[at];
    }
    const content = buffer.subarray(at + 1, at + 1 + length);
    if (content.length !== length) throw new Error('length runs past the end');
    packets.push({ binary, content });
    at += 1 + length;
  }
  return packets;
}

/** EIO3 binary framing of one packet: a string, or a Buffer that includes the type byte. */
export function frameV3Binary(packet) {
  const content = Buffer.from(packet);
  const digits = [...String(content.length)].map(Number);
  return Buffer.concat([
    Buffer.from([typeof packet === 'string' ? 0 : 1, ...digits, 0xff]),
    content,
  ]);
}

/** A polling session. */
export class Polling {
  /** Opens a session; `extra` is appended to the query of every request. */
  static async open(server, { path = '/socket.io/', eio = 4, extra = '', headers } = {}) {
    const session = new Polling();
    session.eio = eio;
    session.base = `${server}${path}?EIO=${eio}&transport=polling${extra}`;
    session.opening = await request(session.base, { headers });
    if (session.opening.status !== 200) {
      throw new Error(`handshake: ${session.opening.status} ${session.opening.text}`);
    }
    // An EIO3 server may put its first packets behind the open packet, as socket.io 2.x does.
    const { text } = session.opening;
    const [first, ...rest] = eio === 3 ? splitV3(text) : splitV4(text);
    session.handshake = JSON.parse(first.slice(1));
    session.sid = session.handshake.sid;
    session.url = `${session.base}&sid=${session.sid}`;
    session.pending = rest;
    return session;
  }

  get webSocketUrl() {
    return this.url.replace(/^http/, 'ws').replace('transport=polling', 'transport=websocket');
  }

  poll(options) {
    return request(this.url, options);
  }

  post(body, options = {}) {
    return request(this.url, {
      method: 'POST',
      body,
      ...options,
      headers: { 'Content-Type': 'text/plain;charset=UTF-8', ...options.headers },
    });
  }

  /** Posts packets in the framing of the session's version. */
  send(...packets) {
    return this.post(this.eio === 3 ? joinV3(...packets) : packets.join('\x1e'));
  }

  /** The next packet that is no heartbeat (pings of EIO4 are answered). */
  async next() {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const packet = this.pending.shift();
      if (packet === '2' && this.eio === 4) await this.send('3');
      else if (packet !== undefined) return packet;
      else {
        if (performance.now() > deadline) throw new Error('nothing but heartbeats');
        const answer = await this.poll();
        if (answer.status !== 200) throw new Error(`poll: ${answer.status} ${answer.text}`);
        this.pending = this.eio === 3 ? splitV3(answer.text) : splitV4(answer.text);
      }
    }
  }

  /** Joins a namespace (EIO4), or takes the unasked `40` of EIO3. Swallows the `auth` event. */
  async join(namespace = '/') {
    const prefix = namespace === '/' ? '' : `${namespace},`;
    if (this.eio === 4 || namespace !== '/') await this.send(`40${prefix}`);
    const connected = await this.next();
    if (!connected.startsWith(`40${prefix}`)) throw new Error(`instead of CONNECT: ${connected}`);
    const auth = await this.next();
    if (!auth.startsWith(`42${prefix}["auth"`)) throw new Error(`instead of auth: ${auth}`);
    return this.eio === 4 ? JSON.parse(connected.slice(2 + prefix.length)).sid : this.sid;
  }

  /** True while the server knows the session. */
  async isAlive() {
    return (await this.post(this.eio === 3 ? joinV3('6') : '6')).status === 200;
  }

  /** Upgrades to a WebSocket in the orderly way and returns it. */
  async upgrade() {
    const socket = await Socket.open(this.webSocketUrl);
    socket.eio = this.eio;
    socket.send('2probe');
    const answer = await socket.next();
    if (answer !== '3probe') throw new Error(`instead of 3probe: ${answer}`);
    socket.send('5');
    return socket;
  }
}

/** A plain WebSocket whose frames are kept: strings and Buffers. */
export class Socket {
  frames = new Inbox();

  constructor(url, options) {
    this.ws = new WebSocket(url, { perMessageDeflate: false, ...options });
    this.ws.binaryType = 'nodebuffer';
    this.ws.on('message', (data, binary) => this.frames.put(binary ? data : data.toString()));
    this.closed = new Promise((resolve) => {
      this.ws.on('close', (code) => {
        this.frames.end(`the websocket closed with ${code}`);
        resolve(code);
      });
    });
    this.opened = new Promise((resolve, reject) => {
      this.ws.on('open', () => resolve(this));
      this.ws.on('error', reject);
      this.ws.on('unexpected-response', (req, res) => {
        let body = '';
        res.on('data', (chunk) => (body += chunk));
        res.on('end', () => {
          reject(Object.assign(new Error('refused'), { status: res.statusCode, body }));
        });
      });
    });
    this.opened.catch(() => {});
  }

  static open(url, options) {
    const socket = new Socket(url, options);
    return within(socket.opened, 'the websocket to open');
  }

  /** The HTTP answer that refuses the upgrade; fails when the server accepts it. */
  static async refusal(url, options) {
    const socket = new Socket(url, options);
    try {
      await within(socket.opened, 'the refusal of the websocket');
    } catch (error) {
      if (error.status) return error;
      throw error;
    }
    socket.ws.terminate();
    throw new Error('the server switched protocols instead of refusing');
  }

  /** Opens a session without polling first and takes its handshake. */
  static async session(server, { path = '/socket.io/', eio = 4, extra = '', options } = {}) {
    const url = `${server.replace(/^http/, 'ws')}${path}?EIO=${eio}&transport=websocket${extra}`;
    const socket = await Socket.open(url, options);
    socket.eio = eio;
    const first = await socket.frames.next('the handshake');
    if (typeof first !== 'string' || first[0] !== '0') throw new Error(`no handshake: ${first}`);
    socket.handshake = JSON.parse(first.slice(1));
    return socket;
  }

  send(frame) {
    this.ws.send(frame);
  }

  /** The next frame that is no heartbeat (pings of EIO4 are answered). */
  async next() {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const frame = await this.frames.next('a frame');
      if (frame !== '2' || this.eio !== 4) return frame;
      if (performance.now() > deadline) throw new Error('nothing but heartbeats');
      this.ws.send('3');
    }
  }

  /** Joins a namespace (EIO4), or takes the unasked `40` of EIO3. Swallows the `auth` event. */
  async join(namespace = '/', auth = '') {
    const prefix = namespace === '/' ? '' : `${namespace},`;
    if (this.eio === 4 || namespace !== '/') this.send(`40${prefix}${auth}`);
    const connected = await this.next();
    if (!connected.startsWith(`40${prefix}`)) throw new Error(`instead of CONNECT: ${connected}`);
    const event = await this.next();
    if (!event.startsWith(`42${prefix}["auth"`)) throw new Error(`instead of auth: ${event}`);
    return this.eio === 4 ? JSON.parse(connected.slice(2 + prefix.length)).sid : undefined;
  }

  /** The close code, once the server has closed. */
  end() {
    return within(this.closed, 'the server to close the websocket');
  }

  /** Asks for the acknowledgement of an event in `/` and waits for it: the session works. */
  async echoes(text = 'still here') {
    this.send(`4277["message-with-ack",${JSON.stringify(text)}]`);
    for (;;) {
      const frame = await this.next();
      if (frame === `4377[${JSON.stringify(text)}]`) return;
    }
  }

  terminate() {
    this.ws.terminate();
  }
}

/** Closes what a test has opened. */
export function closing(t) {
  const open = [];
  t.after(() => open.forEach((each) => each.terminate()));
  return (socket) => {
    open.push(socket);
    return socket;
  };
}
