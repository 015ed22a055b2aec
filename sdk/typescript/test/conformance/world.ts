import { type Presence, RealtimeError } from '@pulsewire/client';
import { Gateway, isObject, Network, until } from '../gateway.js';
import { type Handler, type Publish, Subject } from './subject.js';
import { type Reader, type Scenario } from './scenario.js';

/** A server, a network and clients, for one scenario. */
export class World implements AsyncDisposable {
  readonly gateway: Gateway;
  readonly network: Network;
  readonly publishes = new Map<string, Publish>();
  /** The newest sequence of each log channel, as far as somebody was told. */
  readonly heads = new Map<string, number>();
  readonly #subjects: ReadonlyMap<string, Subject>;

  private constructor(gateway: Gateway, network: Network, scenario: Scenario) {
    this.gateway = gateway;
    this.network = network;
    this.#subjects = new Map([...scenario.clients].map(([name, options]) => [name, new Subject(options, network.address)]));
  }

  static async for(scenario: Scenario): Promise<World> {
    const gateway = await Gateway.start(scenario.server);
    return new World(gateway, await Network.to(gateway), scenario);
  }

  /** The client that a step names; `a` if it names none. */
  subject(step: Reader): Subject {
    return found(this.#subjects.get(step.text('client', 'a')), `client of ${step.toString()}`);
  }

  handler(step: Reader): Handler {
    const name = step.text('of');
    return found(this.subject(step).handlers.get(name), `handler ${name}`);
  }

  room(step: Reader): Presence {
    const name = step.text('channel');
    return found(this.subject(step).rooms.get(name), `room ${name}`);
  }

  published(name: string): Publish {
    return found(this.publishes.get(name), `publish ${name}`);
  }

  /** Somebody was told that a channel has come so far. */
  reached(channel: string, sequence: number): void {
    this.heads.set(channel, Math.max(this.heads.get(channel) ?? 0, sequence));
  }

  /** What holds at the end of every scenario: nothing lost, nothing twice, every publish settled. */
  async judge(): Promise<void> {
    for (const [name, publish] of this.publishes) await until(`${name} is settled`, () => publish.outcome !== null);
    for (const subject of this.#subjects.values()) {
      const serving = ['connected', 'polling'].includes(subject.client.status());
      for (const [name, handler] of subject.handlers) {
        if (handler.whole && handler.channel.state() === 'subscribed' && serving && this.gateway.running) {
          const head = this.heads.get(handler.channel.name) ?? 0;
          await until(`${name} has all up to ${head}`, () => handler.channel.sequence >= head);
        }
        check(name, handler, subject);
      }
      for (const { code, message } of subject.errors) {
        if (['listener', 'protocol', 'storage'].includes(code)) throw new Error(`an error nobody expects: ${message}`);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client } of this.#subjects.values()) client.disconnect();
    await this.network[Symbol.asyncDispose]();
    await this.gateway[Symbol.asyncDispose]();
  }
}

/** Sequences of one history rise; those that are missing were announced. */
function check(name: string, { channel, events, whole, breaks }: Handler, { gaps }: Subject): void {
  let last: number | undefined;
  events.forEach(({ sequenceNumber }, at) => {
    if (breaks.includes(at)) last = undefined;
    if (sequenceNumber === undefined) return;
    if (last !== undefined && sequenceNumber <= last) throw new Error(`${name} got ${sequenceNumber} after ${last}`);
    for (let missing = (last ?? sequenceNumber) + 1; whole && missing < sequenceNumber; missing++) {
      const told = gaps.some((gap) => gap.channel === channel.name && gap.from <= missing && missing <= gap.to);
      if (!told) throw new Error(`${name} never got ${missing}`);
    }
    last = sequenceNumber;
  });
}

/** What a promise came to. */
export function settle(publish: Publish, promise: Promise<{ id: string; sequenceNumber: number | null; duplicate: boolean }>, world: World): void {
  promise.then((ack) => {
    if (publish.outcome) throw new Error(`${publish.id} was settled twice`);
    publish.outcome = ack;
    if (ack.sequenceNumber !== null) world.reached(publish.channel, ack.sequenceNumber);
  }, (error: unknown) => {
    publish.outcome = error instanceof RealtimeError ? error : new RealtimeError('protocol', String(error));
  });
}

/** The sequence in an answer of the server. */
export function sequenceOf(answer: unknown): number | null {
  const sequence = isObject(answer) ? answer['sequence'] : null;
  return typeof sequence === 'number' ? sequence : null;
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`there is no ${what}`);
  return value;
}
