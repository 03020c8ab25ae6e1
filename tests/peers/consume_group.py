"""Consumes a group with the official SDK's consumer library: consume_group.py PROJECT LOGSTORE GROUP CONSUMER.

Prints "stream n" for every log, flushed, and commits after each batch; ends well at SIGTERM.
"""
import logging
import os
import signal
import sys
import threading

from aliyun.log.consumer import ConsumerProcessorBase, ConsumerWorker, CursorPosition, LogHubConfig

project, logstore, group, consumer = sys.argv[1:5]
logging.basicConfig(level=logging.WARNING)
printing = threading.Lock()


class Printer(ConsumerProcessorBase):
    def process(self, log_groups, check_point_tracker):
        with printing:
            for log_group in log_groups.LogGroups:
                for log in log_group.Logs:
                    fields = {content.Key: content.Value for content in log.Contents}
                    print(fields["stream"], fields["n"])
            sys.stdout.flush()
        check_point_tracker.save_check_point(True)


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
worker = ConsumerWorker(Printer, config)
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
worker.start()
stopped.wait()
worker.shutdown()
worker.join()
