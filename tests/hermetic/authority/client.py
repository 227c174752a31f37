"""Asks the query service with grpcio; messages are read by hand, so that no generated code is needed.

Usage: client.py SOCKET (percent-encoded | AUTHORITY)
"""

import sys
from urllib.parse import quote

import grpc


def fields(message):
    """Number and value of each field; varints as int, the rest as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            at += value
            value = message[at - value : at]
        yield tag >> 3, value


def only(message, number):
    return [value for found, value in fields(message) if found == number]


def main():
    socket, authority = sys.argv[1:]
    if authority == "percent-encoded":
        authority = quote(socket, safe="")
    channel = grpc.insecure_channel("unix:" + socket, options=[("grpc.default_authority", authority)])

    def call(method, request=b""):
        return channel.unary_unary("/v1.PodResourcesLister/" + method)(request, timeout=30)

    def get(name, namespace):
        text = lambda number, value: bytes([number << 3 | 2, len(value)]) + value.encode()
        return call("Get", text(1, name) + text(2, namespace))

    pods = only(call("List"), 1)
    print("List", ",".join(only(pod, 1)[0].decode() for pod in pods))
    print("Allocatable", len(only(call("GetAllocatableResources"), 2)[0]), "CPUs")
    print("Get", only(only(get("db", "data"), 1)[0], 1)[0].decode())
    try:
        get("absent", "data")
    except grpc.RpcError as error:
        print("Get absent:", error.code().name, error.details())


main()
