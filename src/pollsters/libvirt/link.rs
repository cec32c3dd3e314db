//! A connection to libvirt that can't hang anybody: it is opened and asked in a thread of its own,
//! and whoever asks waits no longer than the timeout.
//!
//! ```text
//!          ask, in time                    answered, or answered with an error
//!  closed ─────────────► opening, asking ◄────────────────────────────────────► open
//!    ▲                      │        │
//!    │ refused, gone        │        │ no answer within the timeout: the thread is left to itself
//!    └──── after a pause ◄──┴────────┘
//! ```
//!
//! A thread that is left behind ends as soon as libvirt lets it go, which a stopped libvirtd does when
//! it is killed or goes on. There are never more than [`THREADS_MAX`]; with that many nothing new is
//! tried, and libvirt counts as silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::sys::{Connection, Failure, FailureKind, Listener};
use crate::clock;
use crate::events::{self, Counts, LibvirtCounts};
use crate::model::FailReason;

/// The most threads of one link: the one in use, and those that hang in a call. Nothing is lost
/// beyond it but the attempt to reconnect.
pub const THREADS_MAX: usize = 4;

/// The pause before a second attempt to connect; it doubles with each that fails.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause between two attempts: how much later than libvirt a node may be well again.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It hangs or is dead.
    Silent,
    /// There is no socket where it should be.
    Missing,
    /// It refuses us.
    Denied,
    /// The URI can't be used.
    Unusable,
    /// It answered with an error.
    Error,
}

impl Trouble {
    /// Why there is no reading about what libvirt would have known.
    pub fn reason(self) -> FailReason {
        match self {
            Trouble::Silent => FailReason::HypervisorSilent,
            Trouble::Missing => FailReason::HypervisorNeverSeen,
            Trouble::Denied => FailReason::HypervisorDenied,
            Trouble::Unusable => FailReason::HypervisorUnusable,
            Trouble::Error => FailReason::HypervisorError,
        }
    }
}

type Job = Box<dyn FnOnce(Result<&Connection, &Failure>) + Send>;

/// Asks one libvirt.
pub struct Link {
    uri: String,
    timeout: Duration,
    listener: Option<Listener>,
    thread: Option<Thread>,
    /// One count for each thread that lives, and one for the link.
    threads: Arc<()>,
    pause: Duration,
    retry_at: Option<Instant>,
    last: Option<Trouble>,
    last_text: String,
    /// The last trouble was the end of a connection that had answered before.
    was_cut: bool,
    counts: LibvirtCounts,
}

/// The way to the thread that is in use.
struct Thread {
    jobs: Sender<Job>,
    /// Cleared when the thread is left behind: what it hears then is no news.
    is_current: Arc<AtomicBool>,
    has_answered: bool,
}

/// A question that was asked and not answered yet.
pub struct Pending<T> {
    answer: Receiver<Result<T, Failure>>,
    asked: Instant,
    deadline: Instant,
}

/// What came of waiting.
pub enum Waited<T> {
    /// An answer, or why there is none.
    Over(Result<T, Trouble>),
    /// Its time is not over.
    Still(Pending<T>),
}

impl<T> Pending<T> {
    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the answer is still to come; one that came is thrown away.
    pub fn is_open(&self) -> bool {
        matches!(self.answer.try_recv(), Err(TryRecvError::Empty))
    }
}

impl Link {
    /// A link that opens its connection when it is first asked. Events go to `listener`.
    pub fn new(uri: &str, timeout: Duration, listener: Option<Listener>) -> Self {
        Link {
            uri: uri.to_owned(),
            timeout,
            listener,
            thread: None,
            threads: Arc::default(),
            pause: PAUSE_MIN,
            retry_at: None,
            last: None,
            last_text: String::new(),
            was_cut: false,
            counts: LibvirtCounts::default(),
        }
    }

