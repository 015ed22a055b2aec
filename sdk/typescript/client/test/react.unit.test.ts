import { act, createElement, type ReactNode, StrictMode } from 'react';
import type { Root } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createClient } from '../src/client.js';
import { useChannel, useConnectionHealth, usePresence, useReadable, useStatus } from '../src/react.js';
import { writable } from '../src/readable.js';
import type { Client } from '../src/types.js';
import { FakeServer, settle } from './fake-server.js';

let server: FakeServer;
let client: Client;
let root: Root;

/**
 * As much of a document as React needs for components that render nothing: what is tested here are hooks, and what they return
 * is read in the components.
 */
function fakeDocument(): { container: Element; window: object } {
  const listen = { addEventListener: () => undefined, removeEventListener: () => undefined };
  const document = { ...listen, nodeType: 9, nodeName: '#document', activeElement: null };
  const container = {
    ...listen, nodeType: 1, nodeName: 'DIV', tagName: 'DIV', namespaceURI: 'http://www.w3.org/1999/xhtml', ownerDocument: document,
  };
  Object.assign(document, { documentElement: container });
  return { container: container as unknown as Element, window: { ...listen, document, HTMLIFrameElement: class {} } };
}

/** The same component in every rendering, whatever its body is then. */
let body: () => void;
const Component = (): ReactNode => (body(), null);

/** Renders in StrictMode, where every effect runs twice. */
async function render(next: () => void): Promise<void> {
  body = next;
  await during(() => root.render(createElement(StrictMode, null, createElement(Component))));
  await settle();
}

async function during(happens: () => void): Promise<void> {
  await act(async () => happens());
}

beforeEach(async () => {
  server = new FakeServer();
  client = createClient({ url: 'ws://localhost/ws', WebSocket: server.WebSocket });
  client.connect();
  await settle();
  const { container, window } = fakeDocument();
  vi.stubGlobal('window', window);
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  const { createRoot } = await import('react-dom/client');
  root = createRoot(container);
});

afterEach(async () => {
  await during(() => root.unmount());
  client.disconnect();
  vi.unstubAllGlobals();
});

describe('react', () => {
  it('renders values, again with every new one, and on a server', async () => {
    const value = writable(1);
    const rendered: number[] = [];
    const component = (): void => void rendered.push(useReadable(value));
    await render(component);
    const renders = rendered.length;
    await during(() => value.set(2));
    await during(() => value.set(2));
    expect(new Set(rendered)).toEqual(new Set([1, 2]));
    expect(rendered.length).toBe(renders + 2);
    expect(renderToString(createElement(() => useReadable(value)))).toBe('2');
  });

  it('renders the status and the health of a client', async () => {
    const rendered: unknown[] = [];
    await render(() => void rendered.push([useStatus(client), useConnectionHealth(client).status]));
    expect(rendered.at(-1)).toEqual(['connected', 'connected']);
    await during(() => server.cut());
    expect(rendered.at(-1)).toEqual(['reconnecting', 'reconnecting']);
  });

  it('stays subscribed to a channel whatever is rendered, and calls the newest handler', async () => {
    const heard: unknown[] = [];
    const component = (name: string) => () => useChannel(client, 'run:1', ({ data }) => heard.push([name, data]), { tags: { a: 'b' } });
    const event = (data: number): object => ({ type: 'event', channel: 'run:1', event: 'note', data, timestamp: 1 });
    await render(component('first'));
    server.say(event(1));
    await render(component('second'));
    server.say(event(2));
    expect(heard).toEqual([['first', 1], ['second', 2]]);
    expect(server.wishes()).toMatchObject([{ channel: 'run:1', tags: { a: 'b' } }]);
    await during(() => root.render(null));
    await settle();
    expect(server.all('unsubscribe')).toMatchObject([{ channels: ['run:1'] }]);
  });

  it('subscribes to another channel when its name changes', async () => {
    const component = (name: string) => () => useChannel(client, name, () => undefined);
    await render(component('run:1'));
    await render(component('run:2'));
    expect(server.wishes()).toMatchObject([{ channel: 'run:1' }, { channel: 'run:2' }]);
    expect(server.all('unsubscribe')).toMatchObject([{ channels: ['run:1'] }]);
  });

  it('takes part in a channel', async () => {
    const rendered: ReturnType<typeof usePresence>[] = [];
    await render(() => void rendered.push(usePresence(client, 'run:1')));
    expect(server.wishes()).toMatchObject([{ channel: 'run:1', presence: true }]);
    await during(() => server.say({
      type: 'presence', channel: 'run:1', node: 'a', version: 1, members: [{ user: 'ada', sessions: 1, since: 1 }],
    }));
    const presence = rendered.at(-1);
    expect(presence?.members.map(({ user }) => user)).toEqual(['ada']);
    presence?.update({ line: 7 });
    await vi.waitUntil(() => server.all('presence').length === 1);
    expect(server.all('presence')).toMatchObject([{ cursor: { line: 7 } }]);
    await during(() => root.render(null));
    await settle();
    expect(server.all('unsubscribe')).toMatchObject([{ channels: ['run:1'] }]);
  });

  it('only looks when it is told to watch', async () => {
    await render(() => void usePresence(client, 'run:1', 'watch'));
    expect(server.wishes()).toMatchObject([{ channel: 'run:1', presence: 'watch' }]);
  });
});
