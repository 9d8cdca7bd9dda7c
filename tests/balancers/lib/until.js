// Waiting for conditions of programs, which are slower than those of clients.

import { setTimeout as pause } from 'node:timers/promises';

/** Slow machines run these tests too: what does not come within this time does not come. */
export const DEADLINE_MS = 30_000;

/** Waits until `check` gives a true value; an error counts as not yet. */
export async function until(what, check, limitMs = DEADLINE_MS) {
  const deadline = Date.now() + limitMs;
  let last = 'never true';
  while (Date.now() < deadline) {
    try {
      const value = await check();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    await pause(50);
  }
  throw new Error(`still waiting for ${what} after ${limitMs} ms: ${last}`);
}
