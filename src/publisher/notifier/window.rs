//! Pure. Messages that a broker has and has not confirmed yet.
//!
//! A message that no queue takes comes back before it is confirmed. lapin hangs what came back to
//! whichever message is confirmed next, and the broker confirms several at once. So what came back is
//! told by its body: once something has, nothing is settled until every message has its answer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Answers that are settled together: each time, every message that has none is looked at.
const AT_ONCE: usize = 32;

/// A broker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it says that it has the message, or refuses it.
    pub(super) is_ack: bool,
    /// The body of a message that came back: this one or another one.
    pub(super) returned: Option<Vec<u8>>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The broker has it.
    Confirmed,
    /// The broker said no.
    Refused,
    /// No queue takes it.
    NoRoute,
}

/// Messages in the order in which they were sent.
pub(super) struct Window<T, F> {
    messages: VecDeque<Sent<T, F>>,
    returned: Vec<Vec<u8>>,
}

struct Sent<T, F> {
    what: T,
    body: Vec<u8>,
    at: Instant,
    answer: F,
    /// Whether the broker took it, once it has answered.
    is_ack: Option<bool>,
}

impl<T, F> Window<T, F> {
    pub(super) fn new() -> Self {
        Window {
            messages: VecDeque::new(),
            returned: Vec::new(),
        }
    }

    /// How many messages have no verdict yet.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// When the oldest of them was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.messages.front().map(|sent| sent.at)
    }

    /// Counts the time that answers take from now on: nobody could have answered before.
    pub(super) fn renew(&mut self, now: Instant) {
        for sent in &mut self.messages {
            sent.at = now;
        }
    }

    /// Whether something came back, and no more should be sent until all have their answers.
    pub(super) fn is_clearing(&self) -> bool {
        !self.returned.is_empty()
    }
}

