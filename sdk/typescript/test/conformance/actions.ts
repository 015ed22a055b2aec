import type { ChannelOptions, Json } from '@pulsewire/client';
import { presence } from '@pulsewire/client/presence';
import { isObject } from '../gateway.js';
import { isFlag, isText, type Reader, sequences } from './scenario.js';
import { token } from './subject.js';
import { sequenceOf, settle, type World } from './world.js';

type Action = (world: World, step: Reader) => Promise<void> | void;

/** What a step can do, by the word after `do`. */
export const ACTIONS: Readonly<Record<string, Action>> = {
  connect: (world, step) => world.subject(step).client.connect(),
  disconnect: (world, step) => world.subject(step).client.disconnect(),
  reconnect: (world, step) => world.subject(step).client.reconnect(),
  set_token: (world, step) => {
    const given = step.any('token');
    world.subject(step).client.setToken(given === null ? null : token(given));
  },

  subscribe: async (world, step) => {
    const channel = step.text('channel');
    const name = step.text('as', channel);
    const type = step.maybe('type', isText) ?? null;
    const kind = step.maybe('messages', isFlag) ? 'messages' : 'events';
    const options = await placed(world, channel, step.maybe('options', isOptions));
    const cuts = new Set(sequences(step.any('reset_after') ?? []));
    world.subject(step).listen(name, { channel, options, kind, type }, (count) => {
      if (cuts.has(count)) void world.network.fault({ fault: 'reset' });
    });
  },
  unsubscribe: (world, step) => world.handler(step).leave(),

  publish: (world, step) => {
    const { client } = world.subject(step);
    const channel = step.text('channel');
    const count = step.number('count', 1);
    const name = step.text('as');
    const type = step.text('type', 'note');
    const id = step.maybe('id', isText);
    const options = step.maybe('options', isObject);
    const data = step.any('data');
    for (let number = 1; number <= count; number++) {
      const called = count > 1 ? name + number : name;
      const publish = { id: id ?? called, channel, outcome: null };
      world.publishes.set(called, publish);
      const value = (data ?? { number }) satisfies unknown as Json;
      settle(publish, client.publish(channel, type, value, { ...options, id: publish.id }), world);
    }
  },
  send: async (world, step) => {
    const sent = world.subject(step).client.channel(step.text('channel')).send(step.text('type', 'note'), { volatile: true });
    const expected = step.maybe('sent', isFlag) ?? true;
    if (sent !== expected) throw new Error(`it was ${sent ? '' : 'not '}sent`);
  },
  /** Somebody else publishes, past the network. */
  publish_elsewhere: async (world, step) => {
    const channel = step.text('channel');
    const count = step.number('count', 1);
    const type = step.text('type', 'note');
    const options = step.maybe('options', isObject);
    const bytes = step.number('bytes', 0);
    const data = step.any('data') ?? (bytes > 0 ? 'x'.repeat(bytes) : undefined);
    for (let number = 1; number <= count; number++) {
      const sequence = sequenceOf(await world.gateway.ask('/api/publish', { channel, type, data: data ?? { number }, ...options }));
      if (sequence !== null) world.reached(channel, sequence);
    }
  },
  samples_elsewhere: async (world, step) => {
    const samples = [{ name: step.text('name'), value: step.number('value') }];
    await world.gateway.ask('/api/metrics/samples', { channel: step.text('channel'), samples });
  },

  attend: (world, step) => {
    const { client, rooms } = world.subject(step);
    const channel = step.text('channel');
    rooms.set(channel, presence(client, channel, step.maybe('watch', isFlag) ? 'watch' : true));
  },
  cursor: (world, step) => world.room(step).update(step.any('cursor') as Json),
  leave: (world, step) => world.room(step).leave(),

  kill_server: (world) => world.gateway.kill(),
  stop_server: (world) => world.gateway.stop(),
  start_server: async (world) => {
    await world.gateway.start();
    await world.network.lead(world.gateway);
  },
  /** All that was stored is gone; while the server is down. */
  forget_data: async (world) => {
    await world.gateway.forget();
    world.heads.clear();
  },
  revoke: async (world, step) => {
    await world.gateway.ask('/api/admin/revocations', { user: step.text('user') });
  },
  /** An operator ends the connections of a user, with a code. */
  send_away: async (world, step) => {
    await world.gateway.ask('/api/admin/websocket/disconnect', { user: step.text('user'), code: step.number('code') });
  },
};

/** A position may be given as a sequence alone: of the history that the channel has now. */
async function placed(world: World, channel: string, options: ChannelOptions | undefined): Promise<ChannelOptions | undefined> {
  const sequence: unknown = options?.since;
  if (typeof sequence !== 'number') return options;
  const page = await world.gateway.ask(`/api/channels/${encodeURIComponent(channel)}/events?limit=1`);
  return { ...options, since: { epoch: String(isObject(page) && page['epoch']), sequence } };
}

function isOptions(value: unknown): value is ChannelOptions {
  return isObject(value);
}
