//! What a domain's XML and a user's metadata become, against current Ceilometer's own discovery of
//! instances: the same XML and the same maps go through both.

#![cfg(feature = "agent")]
// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)] // only the wire's tests sign
#[path = "ceilometer/mod.rs"]
mod ceilometer;

use std::fs;
use std::path::Path;

use ceilometer_ha::model::{Metadata, Value};
use ceilometer_ha::pipeline::Reserved;
use ceilometer_ha::pollsters::libvirt::domain::{self, Domain};
use serde_json::{Value as Json, json};

const HOST: &str = "node-1";

const FIXTURES: [&str; 6] = [
    "image.xml",
    "volume.xml",
    "old.xml",
    "both.xml",
    "no-owner.xml",
    "plain.xml",
];

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/domains")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(xml: &str) -> Domain {
    domain::parse(xml).unwrap_or_else(|error| panic!("{error}: {xml}"))
}

/// The answers of Ceilometer to all of these cases.
fn ask(command: &str, cases: &[Json]) -> Vec<Json> {
    let input = serde_json::to_string(cases).unwrap();
    let answers = ceilometer::run_script("instances.py", &[command], &input)
        .unwrap_or_else(|problem| panic!("{problem}"));
    let answers = answers.as_array().unwrap().clone();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(i64::try_from(*number).unwrap()),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => map_to_json(entries.iter().map(|(key, value)| (key, value))),
    }
}

fn map_to_json<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>) -> Json {
    let entries = entries.map(|(key, value)| (key.clone(), to_json(value)));
    Json::Object(entries.collect())
}

fn metadata_to_json(metadata: &Metadata) -> Json {
    map_to_json(metadata.iter())
}

/// One domain in one state, with what its user said about it if anybody asks Nova.
struct Case {
    xml: String,
    state: i64,
    user: Option<Vec<(String, Value)>>,
}

impl Case {
    fn question(&self) -> Json {
        let user = self
            .user
            .as_ref()
            .map(|user| map_to_json(user.iter().map(|(key, value)| (key, value))));
        json!({"xml": self.xml, "state": self.state, "host": HOST, "user_metadata": user})
    }

    /// What we say, in the form in which the script answers.
    fn ours(&self) -> Json {
        let mut domain = parse(&self.xml);
        let Some(nova) = domain.nova.as_mut() else {
            return Json::Null;
        };
        nova.user_metadata = self.user.clone().unwrap_or_default();
        let (user_id, project_id) = (nova.user_id.clone(), nova.project_id.clone());
        let reserved = Reserved {
            namespaces: vec!["metering.".to_owned()],
            keys: vec!["stack".to_owned()],
            length: 6,
        };
        let metadata = domain.instance_metadata(HOST, self.state, &reserved);
        json!({
            "user_id": user_id,
            "project_id": project_id,
            "resource_id": domain.uuid,
            "metadata": metadata_to_json(&metadata),
        })
    }
}

fn compare(cases: &[Case]) -> Vec<Json> {
    let questions: Vec<Json> = cases.iter().map(Case::question).collect();
    let answers = ask("metadata", &questions);
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(&case.ours(), answer, "state {}, {}", case.state, case.xml);
    }
    answers
}

#[test]
fn metadata_of_every_fixture_in_every_state_is_ceilometers() {
    let all = FIXTURES.map(fixture);
    let cases: Vec<Case> = (0..8)
        .flat_map(|state| all.iter().map(move |xml| (state, xml.clone())))
        .map(|(state, xml)| Case {
            xml,
            state,
            user: None,
        })
        .collect();
    let answers = compare(&cases);
    let skipped = answers.iter().filter(|answer| answer.is_null()).count();
    assert_eq!(skipped, 2 * 8, "the guests without an owner");
    let running = &answers[FIXTURES.len()]["metadata"];
    assert_eq!(running["status"], "active");
    assert_eq!(running["image_meta"]["disk_format"], "raw");
}

