//! Pure. A domain as libvirt describes it in XML, and what current Ceilometer makes of it: the
//! metadata of an instance. Read as Ceilometer 27 reads it (`compute/discovery.py`,
//! `discover_libvirt_polling`; `compute/pollsters/util.py`, `_get_metadata_from_object`), whose own
//! code the tests run over the same XML.
//!
//! Names and properties come from whoever owns the guest. All of it is bounded here, so that nobody
//! can make the readings about a guest too long to be sent.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};
use sha2::{Digest, Sha224};

use crate::model::{Metadata, Value};
use crate::pipeline::Reserved;

/// The longest XML that is read, in bytes. A guest with a hundred disks has 60 KB; a longer one is
/// refused, and its instance is known by what libvirt says elsewhere.
const XML_BYTES_MAX: usize = 1 << 20;

/// The most elements, texts and comments in one XML. A guest with a hundred disks has 4,000; beyond
/// it the XML is refused as one that is too long.
const NODES_MAX: u32 = 65_536;

/// The longest name, id or property that is kept, in characters: Nova's own columns hold as many. The
/// rest of a longer text is cut off; a property whose name is longer, or an id, is left out.
const TEXT_CHARS_MAX: usize = 255;

/// The most properties of an image or of a flavor that are kept, as many as Nova lets one have. The
/// rest, in the order of the XML, is left out.
const PROPERTIES_MAX: usize = 128;

/// The most bytes that the properties of an image or of a flavor may have together, so that a
/// message with both fits into a datagram. What would go beyond is left out.
const PROPERTIES_BYTES_MAX: usize = 12 * 1024;

/// The most disks, and the most interfaces, of one domain that are kept; QEMU's PCI buses and Nova's
/// quotas end earlier. The rest is left out, and has no statistics.
const DEVICES_MAX: usize = 1024;

/// The namespaces of Nova's metadata, the newest first.
const NOVA_NAMESPACES: [&str; 2] = [
    "http://openstack.org/xmlns/libvirt/nova/1.1",
    "http://openstack.org/xmlns/libvirt/nova/1.0",
];

/// What libvirt knows about one domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Its UUID, which is Nova's id of the instance.
    pub uuid: String,
    /// Its name on this host, such as `instance-0000002a`.
    pub name: String,
    /// What Nova wrote about it; None for a guest that isn't Nova's, or whose metadata lacks what
    /// Nova always writes (flavor, owner, name), as Ceilometer skips both.
    pub nova: Option<Nova>,
    /// The guest's kind, `hvm` for a whole machine.
    pub os_type: Option<String>,
    /// The guest's processor, such as `x86_64`.
    pub architecture: Option<String>,
    /// Its disks that have a name.
    pub disks: Vec<Disk>,
    /// Its interfaces that have a name and an address.
    pub interfaces: Vec<Interface>,
}

/// What Nova wrote into the domain about its instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Nova {
    /// The name that its owner gave it.
    pub display_name: Option<String>,
    /// How large it is.
    pub flavor: Flavor,
    /// Who owns it.
    pub user_id: String,
    /// The owner's project.
    pub project_id: String,
    /// The image that its root disk was made from; None if it was booted from a volume.
    pub image: Option<String>,
    /// What the image says about itself; None from a Nova that doesn't write it.
    pub image_meta: Option<Properties>,
    /// What its owner said about it (`metering.…`). libvirt has none of it, so [`parse`] leaves it
    /// empty: a discovery that asks Nova fills it.
    pub user_metadata: Vec<(String, Value)>,
}

/// The size that an instance was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavor {
    /// Its id; its name where Nova writes no id (before 2025.2).
    pub id: String,
    /// Its name.
    pub name: String,
    /// Processors.
    pub vcpus: i64,
    /// Memory in MiB.
    pub ram: i64,
    /// The root disk in GiB.
    pub disk: i64,
    /// The ephemeral disk in GiB.
    pub ephemeral: i64,
    /// Swap in MiB.
    pub swap: i64,
    /// What else it asks for; None from a Nova that doesn't write it.
    pub extra_specs: Option<Properties>,
}

/// Names and texts; an empty element has no text.
pub type Properties = BTreeMap<String, Option<String>>;

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name in the guest, such as `vda`, by which libvirt gives its statistics.
    pub device: String,
    /// Whether there is something in it; an empty drive has no statistics.
    pub has_source: bool,
}

