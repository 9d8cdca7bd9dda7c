// Clients of different generations and languages talking to each other through the server.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Fleet, jsonKinds, kindOf, plain, transportModes } from './lib/clients.js';
import { PythonPeer, interpreters } from './lib/python.js';
import { freshNamespace, servers } from './lib/servers.js';
import { DEADLINE_MS } from './lib/waiting.js';

const { main } = servers;

const MIXED = {
  text: 'é€😀 👩‍👩‍👧‍👦',
  binary: Buffer.from([0, 1, 254, 255]),
  inner: [{ again: Buffer.from('x') }, null, 1.5, true],
};

describe('JavaScript and Python', { concurrency: 3 }, () => {
  for (const name of Object.keys(interpreters)) {
    for (const [flavour, mode] of [
      ['sync', 'polling'],
      ['async', 'websocket'],
      ['sync', 'upgrading'],
    ]) {
      test(
        `${name} (${flavour}, ${mode}) talks with every JavaScript client`,
        { timeout: 10 * DEADLINE_MS },
        async (t) => {
          const fleet = new Fleet(t);
          const namespace = freshNamespace();
          const python = new PythonPeer(t, name, flavour, mode);
          await python.do('connect', main, namespace);
          const modes = Object.values(transportModes);
          const clients = await Promise.all(
            jsonKinds.map((kind, i) => fleet.open(kind, modes[i % modes.length], namespace)),
          );
          assert.deepEqual(await python.do('call', 'join', 'mixed'), ['ok']);
          for (const client of clients) await client.join('mixed');

          const [members] = await clients[0].call('members', 'mixed');
          const { id } = await python.do('whoami');
          assert.deepEqual(members.sort(), [id, ...clients.map((each) => each.id)].sort());

          assert.deepEqual(await python.do('call', 'room-emit', 'mixed', MIXED), ['ok']);
          assert.deepEqual(await python.do('next', 'room-msg'), ['mixed', MIXED]);
          for (const client of clients) {
            assert.deepEqual(plain(await client.next('room-msg')), ['mixed', MIXED]);
          }

          for (const [i, client] of clients.entries()) {
            await client.call('room-broadcast', 'mixed', i, MIXED);
            assert.deepEqual(await python.do('next', 'room-msg'), ['mixed', i, MIXED]);
            for (const other of clients.filter((each) => each !== client)) {
              assert.deepEqual(plain(await other.next('room-msg')), ['mixed', i, MIXED]);
            }
          }

          clients[0].emit('chat message', 'from JavaScript');
          assert.deepEqual(await python.do('next', 'chat message'), ['from JavaScript']);
          await python.do('emit', 'chat message', 'from Python 😀');
          assert.deepEqual(await python.do('next', 'chat message'), ['from Python 😀']);
          for (const client of clients) {
            // Order is kept for each emitter. These are two, whose fan-outs may overlap.
            const said = (await client.take('chat message', 2)).map(([text]) => text);
            assert.deepEqual(said.sort(), ['from JavaScript', 'from Python 😀']);
          }

          for (const client of clients) {
            await client.settle();
            for (const event of ['room-msg', 'chat message']) {
              assert.deepEqual(client.unclaimed(event), []);
            }
          }
          await python.do('settle');
          for (const event of ['room-msg', 'chat message']) {
            assert.deepEqual(await python.do('unclaimed', event), []);
          }
        },
      );
    }

    test(
      `${name} sees a JavaScript client leave, and is seen leaving`,
      { timeout: 10 * DEADLINE_MS },
      async (t) => {
        const namespace = freshNamespace();
        const python = new PythonPeer(t, name, 'sync', 'websocket');
        await python.do('connect', main, namespace);
        await python.do('call', 'join', 'watchers');
        const fleet = new Fleet(t);
        const leaving = await fleet.open(kindOf('2.5.0'), transportModes.websocket, namespace);
        const { id } = leaving;
        leaving.socket.disconnect();
        assert.deepEqual(await python.do('next', 'gone'), [
          { id, reason: 'client namespace disconnect' },
        ]);
        const watcher = await fleet.watcher(kindOf('4.8.4'), namespace);
        const { id: pythonId } = await python.do('whoami');
        await python.do('close');
        const [gone] = await watcher.next('gone');
        assert.equal(gone.id, pythonId);
      },
    );
  }
});

describe('generations of JavaScript clients', { concurrency: 3 }, () => {
  for (const sender of jsonKinds) {
    test(`${sender.name} is understood by every other version on every transport`, async (t) => {
      const fleet = new Fleet(t);
      const namespace = freshNamespace();
      const all = [];
      for (const kind of jsonKinds) {
        for (const mode of Object.values(transportModes)) {
          all.push(fleet.open(kind, mode, namespace));
        }
      }
      const receivers = await Promise.all(all);
      const from = await fleet.open(sender, transportModes.websocket, namespace);
      for (let i = 0; i < 5; i += 1) await from.call('broadcast', i, MIXED, 'tail');
      for (const receiver of receivers) {
        const heard = await receiver.take('broadcast', 5);
        heard.forEach((args, i) => assert.deepEqual(plain(args), [i, MIXED, 'tail']));
      }
      await from.settle();
      assert.deepEqual(from.unclaimed('broadcast'), []);
    });
  }
});
