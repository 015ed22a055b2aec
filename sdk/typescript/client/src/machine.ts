import * as DEFAULTS from './defaults.js';
import type { Status } from './types.js';

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
  | { readonly type: 'welcome'; readonly heartbeatMs?: number | undefined; readonly retryMaxMs?: number | undefined }
  /** Any message came. */
  | { readonly type: 'heard' }
  /** The server says that it will close, and when to come back. */
  | { readonly type: 'advice'; readonly retryMs: number }
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
  /** Give up the socket or the token that is being asked for. */
  | 'drop'
  /** Try HTTP; it is used once it has worked. */
  | 'poll'
  /** Stop HTTP. */
  | 'stop_poll';

/** The times of a {@link Machine} that can be set, in milliseconds. */
export interface MachineOptions {
  /** The wait between attempts: `minMs` plus a random time below `2 · minMs · factorⁿ`, at most `maxMs`. */
  readonly minMs: number;
  readonly maxMs: number;
  readonly factor: number;
  readonly connectMs: number;
  readonly probeMs: number;
  readonly tokenMs: number;
  /** Whether there is a way besides WebSocket. */
  readonly fallback: boolean;
  /** Whether a refused token can be replaced: it comes from a callback. */
  readonly renewable: boolean;
}

const PLANNED = [1001, 1012, 1013, 4001];

/** What follows a close code, by range, so that new codes need no new client. */
function ending(code: number): Ending | 'token' | null {
  switch (code) {
    case 4002: case 4501: return 'token';
    case 4505: return 'unauthorized';
    case 4502: return 'forbidden';
    case 4503: case 4509: case 1002: case 1003: case 1007: case 1008: case 1009: return 'protocol';
    default: return code === 1000 || (code >= 4500 && code < 5000) ? 'kicked' : null;
  }
}

/**
 * Decides what a connection does: messages and time go in, effects come out. It reads no clock, sets no timer and opens
 * nothing, so every schedule can be run again. `docs/clients.md` has the table, `sdk/conformance/machine.json` the traces that the
 * Rust client runs as well.
 */
export class Machine {
  /** The way of the WebSocket; `polling` is told by {@link Machine.state}. */
  #state: Exclude<State, 'polling'> = 'idle';
  #poll: 'off' | 'trying' | 'on' = 'off';
  #pollFailures = 0;
  /** WebSocket attempts since polling began. */
  #probes = 0;
  /** When HTTP is to be tried: without service for too long. */
  #pollFrom = Infinity;
  #pollTried = false;
  #due = Infinity;
  #everLive = false;
  #online = true;
  #failures = 0;
  #rejections = 0;
  #liveSince = 0;
  #adviceMs: number | null = null;
  /** The wait was advised: only the user may cut it short. */
  #advised = false;
  #heartbeatMs: number = DEFAULTS.HEARTBEAT_MS;
  #retryMaxMs: number;
  #ending: Ending | null = null;
  #reason: 'initial' | 'rejected' = 'initial';
  readonly #options: MachineOptions;

  constructor(options: MachineOptions) {
    this.#options = options;
    this.#retryMaxMs = options.maxMs;
  }

  get state(): State {
    return this.#poll === 'on' && this.#state !== 'closed' ? 'polling' : this.#state;
  }

  get status(): Status {
    switch (this.state) {
      case 'idle': return 'idle';
      case 'live': case 'probing': return 'connected';
      case 'polling': return 'polling';
      case 'closed': return 'disconnected';
      case 'offline': return 'reconnecting';
      default: return this.#everLive ? 'reconnecting' : 'connecting';
    }
  }

  /** Why it is `closed`. */
  get ending(): Ending | null {
    return this.#ending;
  }

  /** Why a token is asked for. */
  get tokenReason(): 'initial' | 'rejected' {
    return this.#reason;
  }

  /** When the next attempt comes; null while none is waited for. */
  get nextRetryAt(): number | null {
    return this.#state === 'waiting' || this.#state === 'offline' ? this.#due : null;
  }

