import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RealtimeError } from '../src/error.js';
import { createOutbox } from '../src/outbox.js';
import type { Ack, QueueOptions, Timeouts } from '../src/types.js';

/** An outbox whose clocks stand until they are moved, and what it told. */
function outboxAt(options: QueueOptions & Pick<Timeouts, 'ackMs'> = {}) {
  const told: string[] = [];
  const clock = { wall: 1_700_000_000_000, steady: 0 };
  const outbox = createOutbox(options, {
    wall: () => clock.wall,
    steady: () => clock.steady,
    failed: (message, error) => told.push(`failed ${message.id} ${error.code}`),
    overflowed: (count) => told.push(`overflow ${count}`),
    settled: () => undefined,
    changed: () => undefined,
  });
  const pass = (milliseconds: number): void => {
    clock.wall += milliseconds;
    clock.steady += milliseconds;
  };
  const settled: Record<string, string> = {};
  const publish = (id: string, channel = 'run:1'): void => {
    outbox.add(channel, 'note', id, { id }).then(
      (ack: Ack) => (settled[id] = `ack ${ack.sequenceNumber}${ack.duplicate ? ' duplicate' : ''}`),
      (error: RealtimeError) => (settled[id] = error.code),
    );
  };
  const sent = (): string[] => outbox.next().map(({ id }) => String(id));
  const ack = (id: string, sequence: number, duplicate = false): void => outbox.answer({ id, sequence, duplicate }, undefined);
  const later = (id: string, retryMs?: number): void =>
    outbox.answer({ id }, new RealtimeError('overloaded', 'later', true, { retryMs }));
  return { outbox, told, settled, publish, sent, ack, later, pass };
}

