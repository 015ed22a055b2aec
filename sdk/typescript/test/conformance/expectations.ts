import { isObject, until } from '../gateway.js';
import { isFlag, isNumber, isText, isTexts, matches, type Reader, sequences } from './scenario.js';
import type { Subject } from './subject.js';
import type { World } from './world.js';

/** Whether it holds now, and what there is instead. */
interface Expectation {
  holds(): boolean | Promise<boolean>;
  found(): unknown;
}

type Expect = (world: World, step: Reader) => Expectation;

const equal = (found: () => unknown, expected: unknown): Expectation => ({
  found, holds: () => JSON.stringify(found()) === JSON.stringify(expected),
});
const some = (found: () => readonly unknown[], expected: unknown): Expectation => ({
  found, holds: () => found().some((item) => matches(item, expected)),
});

/** What a step can wait for, by the word after `expect`. */
export const EXPECTATIONS: Readonly<Record<string, Expect>> = {
  status: (world, step) => equal(world.subject(step).client.status, step.text('is')),
  /** Which statuses there were: some of them in this order, and none of others. */
  statuses: (world, step) => {
    const { statuses } = world.subject(step);
    const among = step.texts('among');
    const never = step.texts('never');
    return {
      found: () => statuses,
      holds: () => {
        let at = 0;
        for (const status of statuses) if (status === among[at]) at++;
        return at === among.length && !statuses.some((status) => never.includes(status));
      },
    };
  },
  /** A listener has had exactly these, in this order, each once. */
  events: (world, step) => {
    const { events } = world.handler(step);
    const wanted = step.has('sequences') ? sequences(step.any('sequences')) : null;
    const count = step.maybe('count', isNumber);
    const all = step.maybe('all', isObject);
    return {
      found: () => events.map(({ sequenceNumber, type }) => sequenceNumber ?? type),
      holds: () => (wanted === null || matches(events.map(({ sequenceNumber }) => sequenceNumber), wanted))
        && (count === undefined || events.length === count)
        && (all === undefined || events.every((event) => matches(event, all))),
    };
  },
  event: (world, step) => {
    const { events } = world.handler(step);
    return some(() => events, step.any('has'));
  },
  message: (world, step) => {
    const { messages } = world.handler(step);
    return some(() => messages, step.any('has'));
  },
  subscription: (world, step) => {
    const channel = step.text('channel');
    return equal(world.subject(step).client.channel(channel).state, step.text('is'));
  },
  ack: (world, step) => {
    const names = step.any('of');
    const publishes = (isTexts(names) ? names : [String(names)]).flatMap(each).map((name) => world.published(name));
    const duplicate = step.maybe('duplicate', isFlag);
    const wanted = step.has('sequences') ? sequences(step.any('sequences')) : null;
    return {
      found: () => publishes.map(({ outcome }) => outcome),
      holds: () => publishes.every(({ outcome }, at) => outcome !== null && !(outcome instanceof Error)
        && (duplicate === undefined || outcome.duplicate === duplicate)
        && (wanted === null || outcome.sequenceNumber === wanted[at])),
    };
  },
  refused: (world, step) => {
    const publishes = each(step.text('of')).map((name) => world.published(name));
    const code = step.text('code');
    return {
      found: () => publishes.map(({ outcome }) => outcome),
      holds: () => publishes.every(({ outcome }) => outcome instanceof Error && outcome.code === code),
    };
  },
  undeliverable: (world, step) => count(world, step, (subject) => subject.undeliverable.length),
  overflow: (world, step) => count(world, step, (subject) => subject.overflowed),
  queued: (world, step) => equal(world.subject(step).client.queuedMessageCount, step.number('is')),
  gap: (world, step) => {
    const { gaps } = world.subject(step);
    return some(() => gaps, step.rest());
  },
  gaps: (world, step) => count(world, step, (subject) => subject.gaps.length),
  error: (world, step) => {
    const { errors } = world.subject(step);
    return some(() => errors, { code: step.text('code') });
  },
  ended: (world, step) => {
    const { failures } = world.subject(step);
    return some(() => failures, { code: step.text('code') });
  },
  health: (world, step) => {
    const { client } = world.subject(step);
    return some(() => [client.connectionHealth()], step.any('has'));
  },
  /** How many sessions it had: one that is resumed is still the same. */
  sessions: (world, step) => count(world, step, (subject) => subject.sessions.length),
  /** No attempt to connect is under way. */
  waiting: (world, step) => {
    const { connectionHealth } = world.subject(step).client;
    return { found: connectionHealth, holds: () => connectionHealth().nextRetryAt !== null || connectionHealth().transport === 'websocket' };
  },
  lost: (world, step) => count(world, step, (subject) => subject.lost),
  restored: (world, step) => count(world, step, (subject) => subject.restored),
  /** Why the application was asked for tokens, each time. */
  tokens: (world, step) => {
    const { asked } = world.subject(step);
    return equal(() => asked, step.texts('asked'));
  },
  members: (world, step) => {
    const room = world.room(step);
    return some(() => [room.members()], step.any('are'));
  },
  /** What the channel holds: so many events, or these ids in this order. */
  stored: (world, step) => {
    const channel = encodeURIComponent(step.text('channel'));
    const count = step.maybe('count', isNumber);
    const ids = step.has('ids') ? step.texts('ids').flatMap(each) : null;
    let events: unknown[] = [];
    return {
      found: () => events,
      holds: async () => {
        const page = await world.gateway.ask(`/api/channels/${channel}/events?limit=1000`);
        events = isObject(page) && Array.isArray(page['events']) ? page['events'] : [];
        return (count === undefined || events.length === count)
          && (ids === null || matches(events.map((event) => isObject(event) && event['id']), ids));
      },
    };
  },
  /** A figure of the server's metrics. */
  metric: (world, step) => {
    const series = step.text('series');
    return figure(step, () => world.gateway.metric(series));
  },
  /** A figure of the network's. */
  network: (world, step) => {
    const name = step.text('figure');
    return figure(step, async () => Number((await world.network.stats())[name]));
  },
};

function count(world: World, step: Reader, read: (subject: Subject) => number): Expectation {
  const subject = world.subject(step);
  return equal(() => read(subject), step.number('count'));
}

function figure(step: Reader, read: () => Promise<number>): Expectation {
  const is = step.maybe('is', isNumber);
  const least = step.number('at_least', -Infinity);
  let value = NaN;
  return { found: () => value, holds: async () => (value = await read()) >= least && (is === undefined || value === is) };
}

/** `p1-p3` is p1, p2, p3. */
function each(name: string): string[] {
  const [, stem, from, to] = /^(\D+)(\d+)-\1(\d+)$/.exec(name) ?? [];
  return isText(stem) ? sequences([`${from}-${to}`]).map((number) => stem + number) : [name];
}

/** Waits until it is so. */
export async function expectation(world: World, step: Reader): Promise<void> {
  const word = step.text('expect');
  const make = EXPECTATIONS[word];
  if (!make) throw new Error(`nobody knows how to expect ${word}`);
  const expected = make(world, step);
  step.done();
  await until(step.toString(), expected.holds).catch((cause: unknown) => {
    throw new Error(`${String(cause)}\nthere is: ${JSON.stringify(expected.found())}`);
  });
}
