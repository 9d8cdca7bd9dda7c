// The chat page as people use it: several tabs of one browser, each of them somebody else.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Person, Server, clientDir, io, launch, until, url } from './support.mjs';

const server = new Server();
let browser;
let context;

before(async () => {
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server.stop();
});

beforeEach(async () => {
  context = await browser.newContext({ viewport: { width: 1180, height: 760 }, locale: 'en-GB' });
});

afterEach(async () => {
  await context.close();
});

const nobodyIn = (room) => until(`${room} is empty`, async () => {
  const visitor = io(url, { forceNew: true });
  try {
    const reply = await visitor.timeout(3000).emitWithAck('join room', { name: 'Visitor', room });
    return reply.people.length === 1;
  } finally {
    visitor.disconnect();
  }
});

/** A client of the classic tutorial: it knows one event, whose argument is a bare string. */
async function tutorialClient(options = {}) {
  const socket = io(url, { forceNew: true, ...options });
  const heard = [];
  socket.on('chat message', (message) => heard.push(message));
  await until('the tutorial client is connected', () => socket.connected);
  return { socket, heard };
}

describe('the chat page', { timeout: 120_000 }, () => {
  it('shows_a_message_in_both_tabs_with_name_and_time', async () => {
    const ada = await Person.join(context, 'Ada', 'both');
    const bob = await Person.join(context, 'Bob', 'both');
    await ada.say('Hello from the first tab');
    for (const person of [ada, bob]) {
      assert.deepEqual(await person.seesMessage('Hello from the first tab'), ['Hello from the first tab']);
      assert.equal(await person.page.locator('#log .who bdi').last().textContent(), 'Ada');
      assert.match(await person.page.locator('#log .message time').last().textContent(), /^\d\d:\d\d$/);
    }
    await bob.say('And one back,\nin two lines 🎉');
    for (const person of [ada, bob]) await person.seesMessage('And one back,\nin two lines 🎉');
    assert.deepEqual(await ada.messages(), await bob.messages());
    assert.deepEqual([...ada.faults, ...bob.faults], []);
  });

  it('tells_who_joined_and_who_left', async () => {
    const ada = await Person.join(context, 'Ada', 'notices');
    const bob = await Person.join(context, 'Bob', 'notices');
    await ada.seesNotice('Bob joined');
    await bob.enter('elsewhere');
    await ada.seesNotice('Bob left');
    const cleo = await Person.join(context, 'Cleo', 'notices');
    await ada.seesNotice('Cleo joined');
    await cleo.page.close();
    await ada.seesNotice('Cleo left');
  });

  it('keeps_rooms_apart', async () => {
    const ada = await Person.join(context, 'Ada', 'red');
    const bob = await Person.join(context, 'Bob', 'red');
    const cleo = await Person.join(context, 'Cleo', 'blue');
    await cleo.say('only for blue');
    await cleo.seesMessage('only for blue');
    await ada.say('only for red');
    await bob.seesMessage('only for red');
    await ada.page.getByRole('button', { name: /blue/ }).click();
    await cleo.seesNotice('Ada joined');
    await ada.say('now in blue');
    for (const person of [ada, cleo]) await person.seesMessage('now in blue');
    await bob.say('still in red');
    await bob.seesMessage('still in red');
    assert.deepEqual(await ada.messages(), ['now in blue']);
    assert.deepEqual(await bob.messages(), ['only for red', 'still in red']);
    assert.deepEqual(await cleo.messages(), ['only for blue', 'now in blue']);
  });

  it('lists_rooms_and_people', async () => {
    const ada = await Person.join(context, 'Ada', 'listed');
    const bob = await Person.join(context, 'Bob', 'listed');
    for (const person of [ada, bob]) {
      await person.sees(() => person.people(), (people) => people.join() === 'Ada,Bob', 'both people');
      await person.sees(() => person.rooms(), (rooms) => rooms.includes('listed 2'), 'two people counted');
    }
    await bob.enter('second');
    await ada.sees(() => ada.people(), (people) => people.join() === 'Ada', 'only Ada');
    await ada.sees(() => ada.rooms(), (rooms) => rooms.includes('listed 1') && rooms.includes('second 1'), 'one in each');
    assert.match((await ada.rooms())[0], /^lobby \d+$/);
    await bob.page.getByRole('button', { name: /Rename/ }).click();
    await bob.introduce('Robert');
    assert.deepEqual(await bob.people(), ['Robert']);
    await bob.page.close();
    await ada.sees(() => ada.rooms(), (rooms) => !rooms.some((room) => room.startsWith('second')), 'the empty room is gone');
  });

  it('shows_hostile_names_and_messages_as_text', async () => {
    const name = '<img src=x onerror=alert(1)>';
    const room = '"><svg onload=alert(3)>';
    const text = '<script>alert(2)</script><b onmouseover="alert(4)">bold</b> &amp; \u202Eesrever';
    const mallory = await Person.join(context, name, room);
    const ada = await Person.join(context, 'Ada', room);
    let dialogs = 0;
    for (const person of [ada, mallory]) person.page.on('dialog', (dialog) => { dialogs += 1; dialog.dismiss(); });
    await mallory.say(text);
    await ada.seesMessage(text);
    const { socket } = await tutorialClient();
    socket.emit('chat message', '<iframe src="javascript:alert(5)">');
    await ada.seesMessage('<iframe src="javascript:alert(5)">');
    socket.disconnect();
    await mallory.page.close();
    await ada.seesNotice(`${name} left`);
    assert.equal(await ada.page.locator('#app :is(img, script, iframe, b[onmouseover], svg[onload])').count(), 0);
    assert.equal(dialogs, 0);
    assert.deepEqual(ada.faults, []);
  });

  it('talks_with_clients_of_the_classic_tutorial', async () => {
    await nobodyIn('lobby');
    const ada = await Person.join(context, 'Ada');
    const cleo = await Person.join(context, 'Cleo', 'away');
    const first = await tutorialClient();
    const second = await tutorialClient({ transports: ['websocket'] });
    first.socket.emit('chat message', 'hello from a script');
    await ada.seesMessage('hello from a script');
    await cleo.seesMessage('hello from a script');
    await until('the scripts heard it too', () => first.heard.length === 1 && second.heard.length === 1);
    await ada.say('hello script');
    await cleo.say('not for scripts');
    await cleo.seesMessage('not for scripts');
    await until('the scripts hear the lobby', () => second.heard.length === 2);
    assert.deepEqual(second.heard, ['hello from a script', 'Ada: hello script']);
    first.socket.disconnect();
    second.socket.disconnect();
  });

  it('counts_unread_messages_in_the_title_of_a_hidden_tab', async () => {
    const ada = await Person.join(context, 'Ada', 'unread');
    const bob = await Person.join(context, 'Bob', 'unread');
    const hide = (hidden) => ada.page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { configurable: true, value });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await hide(true);
    await bob.say('one');
    await bob.say('two');
    await ada.seesMessage('two');
    assert.equal(await ada.page.title(), '(2) unread · sockhop chat');
    await hide(false);
    assert.equal(await ada.page.title(), 'unread · sockhop chat');
  });

  it('keeps_the_place_of_a_reader_who_scrolled_up', async () => {
    const ada = await Person.join(context, 'Ada', 'long');
    const bob = await Person.join(context, 'Bob', 'long');
    for (let i = 1; i <= 30; i += 1) await bob.say(`line ${i}`);
    await ada.seesMessage('line 30');
    const log = ada.page.locator('#log');
    await log.evaluate((node) => { node.scrollTop = 0; });
    await bob.say('news');
    await ada.page.getByRole('button', { name: '1 new message' }).click();
    const rest = await log.evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight);
    assert.ok(rest < 2, `${rest} pixels below the fold`);
  });

  it('upgrades_to_websocket_and_works_on_polling_alone', async () => {
    const ada = await Person.join(context, 'Ada', 'transports');
    await ada.sees(() => ada.state(), (state) => state === 'WebSocket', 'the transport name');
    const polling = await browser.newContext();
    await polling.addInitScript(() => { delete window.WebSocket; });
    const bob = await Person.join(polling, 'Bob', 'transports');
    assert.equal(await bob.state(), 'Polling');
    await bob.say('slow but here');
    await ada.seesMessage('slow but here');
    await ada.say('heard you');
    await bob.seesMessage('heard you');
    await polling.close();
  });

  it('reconnects_after_the_server_was_away', async () => {
    const ada = await Person.join(context, 'Ada', 'again');
    const bob = await Person.join(context, 'Bob', 'again');
    await ada.say('before');
    await bob.seesMessage('before');
    await server.stop();
    await ada.sees(() => ada.state(), (state) => state === 'Reconnecting…', 'the lost connection');
    await ada.say('typed while away');
    await ada.page.getByText('Your text is kept').waitFor();
    assert.deepEqual(await ada.messages(), ['before']);
    await server.start();
    for (const person of [ada, bob]) {
      await person.sees(() => person.people(), (people) => people.join() === 'Ada,Bob', 'both are back');
      await person.seesNotice('Connected again');
    }
    await ada.page.getByRole('button', { name: 'Send' }).click();
    for (const person of [ada, bob]) await person.seesMessage('typed while away');
    assert.deepEqual(await ada.messages(), ['before', 'typed while away']);
  });

  it('remembers_name_and_room_over_a_reload', async () => {
    const ada = await Person.join(context, 'Ada', 'reload');
    await ada.page.reload();
    await ada.sees(() => ada.people(), (people) => people.join() === 'Ada', 'Ada is back');
    assert.equal(await ada.page.getByRole('heading', { level: 1 }).textContent(), '# reload1 person here');
  });

  it('takes_the_client_from_its_cdn_when_the_server_has_none', async () => {
    let asked = 0;
    await context.route('**/socket.io/socket.io.js', (route) => route.fulfill({ status: 404, body: '' }));
    await context.route('https://cdn.socket.io/**', (route) => {
      asked += 1;
      return route.fulfill({
        contentType: 'application/javascript',
        headers: { 'access-control-allow-origin': '*' },
        body: readFileSync(path.join(clientDir, 'socket.io.min.js')),
      });
    });
    const ada = await Person.join(context, 'Ada', 'cdn');
    await ada.say('loaded from afar');
    await ada.seesMessage('loaded from afar');
    assert.equal(asked, 1);
  });

  it('says_so_when_no_client_can_be_loaded', async () => {
    await context.route('**/socket.io*.js', (route) => route.abort());
    const ada = await Person.open(context);
    await ada.page.getByText('could not be loaded').waitFor();
    await ada.shoot('welcome');
    assert.equal(await ada.state(), 'No client script');
  });

  it('can_be_used_with_the_keyboard_alone', async () => {
    const { page, ...ada } = await Person.open(context, 'keys');
    await page.getByLabel('Your name').waitFor();
    await page.keyboard.type('Ada');
    await page.keyboard.press('Enter');
    await page.getByRole('listitem').filter({ hasText: 'Ada' }).first().waitFor();
    await page.keyboard.type('no mouse');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('needed');
    await page.keyboard.press('Enter');
    await page.getByText('no mouse\nneeded').waitFor();
    await page.keyboard.press('Alt+ArrowUp');
    await page.getByRole('heading', { level: 1, name: '# lobby' }).waitFor();
    assert.deepEqual(ada.faults, []);
  });

  it('fits_a_phone', async () => {
    const phone = await browser.newContext({ viewport: { width: 390, height: 780 }, colorScheme: 'dark' });
    const ada = await Person.join(phone, 'Ada', 'phone');
    const wide = await ada.page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `the page is ${wide} pixels wide`);
    await ada.say('a word '.repeat(30) + 'x'.repeat(120));
    await ada.page.locator('#log .text').waitFor();
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), wide);
    await ada.shoot('phone');
    await ada.page.getByRole('button', { name: 'Rooms and people' }).click();
    await ada.shoot('phone-rooms');
    await ada.page.getByRole('button', { name: /lobby/ }).click();
    await ada.page.getByRole('heading', { level: 1, name: '# lobby' }).waitFor();
    assert.equal(await ada.page.getByRole('button', { name: /lobby/ }).count(), 0, 'the drawer closes');
    await phone.close();
  });

  it('looks_as_it_should_for_the_screenshot', async () => {
    await nobodyIn('lobby');
    const ada = await Person.join(context, 'Ada');
    const bob = await Person.join(context, 'Bob');
    const cleo = await Person.join(context, 'Cléo');
    const ravi = await Person.join(context, 'Ravi', 'records');
    await ada.say('Hello everyone');
    await bob.seesMessage('Hello everyone');
    await bob.say('Hi Ada! Which room is for the records?');
    await bob.say('I have brought a few.');
    await cleo.seesMessage('I have brought a few.');
    await cleo.say('#records, Ravi is already there. Long texts wrap, as they should:\n'
      + 'a sock hop was a dance in the school gymnasium, and shoes stayed outside so that the floor kept its varnish.');
    await ada.sees(() => ada.messages(), (all) => all.length === 4, 'four messages');
    await ada.say('On my way.');
    const { socket } = await tutorialClient();
    socket.emit('chat message', 'hello from a script');
    await ada.seesMessage('hello from a script');
    await bob.page.close();
    await ada.seesNotice('Bob left');
    await ada.page.bringToFront();
    await ada.shoot('chat');
    await ada.page.getByRole('button', { name: 'Switch between light and dark' }).click();
    await ada.shoot('chat-dark');
    assert.deepEqual([...ada.faults, ...cleo.faults, ...ravi.faults], []);
    socket.disconnect();
  });
});
