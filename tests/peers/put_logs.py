"""Puts numbered logs with the official SDK: put_logs.py PROJECT LOGSTORE SHARDS LOGS_PER_SHARD.

The LogHub is the HTTP proxy of the environment, the endpoint a name that resolves nowhere, so the SDK is unmodified.
"""
import os
import sys
import time

from aliyun.log import LogClient, LogItem, PutLogsRequest

project, logstore, shards, logs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = LogClient("http://sls.test", os.environ["SLS_AK_ID"], os.environ["SLS_AK_KEY"])
for shard in range(shards):
    key = "%032x" % ((2**128 // shards) * shard + 1)
    for start in range(0, logs, 100):
        items = [
            LogItem(int(time.time()), [("stream", "s%d" % shard), ("n", str(n)), ("text", "\u4e2d\u6587 %d" % n)])
            for n in range(start, min(start + 100, logs))
        ]
        client.put_logs(PutLogsRequest(project, logstore, "python", "10.0.0.2", items, hashKey=key))
print("done")