/// An interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name on this host, such as `tap0d1e2f3a-4b`, by which libvirt gives its statistics.
    pub name: String,
    /// Its address in the guest.
    pub mac: String,
    /// The filter that it runs through.
    pub fref: Option<String>,
    /// The filter's parameters, their names in lower case.
    pub parameters: Properties,
    /// Neutron's port, where Open vSwitch knows it.
    pub interfaceid: Option<String>,
    /// The bridge that it is plugged into.
    pub bridge: Option<String>,
}

/// Why a text is no domain.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Longer than is read.
    #[error("cannot read the domain's XML: found {0} bytes, expected {XML_BYTES_MAX} at most")]
    TooLong(usize),
    /// Not well formed, with a document type, or with too many elements.
    #[error("cannot read the domain's XML")]
    Unreadable(#[source] roxmltree::Error),
    /// An element that every domain has is missing, empty or too long.
    #[error("cannot read the domain's XML: it has no usable <{0}>")]
    Lacks(&'static str),
}

/// Reads what `virDomainGetXMLDesc` gives.
pub fn parse(xml: &str) -> Result<Domain, DomainError> {
    if xml.len() > XML_BYTES_MAX {
        return Err(DomainError::TooLong(xml.len()));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
        entity_resolver: None,
    };
    let document = Document::parse_with_options(xml, options).map_err(DomainError::Unreadable)?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return Err(DomainError::Lacks("domain"));
    }
    let os_type = path(root, &["os", "type"]);
    Ok(Domain {
        uuid: required(root, "uuid")?,
        name: required(root, "name")?,
        nova: nova_element(root).and_then(nova),
        os_type: os_type.and_then(text),
        architecture: os_type.and_then(|os_type| attribute(os_type, "arch")),
        disks: devices(root, "disk").filter_map(disk).collect(),
        interfaces: devices(root, "interface").filter_map(interface).collect(),
    })
}

impl Domain {
    /// The metadata of the instance in Ceilometer's own meters (`instance`, `power.state` and the
    /// statistics), as current Ceilometer has it with `instance_discovery_method =
    /// libvirt_metadata`: `host` is the name of this node, `state` a `virDomainState`. `user_metadata`
    /// is there if `reserved` selects anything.
    ///
    /// Two things differ. A state that only a later libvirt knows is null in `state` and in `status`;
    /// Ceilometer fails. And of a guest that isn't Nova's, which Ceilometer skips, there is what can be
    /// known: `display_name` and `name` (both the domain's name), `instance_id`, `instance_host`,
    /// `status`, `state`, `os_type` and `architecture`. `host`, a hash of the project, is not.
    pub fn instance_metadata(&self, host: &str, state: i64, reserved: &Reserved) -> Metadata {
        let display_name = match &self.nova {
            Some(nova) => or_null(nova.display_name.as_deref()),
            None => Value::from(self.name.as_str()),
        };
        let mut metadata = entries([
            ("display_name", display_name),
            ("name", self.name.as_str().into()),
            ("instance_id", self.uuid.as_str().into()),
            ("instance_host", host.into()),
            ("status", or_null(nova_status(state))),
            ("state", or_null(nova_power_state(state))),
            ("os_type", or_null(self.os_type.as_deref())),
            ("architecture", or_null(self.architecture.as_deref())),
        ]);
        if let Some(nova) = &self.nova {
            metadata.extend(nova.metadata(host));
            if let Some(selected) = reserved.select(&nova.user_metadata, &metadata) {
                metadata.insert("user_metadata".to_owned(), Value::Map(selected));
            }
        }
        metadata
    }
}

impl Nova {
    fn metadata(&self, host: &str) -> Metadata {
        let flavor = &self.flavor;
        let image = self.image.as_deref();
        let image_map = image.map(|id| Value::Map(vec![("id".to_owned(), Value::from(id))]));
        let mut metadata = entries([
            ("host", host_id(&self.project_id, host).into()),
            ("instance_type", flavor.name.as_str().into()),
            ("flavor", flavor.value()),
            ("task_state", "".into()),
            ("image", image_map.unwrap_or(Value::Null)),
            ("image_ref", or_null(image)),
            ("image_ref_url", Value::Null),
            ("vcpus", integer(flavor.vcpus)),
            ("memory_mb", integer(flavor.ram)),
            ("disk_gb", integer(flavor.disk)),
            ("ephemeral_gb", integer(flavor.ephemeral)),
            (
                "root_gb",
                integer(flavor.disk.saturating_sub(flavor.ephemeral)),
            ),
        ]);
        if let Some(image_meta) = self.image_meta.as_ref().filter(|meta| !meta.is_empty()) {
            metadata.insert("image_meta".to_owned(), properties_value(image_meta));
        }
        metadata
    }
}