#[test]
fn metadata_of_every_kind_of_nova_is_ceilometers() {
    let cases: Vec<Case> = (0..).zip(generated()).map(generated_case).collect();
    assert_eq!(cases.len(), 2 * 2 * 3 * 3 * 3 * 4 * 3);
    let answers = compare(&cases);
    assert!(answers.iter().all(|answer| !answer.is_null()));
}

fn generated_case((number, xml): (i64, String)) -> Case {
    Case {
        xml,
        state: number % 8,
        user: None,
    }
}

#[test]
fn user_metadata_joins_as_in_ceilometer() {
    let user = [
        ("metering.stack", "metered stack"),
        ("metering.a.b", "żółć żółć"),
        ("metering.display_name", "taken"),
        ("stack", "web"),
        ("other", "x"),
    ];
    let user: Vec<(String, Value)> = user
        .map(|(key, text)| (key.to_owned(), Value::from(text)))
        .to_vec();
    let case = Case {
        xml: fixture("image.xml"),
        state: 1,
        user: Some(user),
    };
    let answers = compare(&[case]);
    let selected = &answers[0]["metadata"]["user_metadata"];
    assert_eq!(*selected, json!({"stack": "web", "a_b": "żółć ż"}));
}

#[test]
fn disks_and_interfaces_are_ceilometers() {
    let all = FIXTURES.map(fixture);
    let cases = all.each_ref().map(|xml| json!({"xml": xml}));
    let answers = ask("devices", &cases);
    for (xml, answer) in all.iter().zip(&answers) {
        let domain = parse(xml);
        let disks = domain.disks.iter().filter(|disk| disk.has_source);
        let disks: Vec<&str> = disks.map(|disk| disk.device.as_str()).collect();
        let interfaces = domain.interfaces.iter();
        let interfaces: Vec<Json> = interfaces
            .map(|interface| metadata_to_json(&interface.metadata()))
            .collect();
        assert_eq!(
            &json!({"disks": disks, "interfaces": interfaces}),
            answer,
            "{xml}"
        );
    }
    assert_eq!(answers[0]["disks"], json!(["vda", "vdb"]));
    assert_eq!(answers[0]["interfaces"].as_array().unwrap().len(), 2);
}

/// Every combination of what the versions of Nova write and leave out.
fn generated() -> Vec<String> {
    let mut all = Vec::new();
    for namespace in ["1.0", "1.1"] {
        for prefix in ["nova:", ""] {
            all.extend(
                bodies(prefix)
                    .iter()
                    .map(|body| document(namespace, prefix, body)),
            );
        }
    }
    all
}

fn document(namespace: &str, prefix: &str, body: &str) -> String {
    let declared = if prefix.is_empty() { "" } else { ":nova" };
    format!(
        "<domain type='kvm'><name>instance-0000002a</name>\
         <uuid>6f0c2b1e-4d53-4b0a-8f55-0f6f6f1f7a2a</uuid><metadata><{prefix}instance \
         xmlns{declared}='http://openstack.org/xmlns/libvirt/nova/{namespace}'>{body}\
         </{prefix}instance></metadata><os><type arch='x86_64'>hvm</type></os></domain>"
    )
}

