"""Ceilometer's own discovery and metadata of instances, for the tests of ours: a JSON list of cases
on standard input, a JSON list of answers on standard output.

instances.py metadata    {xml, state, host, user_metadata}: what a meter of Ceilometer's says about the
                         domain, or null if its discovery skips it
instances.py devices     {xml}: the names of disks with statistics, and what it says of interfaces
instances.py reserved    {namespaces, keys, length, user, taken}: what it selects as user_metadata of
                         the pairs in user, or null
"""

import json
import sys
from types import SimpleNamespace

from lxml import etree

from ceilometer import sample
from ceilometer.compute import discovery
from ceilometer.compute.pollsters import util
from ceilometer.compute.virt.libvirt import inspector
from ceilometer.compute.virt.libvirt import utils as libvirt_utils


class LibvirtError(Exception):
    def get_error_code(self):
        return libvirt_utils.libvirt.VIR_ERR_NO_DOMAIN_METADATA

    def get_error_domain(self):
        return 0


# libvirt's Python binding is not needed: this is all that is used of it.
libvirt_utils.libvirt = SimpleNamespace(
    libvirtError=LibvirtError,
    VIR_DOMAIN_METADATA_ELEMENT=2,
    VIR_ERR_NO_DOMAIN_METADATA=80,
    VIR_ERR_SYSTEM_ERROR=38,
    VIR_ERR_INTERNAL_ERROR=1,
    VIR_FROM_REMOTE=13,
    VIR_FROM_RPC=7,
)
inspector.libvirt = libvirt_utils.libvirt


class Domain:
    """A libvirt domain that is described by this XML."""

    def __init__(self, xml, state):
        self.xml = xml
        self.tree = etree.fromstring(xml)
        self.code = state

    def UUIDString(self):
        return self.tree.find("uuid").text

    def name(self):
        return self.tree.find("name").text

    def state(self):
        return [self.code, 0]

    def XMLDesc(self, flags=0):
        return self.xml

    def metadata(self, kind, uri):
        """As libvirt: the first element of that namespace, which is taken away everywhere in it."""
        found = self.tree.xpath("metadata/*[namespace-uri() = $uri]", uri=uri)
        if not found:
            raise LibvirtError()
        for element in found[0].iter(etree.Element):
            name = etree.QName(element)
            if name.namespace == uri:
                element.tag = name.localname
        etree.cleanup_namespaces(found[0])
        return etree.tostring(found[0], with_tail=False).decode()

    def interfaceStats(self, name):
        return [0] * 8


class Discovery(discovery.InstanceDiscovery):
    """Ceilometer's discovery, connected to one domain and to no Nova but for what a case brings."""

    connection = None

    def __init__(self, domain, host, user_metadata):
        extra = user_metadata is not None
        self.conf = SimpleNamespace(
            host=host, compute=SimpleNamespace(fetch_extra_metadata=extra))
        self.user_metadata = user_metadata
        self.connection = SimpleNamespace(listAllDomains=lambda: [domain])

    def get_server(self, uuid):
        return SimpleNamespace(metadata=self.user_metadata)

    def get_flavor_id(self, name):
        return None


CONF = SimpleNamespace(
    reserved_metadata_namespace=["metering."],
    reserved_metadata_keys=["stack"],
    reserved_metadata_length=6,
)


def metadata(case):
    domain = Domain(case["xml"], case["state"])
    found = Discovery(domain, case["host"], case["user_metadata"]).discover_libvirt_polling(None)
    if not found:
        return None
    one = util.make_sample_from_instance(CONF, found[0], "instance", "gauge", "instance", 1)
    return {
        "user_id": one.user_id,
        "project_id": one.project_id,
        "resource_id": one.resource_id,
        "metadata": one.resource_metadata,
    }


def devices(case):
    domain = Domain(case["xml"], 1)
    libvirt = inspector.LibvirtInspector.__new__(inspector.LibvirtInspector)
    libvirt.cache = {}
    libvirt._get_domain = lambda instance, raise_if_off: domain
    interfaces = libvirt.inspect_vnics(SimpleNamespace(id=domain.UUIDString()), 1)
    said = ["name", "mac", "fref", "parameters"]
    return {
        "disks": list(libvirt._get_disk_devices(domain)),
        "interfaces": [{key: getattr(one, key) for key in said} for one in interfaces],
    }


def reserved(case):
    conf = SimpleNamespace(
        reserved_metadata_namespace=case["namespaces"],
        reserved_metadata_keys=case["keys"],
        reserved_metadata_length=case["length"],
    )
    taken = {key: 1 for key in case["taken"]}
    return sample.add_reserved_user_metadata(conf, dict(case["user"]), taken).get("user_metadata")


def main():
    answers = {"metadata": metadata, "devices": devices, "reserved": reserved}
    if len(sys.argv) != 2 or sys.argv[1] not in answers:
        sys.exit(__doc__)
    json.dump([answers[sys.argv[1]](case) for case in json.load(sys.stdin)], sys.stdout)


main()
