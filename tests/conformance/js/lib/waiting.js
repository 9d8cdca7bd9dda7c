// Waiting for conditions. Nothing here sleeps: a wait ends with its condition or fails at its
// deadline.

export const DEADLINE_MS = Number(process.env.CONFORMANCE_DEADLINE_MS ?? 10000);

/** The promise, or an error naming what was awaited once the deadline has passed. */
export function within(promise, what, ms = DEADLINE_MS) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`still waiting for ${what} after ${ms} ms`)), ms);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

/** Items in the order they came, each handed out once, whether it came before or after the wait. */
export class Inbox {
  #items = [];
  #waiters = [];
  #ended = null;

  put(item) {
    const index = this.#waiters.findIndex((waiter) => waiter.matches(item));
    if (index < 0) this.#items.push(item);
    else this.#waiters.splice(index, 1)[0].resolve(item);
  }

  /** From now on a wait that finds nothing fails at once. */
  end(reason) {
    this.#ended = reason;
    for (const waiter of this.#waiters.splice(0)) {
      waiter.reject(new Error(`${waiter.what}: ${reason}`));
    }
  }

  /** The first item that matches; earlier ones that do not match stay for later waits. */
  next(what, matches = () => true, ms = DEADLINE_MS) {
    const index = this.#items.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]);
    if (this.#ended) return Promise.reject(new Error(`${what}: ${this.#ended}`));
    let entry;
    const promise = new Promise((resolve, reject) => {
      entry = { matches, resolve, reject, what };
      this.#waiters.push(entry);
    });
    return within(promise, what, ms).catch((error) => {
      this.#waiters = this.#waiters.filter((waiter) => waiter !== entry);
      throw new Error(`${error.message}; unclaimed: ${this.#describe()}`);
    });
  }

  async take(count, what, matches) {
    const items = [];
    while (items.length < count) {
      items.push(await this.next(`${what} (${items.length + 1} of ${count})`, matches));
    }
    return items;
  }

  /** What has come and nobody has asked for. */
  get unclaimed() {
    return [...this.#items];
  }

  #describe() {
    const text = JSON.stringify(this.#items) ?? '';
    return text.length > 400 ? `${text.slice(0, 400)}…` : text;
  }
}
