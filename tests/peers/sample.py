"""What the help page's sample does, on the official SDK: sample.py CONSUMER KEY=VALUE...

SLS is told by the page's environment (SLS_ENDPOINT, SLS_AK_ID, SLS_AK_KEY, SLS_PROJECT, SLS_LOGSTORE, SLS_CG), the receiver
by the keys of the page's settings (host, port, protocol, sep, timeout, facility, severity, hostname, tag). A connection for
every batch, a message for every log, and the checkpoint is saved when the batch went through without an exception. Who
breaks off a batch gets it raised, as the page says; the SDK's own syslog client is used.
"""
import logging
import os
import signal
import sys
import threading
from datetime import datetime

from aliyun.log import PullLogResponse
from aliyun.log.consumer import ConsumerProcessorBase, ConsumerWorker, CursorPosition, LogHubConfig
from aliyun.log.ext import syslogclient

consumer = sys.argv[1]
settings = {"protocol": "tcp", "sep": "||", "timeout": "120", "facility": None, "severity": None}
settings.update({"hostname": None, "tag": None})
settings.update(setting.split("=", 1) for setting in sys.argv[2:])
logging.basicConfig(level=logging.WARNING)


def code(key):
    return None if settings[key] is None else int(settings[key])


def connection():
    address = settings["host"], int(settings["port"])
    timeout = float(settings["timeout"])
    return syslogclient.SyslogClientRFC5424(*address, proto=settings["protocol"], timeout=timeout)


class Forward(ConsumerProcessorBase):
    def __init__(self):
        super().__init__()
        # It looks whether the receiver is there, and fails where it is not.
        with connection():
            pass

    def process(self, log_groups, check_point_tracker):
        fields_of_logs = PullLogResponse.loggroups_to_flattern_list(log_groups, time_as_str=True, decode_bytes=True)
        with connection() as receiver:
            for fields in fields_of_logs:
                moment = datetime.fromtimestamp(int(fields.pop("__time__")))
                text = "".join("%s%s=%s" % (settings["sep"], key, value) for key, value in fields.items())
                receiver.log(
                    text,
                    facility=code("facility"),
                    severity=code("severity"),
                    timestamp=moment,
                    program=settings["tag"],
                    hostname=settings["hostname"],
                )
        self.save_checkpoint(check_point_tracker)


# Intervals shorter than the page's, as those of the program that it is compared with.
config = LogHubConfig(
    os.environ["SLS_ENDPOINT"],
    os.environ["SLS_AK_ID"],
    os.environ["SLS_AK_KEY"],
    os.environ["SLS_PROJECT"],
    os.environ["SLS_LOGSTORE"],
    os.environ["SLS_CG"],
    consumer,
    cursor_position=CursorPosition.BEGIN_CURSOR,
    heartbeat_interval=1,
    data_fetch_interval=1,
)
worker = ConsumerWorker(Forward, config)
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
worker.start()
# The worker also ends by itself, where the receiver was not there.
while worker.is_alive() and not stopped.wait(0.2):
    pass
worker.shutdown()
worker.join()
