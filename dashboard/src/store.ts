import { batch, computed, effect, type ReadonlySignal, signal } from '@preact/signals';
import { type Client, createClient } from '@pulsewire/client';
import { useEffect, useMemo } from 'preact/hooks';
import type { ConnectionDetail, Overview, Row } from './api.js';
import { paused, skew, visible } from './clock.js';
import { change, type Changes, type Growing, type Page, turn } from './list.js';
import { type Query, queryString, watchName } from './query.js';
import { Problem, problemOf, read, signOut, token } from './session.js';

/** A watch that heard nothing for so long asks over HTTP, and goes on asking; in milliseconds. */
const SILENT_MS = 8_000;
/** A watch whose changes do not fit asks over HTTP, at most so often; in milliseconds. */
const REPAIR_MS = 5_000;

/** The connection to the server; null while nobody is signed in. */
export const client = signal<Client | null>(null);

/** Whether anything is asked for now: not while the page is hidden, and not while it was told to stand still. */
export const live = computed(() => visible.value && !paused.value);

/** Connects while somebody is signed in. */
export function start(): void {
  effect(() => {
    const bearer = token.value;
    if (bearer === null) return undefined;
    const made = createClient({ url: '/ws', token: bearer });
    client.value = made;
    // A page that is left is not one that comes back: its session would wait for it, and stand in the lists.
    const leaving = new AbortController();
    addEventListener('pagehide', () => made.disconnect(), leaving);
    addEventListener('pageshow', () => made.connect(), leaving);
    made.connect();
    const stop = made.on('failed', (error) => {
      const refused = error.code === 'unauthorized' || error.code === 'forbidden';
      if (refused) signOut(new Problem(401, error.code, 'the token no longer holds', 'Make another one and sign in again.'));
    });
    return () => {
      stop();
      leaving.abort();
      client.value = null;
      made.disconnect();
    };
  });
}

// ---- one update a frame

const waiting = new Set<() => void>();

/** Performs an update together with all others of the frame. */
export function soon(update: () => void): void {
  if (waiting.size === 0) requestAnimationFrame(perform);
  waiting.add(update);
}

function perform(): void {
  const updates = [...waiting];
  waiting.clear();
  performance.mark('update');
  batch(() => {
    for (const update of updates) update();
  });
  // Components are drawn in microtasks that the signals asked for just now.
  void Promise.resolve().then(() => Promise.resolve()).then(() => {
    performance.measure('update', 'update');
    if (performance.getEntriesByName('update', 'measure').length > 300) performance.clearMeasures('update');
    performance.clearMarks('update');
  });
}

// ---- watches

/** What is watched: a channel of `$sys`, and the same over HTTP. */
export interface Source {
  readonly channel: string | null;
  readonly path: string;
  readonly query: Query;
}

/** What a watch found. */
export interface Found<T> {
  /** Null until the first answer. */
  readonly data: ReadonlySignal<T | null>;
  /** Why there is none, or no newer one. */
  readonly problem: ReadonlySignal<Problem | null>;
  /** What is shown is still the answer to the last question. */
  readonly loading: ReadonlySignal<boolean>;
}

/** A watch: {@link Found} and how it is kept. */
interface Watch<T> extends Found<T> {
  /** Asks for something else, or for nothing; what was found is shown until there is an answer. */
  aim(source: Source | null): void;
}

/** How answers and events become what is shown. Both may say null: it does not fit, ask again. */
interface Reading<T> {
  /** The answer over HTTP. `before` is what was shown until now, which may answer another question. */
  answer(held: T | null, before: T | null, document: unknown): T | null;
  /** An event of the channel. */
  event(held: T | null, before: T | null, type: string, data: unknown): T | null;
}

function createWatch<T>({ answer, event }: Reading<T>): Watch<T> {
  const data = signal<T | null>(null);
  const problem = signal<Problem | null>(null);
  const loading = signal(true);
  const source = signal<Source | null>(null);

  function open(wanted: Source, connection: Client | null): () => void {
    const stop = new AbortController();
    /** What was found since this was opened; what is shown may be older. */
    let held: T | null = null;
    let heardAt = performance.now();
    let askedAt = -Infinity;

    const show = (found: T): void => {
      held = found;
      soon(() => {
        if (stop.signal.aborted) return;
        data.value = found;
        problem.value = null;
        loading.value = false;
      });
    };
    const fail = (error: unknown): void => {
      if (stop.signal.aborted) return;
      problem.value = problemOf(error);
      loading.value = false;
    };
    /** What was heard since goes before what is asked for only if it holds still. */
    const ask = async (stale: boolean): Promise<void> => {
      askedAt = performance.now();
      if (stale) held = null;
      try {
        const found = answer(held, data.peek(), await read(wanted.path, wanted.query, stop.signal));
        if (found !== null) show(found);
      } catch (error) {
        fail(error);
      }
    };
    const hear = (type: string, said: unknown): void => {
      const now = performance.now();
      // Watches are refused that HTTP answers, when there are too many; what is wrong with a question it says better.
      const refused = type === 'error';
      const found = refused ? null : event(held, data.peek(), type, said);
      if (!refused) heardAt = now;
      if (found !== null) show(found);
      else if (now - askedAt > REPAIR_MS) void ask(true);
    };

    void ask(false);
    const channel = wanted.channel !== null && connection?.channel(wanted.channel);
    const leave = channel && channel.subscribe(({ type, data: said }) => hear(type, said));
    const timer = setInterval(() => {
      if (performance.now() - heardAt > SILENT_MS) void ask(true);
    }, SILENT_MS / 2);
    return () => {
      stop.abort();
      clearInterval(timer);
      if (leave) leave();
    };
  }

  // The effect lives as long as the watch is aimed at something.
  effect(() => {
    const wanted = source.value;
    const connection = client.value;
    if (!wanted || !live.value || token.value === null) return undefined;
    return open(wanted, connection);
  });

  return {
    data,
    problem,
    loading,
    aim(next) {
      if (JSON.stringify(next) === JSON.stringify(source.peek())) return;
      batch(() => {
        loading.value = true;
        problem.value = null;
        source.value = next;
      });
    },
  };
}

