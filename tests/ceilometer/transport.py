"""oslo.messaging's own reading of transport URLs, for the tests of ours: a list of URLs as JSON on standard
input, and on standard output for each what it connects to in the end, or null where it is refused."""

import json
import sys

import kombu
from oslo_config import cfg
from oslo_messaging._drivers import impl_rabbit
from oslo_messaging.transport import TransportURL


def ends_at(url, host):
    """What RabbitMQ's client is given for one broker, with its defaults."""
    client = kombu.Connection(impl_rabbit.Connection._transform_transport_url(None, url, host))
    defaults = client.transport.default_connection_params
    return {
        "host": client.hostname or defaults["hostname"],
        "port": client.port or defaults["port"],
        "user": client.userid or defaults["userid"],
        "password": client.password or defaults["password"],
        "virtual_host": client.virtual_host,
    }


def read(text):
    try:
        url = TransportURL.parse(cfg.ConfigOpts(), text)
        if url.transport == "kafka":
            return None
        return {"members": [ends_at(url, host) for host in url.hosts], "options": url.query}
    except Exception:
        return None


json.dump([read(url) for url in json.load(sys.stdin)], sys.stdout)
