#!/usr/bin/env python3
"""Writes log groups with the official Python SDK.

Each log has the fields `stream` and `n`, numbered from --first, and `message`. Prints one JSON line with what was
written. Exit code 0: all was taken; 1: it was refused.
"""

import json
import sys
import time

from aliyun.log import LogClient, LogItem, PutLogsRequest
from aliyun.log.logexception import LogException

from endpoint import arguments, signature, take_every_endpoint_as_raw_address


def main():
    parser = arguments(__doc__)
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--logs-per-group", type=int, default=10)
    parser.add_argument("--stream", default="python")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--message", default="hello, \u4e2d\u6587")
    parser.add_argument("--topic", default="topic")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--hash-key", help="routes to the shard of this key")
    parser.add_argument("--no-compression", action="store_true")
    args = parser.parse_args()

    take_every_endpoint_as_raw_address()
    client = LogClient(args.endpoint, args.access_key_id, args.access_key_secret, **signature(args))
    number = args.first
    try:
        for _ in range(args.groups):
            items = []
            for _ in range(args.logs_per_group):
                contents = [("stream", args.stream), ("n", str(number)), ("message", args.message)]
                items.append(LogItem(int(time.time()), contents=contents))
                number += 1
            client.put_logs(PutLogsRequest(
                args.project, args.logstore, topic=args.topic, source="127.0.0.1", logitems=items,
                hashKey=args.hash_key, compress=not args.no_compression,
                logtags=[tuple(tag.split("=", 1)) for tag in args.tag] or None))
    except LogException as e:
        print(json.dumps({"error": e.get_error_code(), "message": e.get_error_message()}))
        return 1
    print(json.dumps({"groups": args.groups, "logs": number - args.first}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
