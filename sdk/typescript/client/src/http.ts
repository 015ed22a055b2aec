import { type ErrorCode, RealtimeError } from './error.js';
import type { ChannelOptions, FallbackHost, Position } from './types.js';

/** A channel as a fallback reads it. */
export interface Wanted {
  readonly name: string;
  readonly options: ChannelOptions;
  readonly position: Position | null;
}

/** A refusal, RFC 9457. */
interface Problem {
  readonly code?: ErrorCode;
  readonly message?: string;
  readonly retryable?: boolean;
}

/** Asks the server over HTTP, with the newest token; a refusal rejects with the server's code. */
export type Ask = (path: string, body?: object) => Promise<Response>;

export function asker(host: FallbackHost, signal: AbortSignal): Ask {
  return async (path, body) => {
    const token = host.token();
    const response = await host.fetch(host.origin + path, {
      signal,
      headers: { ...(token !== null && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json' }) },
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    const { code = 'disconnected', message, retryable } = (await response.json().catch(() => ({}))) as Problem;
    const retryMs = Number(response.headers.get('retry-after')) * 1000 || undefined;
    throw new RealtimeError(code, String(message ?? response.status), retryable !== false, { retryMs });
  };
}

/** Publishes in order. The answer is delivered as if it had come over the socket; no answer is none. */
export function publisher(host: FallbackHost, ask: Ask): (message: Record<string, unknown>) => void {
  let last: Promise<unknown> = Promise.resolve();
  return ({ id, type: _, message_id: __, event: type, ...rest }) => {
    last = last
      .then(() => ask('/api/publish', { ...rest, id, type }))
      .then((response) => response.json())
      .then((answer: object) => host.deliver({ ...answer, type: 'ack', id: String(id) }))
      .catch((error: unknown) => {
        if (!(error instanceof RealtimeError)) return;
        const { code, message, retryable, retryMs } = error;
        host.deliver({ type: 'error', id: String(id), code, message, retryable, retry_after_ms: retryMs });
      });
  };
}

/** Whether asking again for this channel is of no use; then the application is told. */
export function isHopeless(host: FallbackHost, name: string, error: unknown): boolean {
  const hopeless = error instanceof RealtimeError && !error.retryable && !error.code.includes('token');
  if (hopeless) host.deliver({ type: 'error', code: error.code, message: `${name}: ${error.message}` });
  return hopeless;
}

/** The part of a path that says which channel and from where on. */
export function query({ options, position }: Wanted, host: FallbackHost, after: string): string {
  const tags = Object.entries(options.tags ?? {}).map(([tag, value]) => `&tags=${encodeURIComponent(`${tag}:${value}`)}`);
  return `?fallback=${host.session}${position ? `&${after}=${position.epoch}:${position.sequence}` : ''}${tags.join('')}`;
}