impl<T, F, E> Window<T, F>
where
    F: Future<Output = Result<Answer, E>> + Unpin,
{
    /// A message was sent.
    pub(super) fn push(&mut self, what: T, body: Vec<u8>, answer: F, at: Instant) {
        self.messages.push_back(Sent {
            what,
            body,
            at,
            answer,
            is_ack: None,
        });
    }

    /// Waits until it is worth settling: every message has its answer, or many of the first have. What is
    /// answered meanwhile may be settled at any time.
    pub(super) fn answered(&mut self) -> impl Future<Output = Result<(), E>> {
        poll_fn(|context| {
            let mut answered = 0;
            for sent in &mut self.messages {
                if sent.is_ack.is_none() {
                    match sent.poll(&mut self.returned, context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => break,
                    }
                }
                answered += 1;
            }
            let all = self.messages.len();
            let is_worth = answered == all || (answered >= AT_ONCE && !self.is_clearing());
            if is_worth && answered > 0 {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
    }

    /// The messages, in order, of which it is certain what became of them.
    pub(super) fn settle(&mut self) -> Result<Vec<(T, Verdict)>, E> {
        self.look()?;
        let certain = self
            .messages
            .iter()
            .take_while(|sent| sent.is_ack.is_some());
        let certain = certain.count();
        // Whatever came back before those were confirmed hangs on an answer that is there by now.
        self.look()?;
        if self.is_clearing() {
            return Ok(self.clear());
        }
        let settled = self.messages.drain(..certain);
        Ok(settled.map(Sent::verdict).collect())
    }

    fn look(&mut self) -> Result<(), E> {
        let mut context = Context::from_waker(Waker::noop());
        for sent in self
            .messages
            .iter_mut()
            .filter(|sent| sent.is_ack.is_none())
        {
            if let Poll::Ready(Err(error)) = sent.poll(&mut self.returned, &mut context) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn clear(&mut self) -> Vec<(T, Verdict)> {
        if self.messages.iter().any(|sent| sent.is_ack.is_none()) {
            return Vec::new();
        }
        let mut returned = std::mem::take(&mut self.returned);
        let settled = std::mem::take(&mut self.messages).into_iter();
        let verdict = |sent: Sent<T, F>| match returned.iter().position(|body| *body == sent.body) {
            Some(at) => {
                returned.swap_remove(at);
                (sent.what, Verdict::NoRoute)
            }
            None => sent.verdict(),
        };
        settled.map(verdict).collect()
    }
}

impl<T, F> Sent<T, F> {
    fn verdict(self) -> (T, Verdict) {
        let verdict = match self.is_ack {
            Some(true) => Verdict::Confirmed,
            _ => Verdict::Refused,
        };
        (self.what, verdict)
    }
}

impl<T, F, E> Sent<T, F>
where
    F: Future<Output = Result<Answer, E>> + Unpin,
{
    fn poll(
        &mut self,
        returned: &mut Vec<Vec<u8>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        Pin::new(&mut self.answer).poll(context).map(|answer| {
            let answer = answer?;
            self.is_ack = Some(answer.is_ack);
            returned.extend(answer.returned);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    /// A broker and lapin between them, at work while we look: every look at an answer lets them do their
    /// next step first.
    #[derive(Default)]
    struct Broker {
        steps: VecDeque<Step>,
        fates: Vec<Verdict>,
        /// How many messages were looked at by the broker: of those, what should come back has.
        routed: usize,
        /// Those of them without an answer.
        open: Vec<usize>,
        /// What came back and hangs on no answer yet.
        waiting: VecDeque<Vec<u8>>,
        answers: Vec<Option<Answer>>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Nothing,
        /// Routes so many messages more.
        Route(usize),
        /// Answers those with an open one's rank, in this order.
        Answer(usize),
    }

    impl Broker {
        fn work(&mut self) {
            let step = self.steps.pop_front();
            match step.unwrap_or(if self.open.is_empty() {
                Step::Route(1)
            } else {
                Step::Answer(0)
            }) {
                Step::Nothing => {}
                Step::Route(count) => {
                    let until = (self.routed + count).min(self.fates.len());
                    for at in self.routed..until {
                        self.open.push(at);
                        if self.fates[at] == Verdict::NoRoute {
                            self.waiting.push_back(body(at));
                        }
                    }
                    self.routed = until;
                }
                Step::Answer(_) if self.open.is_empty() => {}
                Step::Answer(rank) => {
                    let at = self.open.remove(rank % self.open.len());
                    self.answers[at] = Some(Answer {
                        is_ack: self.fates[at] != Verdict::Refused,
                        returned: self.waiting.pop_front(),
                    });
                }
            }
        }
    }

    fn body(at: usize) -> Vec<u8> {
        format!("body {at}").into_bytes()
    }

    struct Promise(Rc<RefCell<Broker>>, usize);

    impl Future for Promise {
        type Output = Result<Answer, ()>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            let mut broker = self.0.borrow_mut();
            broker.work();
            broker.answers[self.1]
                .take()
                .map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => Just(Step::Nothing),
            1 => (1usize..6).prop_map(Step::Route),
            3 => (0usize..6).prop_map(Step::Answer),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn in_whatever_order_answers_come_nothing_that_came_back_counts_as_confirmed(
            fates in prop::collection::vec(prop_oneof![
                4 => Just(Verdict::Confirmed),
                1 => Just(Verdict::Refused),
                1 => Just(Verdict::NoRoute),
            ], 1..12),
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let broker = Rc::new(RefCell::new(Broker {
                steps: steps.into(),
                fates: fates.clone(),
                answers: vec![None; fates.len()],
                ..Broker::default()
            }));
            let mut window = Window::new();
            for at in 0..fates.len() {
                window.push(at, body(at), Promise(Rc::clone(&broker), at), clock::now());
            }
            let mut settled = Vec::new();
            for _ in 0..200 {
                settled.extend(window.settle().unwrap());
            }
            let expected: Vec<(usize, Verdict)> = fates.into_iter().enumerate().collect();
            prop_assert_eq!(settled, expected);
            prop_assert_eq!(window.len(), 0);
        }
    }
}
