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
  /** The connection was ended by `disconnect()`, `setToken(null)` or the server. */
  | 'disconnected'
  /** Taken back by a signal. */
  | 'aborted'
  /** The peer does not speak the protocol. */
  | 'protocol'
  /** A listener of the application threw. */
  | 'listener'
  /** The queue could not be written to its storage. */
  | 'storage';

/** Everything that this client rejects with or reports. Act on `code`; `message` is for people. */
export class RealtimeError extends Error {
  override readonly name: string = 'RealtimeError';
  readonly code: ErrorCode;
  /** Whether the same thing may work later without being changed. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string = code, retryable = false, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.retryable = retryable;
  }
}

/** Thrown by a token callback: nobody is logged in, stop for good. */
export class UnauthorizedError extends RealtimeError {
  override readonly name = 'UnauthorizedError';

  constructor(message = 'unauthorized') {
    super('unauthorized', message);
  }
}
