import { type ErrorCode, RealtimeError } from './error.js';
import type { FallbackHost, FallbackSession } from './types.js';

/** What every fallback does over HTTP: ask with the token, understand refusals, publish one after the other. */
export class Http {
  readonly #host: FallbackHost;
  readonly #aborter = new AbortController();
  #last: Promise<unknown> = Promise.resolve();

  constructor(host: FallbackHost) {
    this.#host = host;
  }

  get stopped(): boolean {
    return this.#aborter.signal.aborted;
  }

  stop(): void {
    this.#aborter.abort();
  }

  /** Asks; a refusal rejects with the server's code. */
  async ask(path: string, body?: unknown): Promise<Response> {
    const token = this.#host.token();
    const { fetch, origin } = this.#host;
    const response = await fetch(origin + path, {
      signal: this.#aborter.signal,
      cache: 'no-store',
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    const { code = 'disconnected', message, retryable } = (await response.json().catch(() => ({}))) as Record<string, unknown>;
    const after = response.headers.get('retry-after');
    throw new RealtimeError(code as ErrorCode, String(message ?? response.status), retryable !== false, {
      retryMs: after === null ? undefined : Number(after) * 1000,
    });
  }

  /** Publishes in order; the answer is delivered as if it had come over the socket. No answer is none. */
  publish(message: Record<string, unknown>): void {
    const { type: _, message_id: __, event, ...rest } = message;
    this.#last = this.#last
      .then(() => this.ask('/api/publish', { ...rest, type: event }))
      .then(async (response) => ({ ...((await response.json()) as object), type: 'ack' }))
      .catch((error: unknown) => {
        if (!(error instanceof RealtimeError)) throw error;
        const { code, message, retryable, retryMs } = error;
        return { type: 'error', code, message, retryable, retry_after_ms: retryMs };
      })
      .then((answer) => this.#host.deliver({ ...answer, id: message['id'] as string }))
      .catch(() => undefined);
  }
}

/** Whether asking again for this channel is of no use. */
export function hopeless(error: unknown): error is RealtimeError {
  return error instanceof RealtimeError && !error.retryable && !error.code.includes('token');
}

/** Starts a fallback that asks again and again. */
export function repeat(host: FallbackHost, http: Http, round: () => Promise<number>): FallbackSession {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  const run = async (): Promise<void> => {
    let wait = 0;
    try {
      wait = await round();
      failures = 0;
      if (!http.stopped) host.succeeded();
    } catch (error) {
      wait = Math.max(2000 * 2 ** Math.min(failures++, 3) * (0.5 + Math.random() / 2), (error instanceof RealtimeError && error.retryMs) || 0);
      if (!http.stopped) host.failed(error);
    }
    clearTimeout(timer);
    if (!http.stopped) timer = setTimeout(() => void run(), wait);
  };
  void run();
  return {
    publish: (message) => http.publish(message),
    changed: () => undefined,
    stop() {
      clearTimeout(timer);
      http.stop();
    },
  };
}