  /** When `tick` is wanted next; `Infinity` if never. */
  get deadline(): number {
    return Math.min(this.#due, this.#poll === 'off' && !this.#pollTried ? this.#pollFrom : Infinity);
  }

  /** Takes an input. `random` gives numbers from 0 up to 1. */
  step(input: Input, now: number, random: () => number): Effect[] {
    const out: Effect[] = [];
    const state = this.#state;
    const resting = state === 'waiting' || state === 'offline';
    const open = state === 'live' || state === 'probing';
    switch (input.type) {
      case 'connect':
        if (state === 'idle' || state === 'closed') this.#begin(now, out);
        break;
      case 'token_set':
      case 'reconnect':
        if (state === 'idle' || state === 'closed') this.#begin(now, out);
        else if (resting) this.#authorize(now, out);
        else if (state === 'live' && input.type === 'reconnect') this.#suspect(now, out);
        break;
      case 'disconnect':
        this.#close('client', out);
        break;
      case 'token':
        if (state === 'authorizing') {
          this.#enter('opening', now + this.#options.connectMs);
          out.push('open');
        }
        break;
      case 'token_failed':
        if (state === 'authorizing') this.#lose(0, now, random, out);
        break;
      case 'token_refused':
        if (state === 'authorizing') this.#close('unauthorized', out);
        break;
      case 'opened':
        if (state === 'opening') {
          this.#state = 'greeting';
          out.push('greet');
        }
        break;
      case 'welcome':
        if (state === 'greeting') {
          this.#heartbeatMs = input.heartbeatMs ?? DEFAULTS.HEARTBEAT_MS;
          this.#retryMaxMs = input.retryMaxMs ?? this.#options.maxMs;
          this.#everLive = true;
          this.#liveSince = now;
          this.#live(now);
          this.#stopPoll(out);
          this.#pollFrom = Infinity;
          out.push('ready');
        }
        break;
      case 'heard':
        if (open) this.#live(now);
        break;
      case 'advice':
        this.#adviceMs = input.retryMs;
        break;
      case 'closed':
        if (open || state === 'opening' || state === 'greeting') this.#lose(input.code, now, random, out);
        break;
      case 'suspect':
        if (state === 'live') this.#suspect(now, out);
        break;
      case 'offline':
        this.#online = false;
        if (state === 'live') this.#suspect(now, out);
        else if (state === 'waiting') this.#rest(now, 0);
        break;
      case 'online':
      case 'visible':
        if (input.type === 'online') this.#online = true;
        if (state === 'live') this.#suspect(now, out);
        else if (state === 'offline' ? this.#online : state === 'waiting' && !this.#advised) this.#authorize(now, out);
        break;
      case 'poll_ok':
        this.#pollFailures = 0;
        if (this.#poll === 'trying') {
          this.#poll = 'on';
          this.#probes = 0;
        }
        break;
      case 'poll_failed':
        if (this.#poll === 'trying' || (this.#poll === 'on' && ++this.#pollFailures >= DEFAULTS.POLL_FAILURES_MAX)) {
          // What was waited for at the pace of polling is waited for no longer than without.
          if (this.#poll === 'on' && state === 'waiting') this.#due = Math.min(this.#due, now + this.#backoff(random));
          this.#stopPoll(out);
          this.#pollTried = true;
        }
        break;
      case 'tick':
        if (this.#due <= now) this.#expire(now, random, out);
        if (this.deadline <= now) this.#tryPoll(out);
        break;
    }
    return out;
  }

  #enter(state: Exclude<State, 'polling'>, due: number): void {
    this.#state = state;
    this.#due = due;
  }

  /** A first attempt, after nothing or an end. */
  #begin(now: number, out: Effect[]): void {
    this.#ending = null;
    this.#failures = this.#rejections = 0;
    this.#adviceMs = null;
    this.#watch(now);
    this.#authorize(now, out);
  }

  /** Service is missing from now on. */
  #watch(now: number): void {
    this.#pollFrom = now + (this.#everLive ? DEFAULTS.FALLBACK_AFTER_MS : DEFAULTS.FALLBACK_FIRST_MS);
    this.#pollTried = !this.#options.fallback;
  }

  #authorize(now: number, out: Effect[], reason: 'initial' | 'rejected' = 'initial'): void {
    // Time without a network was nobody's fault.
    if (this.#state === 'offline') this.#watch(now);
    this.#reason = reason;
    this.#enter('authorizing', now + this.#options.tokenMs);
    out.push('authorize');
  }

  #live(now: number): void {
    this.#enter('live', now + this.#heartbeatMs + DEFAULTS.HEARTBEAT_GRACE_MS);
  }