/// `~` stands for the prefix.
fn bodies(prefix: &str) -> Vec<String> {
    let ids = ["", "id=''", "id='42'"];
    let specs = [
        "",
        "<~extraSpecs/>",
        "<~extraSpecs><~extraSpec name='a:b'>&lt;1&gt;</~extraSpec><~extraSpec name='e'/>\
         <~extraSpec name='a:b'><![CDATA[2 & 3]]> and 4</~extraSpec></~extraSpecs>",
    ];
    let roots = [
        "",
        "<~root type='image' uuid='i-1'/>",
        "<~root type='volume' uuid='v-1'/><~root/>",
    ];
    let images = [
        "",
        "<~image/>",
        "<~image uuid=''><~minDisk/><~minRam>64</~minRam></~image>",
        "<~image uuid='i-2'><~diskFormat> raw </~diskFormat><~containerFormat>bare\
         </~containerFormat><~properties><~property name='min_ram'>1</~property>\
         <~property name='żółć'>日本</~property><~property name='x'>a<!-- b -->c</~property>\
         </~properties></~image>",
    ];
    let names = [
        "<~name/>",
        "<~name> two  words\n</~name>",
        "<~name>😀 &#x17c;'\"</~name>",
    ];
    let mut all = Vec::new();
    for (id, spec) in ids
        .iter()
        .flat_map(|id| specs.iter().map(move |spec| (id, spec)))
    {
        for (root, image) in roots
            .iter()
            .flat_map(|r| images.iter().map(move |i| (r, i)))
        {
            for name in names {
                let body = format!(
                    "{name}<~flavor name='f' {id}><~vcpus>2</~vcpus><~memory> 512\n</~memory>\
                     <~disk>+10</~disk><~ephemeral>-3</~ephemeral>{spec}</~flavor>\
                     <~owner><~user uuid='u'>x</~user><~project uuid='p'/></~owner>{root}{image}"
                );
                all.push(body.replace('~', prefix));
            }
        }
    }
    all
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Some of these, in any order, none twice.
    fn some(&mut self, of: &[&str]) -> Vec<String> {
        let mut left = of.to_vec();
        let count = self.below(of.len() + 1);
        let mut picked = Vec::new();
        for _ in 0..count {
            let at = self.below(left.len());
            picked.push(left.swap_remove(at).to_owned());
        }
        picked
    }
}

const KEYS: [&str; 12] = [
    "metering.a",
    "metering.a.b",
    "metering.a_b",
    "metering.b",
    "metering.",
    "metering",
    "a.b",
    "a_b",
    "b",
    "other.b",
    "other.metering.a",
    "żółć.😀",
];

/// What is reserved, of what, and the keys that are taken.
type Selection = (Reserved, Vec<(String, Value)>, Vec<String>);

#[test]
fn user_metadata_is_selected_as_by_ceilometer() {
    let mut numbers = Numbers(1);
    let cases: Vec<Selection> = (0..3000)
        .map(|_| {
            let reserved = Reserved {
                namespaces: numbers.some(&["metering.", "metering.a", "other.", "m", ""]),
                keys: numbers.some(&["a.b", "b", "metering.b", "żółć.😀", "a_b"]),
                length: numbers.below(6),
            };
            let user = numbers.some(&KEYS).into_iter();
            let user = user.map(|key| (key, odd_value(&mut numbers))).collect();
            (reserved, user, numbers.some(&["a", "a_b", "b", "żółć_😀"]))
        })
        .collect();
    let questions: Vec<Json> = cases.iter().map(reserved_question).collect();
    let answers = ask("reserved", &questions);
    for ((case, question), answer) in cases.iter().zip(&questions).zip(&answers) {
        let (reserved, user, taken) = case;
        let taken = taken
            .iter()
            .map(|key| (key.clone(), Value::Int(1)))
            .collect();
        let ours = reserved.select(user, &taken).map(Value::Map);
        assert_eq!(
            &ours.as_ref().map_or(Json::Null, to_json),
            answer,
            "{question}"
        );
    }
    let selected = answers.iter().filter(|answer| !answer.is_null()).count();
    assert!((1000..2900).contains(&selected), "{selected}");
}

fn odd_value(numbers: &mut Numbers) -> Value {
    match numbers.below(4) {
        0 => Value::Null,
        1 => Value::Int(1_000_000),
        2 => Value::from("żółć"),
        _ => Value::from(format!("text {}", numbers.below(100))),
    }
}

fn reserved_question((reserved, user, taken): &Selection) -> Json {
    // Pairs, because their order decides which of two goes before the other.
    let user: Vec<Json> = user
        .iter()
        .map(|(key, value)| json!([key, to_json(value)]))
        .collect();
    json!({
        "namespaces": reserved.namespaces,
        "keys": reserved.keys,
        "length": reserved.length,
        "user": user,
        "taken": taken,
    })
}
