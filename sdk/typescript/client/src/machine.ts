import * as DEFAULTS from './defaults.js';
import type { BackoffOptions, Status, Timeouts } from './types.js';

/** Where a connection is. */
export type State =
  | 'idle' | 'authorizing' | 'opening' | 'greeting' | 'live' | 'probing' | 'waiting' | 'offline' | 'polling' | 'closed';

/** Why a client ended for good. */
export type Ending = 'client' | 'unauthorized' | 'forbidden' | 'kicked' | 'protocol';

/** What happens to a connection. */
export type Input =
  /** The application wants a connection; `reconnect` wants it now. */
  | { readonly type: 'connect' | 'reconnect' | 'disconnect' }
  /** The application has another token. */
  | { readonly type: 'token_set' }
  /** The answer to `authorize`. */
  | { readonly type: 'token' | 'token_failed' | 'token_refused' }
  | { readonly type: 'opened' }
  /** The server welcomed the session; its heartbeat and its longest wait, if it said them. */
  | { readonly type: 'welcome'; readonly heartbeatMs?: unknown; readonly retryMaxMs?: unknown }
  /** Any message came. */
  | { readonly type: 'heard' }
  /** The server says that it will close, and when to come back. */
  | { readonly type: 'advice'; readonly retryMs: unknown }
  /** The socket ended; 1006 without a close frame, 0 if it could not be opened. */
  | { readonly type: 'closed'; readonly code: number }
  /** An answer is late: is anybody there? */
  | { readonly type: 'suspect' }
  /** The machine's network, and the page coming back into view. */
  | { readonly type: 'online' | 'offline' | 'visible' }
  /** HTTP works, or does not. */
  | { readonly type: 'poll_ok' | 'poll_failed' }
  | { readonly type: 'tick' };

/** What is to be done, in order. */
export type Effect =
  /** Get a token; `reason` says why. */
  | 'authorize'
  /** Open a socket. */
  | 'open'
  /** Send `connect` with the token and all subscriptions. */
  | 'greet'
  /** Messages may flow. */
  | 'ready'
  /** Ask the server for a sign of life. */
  | 'probe'
  /** Give up the socket or the token that is being asked for, if there is one. */
  | 'drop'
  /** Try HTTP; it is used once it has worked. */
  | 'poll'
  /** Stop HTTP. */
  | 'stop_poll';

/** What of a machine can be set; times in milliseconds. */
export interface MachineOptions extends BackoffOptions, Pick<Timeouts, 'connectMs' | 'probeMs' | 'tokenMs'> {
  /** Whether there is a way besides WebSocket. */
  readonly fallback: boolean;
  /** Whether a refused token can be replaced: it comes from a callback. */
  readonly renewable: boolean;
}

/** A {@link createMachine machine} as others see it. */
export interface Machine {
  readonly state: State;
  readonly status: Status;
  /** Why it is `closed`. */
  readonly ending: Ending | null;
  /** Why a token is asked for. */
  readonly tokenReason: 'initial' | 'rejected';
  /** When the next attempt comes; null while none is waited for. */
  readonly nextRetryAt: number | null;
  /** When `tick` is wanted next; `Infinity` if never. */
  readonly deadline: number;
  /** Takes an input. `random` gives numbers from 0 up to 1. */
  step(input: Input, now: number, random: () => number): Effect[];
}

const PLANNED = [1001, 1012, 1013, 4001];
/** Further failures change nothing. */
const FAILURES_COUNTED = 99;
const PROTOCOL = [1002, 1003, 1007, 1008, 1009, 4503, 4509];

/** What follows a close code, by range, so that new codes need no new client. */
function endingOf(code: number): Ending | 'token' | null {
  return code === 4002 || code === 4501 ? 'token'
    : code === 4505 ? 'unauthorized'
    : code === 4502 ? 'forbidden'
    : PROTOCOL.includes(code) ? 'protocol'
    : code === 1000 || (code >= 4500 && code < 5000) ? 'kicked'
    : null;
}

/**
 * Decides what a connection does: messages and time go in, effects come out. It reads no clock, sets no timer and opens
 * nothing, so every schedule can be run again. `docs/clients.md` has the table, `sdk/conformance/machine.json` the traces that the
 * Rust client runs as well.
 */
