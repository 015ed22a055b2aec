//! The server's side of a shard's questions: a queue that the world empties when and in which order it likes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pulsewire_hub::{Actions, Backend, BackendRequest, Grant, NamedBy, Principal, Role, Work};
use pulsewire_protocol::{ChannelPattern, ErrorCode};

#[derive(Default)]
pub struct SimBackend {
    pub waiting: Mutex<VecDeque<Box<BackendRequest>>>,
    pub waiting_max: AtomicUsize,
}

impl SimBackend {
    /// Takes a request at random; publishes of one connection keep their order.
    pub fn take(&self, pick: impl FnOnce(usize) -> usize) -> Option<Box<BackendRequest>> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return None;
        }
        let at = pick(waiting.len());
        let chosen = &waiting[at];
        let publishes = matches!(chosen.work, Work::Publish { .. });
        let at = waiting
            .iter()
            .position(|other| {
                publishes
                    && matches!(other.work, Work::Publish { .. })
                    && (other.shard, other.conn) == (chosen.shard, chosen.conn)
            })
            .unwrap_or(at);
        waiting.remove(at)
    }
}

impl Backend for SimBackend {
    fn request(&self, request: Box<BackendRequest>) -> Result<(), Box<BackendRequest>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.waiting_max.load(Ordering::Relaxed) {
            return Err(request);
        }
        waiting.push_back(request);
        Ok(())
    }
}

/// Tokens are written out: `sub`, `sub;expires=<Unix ms>`, `sub;only=<pattern>`; `bad` is refused.
pub fn verify(token: &str, wall_ms: i64) -> Result<Arc<Principal>, ErrorCode> {
    let mut parts = token.split(';');
    let sub = parts.next().unwrap_or_default();
    if sub.is_empty() || sub == "bad" {
        return Err(ErrorCode::InvalidToken);
    }
    let mut principal = principal(sub, "*");
    for part in parts {
        match part.split_once('=') {
            Some(("expires", at)) => {
                let at: i64 = at.parse().map_err(|_| ErrorCode::InvalidToken)?;
                if at <= wall_ms {
                    return Err(ErrorCode::TokenExpired);
                }
                principal.expires_at_ms = Some(at);
            }
            Some(("only", pattern)) => principal.grants = grants(pattern),
            _ => return Err(ErrorCode::InvalidToken),
        }
    }
    Ok(Arc::new(principal))
}

pub fn principal(sub: &str, pattern: &str) -> Principal {
    Principal {
        sub: sub.into(),
        named_by: NamedBy::Token,
        role: Role::User,
        ..Principal::anonymous(grants(pattern))
    }
}

fn grants(pattern: &str) -> Arc<[Grant]> {
    let pattern = ChannelPattern::parse(pattern).expect("a pattern");
    [Grant { pattern, actions: Actions::ALL }].into()
}