/** What is found is never shown as something of another path or shape: then it begins with nothing. */
function useWatch<T>(reading: () => Reading<T>, source: Source | null, shape = ''): Found<T> {
  const watch = useMemo(() => createWatch(reading()), [source?.path, shape]);
  const key = JSON.stringify(source);
  useEffect(() => watch.aim(source), [watch, key]);
  useEffect(() => () => watch.aim(null), [watch]);
  return watch;
}

function listReading<R extends Row>(growing: Growing = {}, wrap: (document: unknown) => Page<R> = (page) => page as Page<R>): Reading<Page<R>> {
  return {
    answer: (held, before, document) => {
      const page = wrap(document);
      // The channel may have said more while HTTP was on its way.
      return held && held.revision > page.revision ? held : turn(held ?? before, page);
    },
    event: (held, before, type, said) =>
      type === 'page' ? turn(held ?? before, said as Page<R>) : change(held, said as Changes, growing),
  };
}

/**
 * Watches a list of `$sys`, whose `GET` has the same name. Null watches nothing. While another query is asked the old rows are shown,
 * unless `shape` changes with it: say there what decides on the fields of a row.
 */
export function useList<R extends Row>(name: string | null, query: Query = {}, shape = ''): Found<Page<R>> {
  const source = name === null ? null : { channel: watchName(name, query), path: `/api/admin/${name}`, query };
  return useWatch(() => listReading<R>(), source, shape);
}

/** How many entries of a timeline are kept. */
const TIMELINE_MAX = 1_000;

/** Watches one connection. */
export function useConnection(id: string): Found<Page<ConnectionDetail>> {
  const session = encodeURIComponent(id);
  const reading = (): Reading<Page<ConnectionDetail>> => listReading({ timeline: TIMELINE_MAX }, asPage);
  return useWatch(reading, { channel: `$sys.connection:${id}`, path: `/api/admin/connections/${session}`, query: {} });
}

/** A document as a list of one row, at a revision that nothing follows. */
function asPage(document: unknown): Page<ConnectionDetail> {
  if (typeof document === 'object' && document !== null && 'rows' in document) return document as Page<ConnectionDetail>;
  return { revision: -1, at: '', total: 1, matched: 1, rows: [document as ConnectionDetail] };
}

/** Reads a document over HTTP, once, or again after so many milliseconds. */
export function useDocument<T>(path: string | null, query: Query = {}, everyMs: number | null = null): Found<T> & { again(): void } {
  const turnSignal = useMemo(() => signal(0), []);
  const found = useMemo(() => ({ data: signal<T | null>(null), problem: signal<Problem | null>(null), loading: signal(true) }), []);
  const key = path === null ? null : path + queryString(query);
  useEffect(() => {
    found.data.value = null;
    if (path === null) return undefined;
    return effect(() => {
      void turnSignal.value;
      if (!live.value || token.value === null) return undefined;
      const stop = new AbortController();
      const ask = (): void => {
        found.loading.value = true;
        read<T>(path, query, stop.signal).then(
          (document) => soon(() => {
            if (stop.signal.aborted) return;
            found.data.value = document;
            found.problem.value = null;
            found.loading.value = false;
          }),
          (error: unknown) => {
            if (stop.signal.aborted) return;
            found.problem.value = problemOf(error);
            found.loading.value = false;
          },
        );
      };
      ask();
      const timer = everyMs === null ? undefined : setInterval(ask, everyMs);
      return () => {
        stop.abort();
        clearInterval(timer);
      };
    });
  }, [key, everyMs]);
  return { ...found, again: () => turnSignal.value++ };
}

/** Hears a channel that tells of things as they happen, while the component is there. Null hears nothing. */
export function useEvents(channel: string | null, hear: (type: string, data: unknown) => void): void {
  useEffect(() => {
    if (channel === null) return undefined;
    return effect(() => {
      const connection = client.value;
      if (!connection || !live.value) return undefined;
      return connection.channel(channel).subscribe(({ type, data }) => soon(() => hear(type, data)));
    });
  }, [channel]);
}

// ---- the overview, which every page shows something of

const overviewWatch = createWatch<Overview>({
  answer: (_, __, document) => document as Overview,
  event: (held, _, type, data) => (type === 'overview' ? (data as Overview) : held),
});

/** The server's state, told once a second. */
export const overview: Found<Overview> = overviewWatch;

overviewWatch.aim({ channel: '$sys.overview', path: '/api/admin/overview', query: {} });

effect(() => {
  const at = overview.data.value?.at;
  if (at) skew.value = Date.parse(at) - Date.now();
});
