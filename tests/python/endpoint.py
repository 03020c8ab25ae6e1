"""Points the official SDK at a server on the loopback interface.

The SDK puts the project in front of the endpoint's host, which no resolver knows for an address with a port. It makes
an exception for raw addresses, but recognises them only without a port; here every endpoint counts as one. Then it
connects to the address and sends `Host: <project>.<address>`, as the server expects. Nothing else is changed.
"""

import argparse

from aliyun.log.util import Util


def arguments(description):
    """A parser with what both scripts need; its defaults are those of `sls-syslog loghub`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--endpoint", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--project", default="demo-project")
    parser.add_argument("--logstore", default="demo-logstore")
    parser.add_argument("--access-key-id", default="demo-key-id")
    parser.add_argument("--access-key-secret", default="demo-key-secret")
    parser.add_argument("--signature", choices=["v1", "v4"], default="v1")
    parser.add_argument("--region", default="cn-hangzhou", help="for v4")
    return parser


def take_every_endpoint_as_raw_address():
    Util.is_row_ip = staticmethod(lambda endpoint: True)


def signature(args):
    """Keyword arguments of the SDK's client and consumer settings."""
    return {"auth_version": args.signature, "region": args.region if args.signature == "v4" else ""}