    /// What it counted since it was asked last.
    pub fn take_counts(&mut self) -> Counts {
        let threads = Arc::strong_count(&self.threads).saturating_sub(1);
        let libvirt = LibvirtCounts {
            threads: u64::try_from(threads).unwrap_or(u64::MAX),
            ..std::mem::take(&mut self.counts)
        };
        Counts {
            libvirt: Some(libvirt),
            ..Counts::default()
        }
    }

    /// Asks, and waits for the answer until the timeout.
    pub fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Trouble> {
        let pending = self.begin(question)?;
        let deadline = pending.deadline;
        match self.finish(pending, deadline) {
            Waited::Over(result) => result,
            Waited::Still(_) => Err(Trouble::Silent),
        }
    }

    /// Asks without waiting.
    pub fn begin<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Pending<T>, Trouble> {
        self.begin_until(clock::now() + self.timeout, question)
    }

    /// The same with a deadline that another question has left.
    pub fn begin_until<T: Send + 'static>(
        &mut self,
        deadline: Instant,
        question: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Pending<T>, Trouble> {
        let (sender, answer) = channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.map_err(Clone::clone).and_then(question);
            // Nobody listens any more when the time was over.
            let _ = sender.send(result);
        });
        let asked = clock::now();
        self.send(job, asked)?;
        Ok(Pending {
            answer,
            asked,
            deadline,
        })
    }

    /// Waits for the answer, at most until `until` or its own deadline.
    pub fn finish<T>(&mut self, pending: Pending<T>, until: Instant) -> Waited<T> {
        let limit = until
            .min(pending.deadline)
            .saturating_duration_since(clock::now());
        match pending.answer.recv_timeout(limit) {
            Ok(Ok(answer)) => {
                self.answered(pending.asked);
                Waited::Over(Ok(answer))
            }
            Ok(Err(failure)) => Waited::Over(Err(self.failed(&failure))),
            // The thread ended without an answer: its question panicked. Start anew.
            Err(RecvTimeoutError::Disconnected) => Waited::Over(Err(self.hangs())),
            Err(RecvTimeoutError::Timeout) if clock::now() < pending.deadline => {
                Waited::Still(pending)
            }
            Err(RecvTimeoutError::Timeout) => Waited::Over(Err(self.hangs())),
        }
    }

    /// Whether the last trouble was the end of a connection that had answered before. It says that
    /// libvirtd ended, and nothing about the one that may have been started since.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Leaves a question without an answer, and its connection with it.
    pub fn abandon(&mut self) {
        self.counts.abandoned += 1;
        self.close();
    }

    /// Leaves the connection: the next question opens a new one.
    pub fn close(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.is_current.store(false, Ordering::SeqCst);
        }
    }

    /// The next question may try to connect although the pause isn't over.
    pub fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// When the next attempt to connect may be made; None while there is a connection.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.thread.is_none())
    }

    fn send(&mut self, job: Job, now: Instant) -> Result<(), Trouble> {
        let mut job = job;
        if let Some(thread) = &self.thread {
            match thread.jobs.send(job) {
                Ok(()) => return Ok(()),
                // That thread has ended; another gets the job.
                Err(returned) => job = returned.0,
            }
        }
        let jobs = self.start(now)?;
        jobs.send(job).map_err(|_| Trouble::Silent)
    }

    fn start(&mut self, now: Instant) -> Result<Sender<Job>, Trouble> {
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(self.last.unwrap_or(Trouble::Silent));
        }
        if Arc::strong_count(&self.threads) > THREADS_MAX {
            let text = "no further attempt while so many threads hang in libvirt";
            return Err(self.down(Trouble::Silent, text, now));
        }
        self.counts.connects += 1;
        let (sender, jobs) = channel();
        let is_current = Arc::new(AtomicBool::new(true));
        let uri = self.uri.clone();
        let listener = self
            .listener
            .clone()
            .map(|to| while_current(to, &is_current));
        let alive = Arc::clone(&self.threads);
        let spawned = std::thread::Builder::new()
            .name("libvirt".to_owned())
            .spawn(move || {
                serve(&uri, listener.as_ref(), &jobs);
                drop(alive);
            });
        if let Err(error) = spawned {
            return Err(self.down(Trouble::Error, &error.to_string(), now));
        }
        self.thread = Some(Thread {
            jobs: sender.clone(),
            is_current,
            has_answered: false,
        });
        Ok(sender)
    }

    fn answered(&mut self, asked: Instant) {
        let took = clock::now().saturating_duration_since(asked);
        self.counts.slowest = self.counts.slowest.max(Some(took));
        if self.last.take().is_some() {
            events::hypervisor_answers(&self.uri);
        }
        if let Some(thread) = &mut self.thread {
            thread.has_answered = true;
        }
        self.pause = PAUSE_MIN;
        self.retry_at = None;
        self.last_text.clear();
    }

    fn failed(&mut self, failure: &Failure) -> Trouble {
        let trouble = match failure.kind {
            FailureKind::Dead => Trouble::Silent,
            FailureKind::Missing => Trouble::Missing,
            FailureKind::Denied => Trouble::Denied,
            FailureKind::Unusable => Trouble::Unusable,
            // The connection is good: only this question failed.
            FailureKind::Other | FailureKind::NoDomain => {
                self.tell(&failure.text);
                return Trouble::Error;
            }
        };
        let had_answered = self
            .thread
            .as_ref()
            .is_some_and(|thread| thread.has_answered);
        let trouble = self.down(trouble, &failure.text, clock::now());
        self.was_cut = had_answered;
        trouble
    }

    fn hangs(&mut self) -> Trouble {
        let text = format!("no answer within {:?}", self.timeout);
        self.counts.abandoned += 1;
        self.down(Trouble::Silent, &text, clock::now())
    }

    /// Leaves the thread to itself, and puts the next attempt off.
    fn down(&mut self, trouble: Trouble, text: &str, now: Instant) -> Trouble {
        self.close();
        self.was_cut = false;
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_LIMIT);
        self.last = Some(trouble);
        self.tell(text);
        trouble
    }

    /// Says what is wrong once, and not again while it stays the same.
    fn tell(&mut self, text: &str) {
        if self.last_text != text {
            events::hypervisor_failed(&self.uri, text);
            text.clone_into(&mut self.last_text);
        }
    }
}

