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

/// The most attributes of one element, and the most declarations of namespaces in one XML. A guest
/// has 20 of each at most. Comparing each attribute with each other, and each namespace with all that
/// hold around it, would take minutes for what fits into [`XML_BYTES_MAX`]; such an XML is refused.
const ATTRIBUTES_MAX: usize = 256;

/// See [`ATTRIBUTES_MAX`].
const NAMESPACES_MAX: usize = 256;

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
    /// With more attributes or namespaces than can be compared in time.
    #[error(
        "cannot read the domain's XML: expected {ATTRIBUTES_MAX} attributes in an element and \
         {NAMESPACES_MAX} namespaces at most"
    )]
    TooIntricate,
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
    if is_intricate(xml) {
        return Err(DomainError::TooIntricate);
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

/// What goes on between `<` and these, without being a tag.
const NO_TAGS: [(&str, &str); 3] = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>")];

/// Whether there are more attributes or namespaces than their bounds. Exact where the XML is well
/// formed; where it is not, the parser stops as well, and what lies before has been counted.
fn is_intricate(xml: &str) -> bool {
    let mut rest = xml;
    let mut namespaces = 0;
    while let Some((_, markup)) = rest.split_once('<') {
        let inner = NO_TAGS
            .iter()
            .find_map(|(open, close)| Some((markup.strip_prefix(open)?, close)));
        rest = if let Some((inner, close)) = inner {
            inner.split_once(close).map_or("", |(_, behind)| behind)
        } else {
            let tag = count_in_tag(markup);
            namespaces += tag.namespaces;
            if tag.attributes > ATTRIBUTES_MAX || namespaces > NAMESPACES_MAX {
                return true;
            }
            tag.behind
        };
    }
    false
}

struct Tag<'a> {
    attributes: usize,
    namespaces: usize,
    behind: &'a str,
}

