#!/usr/bin/env python3
"""The main path of Likeness with plain grpcio: create, enrol, search, verify, erase.

No generated code: the server's reflection describes its messages, and the stubs are made from that
at run time.

    python3 -m pip install --require-hashes --only-binary=:all: --requirement requirements.txt
    python3 example.py --server 127.0.0.1:50051 --api-key-file ~/likeness/api-key --photographs ~/.cache/likeness/assets/photographs
"""

import argparse
import pathlib
import sys
import time
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PACKAGE = "likeness.v1"
# Every call carries a deadline: past it, the server stops before the call's next stage.
DEADLINE_SECONDS = 30
MESSAGE_BYTES_MAX = 64 << 20


class ShowsKey(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Every call shows the API key, reflection's too."""

    def __init__(self, key):
        self.shown = ("authorization", f"Bearer {key}")

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self.with_key(details), request)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(self.with_key(details), requests)

    def with_key(self, details):
        metadata = [*(details.metadata or []), self.shown]
        return details._replace(metadata=metadata)


class Likeness:
    """`likeness.call("SearchPersons", collections=[...], photograph=...)` for every unary call of the API."""

    def __init__(self, channel):
        self.channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        self.methods = {}
        for name in database.get_services():
            if name.startswith(PACKAGE + "."):
                service = pool.FindServiceByName(name)
                self.methods |= {method.name: method for method in service.methods}

    def call(self, name, /, **fields):
        method = self.methods[name]
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        reply = message_factory.GetMessageClass(method.output_type)
        ask = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return ask(request, timeout=DEADLINE_SECONDS)


def details(error):
    """The google.rpc messages in a refusal, by name: ErrorInfo, RequestInfo, BadRequest, RetryInfo."""
    status = rpc_status.from_call(error)
    found = {}
    for packed in status.details if status else []:
        detail = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])()
        packed.Unpack(detail)
        found[packed.TypeName().rpartition(".")[2]] = detail
    return found


def check(holds, what):
    if not holds:
        raise SystemExit(f"example.py: {what}")


def refused(likeness, code, reason, name, /, **fields):
    """Makes a call that must be refused with this code and this reason; answers the details."""
    try:
        likeness.call(name, **fields)
    except grpc.RpcError as error:
        found = details(error)
        info = found["ErrorInfo"]
        check(error.code() == code, f"{name}: expected {code}, received {error.code()}: {error.details()}")
        check(info.reason == reason, f"{name}: expected {reason}, received {info.reason}")
        check(info.domain == "likeness", f"{name}: the domain is {info.domain}")
        check(len(found["RequestInfo"].request_id) == 32, f"{name}: no request id")
        print(f"refused  {name}: {code.name}, {info.reason}: {error.details()}")
        return found
    raise SystemExit(f"example.py: {name} was not refused")


def tour(likeness, photographs):
    def photograph(name):
        return {"data": (photographs / name).read_bytes()}

    collection = f"python-{uuid.uuid4().hex[:8]}"
    made = likeness.call("CreateCollection", name=collection).collection
    print(f"created  {made.name}: {made.bits} bits, threshold {made.threshold:.3f}")
    check((made.bits, made.persons) == (1024, 0), "a new collection has 1024 bits and nobody in it")

    try:
        for person_id, names in {"barack": ["obama.jpg", "obama3.jpg"], "eileen": ["astronaut.png"]}.items():
            reply = likeness.call(
                "EnrollPerson",
                collection=collection,
                person_id=person_id,
                photographs=[photograph(name) for name in names],
                consent={"purpose": "showing how it works", "of_age_or_parental": True},
            )
            print(f"enrolled {person_id}: {len(reply.person.faces)} face(s) from {', '.join(names)}")
            check(all(outcome.HasField("enrolled") for outcome in reply.outcomes), "each photograph is accepted")

        probe = photograph("obama2.jpg")
        began = time.monotonic()
        found = likeness.call("SearchPersons", collections=[collection], photograph=probe)
        took_ms = (time.monotonic() - began) * 1e3
        print(f"found    {[(m.person_id, round(m.similarity, 2)) for m in found.results[0].matches]} in {took_ms:.1f} ms")
        check([m.person_id for m in found.results[0].matches] == ["barack"], "the search must find barack and nobody else")
        steps = [step.step for step in found.call.steps]
        check("embed" in steps and "match" in steps, f"the reply tells its steps, not {steps}")

        for person_id, expected in {"barack": True, "eileen": False}.items():
            reply = likeness.call("VerifyPerson", collection=collection, person_id=person_id, photograph=probe)
            told = f", similarity {reply.similarity:.2f}" if reply.HasField("similarity") else ""
            print(f"verified {person_id}: {reply.same_person}{told}")
            check(reply.same_person is expected, f"obama2.jpg shows {person_id}: {expected}")

        # A refusal says why in words for people, and in details for programs.
        bad = refused(
            likeness,
            grpc.StatusCode.INVALID_ARGUMENT,
            "UNSUPPORTED_FORMAT",
            "EnrollPerson",
            collection=collection,
            person_id="nobody",
            photographs=[{"data": b"not a photograph"}],
        )
        fields = [violation.field for violation in bad["BadRequest"].field_violations]
        check(fields == ["photographs[0]"], f"the field is photographs[0], not {fields}")

        erased = likeness.call("DeletePerson", collection=collection, person_id="barack")
        print(f"erased   barack: {erased.faces_erased} face(s)")
        found = likeness.call("SearchPersons", collections=[collection], photograph=probe)
        check(not found.results[0].matches, "nobody finds an erased person")
        person = {"collection": collection, "person_id": "barack"}
        refused(likeness, grpc.StatusCode.NOT_FOUND, "PERSON_NOT_FOUND", "GetPerson", **person)
    finally:
        gone = likeness.call("DeleteCollection", name=collection)
        print(f"erased   {collection} with {gone.persons_erased} person(s)")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT")
    arguments.add_argument("--api-key-file", required=True, type=pathlib.Path, metavar="FILE")
    arguments.add_argument("--photographs", required=True, type=pathlib.Path, metavar="DIR")
    chosen = arguments.parse_args()
    # Received as well: the receipts of a large collection's erasure pass gRPC's 4 MiB.
    sides = ("send", "receive")
    options = [(f"grpc.max_{side}_message_length", MESSAGE_BYTES_MAX) for side in sides]
    try:
        key = chosen.api_key_file.read_text().strip()
        with grpc.insecure_channel(chosen.server, options=options) as channel:
            keyed = grpc.intercept_channel(channel, ShowsKey(key))
            tour(Likeness(keyed), chosen.photographs)
    except grpc.RpcError as error:
        sys.exit(f"example.py: {error.code().name}: {error.details()}")


if __name__ == "__main__":
    main()
