import type { ClientOptions, QueueStorage } from './types.js';

/** Keeps a queue in a Web Storage under a key. */
export function webStorage(storage: Storage, key: string): QueueStorage {
  return {
    load: () => storage.getItem(key),
    save: (text) => (text === '[]' ? storage.removeItem(key) : storage.setItem(key, text)),
  };
}

/** sessionStorage, where there is one: it belongs to one tab and survives a reload. */
export function defaultStorage(url: ClientOptions['url']): QueueStorage | null {
  try {
    return typeof sessionStorage === 'undefined' ? null : webStorage(sessionStorage, `pulsewire:${String(url)}`);
  } catch {
    // A page may be forbidden to store anything.
    return null;
  }
}
