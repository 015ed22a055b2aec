import type { ServerErrorCode } from './generated.js';

/** What a {@link RealtimeError} is about: a code of the server, or one of the client's own. */
export type ErrorCode =
  | ServerErrorCode
  /** The queue is full. */
  | 'queue_full'
  /** It waited for longer than the queue keeps messages. */
  | 'expired'
  /** No answer after every retry. It may have been stored. */
  | 'no_ack'
  /** The server said "later" after every retry. */
  | 'retries_exhausted'
  /** There is no connection, or what was queued was given up by `setToken(null)`. */
  | 'disconnected'
  /** The server ended it for good: it was told to, or another connection took the session. */
  | 'kicked'
  /** The peer does not speak the protocol. */
  | 'protocol'
  /** A listener of the application threw. */
  | 'listener'
  /** The queue could not be written to its storage. */
  | 'storage';

/** Everything that this client rejects with or reports. Act on `code`; `message` is for people. */
export class RealtimeError extends Error {
  override readonly name = 'RealtimeError';
  readonly code: ErrorCode;
  /** Whether the same thing may work later without being changed. */
  readonly retryable: boolean;
  /** When it may work, if the server said so: in so many milliseconds. */
  readonly retryMs: number | undefined;

  constructor(code: ErrorCode, message: string | undefined = code, retryable = false, options: ErrorOptions & { retryMs?: unknown } = {}) {
    super(message, options);
    this.code = code;
    this.retryable = retryable;
    this.retryMs = options.retryMs as number | undefined;
  }
}

/** Thrown by a token callback: nobody is logged in, stop for good. */
export class UnauthorizedError extends RealtimeError {
  constructor(message = 'unauthorized') {
    super('unauthorized', message);
  }
}
