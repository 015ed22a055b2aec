// Generated from crates/protocol by `cargo xtask generate`; do not edit.

/** What the server can refuse something with. */
export type ServerErrorCode =
  | 'bad_request'
  | 'invalid_position'
  | 'already_subscribed'
  | 'not_subscribed'
  | 'unauthorized'
  | 'invalid_token'
  | 'token_expired'
  | 'wrong_credential'
  | 'forbidden'
  | 'unknown_channel'
  | 'invalid_channel'
  | 'invalid_filter'
  | 'unsupported_encoding'
  | 'unsupported'
  | 'rate_limited'
  | 'limit_exceeded'
  | 'too_large'
  | 'overloaded'
  | 'idempotency_conflict'
  | 'store_unavailable'
  | 'outcome_unknown'
  | 'hook_failed'
  | 'hook_timeout'
  | 'unknown_event'
  | 'not_found'
  | 'method_not_allowed'
  | 'internal'
  | 'draining'
  | 'origin_refused'
  | 'history_unavailable'
  | 'unsupported_media_type'
  | 'timeout';

/** Why the server can close a connection, by number. */
export interface CloseCodes {
  1000: 'normal';
  1001: 'going_away';
  1002: 'protocol_error';
  1003: 'unsupported_data';
  1007: 'invalid_payload';
  1008: 'policy_violation';
  1009: 'message_too_big';
  1011: 'internal_error';
  1012: 'service_restart';
  1013: 'try_again_later';
  4001: 'draining';
  4002: 'token_expired';
  4003: 'no_pong';
  4004: 'slow_consumer';
  4005: 'rate_limited';
  4006: 'state_reset';
  4007: 'overloaded';
  4501: 'invalid_token';
  4502: 'forbidden';
  4503: 'bad_protocol';
  4504: 'connection_limit';
  4505: 'auth_timeout';
  4506: 'revoked';
  4508: 'superseded';
  4509: 'too_many_errors';
}
