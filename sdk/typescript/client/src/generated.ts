// Generated from crates/protocol/src/code.rs by `cargo xtask generate`; do not edit.

/** What the server can refuse something with, and whether the same may succeed later without being changed. */
export const RETRYABLE = {
  /** Bad request. */
  bad_request: false,
  /** Subscription error: invalid position. */
  invalid_position: false,
  /** Subscription error: already subscribed. */
  already_subscribed: false,
  /** Subscription error: not subscribed. */
  not_subscribed: false,
  /** Invalid authentication token. */
  unauthorized: false,
  /** Invalid authentication token. */
  invalid_token: false,
  /** Invalid authentication token. */
  token_expired: false,
  /** Wrong kind of credential. */
  wrong_credential: false,
  /** Forbidden. */
  forbidden: false,
  /** Invalid subscription: unknown channel. */
  unknown_channel: false,
  /** Invalid channel name. */
  invalid_channel: false,
  /** Subscription error: invalid filter. */
  invalid_filter: false,
  /** Unsupported encoding. */
  unsupported_encoding: false,
  /** Not supported. */
  unsupported: false,
  /** Rate limit exceeded. */
  rate_limited: true,
  /** Limit exceeded. */
  limit_exceeded: false,
  /** Too large. */
  too_large: false,
  /** Overloaded. */
  overloaded: true,
  /** Message id was used for another payload. */
  idempotency_conflict: false,
  /** Conflict. */
  conflict: false,
  /** Store unavailable. */
  store_unavailable: true,
  /** Outcome unknown. */
  outcome_unknown: true,
  /** Hook failed. */
  hook_failed: true,
  /** Hook timed out. */
  hook_timeout: true,
  /** Unknown message type. */
  unknown_event: false,
  /** Not found. */
  not_found: false,
  /** Method not allowed. */
  method_not_allowed: false,
  /** Internal error. */
  internal: true,
  /** Server is stopping. */
  draining: true,
  /** Origin refused. */
  origin_refused: false,
  /** History unavailable. */
  history_unavailable: false,
  /** Unsupported media type. */
  unsupported_media_type: false,
  /** Timed out. */
  timeout: true,
} as const;

/** What the server can refuse something with. */
export type ServerErrorCode = keyof typeof RETRYABLE;

/** Why the server can close a connection, by number. */
export interface CloseCodes {
  /** The connection did its work. */
  1000: 'normal';
  /** The peer goes away, as a page that is left. */
  1001: 'going_away';
  /** A frame broke RFC 6455; correct the client. */
  1002: 'protocol_error';
  /** A text frame on a MessagePack connection or a binary one on a JSON connection. */
  1003: 'unsupported_data';
  /** A text message or a close reason was not UTF-8. */
  1007: 'invalid_payload';
  /** The client did something the server never allows. */
  1008: 'policy_violation';
  /** A message was larger than limits.message_bytes_max, or had too many fragments. */
  1009: 'message_too_big';
  /** The server failed; come back. */
  1011: 'internal_error';
  /** The server restarts; come back after retry_ms. */
  1012: 'service_restart';
  /** The server is overloaded; come back after retry_ms. */
  1013: 'try_again_later';
  /** The server stops in an orderly way; resume after retry_ms. */
  4001: 'draining';
  /** The token ran out; come back with a new one. */
  4002: 'token_expired';
  /** Heartbeats were not answered; come back and resume. */
  4003: 'no_pong';
  /** The client read more slowly than its channels speak; resume to get the rest. */
  4004: 'slow_consumer';
  /** The client sent too much for too long; come back more slowly. */
  4005: 'rate_limited';
  /** The session's state is gone; come back and subscribe anew. */
  4006: 'state_reset';
  /** The server sheds load; come back after retry_ms. */
  4007: 'overloaded';
  /** The token was refused; get a valid one. */
  4501: 'invalid_token';
  /** The token does not allow to connect. */
  4502: 'forbidden';
  /** The first message was not connect, or the conversation broke the protocol. */
  4503: 'bad_protocol';
  /** The user or address has too many connections; close others first. */
  4504: 'connection_limit';
  /** No token arrived in time; send connect at once. */
  4505: 'auth_timeout';
  /** The operator revoked the user's access. */
  4506: 'revoked';
  /** The session was resumed by another connection. */
  4508: 'superseded';
  /** Too many wrong messages within a minute; correct the client. */
  4509: 'too_many_errors';
}

/** Whether to come back after a close, by number: always from 4000, never from 4500, whether known or not. */
export const RECONNECT = {
  1000: false,
  1001: true,
  1002: false,
  1003: false,
  1007: false,
  1008: false,
  1009: false,
  1011: true,
  1012: true,
  1013: true,
} as const;
