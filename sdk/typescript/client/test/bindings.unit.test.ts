import { type DestroyRef, Injector, runInInjectionContext } from '@angular/core';
import { get } from 'svelte/store';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { effectScope, nextTick, ref } from 'vue';
import { toNgSignal } from '../src/angular.js';
import { createClient } from '../src/client.js';
import { writable, type Writable } from '../src/readable.js';
import { channelStore } from '../src/svelte.js';
import type { Client } from '../src/types.js';
import { toRef, useChannel } from '../src/vue.js';
import { FakeServer, settle } from './fake-server.js';

let server: FakeServer;
let client: Client;
let value: Writable<number>;

const event = (data: number, channel = 'run:1'): object => ({ type: 'event', channel, event: 'note', data, timestamp: 1 });

/** The channels that are subscribed now, as the server has been told. */
const subscribed = (): unknown[] => {
  const now = new Set<unknown>();
  for (const { type, channels } of server.sent) {
    if (!Array.isArray(channels)) continue;
    for (const channel of channels) type === 'subscribe' ? now.add(channel.channel) : now.delete(channel);
  }
  return [...now];
};

beforeEach(async () => {
  server = new FakeServer();
  client = createClient({ url: 'ws://localhost/ws', WebSocket: server.WebSocket });
  client.connect();
  await settle();
  value = writable(1);
});

afterEach(() => client.disconnect());

describe('vue', () => {
  it('toRef follows a value until its scope ends', () => {
    const scope = effectScope();
    const followed = scope.run(() => toRef(value));
    expect(followed?.value).toBe(1);
    value.set(2);
    expect(followed?.value).toBe(2);
    scope.stop();
    value.set(3);
    expect(followed?.value).toBe(2);
  });

  it('useChannel follows the name of the channel and leaves with its scope', async () => {
    const heard: unknown[] = [];
    const name = ref('run:1');
    const scope = effectScope();
    scope.run(() => useChannel(client, name, ({ channel, data }) => heard.push([channel, data])));
    await nextTick();
    await settle();
    expect(subscribed()).toEqual(['run:1']);
    server.say(event(1));
    name.value = 'run:2';
    await nextTick();
    await settle();
    expect(subscribed()).toEqual(['run:2']);
    server.say(event(2));
    server.say(event(3, 'run:2'));
    scope.stop();
    await settle();
    expect(subscribed()).toEqual([]);
    expect(heard).toEqual([['run:1', 1], ['run:2', 3]]);
  });
});

describe('svelte', () => {
  it('takes every value as a store', () => {
    expect(get(value)).toBe(1);
    expect(get(client.status)).toBe('connected');
  });

  it('channelStore has the newest events and is subscribed while somebody watches', async () => {
    const store = channelStore(client, 'run:1', { keep: 2, tags: { env: 'prod' } });
    await settle();
    expect(subscribed()).toEqual([]);
    let seen: unknown[] = [];
    const watch = (): (() => void) => store.subscribe((events) => (seen = events.map(({ data }) => data)));
    const first = watch();
    const second = watch();
    await settle();
    expect(server.wishes()).toMatchObject([{ channel: 'run:1', tags: { env: 'prod' } }]);
    for (const data of [1, 2, 3]) server.say(event(data));
    expect(seen).toEqual([2, 3]);
    expect(get(store)).toBe(store());
    first();
    first();
    await settle();
    expect(subscribed()).toEqual(['run:1']);
    second();
    await settle();
    expect(subscribed()).toEqual([]);
    watch();
    expect(seen).toEqual([]);
  });
});

describe('angular', () => {
  it('toNgSignal follows a value until it is destroyed', () => {
    const injector = Injector.create({ providers: [] });
    const signal = runInInjectionContext(injector, () => toNgSignal(value));
    expect(signal()).toBe(1);
    value.set(2);
    expect(signal()).toBe(2);
    injector.destroy();
    value.set(3);
    expect(signal()).toBe(2);
  });

  it('toNgSignal takes a DestroyRef where nothing can be injected', () => {
    const ends: (() => void)[] = [];
    const destroyRef: DestroyRef = { destroyed: false, onDestroy: (end) => (ends.push(end), () => undefined) };
    const signal = toNgSignal(value, destroyRef);
    value.set(5);
    for (const end of ends) end();
    value.set(6);
    expect(signal()).toBe(5);
    expect(() => toNgSignal(value)).toThrow('NG0203');
  });
});
