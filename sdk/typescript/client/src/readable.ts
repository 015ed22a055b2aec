/** Ends a subscription. Calling it again does nothing. */
export type Unsubscribe = () => void;

/**
 * A value that can be read by calling it, and watched: `health()` reads, `health.subscribe(run)` watches. It is a Svelte
 * store, an external store for React, and a few lines away from a signal of Vue or Angular.
 */
export interface Readable<T> {
  (): T;
  /** Runs at once with the value as it is, then with every new one. */
  subscribe(run: (value: T) => void): Unsubscribe;
}

/** A {@link Readable} whose owner can change it. Setting the same value again (`Object.is`) tells nobody. */
export interface Writable<T> extends Readable<T> {
  set(value: T): void;
}

/** Makes a value that can be read, watched and set. */
export function writable<T>(initial: T): Writable<T> {
  let value = initial;
  const watchers = new Set<{ run: (value: T) => void }>();
  return Object.assign(() => value, {
    subscribe(run: (value: T) => void): Unsubscribe {
      const watcher = { run };
      watchers.add(watcher);
      run(value);
      return () => void watchers.delete(watcher);
    },
    set(next: T): void {
      if (Object.is(value, next)) return;
      value = next;
      for (const watcher of [...watchers]) watcher.run(next);
    },
  });
}

/** A value made from another one; made once for each new value of that. */
export function derived<T, U>(source: Readable<T>, make: (value: T) => U): Readable<U> {
  let known: { readonly from: T; readonly to: U } | undefined;
  const read = (): U => {
    const from = source();
    if (!known || !Object.is(known.from, from)) known = { from, to: make(from) };
    return known.to;
  };
  return Object.assign(read, { subscribe: (run: (value: U) => void) => source.subscribe(() => run(read())) });
}
