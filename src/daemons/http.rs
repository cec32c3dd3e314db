//! Serves a daemon's HTTP face. A client costs a descriptor for a moment at most, whatever it does: a
//! connection has a limit in time, and their number one of its own, at which the oldest makes room.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;

use crate::web::{self, Health};

/// Connections at once: some scrapers, some monitors and an operator, many times over. One more cuts
/// the oldest off, which has had its time or sleeps.
const CONNECTIONS_MAX: usize = 32;
/// How long a connection may last: an answer takes milliseconds and ends it. Whoever is slower, in
/// asking or in reading, is cut off.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// Serves until the runtime ends. A port that is taken costs the HTTP face and nothing else: a
/// node is watched whether or not anybody can look at its metrics.
pub(super) async fn serve(address: Option<SocketAddr>, health: Arc<dyn Health>) {
    let Some(address) = address else { return };
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "no /healthz, /readyz and /metrics: the address can't be bound");
            return;
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    }
    if let Err(error) = axum::serve(Limited::new(listener), web::router(health)).await {
        tracing::error!(%address, %error, "serving HTTP ended");
    }
}

/// A listener whose connections are bounded in number and in time.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// Those that are open, the oldest first; dropping one cuts it off.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Limited {
    fn new(listener: TcpListener) -> Self {
        Limited {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: VecDeque::new(),
        }
    }

    /// A place for one more connection. Whoever was cut off leaves its own as soon as it notices.
    async fn place(&mut self) -> (Option<OwnedSemaphorePermit>, oneshot::Receiver<()>) {
        self.open.retain(|connection| !connection.is_closed());
        if self.open.len() >= CONNECTIONS_MAX {
            self.open.pop_front();
        }
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (cut, is_cut) = oneshot::channel();
        self.open.push_back(cut);
        (place, is_cut)
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from) = Listener::accept(&mut self.listener).await;
        let (place, is_cut) = self.place().await;
        let connection = Connection {
            stream,
            is_cut,
            deadline: Box::pin(tokio::time::sleep(CONNECTION_LIMIT)),
            _place: place,
        };
        (connection, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over, or when another needs its place.
struct Connection {
    stream: TcpStream,
    is_cut: oneshot::Receiver<()>,
    deadline: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// An error once it is over; else this wakes whoever waits when it will be.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let is_cut = Pin::new(&mut self.is_cut).poll(context).is_ready();
        if is_cut || self.deadline.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::io::{Read, Write};
    use std::net::TcpStream as Blocking;

    struct Well;

    impl Health for Well {
        fn stuck(&self) -> Vec<String> {
            Vec::new()
        }
        fn not_ready(&self) -> Vec<String> {
            vec!["nothing".to_owned()]
        }
        fn metrics(&self, _is_ready: bool) -> String {
            // Far more than a socket's buffers take.
            "m 1\n".repeat(2 << 20)
        }
    }

    fn ask(address: SocketAddr, path: &str) -> Blocking {
        let mut stream = Blocking::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream
    }

    fn answer(mut stream: &Blocking) -> String {
        let mut text = String::new();
        // Whoever is cut off may hear of it by a reset.
        let _ = stream.read_to_string(&mut text);
        text
    }

    /// Idle ones, ones that stop in the middle of asking, and ones that never read their answer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stuck_clients_keep_nobody_out_and_are_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(Limited::new(listener), web::router(Arc::new(Well)));
        tokio::spawn(async move { server.await });
        let clients = move || {
            let idle = |n: usize| match n % 3 {
                0 => Blocking::connect(address).unwrap(),
                1 => {
                    let mut stream = Blocking::connect(address).unwrap();
                    stream.write_all(b"GET /metr").unwrap();
                    stream
                }
                _ => ask(address, "/metrics"),
            };
            let stuck: Vec<Blocking> = (0..120).map(idle).collect();
            let asked = clock::now();
            let health = answer(&ask(address, "/healthz"));
            let took = clock::now() - asked;
            assert!(
                took < CONNECTION_LIMIT,
                "nobody's time had to end first: {took:?}"
            );
            assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
            // All but the newest were cut off: they hear so, and nobody waits for them.
            for stream in &stuck[..stuck.len() - CONNECTIONS_MAX] {
                stream
                    .set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                let mut nothing = [0; 1 << 16];
                let mut stream = stream;
                while matches!(stream.read(&mut nothing), Ok(read) if read > 0) {}
            }
            let ready = answer(&ask(address, "/readyz"));
            assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        };
        tokio::task::spawn_blocking(clients).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_its_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut limited = Limited::new(listener);
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = limited.accept().await;
        let mut nothing = [0; 8];
        let read = tokio::io::AsyncReadExt::read(&mut connection, &mut nothing);
        assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(limited.places.available_permits(), CONNECTIONS_MAX - 1);
        drop(connection);
        assert_eq!(limited.places.available_permits(), CONNECTIONS_MAX);
    }
}
