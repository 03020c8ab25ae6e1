"""A line that delays: delay.py DEVICE ADDRESS PEER MILLISECONDS. Linux, as root.

Whoever connects to PEER reaches who listens on ADDRESS, and what either sends arrives so much later. Packets that the
system routes to PEER come out of a tunnel device; with source and destination exchanged they go in again, as if PEER had
sent them. That leaves every checksum right, and since it is packets that are late, so are TCP's acknowledgements. A pipe,
no throttle: any number of packets is under way at once, and their order stays. Ends with its standard input.
"""
import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

device, address, peer, delay = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]) / 1000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LONGEST = 65521

tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
subprocess.run(["ip", "address", "add", address, "peer", peer, "dev", device], check=True)
# Long packets, so that this program is not what limits; and room for all that TCP lets be under way.
subprocess.run(["ip", "link", "set", device, "mtu", str(LONGEST), "txqueuelen", "100000", "up"], check=True)
print("ready", flush=True)

under_way = collections.deque()
poll = select.poll()
poll.register(tun, select.POLLIN)
poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
while True:
    now = time.monotonic()
    while under_way and under_way[0][0] <= now:
        os.write(tun, under_way.popleft()[1])
    # Sleeping counts in whole milliseconds; the last one is spun away.
    wait = int((under_way[0][0] - now) * 1000) if under_way else None
    for descriptor, _ in poll.poll(wait):
        if descriptor != tun:
            sys.exit()
        try:
            while True:
                packet = os.read(tun, LONGEST + 1)
                # IPv4 only: source and destination are bytes 12 to 20.
                if packet[0] >> 4 == 4:
                    swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                    under_way.append((time.monotonic() + delay, swapped))
        except BlockingIOError:
            pass