/// Counts up to the tag's end, leaving out what is quoted.
fn count_in_tag(markup: &str) -> Tag<'_> {
    let mut tag = Tag {
        attributes: 0,
        namespaces: 0,
        behind: markup,
    };
    while let Some(mark) = tag.behind.chars().find(|c| matches!(c, '>' | '"' | '\'')) {
        let (bare, behind) = tag.behind.split_once(mark).unwrap_or_default();
        tag.attributes += bare.matches('=').count();
        tag.namespaces += bare.matches("xmlns").count();
        if mark == '>' {
            tag.behind = behind;
            return tag;
        }
        tag.behind = behind.split_once(mark).map_or("", |(_, behind)| behind);
    }
    tag.behind = "";
    tag
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved() -> Reserved {
        Reserved {
            namespaces: vec!["metering.".to_owned()],
            keys: Vec::new(),
            length: 256,
        }
    }

    fn document(body: &str) -> String {
        format!("<domain><name>guest</name><uuid>u-1</uuid>{body}</domain>")
    }

    fn of_nova(body: &str) -> String {
        document(&format!(
            "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>\
             {body}</nova:instance></metadata>"
        ))
    }

    /// What Nova always writes, with this inside of the flavor and this behind it.
    fn complete(in_flavor: &str, behind: &str) -> String {
        of_nova(&format!(
            "<nova:name>n</nova:name><nova:flavor name='f'>{in_flavor}</nova:flavor><nova:owner>\
             <nova:user uuid='u'/><nova:project uuid='p'/></nova:owner>{behind}"
        ))
    }

    fn nova_of(xml: &str) -> Option<Nova> {
        parse(xml).unwrap().nova
    }

    #[test]
    fn a_guest_of_nobody_says_what_can_be_known() {
        let xml = document("<os><type arch='x86_64'>hvm</type></os>");
        let domain = parse(&xml).unwrap();
        assert_eq!(domain.nova, None);
        let metadata = domain.instance_metadata("n", 3, &reserved());
        let expected = entries([
            ("display_name", "guest".into()),
            ("name", "guest".into()),
            ("instance_id", "u-1".into()),
            ("instance_host", "n".into()),
            ("status", "paused".into()),
            ("state", "paused".into()),
            ("os_type", "hvm".into()),
            ("architecture", "x86_64".into()),
        ]);
        assert_eq!(metadata, expected);
    }

    #[test]
    fn a_state_of_the_future_is_null() {
        let domain = parse(&document("")).unwrap();
        for state in [-1, 8, i64::MAX] {
            let metadata = domain.instance_metadata("n", state, &reserved());
            assert_eq!(metadata["state"], Value::Null);
            assert_eq!(metadata["status"], Value::Null);
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let refusals = [
            ("", "cannot read the domain's XML"),
            ("<domain>", "cannot read the domain's XML"),
            (
                "<!DOCTYPE d [<!ENTITY e 'x'>]><domain><name>&e;</name></domain>",
                "cannot read the domain's XML",
            ),
            (
                "<network><name>n</name><uuid>u</uuid></network>",
                "cannot read the domain's XML: it has no usable <domain>",
            ),
            (
                "<domain><name>n</name></domain>",
                "cannot read the domain's XML: it has no usable <uuid>",
            ),
            (
                "<domain><uuid>u</uuid><name> </name></domain>",
                "cannot read the domain's XML: it has no usable <name>",
            ),
        ];
        for (xml, message) in refusals {
            assert_eq!(parse(xml).unwrap_err().to_string(), message, "{xml}");
        }
    }

    #[test]
    fn incomplete_metadata_is_none() {
        let whole = complete("", "");
        assert!(nova_of(&whole).is_some());
        let damaged = [
            ("<nova:name>n</nova:name>", ""),
            ("name='f'", ""),
            ("<nova:user uuid='u'/>", ""),
            ("<nova:project uuid='p'/>", "<nova:project/>"),
            ("name='f'>", "name='f'><nova:vcpus>two</nova:vcpus>"),
            (
                "name='f'>",
                "name='f'><nova:vcpus>9223372036854775808</nova:vcpus>",
            ),
            ("name='f'>", "name='f'><nova:disk/>"),
            ("nova/1.1", "nova/2.0"),
        ];
        for (part, instead) in damaged {
            assert!(whole.contains(part), "{part}");
            let xml = whole.replace(part, instead);
            assert_eq!(nova_of(&xml), None, "{xml}");
        }
    }

    #[test]
    fn a_whole_xml_is_bounded() {
        let with = |count: usize| document(&" ".repeat(count));
        let empty = with(0).len();
        assert!(parse(&with(XML_BYTES_MAX - empty)).is_ok());
        let too_long = parse(&with(XML_BYTES_MAX - empty + 1)).unwrap_err();
        assert_eq!(
            too_long.to_string(),
            "cannot read the domain's XML: found 1048577 bytes, expected 1048576 at most"
        );
        // The root, the domain, name and uuid with their texts.
        let with = |count: usize| parse(&document(&"<a/>".repeat(count)));
        let most = usize::try_from(NODES_MAX).unwrap() - 6;
        assert!(with(most).is_ok());
        let too_many = with(most + 1).unwrap_err();
        assert!(matches!(
            too_many,
            DomainError::Unreadable(roxmltree::Error::NodesLimitReached)
        ));
    }

    #[test]
    fn depth_needs_no_stack() {
        let read = || {
            let deep = "<a>".repeat(30_000) + &"</a>".repeat(30_000);
            let plain = parse(&document(&deep)).is_ok();
            let deep = "<nova:x>".repeat(30_000) + &"</nova:x>".repeat(30_000);
            (plain, nova_of(&complete("", &deep)).is_some())
        };
        let small = std::thread::Builder::new().stack_size(256 * 1024);
        let found = small.spawn(read).unwrap().join().unwrap();
        assert_eq!(found, (true, true));
    }

    #[test]
    fn attributes_and_namespaces_are_bounded() {
        let attributes = |count: usize| {
            let attributes = (0..count).map(|n| format!(" a{n}='=' "));
            parse(&document(&format!(
                "<x{}/>",
                attributes.collect::<String>()
            )))
        };
        assert!(attributes(ATTRIBUTES_MAX).is_ok());
        let refused = attributes(ATTRIBUTES_MAX + 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot read the domain's XML: expected 256 attributes in an element and 256 \
             namespaces at most"
        );
        let namespaces = |count: usize| {
            let nested = (0..count).map(|n| format!("<x xmlns:a{n}='b{n}'>"));
            let nested = nested.collect::<String>() + &"</x>".repeat(count);
            parse(&document(&nested))
        };
        assert!(namespaces(NAMESPACES_MAX).is_ok());
        assert!(namespaces(NAMESPACES_MAX + 1).is_err());
    }

    #[test]
    fn only_what_is_markup_counts() {
        let much = " xmlns:a='=' ".repeat(300);
        for harmless in [
            format!("<x>{much}</x>"),
            format!("<x a=\"{much} >\"/>"),
            format!("<!-- {much} it's < -->"),
            format!("<![CDATA[ <a {much} > ' ]]>"),
            format!("<?x <a {much} ' ?>"),
        ] {
            assert!(parse(&document(&harmless)).is_ok(), "{harmless}");
            let hidden = "<x xmlns:a='b'>".repeat(300) + &"</x>".repeat(300);
            let both = parse(&document(&(harmless + &hidden)));
            assert!(matches!(both, Err(DomainError::TooIntricate)));
        }
    }

    #[test]
    fn texts_are_cut_and_ids_are_whole() {
        let long = "ż".repeat(TEXT_CHARS_MAX + 1);
        let xml = complete("", "").replace(">n<", &format!(">{long}<"));
        let name = nova_of(&xml).unwrap().display_name.unwrap();
        assert_eq!(name, "ż".repeat(TEXT_CHARS_MAX));
        let most = complete("", "").replace("'p'", &format!("'{}'", "p".repeat(TEXT_CHARS_MAX)));
        assert!(nova_of(&most).is_some());
        let beyond = complete("", "").replace("'p'", &format!("'{long}'"));
        assert_eq!(nova_of(&beyond), None);
        assert!(
            parse(&format!(
                "<domain><name>n</name><uuid>{long}</uuid></domain>"
            ))
            .is_err()
        );
    }

    fn specs(pairs: impl Iterator<Item = (String, String)>) -> Properties {
        let specs: String = pairs
            .map(|(name, text)| format!("<nova:extraSpec name='{name}'>{text}</nova:extraSpec>"))
            .collect();
        let xml = complete(&format!("<nova:extraSpecs>{specs}</nova:extraSpecs>"), "");
        nova_of(&xml).unwrap().flavor.extra_specs.unwrap()
    }

    #[test]
    fn properties_are_bounded() {
        let many = |count: usize| (0..count).map(|n| (format!("k{n:03}"), "v".to_owned()));
        assert_eq!(specs(many(PROPERTIES_MAX)).len(), PROPERTIES_MAX);
        let cut = specs(many(PROPERTIES_MAX + 1));
        assert_eq!(cut.len(), PROPERTIES_MAX);
        assert!(!cut.contains_key("k128"), "the last is left out");

        // 256 bytes each.
        let large = |count: usize| (0..count).map(|n| (format!("k{n:03}"), "v".repeat(252)));
        let most = PROPERTIES_BYTES_MAX / 256;
        assert_eq!(specs(large(most)).len(), most);
        assert_eq!(specs(large(most + 1)).len(), most);

        let long = |chars: usize| ["ż".repeat(chars)].into_iter().map(|k| (k, "v".to_owned()));
        assert_eq!(specs(long(TEXT_CHARS_MAX)).len(), 1);
        assert_eq!(specs(long(TEXT_CHARS_MAX + 1)).len(), 0);
    }

    #[test]
    fn metadata_at_its_bounds_fits_into_a_datagram() {
        let wide = "\u{10ffff}".repeat(TEXT_CHARS_MAX);
        let list = |element: &str| -> String {
            let properties = (0..PROPERTIES_MAX)
                .map(|n| format!("<nova:{element} name='{n:03}'>{wide}</nova:{element}>"));
            properties.collect()
        };
        let specs = format!("<nova:extraSpecs>{}</nova:extraSpecs>", list("extraSpec"));
        let image = format!(
            "<nova:image><nova:properties>{}</nova:properties></nova:image>\
             <nova:root type='image' uuid='{wide}'/>",
            list("property")
        );
        let xml = complete(&specs, &image)
            .replace(">n<", &format!(">{wide}<"))
            .replace("'f'", &format!("'{wide}'"))
            .replace(">guest<", &format!(">{wide}<"));
        let metadata = parse(&xml).unwrap().instance_metadata("n", 1, &reserved());
        assert!(metadata.contains_key("image_meta"));
        let bytes: usize = metadata
            .iter()
            .map(|(key, value)| key.len() + size(value))
            .sum();
        assert!(bytes < 40_000, "{bytes}");
    }

    /// More than msgpack takes.
    fn size(value: &Value) -> usize {
        9 + match value {
            Value::Text(text) => text.len(),
            Value::Map(entries) => entries.iter().map(|(k, v)| 5 + k.len() + size(v)).sum(),
            _ => 0,
        }
    }

    #[test]
    fn devices_are_bounded() {
        let disks = "<disk><target dev='vda'/></disk>".repeat(DEVICES_MAX + 1);
        let interface = "<interface><target dev='t'/><mac address='m'/></interface>";
        let interfaces = interface.repeat(DEVICES_MAX + 1);
        let xml = document(&format!("<devices>{disks}{interfaces}</devices>"));
        let domain = parse(&xml).unwrap();
        assert_eq!(domain.disks.len(), DEVICES_MAX);
        assert_eq!(domain.interfaces.len(), DEVICES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn damaged_xml_never_panics(at in 0..2000usize, cut in 0..80usize, junk in ".{0,12}") {
            let whole = include_str!("../../../tests/fixtures/domains/image.xml");
            let characters: Vec<char> = whole.chars().collect();
            let head: String = characters.iter().take(at).collect();
            let tail: String = characters.iter().skip(at + cut).collect();
            if let Ok(domain) = parse(&(head + &junk + &tail)) {
                domain.instance_metadata("n", 1, &reserved());
            }
        }
    }
}
