"""Ceilometer's own ways to a collector, for the tests of ours: one JSON document on standard output.

broker.py send URL TOPIC    publishes three samples as Ceilometer's notifier:// publisher does; the ids of their
                            messages
broker.py send-udp URL      the same by its udp:// publisher
broker.py receive URL TOPIC N waits for N messages as an oslo.messaging notification listener does; each with
                            whether Ceilometer verifies it
"""

import json
import os
import sys
import threading
import urllib.parse

import oslo_messaging
from ceilometer import messaging
from ceilometer import service
from ceilometer.publisher import messaging as notifier
from ceilometer.publisher import udp
from ceilometer.publisher import utils
from oslo_messaging import transport

import verify

LIMIT = 60


def configured(url):
    conf = service.prepare_service([], [])
    conf.register_opts(transport._transport_opts)
    conf.set_override("transport_url", url)
    conf.set_override("telemetry_secret", verify.SECRET, "publisher")
    return conf


def send(url, topic):
    where = urllib.parse.urlsplit(f"notifier://?topic={topic}")
    return publish(notifier.SampleNotifierPublisher(configured(url), where))


def send_udp(url):
    return publish(udp.UDPPublisher(configured("rabbit://"), urllib.parse.urlsplit(url)))


def publish(publisher):
    samples = [verify.new_sample(volume, {"żółć": {"a": 1.5}}, None) for volume in (1, 0.5, 2**40)]
    publisher.publish_samples(samples)
    return [sample.id for sample in samples]


class Endpoint:
    def __init__(self, count):
        self.messages, self.count, self.done = [], count, threading.Event()

    def sample(self, notifications):
        for notification in notifications:
            for message in notification["payload"]:
                verifies = utils.verify_signature(message, verify.SECRET)
                self.messages.append({"verifies": verifies, "message": message})
        if len(self.messages) >= self.count:
            self.done.set()


def receive(url, topic, count):
    conf, endpoint = configured(url), Endpoint(int(count))
    target = oslo_messaging.Target(topic=topic, exchange="ceilometer")
    listener = messaging.get_batch_notification_listener(
        messaging.get_transport(conf), [target], [endpoint], batch_size=10, batch_timeout=1
    )
    listener.start()
    endpoint.done.wait(LIMIT)
    listener.stop()
    listener.wait()
    return endpoint.messages


COMMANDS = {"send": send, "send-udp": send_udp, "receive": receive}


def main():
    # Ceilometer's log may go to standard output, which is for the answer alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    command, *arguments = sys.argv[1:]
    answer = COMMANDS[command](*arguments)
    json.dump(answer, answers)
    answers.flush()


main()
