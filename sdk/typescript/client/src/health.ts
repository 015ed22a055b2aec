import * as DEFAULTS from './defaults.js';
import type { ConnectionHealth, HealthThresholds } from './types.js';

const ROUND_TRIPS = 100;
const PUBLISHES = 200;

type Measured = 'level' | 'isHealthy' | 'latency' | 'latencyP50' | 'latencyP95' | 'latencyP99' | 'messageDeliveryRate';

/** What is measured of a connection, and what that is called. */
export function createMeter({
  degradedRttMs = DEFAULTS.DEGRADED_RTT_MS, poorRttMs = DEFAULTS.POOR_RTT_MS, poorQueued = DEFAULTS.POOR_QUEUED,
}: HealthThresholds = {}) {
  /** Round trips in milliseconds, and 1 for each publish that was acknowledged, 0 for one that failed; the newest last. */
  let trips: number[] = [];
  let settled: number[] = [];
  return {
    roundTrip(milliseconds: number): void {
      trips = [...trips, milliseconds].slice(-ROUND_TRIPS);
    },

    settled(delivered: boolean): void {
      settled = [...settled, Number(delivered)].slice(-PUBLISHES);
    },

    /** Completes what the client knows with what was measured. */
    health(known: Omit<ConnectionHealth, Measured>): ConnectionHealth {
      const { status, queuedMessages, usingFallback } = known;
      const sorted = [...trips].sort((one, other) => one - other);
      const percentile = (share: number): number | null => sorted[Math.ceil(sorted.length * share) - 1] ?? null;
      const latency = trips.at(-1) ?? null;
      const messageDeliveryRate = settled.length > 0 ? settled.reduce((sum, one) => sum + one) / settled.length : 1;
      const beyond = (rttMs: number, rate: number, queued: number): boolean =>
        Number(latency) > rttMs || messageDeliveryRate < rate || queuedMessages > queued;
      const up = status === 'connected' || usingFallback;
      const poor = beyond(poorRttMs, 0.98, poorQueued);
      const degraded = usingFallback || beyond(degradedRttMs, 0.999, 0);
      return {
        ...known,
        level: !up ? 'down' : poor ? 'poor' : degraded ? 'degraded' : 'good',
        isHealthy: up && !poor,
        latency,
        latencyP50: percentile(0.5),
        latencyP95: percentile(0.95),
        latencyP99: percentile(0.99),
        messageDeliveryRate,
      };
    },
  };
}
