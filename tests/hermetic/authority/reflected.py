"""Asks the query service with grpcio and messages made from the descriptors that the server tells by reflection.

Usage: reflected.py SOCKET REFLECTION_VERSION
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def reflection_messages():
    """Request and response of grpc/reflection/v1/reflection.proto, as far as needed, without generated code."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="r", syntax="proto3")

    def message(name, *fields):
        added = file.message_type.add(name=name)
        for field, number, kind, label, type_name in fields:
            added.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("Request", ("symbol", 4, kinds.TYPE_STRING, one, None), ("list", 7, kinds.TYPE_STRING, one, None))
    message("Files", ("file", 1, kinds.TYPE_BYTES, many, None))
    message("Service", ("name", 1, kinds.TYPE_STRING, one, None))
    message("Services", ("service", 1, kinds.TYPE_MESSAGE, many, ".r.Service"))
    message(
        "Response",
        ("files", 4, kinds.TYPE_MESSAGE, one, ".r.Files"),
        ("services", 6, kinds.TYPE_MESSAGE, one, ".r.Services"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_class(pool, "r.Request"), message_class(pool, "r.Response")


def main():
    socket, version = sys.argv[1:]
    channel = grpc.insecure_channel("unix:" + socket)
    request, response = reflection_messages()
    reflect = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )

    def ask(**question):
        return next(iter(reflect(iter([request(**question)]), timeout=30)))

    services = sorted(service.name for service in ask(list="*").services.service)
    print("Services", " ".join(name for name in services if "podresources" in name.lower()))

    pool = descriptor_pool.DescriptorPool()
    for service in ("v1.PodResourcesLister", "v1alpha1.PodResourcesLister"):
        for file in ask(symbol=service).files.file:
            pool.AddSerializedFile(file)

    def call(service, method, **fields):
        described = pool.FindServiceByName(service).FindMethodByName(method)
        asked = message_class(pool, described.input_type.full_name)
        answered = message_class(pool, described.output_type.full_name)
        stub = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        return stub.with_call(asked(**fields), timeout=30)

    listed, _ = call("v1.PodResourcesLister", "List")
    for pod in listed.pod_resources:
        for container in pod.containers:
            memory = [(block.memory_type, block.size, [node.ID for node in block.topology.nodes]) for block in container.memory]
            print("List", pod.namespace, pod.name, container.name, list(container.cpu_ids), memory)
    got, _ = call("v1.PodResourcesLister", "Get", pod_name="db", pod_namespace="data")
    print("Get is as listed:", got.pod_resources in list(listed.pod_resources))
    allocatable, _ = call("v1.PodResourcesLister", "GetAllocatableResources")
    print("Allocatable", list(allocatable.cpu_ids), [block.size for block in allocatable.memory])
    older, _ = call("v1alpha1.PodResourcesLister", "List")
    print("v1alpha1", " ".join(pod.name for pod in older.pod_resources))


main()
