import type { QueueStorage } from './types.js';

/**
 * Keeps a queue in sessionStorage, which belongs to one tab and survives a reload. Where a page may not store anything, or there is no such
 * thing, the queue is in memory and the client says so with `error`.
 */
export function sessionQueue(key = 'pulsewire-queue'): QueueStorage {
  return {
    load: () => sessionStorage.getItem(key),
    save: (text) => (text === '[]' ? sessionStorage.removeItem(key) : sessionStorage.setItem(key, text)),
  };
}

/**
 * Keeps a queue in IndexedDB: it survives closing the tab. One tab at a time drains it, which a Web Lock of the same name holds; others
 * begin with an empty queue in memory, and what they queue is gone with them.
 */
export function indexedDbQueue(name = 'pulsewire-queue'): QueueStorage {
  let owned = false;
  const open = new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore('queue');
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const run = async <T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const store = (await open).transaction('queue', mode).objectStore('queue');
    return new Promise((resolve, reject) => {
      const request = act(store);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  };
  return {
    async load() {
      owned = await new Promise<boolean>((resolve) => {
        void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
          resolve(lock !== null);
          // Held until the page is gone.
          return lock && new Promise(() => undefined);
        });
      });
      return owned ? ((await run<unknown>('readonly', (store) => store.get('messages'))) as string | undefined) ?? null : null;
    },
    async save(text) {
      if (owned) await run('readwrite', (store) => store.put(text, 'messages'));
    },
  };
}
