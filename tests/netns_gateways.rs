//! Real ICMP over real links: what dying gateways, loss, refusals and cut paths read as, from the
//! agent in its namespace to the database on the controller. The table "what a probe means" of
//! ARCHITECTURE.md names these tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use nix::sys::signal::Signal;
use support::lab::{AgentConfig, Family, Lab, gateway, gateway_status, verdict};
use support::process::Process;
use support::{first_zero_after, query, volumes, wait_for, wall_clock};

/// A lab whose node has been seen to reach both gateways.
fn healthy(family: Family, compute: &str) -> (Lab, Process, Process) {
    let lab = Lab::new();
    let collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&family.gateways()).compute(compute));
    let [first, second] = family.gateways();
    lab.wait_for_node("both gateways to answer", |node| {
        verdict(node) == "reachable"
            && gateway_status(node, first) == "answered"
            && gateway_status(node, second) == "answered"
    });
    (lab, collector, agent)
}

fn gateways_die_and_come_back(family: Family) {
    let (lab, _collector, _agent) = healthy(family, "");
    let [first, second] = family.gateways();

    lab.silence("gw1", true);
    let node = lab.wait_for_node("one silent gateway", |node| {
        gateway_status(node, first) == "silent"
    });
    assert_eq!(verdict(&node), "reachable", "one of two is enough");
    assert_eq!(gateway_status(&node, second), "answered");
    assert_eq!(gateway(&node, first)["loss_ratio"], 1.0);
    assert_eq!(gateway(&node, second)["loss_ratio"], 0.0);
    assert!(gateway(&node, second)["rtt_us"].as_f64().unwrap() > 0.0);

    lab.silence("gw2", true);
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    lab.silence("gw1", false);
    lab.wait_for_node("storage to be back", |node| verdict(node) == "reachable");
    assert_eq!(lab.failures(), [], "a dead gateway is no fault of ours");
}

#[test]
fn dead_gateways_v4() {
    gateways_die_and_come_back(Family::V4);
}

#[test]
fn dead_gateways_v6() {
    gateways_die_and_come_back(Family::V6);
}

/// The value of a series of the agent's, its labels in alphabetical order; None while it isn't there.
fn metric(scrape: &str, series: &str) -> Option<f64> {
    let start = format!("ceilometer_ha_{series} ");
    let value = scrape.lines().find_map(|line| line.strip_prefix(&start));
    value.map(|value| value.parse().expect("a number"))
}

