"""Calls v1.PodResourcesLister with a client that is not ours (grpcio), and prints containers with their CPUs.

usage: pod_resources.py SOCKET List | GetAllocatableResources | Get NAMESPACE POD. The few fields that are wanted are read from
the wire by hand, so no generated code is needed. Fails with code and words of the answer.
"""

import sys

import grpc


def varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(message):
    """Yields (field number, value) of an encoded message."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        value, at = varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


def numbers(parts, wanted):
    """A repeated int64, packed or not, as a list like 1,2."""
    found = []
    for number, value in parts:
        if number == wanted and isinstance(value, int):
            found.append(value)
        elif number == wanted:
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                found.append(one)
    return ",".join(map(str, sorted(found)))


def text(parts, wanted):
    return next((value.decode() for number, value in parts if number == wanted), "")


def print_pod(pod):
    parts = list(fields(pod))
    for number, container in parts:
        if number == 3:
            inner = list(fields(container))
            print(f"{text(parts, 2)}/{text(parts, 1)}/{text(inner, 1)} {numbers(inner, 3)}")


def main():
    socket, method, *names = sys.argv[1:]
    channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost")])
    request = b""
    if method == "Get":
        namespace, name = (part.encode() for part in names)
        request = b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(namespace)]) + namespace
    try:
        answer = channel.unary_unary(f"/v1.PodResourcesLister/{method}")(request, timeout=10)
    except grpc.RpcError as error:
        sys.exit(f"{error.code()}: {error.details()}")
    parts = list(fields(answer))
    if method == "GetAllocatableResources":
        print(numbers(parts, 2))
    else:
        for _, pod in parts:
            print_pod(pod)


main()
