//! What the lists of connections can be filtered and ordered by.

use pulsewire_telemetry::{DisconnectReason, Initiator, Transport};

use super::filter::{Field, Holds};
use super::health::Cause;
use super::row::State;

/// Declares the fields of a list.
macro_rules! fields {
    ($(#[$meta:meta])* $name:ident words_in $words:tt sorts $sorts:tt groups $groups:tt { $($(#[$help:meta])* $field:ident $text:literal $holds:expr;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$help])* $field,)+ }

        impl Field for $name {
            const FIELDS: &'static [(&'static str, Self, Holds)] = &[$(($text, Self::$field, $holds),)+];
            const WORDS_IN: &'static [Self] = &fields!(@list $name $words);
            const SORTS: &'static [Self] = &fields!(@list $name $sorts);
            const GROUPS: &'static [Self] = &fields!(@list $name $groups);
        }
    };
    (@list $name:ident [$($field:ident),*]) => { [$($name::$field),*] };
}

fields! {
    /// What can be asked of connections and sessions that wait.
    ConnectionField words_in [User, Id, Address, Agent]
    sorts [Score, Queue, Latency, Rtt, Delivery, Reconnects, Missed, Subs, Age, Failures, Sent, Received, User]
    groups [User, Run, Project, Transport, Version, Address, Cause, Node, State] {
        /// The user.
        User "user" Holds::Text;
        /// The session's id, or the connection's while it has none.
        Id "id" Holds::Text;
        /// The part behind `run:` of a channel it listens to.
        Run "run" Holds::Text;
        /// The part behind `project:` of a channel it listens to.
        Project "project" Holds::Text;
        /// A channel it listens to.
        Channel "channel" Holds::Text;
        /// How it is attached.
        Transport "transport" Holds::Word(Transport::NAMES);
        /// What it does.
        State "state" Holds::Word(State::NAMES);
        /// What is wrong with it.
        Cause "cause" Holds::Word(Cause::NAMES);
        /// How its frames are encoded.
        Encoding "encoding" Holds::Word(&["json", "msgpack"]);
        /// Where it comes from, with the port.
        Address "address" Holds::Text;
        /// What it calls itself.
        Agent "agent" Holds::Text;
        /// Which version of a client it says it is.
        Version "version" Holds::Text;
        /// The node.
        Node "node" Holds::Text;
        /// The last heartbeat's round trip.
        Rtt "rtt" Holds::Time;
        /// The average latency of messages to it.
        Latency "latency" Holds::Time;
        /// Bytes waiting for it.
        Queue "queue" Holds::Bytes;
        /// Messages it was sent, of those meant for it.
        Delivery "delivery" Holds::Share;
        /// How well it is, from 0 to 100.
        Score "score" Holds::Count;
        /// How often its session has reconnected.
        Reconnects "reconnects" Holds::Count;
        /// How many heartbeats it did not answer in time.
        Missed "missed" Holds::Count;
        /// How many subscriptions it has.
        Subs "subs" Holds::Count;
        /// How long the connection is there.
        Age "age" Holds::Time;
        /// How many messages it did not get.
        Failures "failures" Holds::Count;
        /// How many messages it was sent.
        Sent "sent" Holds::Count;
        /// How many messages came from it.
        Received "received" Holds::Count;
    }
}

fields! {
    /// What can be asked of connections that closed.
    ClosedField words_in [User, Id, Address, Agent]
    sorts [Lasted]
    groups [User, Run, Version, Address, Code, Reason] {
        /// The user.
        User "user" Holds::Text;
        /// The session's id.
        Id "id" Holds::Text;
        /// The run it took part in.
        Run "run" Holds::Text;
        /// Where it came from, with the port.
        Address "address" Holds::Text;
        /// What it called itself.
        Agent "agent" Holds::Text;
        /// Which version of a client it said it was.
        Version "version" Holds::Text;
        /// The close code.
        Code "code" Holds::Count;
        /// Why it closed.
        Reason "reason" Holds::Word(DisconnectReason::NAMES);
        /// Who closed it.
        Initiator "initiator" Holds::Word(Initiator::NAMES);
        /// How long it lasted.
        Lasted "lasted" Holds::Time;
        /// How often its session had reconnected.
        Reconnects "reconnects" Holds::Count;
        /// How many messages it did not get.
        Failures "failures" Holds::Count;
    }
}

fields! {
    /// What can be asked of handshakes that failed.
    FailedField words_in [Address, Agent, Reason]
    sorts []
    groups [Address, Reason] {
        /// Where it came from, with the port.
        Address "address" Holds::Text;
        /// What it called itself.
        Agent "agent" Holds::Text;
        /// Which page it came from.
        Origin "origin" Holds::Text;
        /// The path that was asked for.
        Path "path" Holds::Text;
        /// How far it came.
        Stage "stage" Holds::Text;
        /// Why it was refused.
        Reason "reason" Holds::Text;
        /// The status it was answered with.
        Status "status" Holds::Count;
    }
}
