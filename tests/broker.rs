//! Connections to a message broker and declarations there, against a RabbitMQ of each test's own.

// A test's helpers may fail as the test itself may.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ceilometer_ha::broker::{Broker, BrokerError, CONNECT_LIMIT, Queue, Topology};
use ceilometer_ha::clock;
use ceilometer_ha::config::{BrokerSettings, ConfigText, Purpose, load};
use ceilometer_ha::events::Chain;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use nix::sys::signal::Signal;
use support::process::Process;
use support::rabbitmq::{PASSWORD, PROVE_CLIENTS, Server};
use support::{run, wait_for};

/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(10);

fn settings(url: &str, section: &str) -> BrokerSettings {
    let file = ConfigText {
        path: "/etc/ha/ha.conf".into(),
        text: format!("[DEFAULT]\ntransport_url = {url}\n[oslo_messaging_rabbit]\n{section}"),
    };
    let loaded = load(Purpose::Everything, &[file], &[], "node", false);
    loaded
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
        .broker
}

fn broker(url: &str, section: &str) -> Broker {
    Broker::new(Arc::new(settings(url, section)), "test")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Why it isn't let in, with all causes; never with the password.
async fn refusal(broker: &Broker) -> (BrokerError, String) {
    let error = broker.connect().await.expect_err("nobody is let in");
    let words = format!("{}", Chain(&error));
    assert!(!format!("{words} {error:?}").contains(PASSWORD), "{words}");
    (error, words)
}

/// A place where connections are taken and nothing is ever said.
fn silence() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn who_is_not_let_in_learns_what_is_wrong() {
    let server = Server::start();
    let url = server.url();
    runtime().block_on(async {
        let link = broker(&url, "").connect().await.unwrap();
        assert_eq!(link.member(), format!("127.0.0.1:{}", server.port()));
        link.channel().await.unwrap();
        link.close().await;

        let wrong_password = url.replace("p%40ss", "another");
        let (error, words) = refusal(&broker(&wrong_password, "")).await;
        assert!(matches!(error, BrokerError::Login { .. }), "{error:?}");
        assert!(
            words.contains("refuses the user ceilometer or the password"),
            "{words}"
        );

        let (error, words) = refusal(&broker(&url.replace("/ha", "/nowhere"), "")).await;
        assert!(
            matches!(error, BrokerError::VirtualHost { .. }),
            "{error:?}"
        );
        assert!(
            words.contains("virtual host \"nowhere\" isn't there"),
            "{words}"
        );

        let (closed, port) = silence();
        drop(closed);
        let (error, words) = refusal(&broker(&format!("rabbit://127.0.0.1:{port}"), "")).await;
        assert!(
            matches!(error, BrokerError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(words.contains("refused"), "{words}");
        let (_, words) = refusal(&broker("rabbit://no-such-host.invalid/", "")).await;
        assert!(words.contains("no-such-host.invalid"), "{words}");
    });
}

#[test]
fn a_member_that_is_dead_or_hangs_costs_its_limit_and_the_next_one_serves() {
    let server = Server::start();
    let (_open, hung) = silence();
    let (closed, dead) = silence();
    drop(closed);
    let rest = server.url().replace("rabbit://", "");
    let login = rest.split('@').next().unwrap();
    let url = format!("rabbit://{login}@127.0.0.1:{dead},{login}@127.0.0.1:{hung},{rest}");
    runtime().block_on(async {
        let members = broker(&url, "heartbeat_timeout_threshold = 1\n");
        let (error, _) = refusal(&members).await;
        assert!(
            matches!(error, BrokerError::Unreachable { .. }),
            "{error:?}"
        );
        let begun = clock::now();
        let (error, words) = refusal(&members).await;
        took_its_limit(begun, &words);
        assert!(words.contains("logging in"), "{words}");
        assert!(matches!(error, BrokerError::TooLate { .. }), "{error:?}");
        let link = members.connect().await.unwrap();
        assert_eq!(link.member(), format!("127.0.0.1:{}", server.port()));

        // The one that serves is asked again first, and hangs now.
        server.signal(Signal::SIGSTOP);
        let begun = clock::now();
        let (_, words) = refusal(&members).await;
        took_its_limit(begun, &words);
        wait_for("a missed heartbeat", || {
            (!link.connection().status().connected()).then_some(())
        });
        server.signal(Signal::SIGCONT);
        refusal(&members).await;
        refusal(&members).await;
        members.connect().await.unwrap().close().await;
    });
}

fn took_its_limit(begun: Instant, words: &str) {
    let took = clock::now() - begun;
    let tolerated = CONNECT_LIMIT - Duration::from_millis(100)..CONNECT_LIMIT + SLACK;
    assert!(tolerated.contains(&took), "{took:?}: {words}");
}

#[test]
fn tls_trusts_whom_it_is_told_to_and_nobody_else() {
    let server = Server::start_tls_with(&PROVE_CLIENTS);
    let tls = server.tls();
    let url = server.tls_url();
    let section = |ca: &Path, identity: Option<(&Path, &Path)>| {
        let identity = identity.map_or(String::new(), |(certificate, key)| {
            format!(
                "ssl_cert_file = {}\nssl_key_file = {}\n",
                certificate.display(),
                key.display()
            )
        });
        format!("ssl = true\nssl_ca_file = {}\n{identity}", ca.display())
    };
    let own = (tls.client_certificate.as_path(), tls.client_key.as_path());
    let good = section(&tls.ca, Some(own));
    runtime().block_on(async {
        broker(&url, &good).connect().await.unwrap().close().await;
        let by_name = url.replace("127.0.0.1", "localhost");
        broker(&by_name, &good)
            .connect()
            .await
            .unwrap()
            .close()
            .await;
        let mapped = url.replace("127.0.0.1", "[::ffff:127.0.0.1]");
        let other = (tls.other_certificate.as_path(), tls.other_key.as_path());
        let mixed = (tls.client_certificate.as_path(), tls.other_key.as_path());
        for (url, section, words) in [
            (
                &url,
                section(&tls.other_ca, Some(own)),
                "signed by nobody who is trusted",
            ),
            (
                &url,
                format!(
                    "ssl = true\nssl_cert_file = {}\nssl_key_file = {}\n",
                    own.0.display(),
                    own.1.display()
                ),
                "signed by nobody who is trusted",
            ),
            (
                &mapped,
                good.clone(),
                "its certificate is not for ::ffff:127.0.0.1",
            ),
            (
                &url,
                section(&tls.ca, None),
                "wants another certificate of ours",
            ),
            (
                &url,
                section(&tls.ca, Some(other)),
                "wants another certificate of ours",
            ),
            (&url, section(&tls.ca, Some(mixed)), "client.pem"),
            (
                &url,
                section(Path::new("/no/such/file"), None),
                "reading /no/such/file",
            ),
            (
                &url,
                section(&tls.client_key, Some(own)),
                "it holds no certificate",
            ),
            (
                &server.url(),
                good.clone(),
                "doesn't speak TLS on this port",
            ),
        ] {
            let (error, said) = refusal(&broker(url, &section)).await;
            assert!(said.contains(words), "{words}: {said}");
            assert!(
                matches!(error, BrokerError::Tls { .. } | BrokerError::File { .. }),
                "{error:?}"
            );
        }
        // A renewed file counts from the next connection on.
        let folder = tempfile::tempdir().unwrap();
        let renewed = folder.path().join("ca.pem");
        fs::copy(&tls.other_ca, &renewed).unwrap();
        let patient = broker(&url, &section(&renewed, Some(own)));
        refusal(&patient).await;
        fs::copy(&tls.ca, &renewed).unwrap();
        patient.connect().await.unwrap().close().await;
    });
}

#[test]
fn an_expired_certificate_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let arguments = arguments.split_whitespace();
        run(Command::new("openssl")
            .current_dir(folder.path())
            .args(arguments));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -keyout ca.key -out ca.pem -subj /CN=ca"
    ));
    openssl(&format!(
        "req {key} -keyout old.key -out old.csr -subj /CN=old"
    ));
    fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl("x509 -req -in old.csr -CA ca.pem -CAkey ca.key -days -1 -extfile names -out old.pem");
    let (listener, port) = silence();
    drop(listener);
    let mut command = Command::new("openssl");
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.args([
        "s_server", "-quiet", "-cert", "old.pem", "-key", "old.key", "-accept",
    ]);
    command.arg(format!("127.0.0.1:{port}"));
    let _server = Process::start(&mut command, &folder.path().join("log"));
    let section = format!(
        "ssl = true\nssl_ca_file = {}\n",
        folder.path().join("ca.pem").display()
    );
    let broker = broker(&format!("rabbit://127.0.0.1:{port}/"), &section);
    wait_for("somebody to listen", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let (_, words) = runtime().block_on(refusal(&broker));
    assert!(words.contains("its certificate has expired"), "{words}");
}

/// What is there already is used as it is, and named; and it works.
#[test]
fn declarations_that_clash_take_what_is_there() {
    let server = Server::start();
    let url = server.url();
    let deployments = [
        ("plain", ""),
        ("durable", "amqp_durable_queues = true\n"),
        ("quorum", "rabbit_quorum_queue = true\n"),
        ("gone", "amqp_auto_delete = true\n"),
        ("mirrored", "rabbit_ha_queues = true\n"),
    ];
    runtime().block_on(async {
        for (there, theirs) in deployments {
            for (here, ours) in deployments {
                let topic = format!("{there}_{here}");
                let exchange = format!("control_exchange = {topic}\n");
                let with_exchange = |section: &str| {
                    let mut settings = settings(&url, section);
                    settings.declared.exchange = topic.clone();
                    settings
                };
                let (theirs, ours) = (with_exchange(theirs), with_exchange(ours));
                let queues = vec![Queue::of_topic(&topic)];
                let first = Topology {
                    declared: &theirs.declared,
                    queues: queues.clone(),
                };
                let second = Topology {
                    declared: &ours.declared,
                    queues,
                };
                let link = broker(&url, "").connect().await.unwrap();
                assert_eq!(
                    first.declare(&link).await.unwrap(),
                    [""; 0],
                    "{topic} {exchange}"
                );
                let differing = second.declare(&link).await.unwrap();
                let is_durable = |name: &str| matches!(name, "durable" | "quorum");
                let mut expected = Vec::new();
                if is_durable(there) != is_durable(here) || (there == "gone") != (here == "gone") {
                    expected.push(topic.clone());
                }
                let kind = |name: &str| match name {
                    // RabbitMQ since 3.0 knows nothing of this argument.
                    "mirrored" => "plain".to_owned(),
                    other => other.to_owned(),
                };
                if kind(there) != kind(here) {
                    expected.push(format!("{topic}.sample"));
                }
                assert_eq!(differing, expected, "{topic}");

                let channel = link.channel().await.unwrap();
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await
                    .unwrap();
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let key = format!("{topic}.sample");
                let confirm = channel
                    .basic_publish(
                        topic.as_str().into(),
                        key.as_str().into(),
                        options,
                        b"x",
                        BasicProperties::default(),
                    )
                    .await
                    .unwrap();
                assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None), "{topic}");
                link.close().await;
            }
        }
    });
}