/// Passes events on as long as the flag is set.
fn while_current(listener: Listener, is_current: &Arc<AtomicBool>) -> Listener {
    let is_current = Arc::clone(is_current);
    Arc::new(move |event| {
        if is_current.load(Ordering::SeqCst) {
            listener(event);
        }
    })
}

/// The thread: opens the connection, and answers until nobody asks any more.
fn serve(uri: &str, listener: Option<&Listener>, jobs: &Receiver<Job>) {
    let opened = Connection::open(uri).and_then(|mut connection| {
        listener.map_or(Ok(()), |listener| connection.listen(listener))?;
        Ok(connection)
    });
    while let Ok(job) = jobs.recv() {
        job(opened.as_ref());
        if opened.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// libvirt's own driver for tests, which lives in the process that asks and has one domain.
    const URI: &str = "test:///default";

    fn link(timeout: Duration) -> Link {
        Link::new(URI, timeout, None)
    }

    /// Threads of the link that live.
    fn living(link: &Link) -> usize {
        Arc::strong_count(&link.threads) - 1
    }

    /// Waits for threads to end, which they do by themselves.
    fn wait_for_threads(link: &Link, count: usize) {
        let deadline = clock::now() + Duration::from_secs(30);
        while living(link) > count {
            assert!(clock::now() < deadline, "{} threads live", living(link));
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_answers() {
        let mut link = link(Duration::from_secs(10));
        let states = link.ask(Connection::states).unwrap();
        let seen: Vec<(String, i64)> = states
            .iter()
            .map(|domain| (domain.uuid.to_string(), domain.state))
            .collect();
        assert_eq!(
            seen,
            [("6695eb01-f6a4-8304-79aa-97f2502e193f".to_owned(), 1)]
        );
        assert_eq!(link.ask(Connection::ping), Ok(()));
        assert_eq!(living(&link), 1, "one connection serves all questions");
    }

    #[test]
    fn what_hangs_costs_the_timeout_and_never_more_threads_than_stated() {
        let timeout = Duration::from_millis(20);
        let mut link = link(timeout);
        let (release, hold) = channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        for hanging in 0..THREADS_MAX {
            assert_eq!(living(&link), hanging);
            link.retry_at = None;
            let hold = Arc::clone(&hold);
            let answer = link.ask(move |_| {
                // Ends with the test's own end of the channel.
                let _ = hold.lock().unwrap().recv();
                Ok(())
            });
            assert_eq!(answer, Err(Trouble::Silent));
        }
        link.retry_at = None;
        assert_eq!(link.ask(Connection::ping), Err(Trouble::Silent));
        assert_eq!(living(&link), THREADS_MAX, "no thread too many was started");
        drop(release);
        wait_for_threads(&link, 0);
        link.retry_at = None;
        link.timeout = Duration::from_secs(10);
        assert_eq!(link.ask(Connection::ping), Ok(()), "it heals");
    }

    #[test]
    fn attempts_are_put_off_ever_longer_and_an_answer_forgets_that() {
        let mut link = Link::new("test:///no/such/file.xml", Duration::from_secs(10), None);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            link.retry_at = None;
            assert_eq!(link.ask(Connection::ping), Err(Trouble::Unusable));
            let now = clock::now();
            pauses.push(link.retry_at().unwrap() - now);
            assert_eq!(
                link.ask(Connection::ping),
                Err(Trouble::Unusable),
                "the last trouble stands until the next attempt"
            );
        }
        assert!(
            pauses
                .windows(2)
                .all(|two| two[0] < two[1] || two[1] > PAUSE_LIMIT / 2)
        );
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_LIMIT));
        link.uri = URI.to_owned();
        link.retry_at = None;
        assert_eq!(link.ask(Connection::ping), Ok(()));
        assert_eq!((link.pause, link.retry_at()), (PAUSE_MIN, None));
    }

    #[test]
    fn a_question_that_fails_leaves_the_connection_alone() {
        let mut link = link(Duration::from_secs(10));
        let failure = Failure {
            kind: FailureKind::Other,
            text: "no".to_owned(),
        };
        assert_eq!(link.ask(|_| Err::<(), _>(failure)), Err(Trouble::Error));
        assert_eq!(link.retry_at(), None);
        assert_eq!(link.ask(Connection::ping), Ok(()));
        assert_eq!(living(&link), 1);
    }

    #[test]
    fn troubles_are_told_apart() {
        for (uri, expected) in [
            ("test:///no/such/file.xml", Trouble::Unusable),
            (
                "qemu+unix:///system?socket=/no/such/socket",
                Trouble::Missing,
            ),
            ("not a uri", Trouble::Error),
            ("test:///de\0fault", Trouble::Unusable),
        ] {
            let mut link = Link::new(uri, Duration::from_secs(10), None);
            assert_eq!(
                link.ask(Connection::ping),
                Err(expected),
                "{uri:?}: {}",
                link.last_text
            );
        }
    }

    #[test]
    fn a_question_may_outlast_a_wait() {
        let mut link = link(Duration::from_secs(10));
        let (release, hold) = channel::<()>();
        let pending = link
            .begin(move |_| {
                let _ = hold.recv();
                Ok(7)
            })
            .unwrap_or_else(|trouble| panic!("{trouble:?}"));
        let Waited::Still(pending) = link.finish(pending, clock::now()) else {
            panic!("the question was answered too early");
        };
        drop(release);
        match link.finish(pending, clock::now() + Duration::from_secs(10)) {
            Waited::Over(answer) => assert_eq!(answer, Ok(7)),
            Waited::Still(_) => panic!("no answer in time"),
        }
    }
}
