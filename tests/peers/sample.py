"""What the help page's sample does, on the official SDK: sample.py PROJECT LOGSTORE GROUP CONSUMER HOST PORT TIMEOUT.

A connection for every batch, a message for every log, and the checkpoint is saved when the batch went through without
an exception. Who breaks off a batch gets it raised, as the page says; the SDK's own syslog client is used.
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

project, logstore, group, consumer, host = sys.argv[1:6]
port, timeout = int(sys.argv[6]), float(sys.argv[7])
logging.basicConfig(level=logging.WARNING)


def connection():
    return syslogclient.SyslogClientRFC5424(host, port, proto="tcp", timeout=timeout)


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
                text = "".join("||%s=%s" % pair for pair in fields.items())
                receiver.log(
                    text,
                    facility=syslogclient.FAC_USER,
                    severity=syslogclient.SEV_INFO,
                    timestamp=moment,
                    program=None,
                    hostname="sample",
                )
        self.save_checkpoint(check_point_tracker)


# Intervals shorter than the page's, as those of the program that it is compared with.
config = LogHubConfig(
    "http://sls.test",
    os.environ["SLS_AK_ID"],
    os.environ["SLS_AK_KEY"],
    project,
    logstore,
    group,
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
