//! What a payload says, as far as we want to know it.
//!
//! Applications write what they like: a member of a type we cannot use is as good as none, and a payload that is no
//! object has no members.

use std::fmt;

use pulsewire_protocol::ChannelName;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::types::Meaning;

/// What an event said, ready to be counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub(super) what: What,
}

/// A task's name among all channels.
pub(super) type TaskName = Box<str>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Waits(Option<TaskName>),
    Runs(Option<TaskName>),
    Ended { task: Option<TaskName>, failed: bool, duration_ms: Option<f64> },
    Called { failed: bool, latency_ms: Option<f64> },
    Erred,
}

/// The longest name of a task within its channel, in bytes; one that is longer is none. A `key` always fits.
const NAME_BYTES_MAX: usize = 256;

impl Heard {
    /// Reads an event whose type means something. `data` is its payload; it is read once, and not at all where
    /// nothing of it is wanted.
    #[must_use]
    pub fn read(meaning: Meaning, key: Option<&str>, channel: &ChannelName, data: &str) -> Self {
        let payload = || serde_json::from_str::<Payload>(data).unwrap_or_default();
        let waiting = |payload: &Payload| task(key, channel, payload);
        let what = match meaning {
            Meaning::TaskPending | Meaning::TaskRunning => {
                // A key names the task without a look at the payload.
                let task = if key.is_some() { waiting(&Payload::default()) } else { waiting(&payload()) };
                if meaning == Meaning::TaskPending { What::Waits(task) } else { What::Runs(task) }
            }
            Meaning::TaskCompleted | Meaning::TaskFailed => {
                let payload = payload();
                let seconds = || payload.duration.amount().map(|seconds| seconds * 1_000.0);
                let duration_ms = payload.duration_ms.amount().or_else(seconds);
                let failed = meaning == Meaning::TaskFailed;
                What::Ended { task: waiting(&payload), failed, duration_ms }
            }
            Meaning::AgentCall | Meaning::AgentCallCompleted | Meaning::AgentCallFailed => {
                let payload = payload();
                let failed = match meaning {
                    Meaning::AgentCall => payload.is_failure(),
                    other => other == Meaning::AgentCallFailed,
                };
                let latency_ms = payload.duration_ms.amount().or_else(|| payload.latency_ms.amount());
                What::Called { failed, latency_ms }
            }
            Meaning::AgentError => What::Erred,
        };
        Self { what }
    }
}

/// A task is told by its channel and the event's key, or what its payload calls it.
fn task(key: Option<&str>, channel: &ChannelName, payload: &Payload) -> Option<TaskName> {
    let [first, second, third] = [&payload.task_id, &payload.task_id_camel, &payload.id].map(Scalar::name);
    let name = key.map(str::to_owned).or(first).or(second).or(third)?;
    // No channel's name has this character.
    (name.len() <= NAME_BYTES_MAX).then(|| format!("{channel}\n{name}").into())
}

/// The members that are read.
#[derive(Debug, Default)]
struct Payload {
    task_id: Scalar,
    task_id_camel: Scalar,
    id: Scalar,
    duration_ms: Scalar,
    duration: Scalar,
    latency_ms: Scalar,
    status: Scalar,
    error: Scalar,
}

impl Payload {
    fn is_failure(&self) -> bool {
        let failed = matches!(&self.status, Scalar::Text(status) if matches!(&**status, "failed" | "error"));
        let none = match &self.error {
            Scalar::Absent | Scalar::Flag(false) => true,
            Scalar::Text(text) => text.is_empty(),
            _ => false,
        };
        failed || !none
    }

    fn member(&mut self, name: &str) -> Option<&mut Scalar> {
        Some(match name {
            "task_id" => &mut self.task_id,
            "taskId" => &mut self.task_id_camel,
            "id" => &mut self.id,
            "duration_ms" => &mut self.duration_ms,
            "duration" => &mut self.duration,
            "latency_ms" => &mut self.latency_ms,
            "status" => &mut self.status,
            "error" => &mut self.error,
            _ => return None,
        })
    }
}

/// A member's value.
#[derive(Debug, Default)]
enum Scalar {
    /// Not there, or `null`.
    #[default]
    Absent,
    Text(Box<str>),
    Whole(i128),
    Float(f64),
    Flag(bool),
    /// An array or an object.
    Other,
}

impl Scalar {
    /// A number that can be an amount of time.
    fn amount(&self) -> Option<f64> {
        let amount = match self {
            Self::Whole(number) => *number as f64,
            Self::Float(number) => *number,
            _ => return None,
        };
        (amount.is_finite() && amount >= 0.0).then_some(amount)
    }

    /// A text or a whole number that can be a name.
    fn name(&self) -> Option<String> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text.to_string()),
            Self::Whole(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// Names are short, so what is longer than any of them is not copied.
struct Name(Option<Box<str>>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name((text.len() <= "duration_ms".len()).then(|| text.into())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// Reads any JSON value.
macro_rules! reads_anything {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
    };
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Payload;
            reads_anything!();
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
                let mut payload = Payload::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name.and_then(|name| payload.member(&name)) {
                        Some(member) => *member = map.next_value()?,
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Scalar;
            reads_anything!();
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.into()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Whole(number.into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(number))
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Absent)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