export function createMachine({
  minMs = DEFAULTS.BACKOFF_MIN_MS, maxMs = DEFAULTS.BACKOFF_MAX_MS, factor = 2, connectMs = DEFAULTS.CONNECT_TIMEOUT_MS,
  probeMs = DEFAULTS.PROBE_TIMEOUT_MS, tokenMs = DEFAULTS.TOKEN_TIMEOUT_MS, fallback, renewable,
}: MachineOptions): Machine {
  /** The way of the WebSocket; `polling` lies over it. */
  let state: Exclude<State, 'polling'> = 'idle';
  let due = Infinity;
  let ending: Ending | null = null;
  let tokenReason: 'initial' | 'rejected' = 'initial';
  let online = true;
  let everLive = false;
  let liveSince = 0;
  let failures = 0;
  let rejections = 0;
  let heartbeatMs: number = DEFAULTS.HEARTBEAT_MS;
  let retryMaxMs = maxMs;
  let adviceMs: number | null = null;
  /** Until when the server advised to wait: only the user may cut it short. */
  let notBefore = -Infinity;
  let poll: 'off' | 'trying' | 'on' = 'off';
  let pollFailures = 0;
  /** When HTTP is to be tried: without service for too long. */
  let pollFrom = Infinity;
  let pollTried = false;
  /** WebSocket attempts since polling began. */
  let probes = 0;

  // What is going on in one step.
  let now = 0;
  let random: () => number;
  let out: Effect[];

  /** When HTTP is to be tried if nothing happens before. */
  const pollDue = (): number => (poll === 'off' && !pollTried ? pollFrom : Infinity);
  const isLive = (): boolean => state === 'live' || state === 'probing';
  const isOpening = (): boolean => state === 'opening' || state === 'greeting';
  const isOver = (): boolean => state === 'idle' || state === 'closed';
  const isPolling = (): boolean => poll === 'on' && !isOver();

  function enter(next: typeof state, wait: number): void {
    state = next;
    due = now + wait;
  }

  /** Service is missing from then on. */
  function watch(from = now): void {
    pollFrom = from + (everLive ? DEFAULTS.FALLBACK_AFTER_MS : DEFAULTS.FALLBACK_FIRST_MS);
    pollTried = !fallback;
  }

  /** A first attempt, after nothing or an end. */
  function begin(): void {
    ending = null;
    failures = rejections = 0;
    watch();
    authorize();
  }

  function authorize(reason: typeof tokenReason = 'initial'): void {
    // Time without a network was nobody's fault.
    if (state === 'offline') watch();
    tokenReason = reason;
    adviceMs = null;
    enter('authorizing', tokenMs);
    out.push('authorize');
  }

  function live(): void {
    enter('live', heartbeatMs + DEFAULTS.HEARTBEAT_GRACE_MS);
  }

  function suspect(): void {
    enter('probing', probeMs);
    out.push('probe');
  }

  function close(why: Ending): void {
    if (!isOver()) out.push('drop');
    stopPoll();
    pollFrom = Infinity;
    ending = why;
    enter('closed', Infinity);
  }

  function stopPoll(): void {
    if (poll !== 'off') out.push('stop_poll');
    poll = 'off';
    pollFailures = 0;
  }

  function tryPoll(): void {
    poll = 'trying';
    pollTried = true;
    out.push('poll');
  }

  /** The deadline of a state has passed. */
  function expire(): void {
    // A timer that comes far too late says that the page slept, not that the server is gone.
    const slept = now - due > DEFAULTS.LATE_TIMER_MS;
    // Time asleep was nobody's fault.
    if (slept && pollFrom < Infinity) watch();
    if (state === 'live' || (state === 'probing' && slept)) suspect();
    else if (state === 'waiting' || state === 'offline') authorize();
    else {
      out.push('drop');
      lose(1006);
    }
  }

  /** An attempt failed, or a connection ended. */
  function lose(code: number): void {
    const wasLive = isLive();
    const stable = wasLive && now - liveSince >= DEFAULTS.STABLE_AFTER_MS;
    const advice = adviceMs;
    const end = endingOf(code);
    if (stable) failures = rejections = 0;
    if (wasLive) watch();
    if (end === 'token' && renewable && ++rejections < DEFAULTS.REJECTIONS_MAX) return authorize('rejected');
    if (end) return close(end === 'token' ? 'unauthorized' : end);
    // A server that refuses an attempt may say when to come back: a failure all the same.
    const planned = PLANNED.includes(code) || (wasLive && advice !== null);
    if (!planned && !stable && online && failures < FAILURES_COUNTED) failures++;
    const wait = advice !== null ? Math.max(advice, minMs) : poll === 'on' ? probeWait() : backoff();
    notBefore = advice === null ? -Infinity : now + wait;
    if (planned && wasLive) pollFrom += wait;
    rest(wait);
    const failed = failures >= DEFAULTS.FALLBACK_FAILURES || now >= pollFrom;
    if (failed && poll === 'off' && online && fallback) tryPoll();
  }

  function rest(wait: number): void {
    if (online) return enter('waiting', wait);
    pollFrom = Infinity;
    enter('offline', Math.max(DEFAULTS.OFFLINE_RETRY_MS, notBefore - now));
  }

  function backoff(): number {
    const bound = 2 * minMs * factor ** Math.max(failures - 1, 0);
    return Math.min(minMs + random() * Math.min(bound, retryMaxMs), retryMaxMs);
  }

  function probeWait(): number {
    return Math.min(DEFAULTS.PROBE_WS_MIN_MS * 2 ** probes++ * (0.75 + random() / 2), DEFAULTS.PROBE_WS_MAX_MS);
  }

  const machine: Machine = {
    get state() {
      return isPolling() ? 'polling' : state;
    },
    get status() {
      if (isPolling() && !isLive()) return 'polling';
      if (isLive()) return 'connected';
      if (state === 'idle') return 'idle';
      if (state === 'closed') return 'disconnected';
      return everLive || state === 'offline' ? 'reconnecting' : 'connecting';
    },
    get ending() {
      return ending;
    },
    get tokenReason() {
      return tokenReason;
    },
    get nextRetryAt() {
      return state === 'waiting' || state === 'offline' ? due : null;
    },
    get deadline() {
      return Math.min(due, pollDue());
    },
    step(input, at, chance) {
      now = at;
      random = chance;
      out = [];
      switch (input.type) {
        case 'connect':
          if (isOver()) begin();
          break;
        case 'reconnect':
          if (isOver()) begin();
          else if (state === 'waiting' || state === 'offline') authorize();
          else if (state === 'live') suspect();
          break;
        case 'token_set':
          rejections = 0;
          if (state === 'closed') begin();
          else if (state === 'waiting' && now >= notBefore) authorize();
          else if (state === 'authorizing' || isOpening()) {
            // The attempt was made with a token that nobody wants any more.
            out.push('drop');
            authorize();
          }
          break;
        case 'disconnect':
          if (state !== 'closed') close('client');
          break;
        case 'token':
          if (state === 'authorizing') {
            enter('opening', connectMs);
            out.push('open');
          }
          break;
        case 'token_failed':
          if (state === 'authorizing') lose(0);
          break;
        case 'token_refused':
          // Also while the connection lives: a token that was to be renewed.
          if (state === 'authorizing' || isLive()) close('unauthorized');
          break;
        case 'opened':
          if (state === 'opening') {
            state = 'greeting';
            out.push('greet');
          }
          break;
        case 'welcome':
          if (state === 'greeting') {
            heartbeatMs = Number(input.heartbeatMs ?? DEFAULTS.HEARTBEAT_MS);
            retryMaxMs = Number(input.retryMaxMs ?? maxMs);
            everLive = true;
            liveSince = now;
            live();
            stopPoll();
            pollFrom = Infinity;
            out.push('ready');
          }
          break;
        case 'heard':
          if (isLive()) live();
          break;
        case 'advice':
          if (isLive() || isOpening()) adviceMs = Number(input.retryMs);
          break;
        case 'closed':
          if (isLive() || isOpening()) lose(input.code);
          break;
        case 'suspect':
          if (state === 'live') suspect();
          break;
        case 'offline':
          online = false;
          if (state === 'live') suspect();
          else if (state === 'waiting') rest(0);
          break;
        case 'online':
        case 'visible':
          online ||= input.type === 'online';
          if (state === 'live') suspect();
          else if (state === 'waiting' || (state === 'offline' && online)) {
            if (now >= notBefore) authorize();
            else if (state === 'offline') {
              watch(notBefore);
              enter('waiting', notBefore - now);
            }
          }
          break;
        case 'poll_ok':
          pollFailures = 0;
          if (poll === 'trying') {
            poll = 'on';
            probes = 0;
          }
          break;
        case 'poll_failed':
          if (poll === 'trying' || (poll === 'on' && ++pollFailures >= DEFAULTS.POLL_FAILURES_MAX)) {
            // What was waited for at the pace of polling is waited for no longer than without.
            if (poll === 'on' && state === 'waiting' && now >= notBefore) due = Math.min(due, now + backoff());
            stopPoll();
            pollTried = true;
          }
          break;
        case 'tick':
          if (due <= now) expire();
          if (pollDue() <= now) tryPoll();
      }
      return out;
    },
  };
  return machine;
}
