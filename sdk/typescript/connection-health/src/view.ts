// What is to be seen: everything that is decided about texts and shapes, without a document and without a clock.
import type { ConnectionHealth, Status } from '@pulsewire/client';
import type { Labels } from './labels.js';

/** What is known of a connection: document 003's four values are enough. */
export type HealthInput = { readonly [K in keyof ConnectionHealth]?: ConnectionHealth[K] | undefined };

/** The status. Without one `isHealthy` decides, and a fallback that is in use is `polling`. */
export function statusOf({ status, isHealthy, usingFallback }: HealthInput): Status {
  if (usingFallback && (!status || status === 'connected')) return 'polling';
  return status ?? (isHealthy ? 'connected' : isHealthy === undefined ? 'idle' : 'disconnected');
}

/** A number, or a dash if there is none. The mark in front keeps number and unit in order among letters that run to the left. */
const write = (value: number | null | undefined, unit = ''): string => ((value ?? -1) >= 0 ? `\u200e${value}${unit}` : '–');

const milliseconds = (value: number | null | undefined): string => write(value && Math.ceil(value), ' ms');

/**
 * What is to be seen. `shape` names shape and colour: the level of a connection that works, else the status. `texts` are what
 * stands in the pill (status, latency or time to the next attempt, queue), then name and value of each of eight lines, then the
 * warning and the button; what is empty is not to be seen. `counting`: a time in it passes.
 */
export type View = readonly [shape: string, texts: readonly string[], counting: boolean];

/**
 * Says it in words and numbers.
 * @param reconnected say "Reconnected" instead of "Connected"
 * @param now milliseconds since 1970
 */
export function viewOf(status: Status, health: HealthInput, reconnected: boolean, labels: Labels, now: number): View {
  const { latency, messageDeliveryRate, transport, queuedMessages, nextRetryAt } = health;
  const polling = status === 'polling';
  const works = polling || status === 'connected';
  const level = health.level ?? (health.isHealthy === false ? 'poor' : polling ? 'degraded' : 'good');
  const words = labels[reconnected ? 'reconnected' : polling && transport === 'sse' ? transport : status];
  const left = Math.ceil(((nextRetryAt ?? 0) - now) / 1000);
  const next = write(left || -1, ' s');
  const lag = milliseconds(latency);
  return [
    works ? level : status,
    [
      words,
      works ? (latency ? lag : '') : left > 0 ? next : '',
      (queuedMessages ?? 0) > 0 ? labels.waiting.replace('#', `${queuedMessages}`) : '',
      labels.status, works && level !== 'good' ? `${words}, ${labels[level]}` : words,
      labels.latency, lag,
      labels.p95, milliseconds(health.latencyP95),
      // Rounded down, so that one lost message is never "100%".
      labels.delivery, write(messageDeliveryRate && Math.floor(messageDeliveryRate * 1000) / 10, '%'),
      labels.reconnects, write(health.reconnectionCount),
      labels.queued, write(queuedMessages),
      labels.transport, transport ? labels[transport] : '–',
      labels.next, next,
      polling || health.usingFallback ? labels.fallback : '',
      // Everything but idle, connecting and connected.
      /^[^ic]/.test(status) ? labels.retry : '',
    ],
    left > 0,
  ];
}
