export { createClient } from './client.js';
export { type Codec, json } from './codec.js';
export { type ErrorCode, RealtimeError, UnauthorizedError } from './error.js';
export type { ServerErrorCode } from './generated.js';
export type { Readable, Unsubscribe } from './readable.js';
export type * from './types.js';
