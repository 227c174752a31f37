"""Calls v1.PodResourcesLister/List with a client that is not ours (grpcio) and prints the answer.

usage: list.py SOCKET. The few fields that the demo shows are read from the wire by hand, so no generated code is needed.
"""

import sys

import grpc


def fields(message):
    """Yields (field number, value) of an encoded message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            length = varint()
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")


def main():
    # The percent-encoded authority is what this client sends for a raw path.
    channel = grpc.insecure_channel(f"unix:{sys.argv[1]}", options=[("grpc.default_authority", sys.argv[1].replace("/", "%2F"))])
    listing = channel.unary_unary("/v1.PodResourcesLister/List")(b"", timeout=10)
    for _, pod in fields(listing):
        parts = list(fields(pod))
        name, namespace = (next(value.decode() for number, value in parts if number == wanted) for wanted in (1, 2))
        for number, container in parts:
            if number == 3:
                inner = list(fields(container))
                label = next(value.decode() for field, value in inner if field == 1)
                cpus = [int(cpu) for field, value in inner if field == 3 for cpu in value]
                print(f"  {namespace}/{name} container {label}: exclusive cpu_ids {cpus}")


main()
