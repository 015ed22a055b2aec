/** What the pages of the browser tests know: the element, and a client that does what the test says. */
import { writable } from '../../client/src/readable.js';
import { type HealthInput, LABELS } from '../src/index.js';

/** A client that counts who watches it. */
function fakeClient(initial: HealthInput) {
  let watchers = 0;
  const counted = <T>(value: T) => {
    const inner = writable(value);
    return Object.assign(() => inner(), {
      set: inner.set,
      subscribe: (run: (value: T) => void) => {
        watchers++;
        const end = inner.subscribe(run);
        let ended = false;
        return () => {
          if (!ended) watchers--;
          ended = true;
          end();
        };
      },
    });
  };
  const listeners = new Map<string, Set<() => void>>();
  return {
    connectionHealth: counted<HealthInput>(initial),
    queuedMessageCount: counted(0),
    usingFallback: counted(false),
    reconnects: 0,
    reconnect() {
      this.reconnects++;
    },
    on(event: string, listener: () => void) {
      watchers++;
      const set = listeners.get(event) ?? new Set();
      listeners.set(event, set.add(listener));
      return () => {
        if (set.delete(listener)) watchers--;
      };
    },
    emit(event: string) {
      for (const listener of listeners.get(event) ?? []) listener();
    },
    watchers: () => watchers,
  };
}

/** Timers that were started and neither ran nor were cleared. */
const pending = new Set<unknown>();
const { setTimeout: start, clearTimeout: stop } = globalThis;
Object.assign(globalThis, {
  setTimeout: (run: () => void, wait?: number) => {
    const id = start(() => {
      pending.delete(id);
      run();
    }, wait);
    pending.add(id);
    return id;
  },
  clearTimeout: (id: ReturnType<typeof start>) => {
    pending.delete(id);
    stop(id);
  },
});

const fixture = { fakeClient, LABELS, pendingTimers: () => pending.size };
Object.assign(globalThis, { fixture });

declare global {
  var fixture: {
    readonly fakeClient: typeof fakeClient;
    readonly LABELS: typeof import('../src/index.js').LABELS;
    pendingTimers(): number;
  };
}
