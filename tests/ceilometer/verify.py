"""Ceilometer's own signing code, for the tests of ours: one JSON document on standard output.

verify.py check          datagrams in hex, one a line, on standard input: whether Ceilometer
                         decodes and verifies each
verify.py send           datagrams as Ceilometer's UDP publisher sends them, in hex, with odd values
verify.py time COUNT     one datagram in hex on standard input: the microseconds that decoding and
                         verifying it takes, as the median of several runs of COUNT
"""

import json
import statistics
import sys
import time

import msgpack

from ceilometer import sample
from ceilometer.publisher import utils

SECRET = "a secret of the tests"


def receive(datagram):
    """What a collector of Ceilometer does: messages, each with whether it verifies."""
    decoded = msgpack.loads(datagram, raw=False)
    messages = decoded if isinstance(decoded, list) else [decoded]
    return [(m, utils.verify_signature(m, SECRET)) for m in messages]


def check(lines):
    return [
        [
            {"verifies": verifies, "message": message}
            for message, verifies in receive(bytes.fromhex(line))
        ]
        for line in lines
    ]


VOLUMES = [0, 1, -7, 2**63, 2**64 - 1, 0.5, 0.1 + 0.2, 1e11, 1e15, 1e16, 1e22,
           1e-5, 123456789012.125, 5e-324, -0.0, True, None, "3"]

METADATA = [
    {},
    {"node": "node-1"},
    {"żółć": "日本語 😀", "a": "'\"\\\n"},
    {"b": {"z": 1, "a": {"ż": None}, "": "empty key"}, "a:b": "colon", "e": {}},
    {"list": ["a", "żółć", "it's", '"', "'\"", "\t\x00\x7f", ""]},
    {"list": [1, 2**64 - 1, -(2**63), 0.1 + 0.2, 1e16, None, True]},
    {"list": [[], ["a", ["b"]], {"z": 1, "a": [{"y": "q", "b": 2.5}]}, {}]},
    {"user_metadata": {"cluster": "rack-7"}, "cluster": "rack-7"},
    {"long": "x" * 40000},
    {str(number): number for number in range(300)},
]


def odd_samples():
    for volume in VOLUMES:
        yield new_sample(volume, {"node": "node-1"}, None)
    for metadata in METADATA:
        yield new_sample(1, metadata, 12345.678901234567)


def new_sample(volume, metadata, monotonic_time):
    return sample.Sample(
        name="storage_connectivity",
        type=sample.TYPE_GAUGE,
        unit="",
        volume=volume,
        user_id=None,
        project_id="проект",
        resource_id="node-1",
        timestamp="2016-05-04T03:02:01.123456",
        resource_metadata=metadata,
        monotonic_time=monotonic_time,
        user_name="user",
        project_name=None,
    )


def send():
    datagrams = []
    for one in odd_samples():
        for publisher_id in (None, "ceilometer.polling"):
            message = utils.meter_message_from_counter(one, SECRET, publisher_id)
            datagrams.append(msgpack.dumps(message, use_bin_type=True).hex())
    return datagrams


def time_of_one(datagram, count):
    runs = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            ((_, verifies),) = receive(datagram)
        runs.append((time.perf_counter() - start) / count * 1e6)
        assert verifies
    return statistics.median(runs)


def main():
    command = sys.argv[1]
    if command == "check":
        answer = check(sys.stdin.read().split())
    elif command == "send":
        answer = send()
    elif command == "time":
        datagram = bytes.fromhex(sys.stdin.read().strip())
        answer = time_of_one(datagram, int(sys.argv[2]))
    else:
        sys.exit(__doc__)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
