//! What was: connections that closed, and those that never came to be.

use super::fields::{ClosedField, FailedField};
use super::filter::Subject;
use super::short::Short;
use crate::{Closed, Failed, client_version};

impl Subject<ClosedField> for Closed {
    fn text(&self, field: ClosedField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            ClosedField::User => !self.user.is_empty() && will_do(&self.user),
            ClosedField::Id => self.session.is_some_and(|session| will_do(Short::of(session).as_str())),
            ClosedField::Run => self.run.as_deref().is_some_and(will_do),
            ClosedField::Address => will_do(Short::of(self.remote).as_str()),
            ClosedField::Agent => will_do(&self.user_agent),
            ClosedField::Version => client_version(&self.user_agent).is_some_and(will_do),
            ClosedField::Code => will_do(Short::of(self.code).as_str()),
            ClosedField::Reason => will_do(self.reason.as_str()),
            ClosedField::Initiator => will_do(self.initiator.as_str()),
            _ => false,
        }
    }

    fn number(&self, field: ClosedField) -> Option<f64> {
        match field {
            ClosedField::Code => Some(f64::from(self.code)),
            ClosedField::Lasted => Some(self.lasted_ns as f64 / 1e6),
            ClosedField::Reconnects => Some(f64::from(self.reconnections)),
            ClosedField::Failures => Some(self.messages_failed as f64),
            _ => None,
        }
    }
}

impl Subject<FailedField> for Failed {
    fn text(&self, field: FailedField, will_do: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            FailedField::Address => will_do(Short::of(self.remote).as_str()),
            FailedField::Agent => will_do(&self.user_agent),
            FailedField::Origin => self.origin.as_deref().is_some_and(will_do),
            FailedField::Path => self.path.as_deref().is_some_and(will_do),
            FailedField::Stage => will_do(self.stage.as_str()),
            FailedField::Reason => will_do(self.reason),
            FailedField::Status => false,
        }
    }

    fn number(&self, field: FailedField) -> Option<f64> {
        self.status.filter(|_| field == FailedField::Status).map(f64::from)
    }
}
