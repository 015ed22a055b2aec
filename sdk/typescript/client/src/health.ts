import * as DEFAULTS from './defaults.js';
import type { ConnectionHealth, HealthThresholds, Level } from './types.js';

const ROUND_TRIPS = 100;
const PUBLISHES = 200;

/** What is measured of a connection, and what that is called. */
export class Meter {
  /** Round trips in milliseconds, the newest last. */
  readonly #trips: number[] = [];
  readonly #settled: boolean[] = [];
  readonly #thresholds: Required<HealthThresholds>;

  constructor(thresholds: HealthThresholds = {}) {
    this.#thresholds = {
      degradedRttMs: thresholds.degradedRttMs ?? DEFAULTS.DEGRADED_RTT_MS,
      poorRttMs: thresholds.poorRttMs ?? DEFAULTS.POOR_RTT_MS,
      poorQueued: thresholds.poorQueued ?? DEFAULTS.POOR_QUEUED,
    };
  }

  roundTrip(milliseconds: number): void {
    this.#trips.push(milliseconds);
    if (this.#trips.length > ROUND_TRIPS) this.#trips.shift();
  }

  settled(delivered: boolean): void {
    this.#settled.push(delivered);
    if (this.#settled.length > PUBLISHES) this.#settled.shift();
  }

  /** Completes what the client knows with what was measured. */
  health(known: Omit<ConnectionHealth, Measured>): ConnectionHealth {
    const sorted = [...this.#trips].sort((a, b) => a - b);
    const percentile = (share: number): number | null => sorted[Math.max(Math.ceil(sorted.length * share) - 1, 0)] ?? null;
    const latency = this.#trips.at(-1) ?? null;
    const messageDeliveryRate = this.#settled.length === 0
      ? 1 : this.#settled.filter(Boolean).length / this.#settled.length;
    const { degradedRttMs, poorRttMs, poorQueued } = this.#thresholds;
    const rtt = latency ?? 0;
    let level: Level = 'good';
    if (known.status !== 'connected' && known.status !== 'polling') level = 'down';
    else if (rtt > poorRttMs || messageDeliveryRate < 0.98 || known.queuedMessages > poorQueued) level = 'poor';
    else if (rtt > degradedRttMs || messageDeliveryRate < 0.999 || known.usingFallback || known.queuedMessages > 0) {
      level = 'degraded';
    }
    return {
      ...known,
      level,
      isHealthy: level === 'good' || level === 'degraded',
      latency,
      latencyP50: percentile(0.5),
      latencyP95: percentile(0.95),
      latencyP99: percentile(0.99),
      messageDeliveryRate,
    };
  }
}

type Measured = 'level' | 'isHealthy' | 'latency' | 'latencyP50' | 'latencyP95' | 'latencyP99' | 'messageDeliveryRate';
