//! The questions about the past that wait for an answer.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::history::{HistoryError, Past, QUESTIONS_WAITING_MAX};

type Reply = oneshot::Sender<Result<Past, HistoryError>>;

struct Asked {
    id: String,
    frame: String,
    sent: bool,
    reply: Reply,
}

/// At most [`QUESTIONS_WAITING_MAX`], in the order in which they were asked.
#[derive(Default)]
pub(crate) struct Questions(VecDeque<Asked>);

impl Questions {
    /// Keeps a question until it is answered, or refuses it if too many wait.
    pub(crate) fn take(&mut self, id: String, frame: String, reply: Reply) {
        self.0.retain(|asked| !asked.reply.is_closed());
        if self.0.len() >= QUESTIONS_WAITING_MAX {
            let _ = reply.send(Err(HistoryError::QueueFull));
            return;
        }
        self.0.push_back(Asked { id, frame, sent: false, reply });
    }

    /// A new connection knows nothing of what the old one was asked.
    pub(crate) fn reconnecting(&mut self) {
        for asked in &mut self.0 {
            asked.sent = false;
        }
    }

    /// The next frame to send on this connection; of a question that somebody still waits for.
    pub(crate) fn next_unsent(&mut self) -> Option<String> {
        let asked = self.0.iter_mut().find(|asked| !asked.sent && !asked.reply.is_closed())?;
        asked.sent = true;
        Some(asked.frame.clone())
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|asked| asked.id == id)
    }

    /// Gives an answer to whoever waits for it; one that nobody waits for is dropped.
    pub(crate) fn settle(&mut self, id: &str, answer: Result<Past, HistoryError>) {
        let index = self.0.iter().position(|asked| asked.id == id);
        if let Some(asked) = index.and_then(|index| self.0.remove(index)) {
            let _ = asked.reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(questions: &mut Questions, id: usize) -> oneshot::Receiver<Result<Past, HistoryError>> {
        let (reply, answer) = oneshot::channel();
        questions.take(id.to_string(), format!("ask {id}"), reply);
        answer
    }

    #[test]
    fn questions_are_sent_once_for_each_connection_and_only_while_somebody_waits() {
        let mut questions = Questions::default();
        let first = ask(&mut questions, 1);
        let _second = ask(&mut questions, 2);
        assert_eq!(questions.next_unsent().as_deref(), Some("ask 1"));
        assert_eq!(questions.next_unsent().as_deref(), Some("ask 2"));
        assert_eq!(questions.next_unsent(), None);
        drop(first);
        questions.reconnecting();
        assert_eq!(questions.next_unsent().as_deref(), Some("ask 2"));
        assert_eq!(questions.next_unsent(), None);
    }

    #[test]
    fn one_question_too_many_is_refused_and_one_taken_back_makes_room() {
        let mut questions = Questions::default();
        let mut waiting: Vec<_> = (0..QUESTIONS_WAITING_MAX).map(|id| ask(&mut questions, id)).collect();
        let refused =
            |answer: &mut oneshot::Receiver<_>| matches!(answer.try_recv(), Ok(Err(HistoryError::QueueFull)));
        assert!(refused(&mut ask(&mut questions, 1_000)));
        waiting.pop();
        assert!(!refused(&mut ask(&mut questions, 1_001)));
    }
}