const flush = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the queue', () => {
  it('refuses what is beyond its number, tells so, and keeps the order of the rest (K1, reject)', async () => {
    const { told, settled, publish, sent } = outboxAt({ maxMessages: 3 });
    for (const id of ['a', 'b', 'c', 'd', 'e']) publish(id);
    await flush();
    expect(settled).toEqual({ d: 'queue_full', e: 'queue_full' });
    expect(told).toEqual(['overflow 1', 'overflow 1']);
    expect(sent()).toEqual(['a', 'b', 'c']);
  });

  it('drops the oldest where that was asked for, and settles them (K1, drop-oldest)', async () => {
    const { told, settled, publish, sent } = outboxAt({ maxMessages: 3, overflow: 'drop-oldest' });
    for (const id of ['a', 'b', 'c', 'd', 'e']) publish(id);
    await flush();
    expect(settled).toEqual({ a: 'queue_full', b: 'queue_full' });
    expect(told).toEqual(['failed a queue_full', 'overflow 1', 'failed b queue_full', 'overflow 1']);
    expect(sent()).toEqual(['c', 'd', 'e']);
  });

  it('never drops what is on its way: it may be stored already', async () => {
    const { settled, publish, sent } = outboxAt({ maxMessages: 2, overflow: 'drop-oldest' });
    publish('a');
    sent();
    publish('b');
    publish('c');
    await flush();
    expect(settled).toEqual({ b: 'queue_full' });
    expect(sent()).toEqual(['c']);
  });

  it('says no_ack, not expired, of what waited for too long but was sent', async () => {
    const { outbox, settled, publish, sent, pass } = outboxAt({ maxAgeMs: 1_000 });
    publish('a');
    sent();
    outbox.disconnected();
    pass(1_001);
    outbox.tick();
    await flush();
    expect(settled).toEqual({ a: 'no_ack' });
  });

  it('counts bytes as well, and never makes room for what can never fit', async () => {
    const { settled, publish, outbox, sent } = outboxAt({ maxBytes: 150, overflow: 'drop-oldest' });
    publish('a');
    publish('b');
    publish('c');
    await flush();
    expect(settled).toEqual({ a: 'queue_full' });
    await expect(outbox.add('run:1', 'note', 'x'.repeat(200))).rejects.toMatchObject({ code: 'too_large' });
    expect(sent()).toEqual(['b', 'c']);
  });

  it('has sixteen on their way at once', () => {
    const { publish, sent, ack } = outboxAt();
    for (let index = 0; index < 20; index++) publish(`m${index}`);
    expect(sent()).toHaveLength(16);
    expect(sent()).toEqual([]);
    ack('m0', 1);
    ack('m5', 2);
    expect(sent()).toEqual(['m16', 'm17']);
  });

  it('succeeds on the third attempt under the same id (K2)', async () => {
    const { settled, publish, sent, later, ack, pass } = outboxAt();
    publish('a');
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(sent()).toEqual(['a']);
      later('a', 500);
      pass(499);
      expect(sent()).toEqual([]);
      pass(1);
    }
    expect(sent()).toEqual(['a']);
    ack('a', 7);
    await flush();
    expect(settled).toEqual({ a: 'ack 7' });
  });

  it('gives up after three retries, and says so (K2)', async () => {
    const { settled, told, publish, sent, later, pass } = outboxAt();
    publish('a');
    for (let attempt = 0; attempt < 4; attempt++) {
      expect(sent()).toEqual(['a']);
      later('a');
      pass(60_000);
    }
    await flush();
    expect(settled).toEqual({ a: 'retries_exhausted' });
    expect(told).toEqual(['failed a retries_exhausted']);
    expect(sent()).toEqual([]);
  });

  it('repeats what was not answered, and takes the original place for an answer (K3)', async () => {
    const { outbox, settled, publish, sent, ack, pass } = outboxAt();
    publish('a');
    sent();
    pass(4_999);
    expect(outbox.tick()).toBe(false);
    pass(1);
    expect(outbox.tick()).toBe(true);
    expect(sent()).toEqual(['a']);
    ack('a', 3, true);
    await flush();
    expect(settled).toEqual({ a: 'ack 3 duplicate' });
  });

  it('says no_ack when nobody ever answered', async () => {
    const { outbox, settled, publish, sent, pass } = outboxAt();
    publish('a');
    for (let attempt = 0; attempt < 4; attempt++) {
      sent();
      pass(5_000);
      outbox.tick();
    }
    await flush();
    expect(settled).toEqual({ a: 'no_ack' });
  });

  it('does not repeat after five minutes: the server may have forgotten the id', async () => {
    const { outbox, settled, publish, sent, pass } = outboxAt();
    publish('a');
    sent();
    outbox.disconnected();
    pass(300_001);
    sent();
    pass(5_000);
    outbox.tick();
    await flush();
    expect(settled).toEqual({ a: 'no_ack' });
  });

  it('gives up what waited for longer than it keeps messages', async () => {
    const { outbox, settled, publish, pass, sent } = outboxAt({ maxAgeMs: 1_000 });
    publish('a');
    pass(600);
    publish('b');
    pass(500);
    outbox.tick();
    await flush();
    expect(settled).toEqual({ a: 'expired' });
    expect(sent()).toEqual(['b']);
  });

  it('keeps the order of a channel behind a message that has to wait, and only of that channel', () => {
    const { publish, sent, later, pass } = outboxAt();
    publish('a');
    expect(sent()).toEqual(['a']);
    later('a', 100);
    publish('b');
    publish('c', 'run:2');
    expect(sent()).toEqual(['c']);
    pass(100);
    expect(sent()).toEqual(['a', 'b']);
  });

  it('sends everything again in order after a lost connection', () => {
    const { outbox, publish, sent, ack } = outboxAt();
    for (const id of ['a', 'b', 'c']) publish(id);
    sent();
    ack('b', 1);
    expect(outbox.waiting()).toBe(0);
    outbox.disconnected();
    expect(outbox.waiting()).toBe(2);
    expect(sent()).toEqual(['a', 'c']);
  });

  it('survives being saved and loaded, before what came since, with the number of attempts', async () => {
    const before = outboxAt();
    before.publish('a');
    before.publish('b');
    before.sent();
    const after = outboxAt();
    after.publish('c');
    after.outbox.load(before.outbox.save());
    expect(after.sent()).toEqual(['a', 'b', 'c']);
    for (let attempt = 0; attempt < 3; attempt++) {
      after.pass(5_000);
      after.outbox.tick();
      after.sent();
    }
    expect(after.told).toContain('failed a no_ack');
    expect(after.told).not.toContain('failed c no_ack');
    expect(() => after.outbox.load('{"not":"a queue"}')).toThrow();
  });

  it('refuses what the server would close on, and drops nothing for it', async () => {
    const { outbox, publish, sent } = outboxAt({ overflow: 'drop-oldest', maxMessages: 1 });
    publish('a');
    await expect(outbox.add('run:1', 'note', 'x'.repeat(66_000))).rejects.toMatchObject({ code: 'too_large', retryable: false });
    expect(sent()).toEqual(['a']);
  });

  it('refuses data that is no JSON', async () => {
    const { outbox } = outboxAt();
    await expect(outbox.add('run:1', 'note', 1n)).rejects.toBeInstanceOf(Error);
    expect(outbox.next()).toEqual([]);
  });

  it('is not changed by what the application does with its data later', () => {
    const { outbox } = outboxAt();
    const data = { n: 1 };
    void outbox.add('run:1', 'note', data);
    data.n = 2;
    expect(outbox.next()[0]).toMatchObject({ data: { n: 1 } });
  });

  it('settles every publish exactly once and in order, whatever happens', async () => {
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.constant(['publish'] as const) },
      { weight: 4, arbitrary: fc.constant(['next'] as const) },
      { weight: 3, arbitrary: fc.tuple(fc.constant('ack' as const), fc.nat(20)) },
      fc.tuple(fc.constant('later' as const), fc.nat(20)),
      fc.tuple(fc.constant('no' as const), fc.nat(20)),
      { weight: 2, arbitrary: fc.tuple(fc.constant('pass' as const), fc.nat(8_000)) },
      fc.constant(['lost'] as const),
      fc.constant(['reload'] as const),
    );
    await fc.assert(fc.asyncProperty(fc.array(action, { maxLength: 80 }), fc.constantFrom('reject', 'drop-oldest'), async (actions, overflow) => {
      const count: Record<string, number> = {};
      let { outbox, pass } = outboxAt({ maxMessages: 6, maxAgeMs: 60_000, overflow });
      let flying: string[] = [];
      let total = 0;
      const take = (): void => {
        for (const { id } of outbox.next()) {
          expect(flying).not.toContain(id);
          flying.push(String(id));
        }
        expect(flying.length).toBeLessThanOrEqual(16);
      };
      for (const [what, value = 0] of actions) {
        const id = flying[value % Math.max(flying.length, 1)];
        if (what === 'publish') {
          const name = `m${total++}`;
          const tell = (): void => void (count[name] = (count[name] ?? 0) + 1);
          outbox.add('run:1', 'note', name, { id: name }).then(tell, tell);
        } else if (what === 'next') take();
        else if (what === 'pass') {
          pass(value);
          outbox.tick();
          flying = [];
          outbox.disconnected();
        } else if (what === 'lost') {
          outbox.disconnected();
          flying = [];
        } else if (what === 'reload') {
          outbox.load('[]');
        } else if (id !== undefined) {
          flying = flying.filter((other) => other !== id);
          const error = what === 'ack' ? undefined : new RealtimeError('overloaded', '', what === 'later', { retryMs: 100 });
          outbox.answer({ id, sequence: 1 }, error);
        }
      }
      outbox.clear();
      await flush();
      expect(Object.values(count)).toEqual(Array.from({ length: total }, () => 1));
      expect(outbox.waiting()).toBe(0);
      expect(outbox.deadline()).toBe(Infinity);
    }), { numRuns: 300 });
  });
});
