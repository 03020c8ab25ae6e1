#!/usr/bin/env python3
"""Reads a logstore with the consumer library of the official Python SDK.

Writes each log as one JSON line, flattened as the SDK does it, with the additional key `__shard__`. Ends after --logs
logs or --seconds. Exit code 0: the logs came; 1: time was over first; 2: the group could not be started.
"""

import json
import logging
import sys
import threading
import time

from aliyun.log.consumer import ConsumerProcessorBase, ConsumerWorker, CursorPosition, LogHubConfig
from aliyun.log.logexception import LogException
from aliyun.log.pulllog_response import PullLogResponse

from endpoint import arguments, signature, take_every_endpoint_as_raw_address


class Sink:
    """Takes logs from all shards and knows when there are enough."""

    def __init__(self, output, wanted):
        self.output = output
        self.wanted = wanted
        self.count = 0
        self.lock = threading.Lock()
        self.enough = threading.Event()

    def write(self, shard, groups):
        logs = PullLogResponse.loggroups_to_flattern_list(groups, time_as_str=True, decode_bytes=True)
        with self.lock:
            for log in logs:
                log["__shard__"] = shard
                self.output.write(json.dumps(log, default=repr) + "\n")
            self.output.flush()
            self.count += len(logs)
            if self.count >= self.wanted:
                self.enough.set()


class Processor(ConsumerProcessorBase):
    def __init__(self, sink):
        super().__init__()
        self.sink = sink

    def process(self, log_groups, check_point_tracker):
        self.sink.write(self.shard_id, log_groups)
        self.save_checkpoint(check_point_tracker)
        return None


def main():
    parser = arguments(__doc__)
    parser.add_argument("--group", default="python-group")
    parser.add_argument("--consumer", default="python-consumer")
    parser.add_argument("--logs", type=int, default=sys.maxsize, help="ends after so many")
    parser.add_argument("--seconds", type=float, default=60, help="ends after so long")
    parser.add_argument("--heartbeat", type=int, default=2, help="seconds; the group's timeout is twice that")
    parser.add_argument("--in-order", action="store_true")
    parser.add_argument("--from-end", action="store_true", help="starts at the end instead of the begin")
    parser.add_argument("--output", default="-", help="file; - is standard output")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    logging.basicConfig(stream=sys.stderr, level=logging.INFO if args.verbose else logging.ERROR)
    take_every_endpoint_as_raw_address()
    position = CursorPosition.END_CURSOR if args.from_end else CursorPosition.BEGIN_CURSOR
    config = LogHubConfig(
        args.endpoint, args.access_key_id, args.access_key_secret, args.project, args.logstore, args.group,
        args.consumer, cursor_position=position, heartbeat_interval=args.heartbeat, data_fetch_interval=0.2,
        in_order=args.in_order, **signature(args))
    output = sys.stdout if args.output == "-" else open(args.output, "w", encoding="utf-8")
    sink = Sink(output, args.logs)
    try:
        worker = ConsumerWorker(Processor, config, args=(sink,))
    except LogException as e:
        print(f"cannot start the group: {e}", file=sys.stderr)
        return 2
    worker.start()
    begin = time.monotonic()
    came = sink.enough.wait(args.seconds)
    worker.shutdown()
    worker.join(30)
    output.flush()
    took = time.monotonic() - begin
    print(json.dumps({"logs": sink.count, "seconds": round(took, 1)}), file=sys.stderr)
    return 0 if came or args.logs == sys.maxsize else 1


if __name__ == "__main__":
    sys.exit(main())
