// What the browser test needs around the page: the server process, Chromium, and people in tabs.
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import path from 'node:path';

// Packages live outside the source tree, where run.sh installed them.
const modules = createRequire(path.join(process.env.BROWSER_MODULES, 'package.json'));
const { chromium } = modules('playwright-core');
export const { io } = modules('socket.io-client');

export const url = `http://127.0.0.1:${process.env.PORT}`;
export const clientDir = path.join(path.dirname(modules.resolve('socket.io-client/package.json')), 'dist');
const shots = process.env.SCREENSHOTS;

const CHROMIUM_FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/** The node under test as a child process, which a test may stop and start again. */
export class Server {
  #child = null;

  async start() {
    const [command, ...before] = process.env.CHAT_SERVER.split(' ');
    const args = [...before, '--listen', `127.0.0.1:${process.env.PORT}`, '--client-dir', clientDir];
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    this.#child = child;
    // Also when the test run is broken off: no server outlives it.
    process.once('exit', () => child.kill('SIGKILL'));
    const failed = new Promise((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`the server ended: ${code ?? signal}`)));
    });
    failed.catch(() => {});
    await Promise.race([failed, until('the server is healthy', async () => (await fetch(`${url}/healthz`)).ok)]);
  }

  async stop() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => { child.once('exit', resolve); });
    process.kill(child.pid, 'SIGTERM');
    const slow = setTimeout(() => process.kill(child.pid, 'SIGKILL'), 10_000);
    await gone;
    clearTimeout(slow);
  }
}

/** Waits until `check` gives a true value; an error counts as not yet. */
export async function until(what, check, limitMs = 15_000) {
  const deadline = Date.now() + limitMs;
  let last;
  while (Date.now() < deadline) {
    try {
      const value = await check();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`waited ${limitMs} ms in vain until ${what}`, { cause: last });
}

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: CHROMIUM_FLAGS,
  });
}

/** One tab with one person in it; every lookup goes by role and label, as a screen reader's does. */
export class Person {
  constructor(page) {
    this.page = page;
    this.faults = [];
    page.on('pageerror', (error) => this.faults.push(String(error)));
  }

  static async open(context, room = 'lobby') {
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    const person = new Person(page);
    await page.goto(`${url}/#${encodeURIComponent(room)}`);
    return person;
  }

  static async join(context, name, room) {
    const person = await Person.open(context, room);
    await person.introduce(name);
    return person;
  }

  async introduce(name) {
    await this.page.getByLabel('Your name').fill(name);
    await this.page.getByRole('button', { name: 'Join the chat' }).click();
    await this.sees(() => this.people(), (people) => people.includes(name), `${name} in the people list`);
  }

  async say(text) {
    await this.page.getByLabel('Message', { exact: true }).fill(text);
    await this.page.keyboard.press('Enter');
  }

  async enter(room) {
    await this.page.getByLabel('New room').fill(room);
    await this.page.keyboard.press('Enter');
    await this.page.getByRole('heading', { level: 1, name: `# ${room}` }).waitFor();
    await this.sees(() => this.people(), (people) => people.length > 0, `people in ${room}`);
  }

  /** The texts of the messages in the log, oldest first. */
  messages() { return this.page.locator('#log .text').allTextContents(); }

  notices() { return this.page.locator('#log .notice').allTextContents(); }

  people() { return this.page.locator('#people bdi').allTextContents(); }

  rooms() {
    return this.page.locator('#rooms button').evaluateAll((buttons) => buttons.map((button) => (
      `${button.querySelector('bdi').textContent} ${button.querySelector('.count').textContent}`)));
  }

  state() { return this.page.locator('#state').textContent(); }

  sees(read, test, what) { return until(what, async () => { const value = await read(); return test(value) && value; }); }

  seesMessage(text) { return this.sees(() => this.messages(), (all) => all.includes(text), `the message ${text}`); }

  seesNotice(part) {
    return this.sees(() => this.notices(), (all) => all.some((notice) => notice.includes(part)), `the notice ${part}`);
  }

  shoot(name) {
    mkdirSync(shots, { recursive: true });
    return this.page.screenshot({ path: path.join(shots, `${name}.png`), animations: 'disabled' });
  }
}