impl Flavor {
    fn value(&self) -> Value {
        let mut map = entries([
            ("id", self.id.as_str().into()),
            ("name", self.name.as_str().into()),
            ("vcpus", integer(self.vcpus)),
            ("ram", integer(self.ram)),
            ("disk", integer(self.disk)),
            ("ephemeral", integer(self.ephemeral)),
            ("swap", integer(self.swap)),
        ]);
        if let Some(extra_specs) = &self.extra_specs {
            map.insert("extra_specs".to_owned(), properties_value(extra_specs));
        }
        Value::Map(map.into_iter().collect())
    }
}

impl Interface {
    /// What Ceilometer's meters of an interface say about it: `name`, `mac`, `fref` and
    /// `parameters`, among them `interfaceid` and `bridge`.
    pub fn metadata(&self) -> Metadata {
        let mut parameters = self.parameters.clone();
        parameters.insert("interfaceid".to_owned(), self.interfaceid.clone());
        parameters.insert("bridge".to_owned(), self.bridge.clone());
        entries([
            ("name", self.name.as_str().into()),
            ("mac", self.mac.as_str().into()),
            ("fref", or_null(self.fref.as_deref())),
            ("parameters", properties_value(&parameters)),
        ])
    }
}

/// What Ceilometer calls the power state of a `virDomainState`, after Nova.
fn nova_power_state(state: i64) -> Option<&'static str> {
    Some(match state {
        0 => "pending",
        1 | 2 => "running",
        3 => "paused",
        4 | 5 => "shutdown",
        6 => "crashed",
        7 => "suspended",
        _ => return None,
    })
}

/// What Ceilometer takes for Nova's status of an instance whose domain has this `virDomainState`.
fn nova_status(state: i64) -> Option<&'static str> {
    Some(match state {
        0 => "building",
        1 | 2 => "active",
        3 => "paused",
        4 | 5 => "stopped",
        6 => "error",
        7 => "suspended",
        _ => return None,
    })
}

/// Nova's `hostId`: the same for all of a project's instances on a host, and telling it nothing else.
fn host_id(project_id: &str, host: &str) -> String {
    let mut hasher = Sha224::new();
    hasher.update(project_id.as_bytes());
    hasher.update(host.as_bytes());
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entries<const N: usize>(pairs: [(&str, Value); N]) -> Metadata {
    let owned = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    owned.collect()
}

fn or_null(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn integer(number: i64) -> Value {
    Value::Int(i128::from(number))
}

fn properties_value(properties: &Properties) -> Value {
    let pairs = properties.iter();
    Value::Map(
        pairs
            .map(|(key, text)| (key.clone(), or_null(text.as_deref())))
            .collect(),
    )
}

/// Nova's element, whatever it is called: libvirt finds metadata by its namespace alone.
fn nova_element<'a>(root: Node<'a, 'a>) -> Option<Node<'a, 'a>> {
    let metadata = child(root, "metadata")?;
    let within = |namespace: &str| {
        let mut elements = metadata.children().filter(Node::is_element);
        elements.find(|node| node.tag_name().namespace() == Some(namespace))
    };
    NOVA_NAMESPACES.into_iter().find_map(within)
}

fn nova(instance: Node<'_, '_>) -> Option<Nova> {
    let image = children(instance, "root").find(|root| root.attribute("type") == Some("image"));
    Some(Nova {
        display_name: text(child(instance, "name")?),
        flavor: flavor(child(instance, "flavor")?)?,
        user_id: id(path(instance, &["owner", "user"])?)?,
        project_id: id(path(instance, &["owner", "project"])?)?,
        image: image.and_then(id),
        image_meta: child(instance, "image").map(image_meta),
        user_metadata: Vec::new(),
    })
}

fn flavor(node: Node<'_, '_>) -> Option<Flavor> {
    let name = attribute(node, "name")?;
    let id = attribute(node, "id").filter(|id| !id.is_empty());
    Some(Flavor {
        id: id.unwrap_or_else(|| name.clone()),
        name,
        vcpus: number(node, "vcpus")?,
        ram: number(node, "memory")?,
        disk: number(node, "disk")?,
        ephemeral: number(node, "ephemeral")?,
        swap: number(node, "swap")?,
        extra_specs: child(node, "extraSpecs").map(|specs| named(children(specs, "extraSpec"))),
    })
}

/// The number in a child, 0 if there is none; None if it is no number.
fn number(node: Node<'_, '_>, name: &'static str) -> Option<i64> {
    match child(node, name) {
        Some(child) => child.text()?.trim().parse().ok(),
        None => Some(0),
    }
}

fn image_meta(image: Node<'_, '_>) -> Properties {
    let base = image
        .attribute("uuid")
        .map(|uuid| ("base_image_ref", Some(uuid)));
    let about = [
        ("container_format", "containerFormat"),
        ("disk_format", "diskFormat"),
        ("min_disk", "minDisk"),
        ("min_ram", "minRam"),
    ];
    let about = about
        .into_iter()
        .filter_map(|(key, name)| child(image, name).map(|node| (key, node.text())));
    let own = child(image, "properties").into_iter();
    let own = own.flat_map(|list| pairs(children(list, "property")));
    bounded(base.into_iter().chain(about).chain(own))
}

/// The texts of elements by their attribute `name`.
fn named<'a>(nodes: impl Iterator<Item = Node<'a, 'a>>) -> Properties {
    bounded(pairs(nodes))
}