  #suspect(now: number, out: Effect[]): void {
    this.#enter('probing', now + this.#options.probeMs);
    out.push('probe');
  }

  #close(ending: Ending, out: Effect[]): void {
    if (this.#state !== 'idle' && this.#state !== 'closed') out.push('drop');
    this.#stopPoll(out);
    this.#pollFrom = Infinity;
    this.#ending = ending;
    this.#enter('closed', Infinity);
  }

  #stopPoll(out: Effect[]): void {
    if (this.#poll !== 'off') out.push('stop_poll');
    this.#poll = 'off';
    this.#pollFailures = 0;
  }

  #tryPoll(out: Effect[]): void {
    this.#poll = 'trying';
    this.#pollTried = true;
    out.push('poll');
  }

  /** The deadline of a state has passed. */
  #expire(now: number, random: () => number, out: Effect[]): void {
    const late = now - this.#due > DEFAULTS.LATE_TIMER_MS;
    switch (this.#state) {
      case 'live':
        return this.#suspect(now, out);
      case 'probing':
        // A timer that comes far too late says that the page slept, not that the server is gone.
        if (late) return this.#suspect(now, out);
        out.push('drop');
        return this.#lose(1006, now, random, out);
      case 'waiting':
      case 'offline':
        return this.#authorize(now, out);
      default:
        out.push('drop');
        return this.#lose(0, now, random, out);
    }
  }

  /** An attempt failed, or a connection ended. */
  #lose(code: number, now: number, random: () => number, out: Effect[]): void {
    const wasLive = this.#state === 'live' || this.#state === 'probing';
    const stable = wasLive && now - this.#liveSince >= DEFAULTS.STABLE_AFTER_MS;
    if (stable) this.#failures = this.#rejections = 0;
    const advice = this.#adviceMs;
    this.#adviceMs = null;
    const end = ending(code);
    if (wasLive) this.#watch(now);
    if (end === 'token' && this.#options.renewable && ++this.#rejections < DEFAULTS.REJECTIONS_MAX) {
      return this.#authorize(now, out, 'rejected');
    }
    if (end !== null) return this.#close(end === 'token' ? 'unauthorized' : end, out);
    const planned = advice !== null || PLANNED.includes(code);
    if (!planned && !stable && this.#online) this.#failures++;
    this.#advised = advice !== null;
    const wait = advice === null
      ? this.#poll === 'on' ? this.#probeWait(random) : this.#backoff(random)
      : Math.max(advice, this.#options.minMs);
    if (planned && wasLive) this.#pollFrom += wait;
    this.#rest(now, wait);
    const failed = this.#failures >= DEFAULTS.FALLBACK_FAILURES || now >= this.#pollFrom;
    if (failed && this.#poll === 'off' && this.#online && this.#options.fallback) this.#tryPoll(out);
  }

  #rest(now: number, wait: number): void {
    if (this.#online) return this.#enter('waiting', now + wait);
    this.#pollFrom = Infinity;
    this.#enter('offline', now + DEFAULTS.OFFLINE_RETRY_MS);
  }

  #backoff(random: () => number): number {
    const { minMs, factor } = this.#options;
    const bound = 2 * minMs * factor ** Math.max(this.#failures - 1, 0);
    return Math.min(minMs + random() * Math.min(bound, this.#retryMaxMs), this.#retryMaxMs);
  }

  #probeWait(random: () => number): number {
    const wait = DEFAULTS.PROBE_WS_MIN_MS * 2 ** this.#probes++;
    return Math.min(wait * (0.75 + random() / 2), DEFAULTS.PROBE_WS_MAX_MS);
  }
}