#[test]
fn metrics_show_each_gateway_and_what_became_of_every_probe() {
    let (lab, _collector, _agent) = healthy(Family::V4, "");
    let [first, second] = Family::V4.gateways();
    lab.silence("gw1", true);
    let reject = "-p icmp --icmp-type echo-request -j REJECT --reject-with icmp-admin-prohibited";
    lab.inside("gw2", &format!("iptables -A INPUT {reject}"));
    lab.wait_for_node("one silent gateway and one that a filter guards", |node| {
        gateway_status(node, first) == "silent" && gateway_status(node, second) == "prohibited"
    });
    let probes = |scrape: &str, result: &str| {
        let labels = format!("pollster=\"storage_connectivity\",result=\"{result}\"");
        let start = format!("probes_total{{{labels},source=\"");
        let line = scrape.lines().find(|line| line.contains(&start));
        line.map_or(0.0, |line| {
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
    };
    let total = |scrape: &str, name: &str, label: &str| -> f64 {
        let lines = scrape
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let scrape = wait_for("a scrape between two rounds", || {
        let scrape = lab.inside("node", "curl -s http://127.0.0.1:9180/metrics");
        let rounds = total(&scrape, "ceilometer_ha_rounds_total", "storage");
        let counted = total(&scrape, "ceilometer_ha_probes_total", "storage");
        let is_shown = probes(&scrape, "silent") > 4.0 && probes(&scrape, "prohibited") > 4.0;
        (is_shown && counted == rounds * 8.0).then_some(scrape)
    });
    assert!(probes(&scrape, "answered") >= 8.0, "before");
    assert_eq!(probes(&scrape, "not_sent"), 0.0);
    let source = scrape
        .split("ceilometer_ha_storage_reachable{source=\"")
        .nth(1)
        .unwrap();
    let source = source.split('"').next().unwrap();
    let of = |name: &str, gateway: &str| {
        metric(
            &scrape,
            &format!("{name}{{gateway=\"{gateway}\",source=\"{source}\"}}"),
        )
    };
    assert_eq!(
        (of("gateway_status", first), of("gateway_status", second)),
        (Some(1.0), Some(3.0))
    );
    assert_eq!(of("gateway_loss_ratio", first), Some(1.0));
    assert_eq!(of("gateway_rtt_seconds", first), None, "nothing came back");
    assert_eq!(
        metric(
            &scrape,
            &format!("storage_reachable{{source=\"{source}\"}}")
        ),
        Some(0.0)
    );
}

/// Lets `of` in every `every` probes through to a gateway and drops the rest.
fn drop_all_but(lab: &Lab, family: Family, namespace: &str, every: u32, passes: &[u32]) {
    let (iptables, icmp, request) = (family.iptables(), family.icmp(), family.echo_request());
    // Each rule counts only the packets that reach it, so the modulus shrinks from rule to rule.
    let mut left = every;
    for _ in passes {
        let accept = format!("-m statistic --mode nth --every {left} --packet 0 -j ACCEPT");
        lab.inside(
            namespace,
            &format!("{iptables} -A INPUT -p {icmp} {request} {accept}"),
        );
        left -= 1;
    }
    lab.inside(
        namespace,
        &format!("{iptables} -A INPUT -p {icmp} {request} -j DROP"),
    );
}

fn loss_is_compared_with_the_accepted_ratio(family: Family) {
    let (lab, _collector, _agent) = healthy(family, "");
    let [first, second] = family.gateways();
    drop_all_but(&lab, family, "gw1", 4, &[0, 1]);
    drop_all_but(&lab, family, "gw2", 4, &[0]);
    let node = lab.wait_for_node("loss at both gateways", |node| {
        gateway(node, first)["loss_ratio"] == 0.5 && gateway(node, second)["loss_ratio"] == 0.75
    });
    assert_eq!(
        gateway_status(&node, first),
        "answered",
        "half lost is accepted by default"
    );
    assert_eq!(
        gateway_status(&node, second),
        "silent",
        "three quarters are not"
    );
    assert_eq!(verdict(&node), "reachable");

    lab.silence("gw1", true);
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert_eq!(lab.failures(), []);
}

#[test]
fn half_lost_is_reachable_three_quarters_are_not_v4() {
    loss_is_compared_with_the_accepted_ratio(Family::V4);
}

#[test]
fn half_lost_is_reachable_three_quarters_are_not_v6() {
    loss_is_compared_with_the_accepted_ratio(Family::V6);
}

/// A lab whose node reaches its storage, with a raw socket or with one that needs no privilege.
fn healthy_on(family: Family, unprivileged: bool) -> (Lab, Process, Process) {
    let lab = Lab::new();
    if unprivileged {
        lab.inside(
            "node",
            "sysctl -qw net.ipv4.ping_group_range='0 2147483647'",
        );
    }
    let collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&family.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    (lab, collector, agent)
}

/// ICMP errors, on a raw socket (where they arrive like replies) and on an unprivileged one (where
/// they come through the error queue).
fn refusals_are_losses(family: Family, unprivileged: bool) {
    let (unreachable, prohibited) = match family {
        Family::V4 => ("icmp-host-unreachable", "icmp-host-prohibited"),
        Family::V6 => ("icmp6-addr-unreachable", "icmp6-adm-prohibited"),
    };
    let (lab, _collector, _agent) = healthy_on(family, unprivileged);
    let [first, second] = family.gateways();

    for (namespace, how) in [("gw1", unreachable), ("gw2", prohibited)] {
        let (iptables, icmp, request) = (family.iptables(), family.icmp(), family.echo_request());
        lab.inside(
            namespace,
            &format!("{iptables} -A INPUT -p {icmp} {request} -j REJECT --reject-with {how}"),
        );
    }
    let node = lab.wait_for_node("both to be refused", |node| {
        gateway_status(node, first) == "unreachable" && gateway_status(node, second) == "prohibited"
    });
    assert_eq!(
        gateway(&node, first)["loss_ratio"],
        1.0,
        "an error is no reply"
    );
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert_eq!(lab.failures(), []);
}

#[test]
fn icmp_errors_are_losses_on_a_raw_socket_v4() {
    refusals_are_losses(Family::V4, false);
}

#[test]
fn icmp_errors_are_losses_on_a_raw_socket_v6() {
    refusals_are_losses(Family::V6, false);
}

#[test]
fn icmp_errors_are_losses_on_an_unprivileged_socket_v4() {
    refusals_are_losses(Family::V4, true);
}

#[test]
fn icmp_errors_are_losses_on_an_unprivileged_socket_v6() {
    refusals_are_losses(Family::V6, true);
}

/// Nobody answers the neighbour's question: our own stack says so, and it is evidence.
fn neighbours_are_gone(family: Family, unprivileged: bool) {
    let (lab, _collector, _agent) = healthy_on(family, unprivileged);
    lab.inside("gw1", "ip link set st0 down");
    lab.inside("gw2", "ip link set st0 down");
    lab.inside("node", "ip neigh flush dev st0");
    let [first, _] = family.gateways();
    lab.wait_for_node("the stack to say unreachable", |node| {
        gateway_status(node, first) == "unreachable"
    });
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert_eq!(lab.failures(), []);
}

#[test]
fn a_neighbour_that_is_gone_is_a_loss_v4() {
    neighbours_are_gone(Family::V4, false);
}

#[test]
fn a_neighbour_that_is_gone_is_a_loss_v6() {
    neighbours_are_gone(Family::V6, false);
}

#[test]
fn a_neighbour_that_is_gone_is_a_loss_on_an_unprivileged_socket_v4() {
    neighbours_are_gone(Family::V4, true);
}

#[test]
fn a_neighbour_that_is_gone_is_a_loss_on_an_unprivileged_socket_v6() {
    neighbours_are_gone(Family::V6, true);
}

/// Our probes leave by the right interface, and the gateways' answers come in by another.
fn answers_come_around(family: Family) {
    let (lab, _collector, _agent) = healthy(family, "");
    let (flag, controller) = (family.flag(), family.controller_on_storage());
    let (node, bits) = family.node_on_storage();
    // Without the filter below the gateways would send along the short way that the router names.
    lab.inside(
        "ctl",
        "sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.st0.send_redirects=0",
    );
    lab.inside(
        "ctl",
        &format!(
            "ip {flag} route add {node}/{bits} via {}",
            family.node_on_management()
        ),
    );
    for gateway in ["gw1", "gw2"] {
        lab.inside(
            gateway,
            "sysctl -qw net.ipv4.conf.st0.accept_redirects=0 net.ipv6.conf.st0.accept_redirects=0",
        );
        lab.inside(
            gateway,
            &format!("ip {flag} route add {node}/{bits} via {controller}"),
        );
    }
    let [first, _] = family.gateways();
    lab.wait_for_node("answers by the wrong interface", |node| {
        gateway_status(node, first) == "wrong_path"
    });
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert_eq!(lab.failures(), []);
}

#[test]
fn an_answer_that_comes_around_is_no_answer_v4() {
    answers_come_around(Family::V4);
}

#[test]
fn an_answer_that_comes_around_is_no_answer_v6() {
    answers_come_around(Family::V6);
}

/// The ways in which a node loses its own side of the storage path.
fn cuts(family: Family) -> [(&'static str, &'static str, String); 4] {
    [
        ("link down", "node", "ip link set st0 down".to_owned()),
        ("cable pulled", "switch", "ip link set node down".to_owned()),
        (
            "address removed",
            "node",
            format!("ip {} addr flush dev st0 scope global", family.flag()),
        ),
        (
            "route removed",
            "node",
            format!(
                "ip {} route del {} dev st0",
                family.flag(),
                family.storage_network()
            ),
        ),
    ]
}

/// The time from `since` to the first 0 that was stored after it, by the database.
fn seconds_to_stored_zero(lab: &Lab, since: f64) -> f64 {
    let sql = first_zero_after(since);
    wait_for("a stored 0", || {
        query(&lab.database(), &sql)[0]["at"].as_f64()
    }) - since
}

fn own_path_cut(family: Family, which: usize, with_detour: bool) {
    let (lab, _collector, agent) = healthy(family, "");
    if with_detour {
        // The gateways now answer by way of management too, and must not count.
        lab.default_route_over_management();
        let [gateway, _] = family.gateways();
        wait_for("the detour to work", || {
            lab.succeeds("node", &format!("ping -c1 -W1 -I mg0 {gateway}"))
                .then_some(())
        });
    }
    let (what, namespace, command) = &cuts(family)[which];
    let cut_at = wall_clock();
    lab.inside(namespace, command);
    let took = seconds_to_stored_zero(&lab, cut_at);
    assert!(took <= 3.0, "{what}: stored after {took:.2} s");
    let [first, _] = family.gateways();
    let node = lab.wait_for_node("the reason", |node| {
        gateway_status(node, first) == "local_path_lost"
    });
    assert!(
        node["heartbeat"]["fresh"].as_bool().unwrap(),
        "management still carries the heartbeat"
    );

    // A restart remembers what answered, and by which interface.
    agent.kill();
    let restarted_at = wall_clock();
    let agent = lab.agent(&AgentConfig::new(&family.gateways()));
    let took = seconds_to_stored_zero(&lab, restarted_at);
    assert!(
        took <= 3.0,
        "{what}, after a restart: stored after {took:.2} s"
    );
    assert_eq!(
        lab.failures(),
        [],
        "a known path that is gone is a loss, not a fault of the agent"
    );
    drop(agent);
}

macro_rules! own_path_cuts {
    ($($name:ident: $family:expr, $which:expr, $detour:expr;)+) => {
        $(#[test] fn $name() { own_path_cut($family, $which, $detour); })+
    };
}

own_path_cuts! {
    own_link_down_v4: Family::V4, 0, false;
    own_link_down_v6: Family::V6, 0, false;
    own_cable_pulled_v4: Family::V4, 1, false;
    own_cable_pulled_v6: Family::V6, 1, false;
    own_address_removed_v4: Family::V4, 2, false;
    own_address_removed_v6: Family::V6, 2, false;
    own_route_removed_v4: Family::V4, 3, false;
    own_route_removed_v6: Family::V6, 3, false;
    own_link_down_and_management_answers_v4: Family::V4, 0, true;
    own_link_down_and_management_answers_v6: Family::V6, 0, true;
    own_route_removed_and_management_answers_v4: Family::V4, 3, true;
}

/// With `storage_interface`, other routes neither help nor hurt.
#[test]
fn a_configured_interface_is_the_only_one_that_counts() {
    for compute in [
        "storage_interface = st0",
        "storage_source_address = 10.77.1.2",
    ] {
        let (lab, _collector, _agent) = healthy(Family::V4, compute);
        lab.default_route_over_management();
        lab.inside("node", "ip link set st0 down");
        lab.wait_for_node(compute, |node| verdict(node) == "lost");
        lab.inside(
            "node",
            "ip link set st0 up; ip route replace 10.77.1.0/24 dev st0 src 10.77.1.2",
        );
        lab.wait_for_node("storage to be back", |node| verdict(node) == "reachable");
        assert_eq!(lab.failures(), []);
    }
}

/// On a link that is up, an address without a route still answers whoever insists on that link;
/// storage traffic doesn't insist, so it doesn't count.
#[test]
fn a_configured_interface_needs_a_route_by_it() {
    let (lab, _collector, _agent) = healthy(Family::V4, "storage_interface = st0");
    lab.default_route_over_management();
    lab.inside("node", "ip route del 10.77.1.0/24 dev st0");
    let [first, _] = Family::V4.gateways();
    assert!(lab.succeeds("node", &format!("ping -c1 -W1 -I st0 {first}")));
    lab.wait_for_node("the missing route", |node| {
        gateway_status(node, first) == "local_path_lost"
    });
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert_eq!(lab.failures(), []);
}

/// The link goes down between the probes and the verdict: the round that runs names the reason.
#[test]
fn a_link_lost_while_a_round_runs_is_named_by_that_round() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let [first, _] = Family::V4.gateways();
    let mut wanted = AgentConfig::new(&[first]).compute("ping_count = 1\nping_timeout = 3");
    wanted.interval = "4";
    let _agent = lab.agent(&wanted);
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    // From now on a round takes three of its four seconds.
    lab.inside(
        "gw1",
        "iptables -A INPUT -p icmp --icmp-type echo-request -j DROP",
    );
    lab.wait_for_node("a silent gateway", |node| {
        gateway_status(node, first) == "silent"
    });
    let probes = || {
        let rules = lab.inside("gw1", "iptables -nvxL INPUT");
        let rule = rules.lines().last().unwrap();
        rule.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = probes();
    wait_for("the next round's probe", || {
        (probes() > before).then_some(())
    });
    let statuses = || volumes(&lab.database(), "storage_gateway.status");
    let stored = statuses().len();
    lab.inside("node", "ip link set st0 down");
    let status = wait_for("that round's status", || statuses().get(stored).copied());
    assert_eq!(status, 4.0, "local_path_lost");
}

/// The same cuts on a node that no gateway ever answered: nothing is known, and the reason is said.
fn never_answered(family: Family, which: usize) {
    let lab = Lab::new();
    let _collector = lab.collector();
    let (what, namespace, command) = &cuts(family)[which];
    lab.inside(namespace, command);
    let _agent = lab.agent(&AgentConfig::new(&family.gateways()));
    lab.wait_for_node(what, |node| {
        node["failures"]
            .as_array()
            .is_some_and(|failures| failures.len() == 3)
    });
    lab.wait_for_rounds(3);
    assert_eq!(
        lab.verdicts(),
        Vec::<f64>::new(),
        "{what}: no reading at all"
    );
    let reasons = lab.failures();
    assert!(
        !reasons.is_empty()
            && reasons
                .iter()
                .all(|(_, reason)| reason == "path_never_seen"),
        "{what}: {reasons:?}"
    );
    let node = lab.node().unwrap();
    assert_eq!(verdict(&node), "unknown");
}

#[test]
fn never_answered_and_link_down() {
    never_answered(Family::V4, 0);
}

#[test]
fn never_answered_and_cable_pulled() {
    never_answered(Family::V4, 1);
}

#[test]
fn never_answered_and_no_address() {
    never_answered(Family::V4, 2);
}

#[test]
fn never_answered_and_no_route_v6() {
    never_answered(Family::V6, 3);
}

/// The peer that everybody trusts sees the same.
#[test]
fn loss_and_status_agree_with_fping() {
    let (lab, _collector, agent) = healthy(Family::V4, "storage_quorum = all");
    drop_all_but(&lab, Family::V4, "gw1", 4, &[0, 1]);
    lab.silence("gw2", true);
    let [first, second] = Family::V4.gateways();
    lab.wait_for_node("half and all lost", |node| {
        gateway(node, first)["loss_ratio"] == 0.5 && gateway(node, second)["loss_ratio"] == 1.0
    });
    let node = lab.wait_for_node("all are wanted", |node| verdict(node) == "lost");
    // The filter counts whoever's probes, so only one may probe at a time.
    agent.terminate();
    // Four probes to each, spaced like ours. fping ends with 1 when somebody is silent.
    let report = lab.inside(
        "node",
        &format!("fping -q -c4 -p100 -t500 {first} {second} 2>&1 || true"),
    );
    for address in [first, second] {
        let line = report
            .lines()
            .find(|line| line.starts_with(address))
            .unwrap();
        let loss: f64 = line
            .split("%loss = ")
            .nth(1)
            .unwrap()
            .split(['/', '%'])
            .nth(2)
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            gateway(&node, address)["loss_ratio"].as_f64().unwrap(),
            loss / 100.0,
            "{line}"
        );
    }
}

/// Two networks carry every reading: it is stored once, and both paths are remembered.
#[test]
fn two_publishers_store_one_reading_and_remember_two_paths() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let mut wanted = AgentConfig::new(&Family::V4.gateways());
    wanted.publishers = vec![
        "udp://10.77.2.1:4953".into(),
        "udp://10.77.1.254:4953".into(),
    ];
    let agent = lab.agent(&wanted);
    let two_paths = |node: &serde_json::Value| {
        let paths = node["paths"].as_array().map_or(&[][..], Vec::as_slice);
        paths.len() == 2 && paths.iter().all(|path| path["fresh"] == true)
    };
    lab.wait_for_node("both paths", two_paths);
    lab.wait_for_rounds(5);
    agent.signal(Signal::SIGTERM);
    let doubles = query(
        &lab.database(),
        "SELECT message_id, count(*) AS n FROM sample GROUP BY message_id HAVING n > 1",
    );
    assert_eq!(doubles, Vec::<serde_json::Value>::new());
    let state = query(
        &lab.database(),
        "SELECT paths FROM ha_state WHERE meter = 'storage_connectivity'",
    );
    let paths = state[0]["paths"].as_str().unwrap();
    assert!(
        paths.contains("udp://10.77.2.1:4953") && paths.contains("udp://10.77.1.254:4953"),
        "{paths}"
    );
}

/// The storage network carries one of the two publishers: cutting it must not take the other along.
#[test]
fn a_publisher_over_the_cut_network_doesnt_hold_up_the_other() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let mut wanted = AgentConfig::new(&Family::V4.gateways());
    wanted.publishers = vec![
        "udp://10.77.1.254:4953".into(),
        "udp://10.77.2.1:4953".into(),
    ];
    let _agent = lab.agent(&wanted);
    let fresh_paths = |node: &serde_json::Value| {
        let paths = node["paths"].as_array().map_or(&[][..], Vec::as_slice);
        paths.iter().filter(|path| path["fresh"] == true).count()
    };
    lab.wait_for_node("both paths", |node| fresh_paths(node) == 2);
    let cut_at = wall_clock();
    lab.inside("node", "ip link set st0 down");
    let took = seconds_to_stored_zero(&lab, cut_at);
    assert!(took <= 3.0, "stored after {took:.2} s");
    lab.wait_for_node("one path to be quiet", |node| fresh_paths(node) == 1);
    // And it is used again once it is back.
    lab.inside(
        "node",
        "ip link set st0 up; ip route replace 10.77.1.0/24 dev st0 src 10.77.1.2",
    );
    lab.wait_for_node("both paths again", |node| fresh_paths(node) == 2);
}

/// A publisher's socket has a source address, and that address goes.
#[test]
fn a_publisher_outlives_its_own_address() {
    let (lab, _collector, _agent) = healthy(Family::V4, "");
    lab.inside(
        "node",
        "ip addr add 10.77.2.3/24 dev mg0; ip addr del 10.77.2.2/24 dev mg0; ip addr replace 10.77.2.3/24 dev mg0",
    );
    lab.wait_for_rounds(3);
}

/// Gateways, publisher and collector without a single IPv4 packet.
#[test]
fn everything_over_ipv6() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let mut wanted = AgentConfig::new(&Family::V6.gateways());
    wanted.publishers = vec!["udp://[fd77:2::1]:4953".into()];
    for namespace in ["node", "ctl", "gw1", "gw2"] {
        lab.inside(namespace, "ip -4 addr flush dev st0");
    }
    lab.inside("node", "ip -4 addr flush dev mg0");
    let _agent = lab.agent(&wanted);
    let node = lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    assert_eq!(node["paths"][0]["path"], "udp://[fd77:2::1]:4953");
}
