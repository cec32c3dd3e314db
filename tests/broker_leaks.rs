//! What connections to a message broker leave behind that came to nothing: no thread, no descriptor and no
//! task. The only test in its process, because it counts what the process has.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ceilometer_ha::broker::{Broker, CONNECT_LIMIT};
use ceilometer_ha::clock;
use ceilometer_ha::config::{ConfigText, Purpose, load};
use futures_util::future::join_all;

/// So many attempts of each kind.
const ATTEMPTS: usize = 200;
/// The longest that a test waits for what ends by itself.
const LIMIT: Duration = Duration::from_secs(30);

fn broker(port: u16) -> Arc<Broker> {
    let file = ConfigText {
        path: "/etc/ha/ha.conf".into(),
        text: format!("[DEFAULT]\ntransport_url = rabbit://127.0.0.1:{port}/\n"),
    };
    let loaded = load(Purpose::Everything, &[file], &[], "node", false).unwrap();
    Arc::new(Broker::new(Arc::new(loaded.settings.broker), "test"))
}

/// Threads, descriptors and tasks.
fn held(runtime: &tokio::runtime::Runtime) -> [usize; 3] {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    let tasks = runtime.metrics().num_alive_tasks();
    [count("/proc/self/task"), count("/proc/self/fd"), tasks]
}

fn fail_all(runtime: &tokio::runtime::Runtime, broker: &Arc<Broker>) {
    let attempt = || async { broker.connect().await.map(|_| ()) };
    let outcomes = runtime.block_on(join_all((0..ATTEMPTS).map(|_| attempt())));
    assert!(outcomes.iter().all(Result::is_err));
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let dead = closed.local_addr().unwrap().port();
    drop(closed);
    // Takes connections and says nothing; each is closed when the other side closed it.
    let hung = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let hung_port = hung.local_addr().unwrap().port();
    // Closes at once, whatever it is told.
    let rude = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let rude_port = rude.local_addr().unwrap().port();
    std::thread::spawn(move || hung.incoming().flatten().for_each(until_it_ends));
    std::thread::spawn(move || rude.incoming().flatten().for_each(drop));
    // The first of each starts what the runtime keeps.
    for port in [dead, rude_port] {
        fail_all(&runtime, &broker(port));
    }
    let settled = |what: &str, before: [usize; 3]| {
        let deadline = clock::now() + LIMIT;
        loop {
            let now = held(&runtime);
            if now.iter().zip(before).all(|(now, before)| *now <= before) {
                return;
            }
            assert!(clock::now() < deadline, "{what}: {before:?}, then {now:?}");
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        }
    };
    let before = held(&runtime);
    for (what, port) in [("dead", dead), ("rude", rude_port), ("hung", hung_port)] {
        let begun = clock::now();
        fail_all(&runtime, &broker(port));
        assert!(clock::now() - begun < CONNECT_LIMIT + LIMIT, "{what}");
        settled(what, before);
    }
}

/// Reads in a thread of its own until the other side is gone.
fn until_it_ends(mut client: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while client.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
}