fn pairs<'a>(
    nodes: impl Iterator<Item = Node<'a, 'a>>,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    nodes.filter_map(|node| Some((node.attribute("name")?, node.text())))
}

/// What fits of these, the last of several with one name.
fn bounded<'a>(pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Properties {
    let mut kept = Properties::new();
    let mut bytes = 0;
    for (key, text) in pairs {
        let text = text.map(cut);
        let more = key.len() + text.as_ref().map_or(0, String::len);
        let fits = key.chars().nth(TEXT_CHARS_MAX).is_none()
            && bytes + more <= PROPERTIES_BYTES_MAX
            && (kept.len() < PROPERTIES_MAX || kept.contains_key(key));
        if fits {
            bytes += more;
            kept.insert(key.to_owned(), text);
        }
    }
    kept
}

fn devices<'a>(root: Node<'a, 'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    let devices = children(root, "devices");
    devices
        .flat_map(move |devices| children(devices, name))
        .take(DEVICES_MAX)
}

fn disk(node: Node<'_, '_>) -> Option<Disk> {
    let device = attribute(child(node, "target")?, "dev")?;
    (!device.is_empty()).then(|| Disk {
        device,
        has_source: child(node, "source").is_some(),
    })
}

fn interface(node: Node<'_, '_>) -> Option<Interface> {
    let filter = child(node, "filterref");
    let parameters = children(node, "filterref").flat_map(|filter| children(filter, "parameter"));
    let port = path(node, &["virtualport", "parameters"]);
    Some(Interface {
        name: attribute(child(node, "target")?, "dev")?,
        mac: attribute(child(node, "mac")?, "address")?,
        fref: filter.and_then(|filter| attribute(filter, "filter")),
        parameters: filter_parameters(parameters),
        interfaceid: port.and_then(|port| attribute(port, "interfaceid")),
        bridge: child(node, "source").and_then(|source| attribute(source, "bridge")),
    })
}

fn filter_parameters<'a>(nodes: impl Iterator<Item = Node<'a, 'a>>) -> Properties {
    let pairs = nodes.filter_map(|node| {
        let name = node.attribute("name")?.to_lowercase();
        Some((name, node.attribute("value")))
    });
    let pairs: Vec<(String, Option<&str>)> = pairs.collect();
    bounded(pairs.iter().map(|(name, value)| (name.as_str(), *value)))
}

/// Children of this name, in the namespace of their parent or in none: libvirt takes Nova's
/// namespace away before Ceilometer looks.
fn children<'a>(node: Node<'a, 'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    let namespace = node.tag_name().namespace();
    node.children().filter(move |child| {
        let tag = child.tag_name();
        let is_near = tag.namespace().is_none() || tag.namespace() == namespace;
        child.is_element() && tag.name() == name && is_near
    })
}

fn child<'a>(node: Node<'a, 'a>, name: &'static str) -> Option<Node<'a, 'a>> {
    children(node, name).next()
}

/// The first grandchild of these names, whichever child it is in.
fn path<'a>(node: Node<'a, 'a>, names: &[&'static str; 2]) -> Option<Node<'a, 'a>> {
    let [outer, inner] = *names;
    children(node, outer).find_map(|outer| child(outer, inner))
}

fn text(node: Node<'_, '_>) -> Option<String> {
    node.text().map(cut)
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(cut)
}

/// The id in `uuid`. A part of one would be another one, so a long one is none.
fn id(node: Node<'_, '_>) -> Option<String> {
    let id = node.attribute("uuid")?;
    id.chars()
        .nth(TEXT_CHARS_MAX)
        .is_none()
        .then(|| id.to_owned())
}

fn required(root: Node<'_, '_>, name: &'static str) -> Result<String, DomainError> {
    let found = child(root, name).and_then(|node| node.text());
    found
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.chars().nth(TEXT_CHARS_MAX).is_none())
        .map(str::to_owned)
        .ok_or(DomainError::Lacks(name))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
