#!/usr/bin/env python3
"""Writes a data directory and a key store that hold every kind of row, as a fixture of the program's data format.

    PYTHONPATH=PACKAGES python3 scripts/format-fixture.py PROGRAM ASSETS OUT

PACKAGES are those of clients/python/requirements.txt, PROGRAM is the `likeness` whose format is wanted, ASSETS its
assets directory, OUT a directory that does not exist yet. In OUT are then:

    keys/, data/    as the program left them, without the files that name the machine
    api-keys.json   the API keys of the fixture, which are secrets of nothing else
    receipts.log    the exported log of erasures
    expected.json   commands, and what the program answered to each: what a later program must answer too

The enrolled features are random numbers of a fixed seed: nobody is in the fixture. Photographs are only compared with
them, so that there are refused comparisons; none is enrolled.
"""

import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients/python"))
from example import Likeness, ShowsKey  # noqa: E402

import grpc  # noqa: E402

SEED = 20_261_130
DIMENSIONS = 512
SLOT_BYTES = 128
# What a later program is asked. `{acme}` stands for the API key of the account acme, `{key}` for the operator's.
COMMANDS = [
    ["key", "collection", "list"],
    ["key", "person", "list", "staff"],
    ["key", "person", "list", "visitors"],
    ["key", "person", "list", "crowd"],
    ["key", "person", "list", "small"],
    ["key", "person", "get", "staff", "bob-renamed"],
    ["key", "person", "export", "ada"],
    ["key", "consent", "list", "staff"],
    ["key", "log", "export", "staff"],
    ["key", "log", "list", "staff", "ada"],
    ["key", "log", "usage", "--from", "{day}", "--to", "{day}"],
    ["key", "account", "list"],
    ["key", "api-key", "list"],
    ["key", "audit", "log"],
    ["acme", "collection", "list"],
    ["acme", "person", "list", "guests"],
    ["acme", "api-key", "list"],
    ["acme", "log", "list", "guests", "gast"],
]


class Program:
    """The program over one home."""

    def __init__(self, program, assets, home):
        self.program, self.assets = program, assets
        self.keys, self.data = home / "keys", home / "data"
        self.server = None
        self.address = ""

    def run(self, *arguments, key=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIKENESS_")}
        environment |= {"LIKENESS_SERVER": self.address} if self.address else {}
        environment |= {"LIKENESS_API_KEY": key} if key else {}
        done = subprocess.run([self.program, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.exit(f"{arguments}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def offline(self, *arguments):
        return self.run(*arguments, "--keys", str(self.keys), "--data", str(self.data))

    def serve(self):
        models = ["--models", f"{self.assets}/models", "--runtime", f"{self.assets}/runtime/libonnxruntime.so"]
        command = [self.program, "serve", "--listen", "127.0.0.1:0", "--keys", self.keys, "--data", self.data, *models]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = self.server.stdout.readline().strip()
        if not said.startswith("serving on "):
            sys.exit(f"the server did not start: {said}")
        self.address = said.removeprefix("serving on http://")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        if self.server.wait(60) != 0:
            sys.exit("the server did not end by itself")
        self.address = ""

    def client(self, key):
        channel = grpc.insecure_channel(self.address)
        return Likeness(grpc.intercept_channel(channel, ShowsKey(key)))


class Features:
    """Random features of a fixed seed."""

    def __init__(self):
        self.random = random.Random(SEED)

    def one(self):
        return [self.random.gauss(0, 1) for _ in range(DIMENSIONS)]

    def near(self, features):
        return [value + self.random.gauss(0, 0.3) for value in features]


def timestamp(seconds):
    return {"seconds": seconds}


def token(random_):
    return "".join(random_.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(24))


def imports(client, collection, people, model, import_token):
    """ImportPersons with features: (PersonID, features of each face, further fields) each."""
    method = client.methods["ImportPersons"]
    request, reply = (message_class(method.input_type), message_class(method.output_type))
    stream = client.channel.stream_stream(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=reply.FromString,
    )
    header = {
        "collection": collection,
        "import_token": import_token,
        "embedding_model": model,
        "embedding_dim": DIMENSIONS,
    }
    items = [
        {"sequence": n, "person_id": id_, "embeddings": [{"values": face} for face in faces], **fields}
        for n, (id_, faces, fields) in enumerate(people)
    ]
    messages = [request(header=header), *(request(item=item) for item in items)]
    for answer in stream(iter(messages), timeout=60):
        if answer.WhichOneof("outcome") != "imported":
            sys.exit(f"not imported: {answer}")


def message_class(descriptor):
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


def embedder_digest(program):
    listed = json.loads(program.run("models", "list", "--json"))
    embedder = next(model["file"] for model in walk(listed) if model.get("role") == "embedder")
    return next(file["blake3"] for file in walk(listed) if file.get("to", "").endswith(f"/{embedder}"))


def walk(value):
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def fill(program, operator, photographs):
    """Everything that leaves a row."""
    features, tokens = Features(), random.Random(SEED)
    model = embedder_digest(program)
    client = program.client(operator)
    now = int(time.time())

    client.call("CreateCollection", name="staff")
    client.call("CreateCollection", name="visitors", threshold=0.45)
    client.call("CreateCollection", name="small", bits=256, faces_per_person_max=3)
    client.call("CreateCollection", name="gone")
    program.run("collection", "create", "crowd", "--index", "graph", "--ef", "64", key=operator)

    ada, bob, eve, cleo = (features.one() for _ in range(4))
    consent = {"purpose": "a fixture", "given": timestamp(1_700_000_000), "of_age_or_parental": True}
    staff = [
        ("ada", [ada, features.near(ada)], {"name": "Ada", "tags": ["first", "second"], "consent": consent}),
        ("bob", [bob], {"name": "Bob"}),
        ("bob-again", [features.near(bob)], {}),
        ("eve", [eve, features.near(eve), features.near(eve)], {}),
        ("cleo", [cleo], {"expires": timestamp(4_000_000_000), "tags": ["first"]}),
        ("dan", [features.one()], {"consent": consent}),
        ("fay", [features.one()], {}),
    ]
    imports(client, "staff", staff, model, token(tokens))
    imports(client, "crowd", [(f"crowd-{n}", [features.one()], {}) for n in range(40)], model, token(tokens))
    imports(client, "small", [("tiny", [features.one()], {})], model, token(tokens))
    imports(client, "gone", [("lost", [features.one()], {})], model, token(tokens))

    # Tokens: of a change, a copy, a new PersonID and an erasure.
    call = client.call
    call("UpdatePerson", collection="staff", person_id="fay", name="Fay", idempotency_token=token(tokens))
    call(
        "CopyPerson",
        collection="staff",
        person_id="ada",
        target_collection="visitors",
        idempotency_token=token(tokens),
    )
    call("CopyPerson", collection="staff", person_id="bob", target_collection="staff", target_person_id="bob-copy")
    call("RenamePerson", collection="staff", person_id="bob", new_person_id="bob-renamed", idempotency_token=token(tokens))
    kept = call("GetPerson", collection="staff", person_id="eve").person.faces
    call("DeleteFaces", collection="staff", person_id="eve", face_ids=[kept[0].face_id])
    call("WithdrawConsent", collection="staff", person_id="dan")

    # Refused comparisons, and searches that find nobody: counters, rows of the running log, usage.
    photograph = {"data": (photographs / "obama.jpg").read_bytes()}
    for person in ["ada", "ada", "ada", "bob-copy"]:
        call("VerifyPerson", collection="staff", person_id=person, photograph=photograph)
    call("SearchPersons", collections=["staff", "crowd"], photograph=photograph)

    # Accounts and keys.
    program.run("account", "create", "acme", "--persons", "1000", "--calls-per-second", "50", key=operator)
    program.run("account", "create", "closed", key=operator)
    make = ["api-key", "create"]
    acme = program.run(*make, "--account", "acme", "--all-scopes", "--label", "all of acme", key=operator).strip()
    reader = program.run(
        *make, "--account", "acme", "--scope", "read,search", "--collection", "guests", "--label", "a reader", key=operator
    ).strip()
    ended = program.run(*make, "--scope", "read", "--expires", "2100-01-01", "--label", "revoked", key=operator).strip()
    listed = json.loads(program.run("api-key", "list", "--json", key=operator))
    revoked = next(key["key_id"] for key in walk(listed) if key.get("label") == "revoked")
    program.run("api-key", "revoke", revoked, key=operator)
    tenant = program.client(acme)
    tenant.call("CreateCollection", name="guests")
    imports(tenant, "guests", [("gast", [features.one()], {"name": "Gast"})], model, token(tokens))
    tenant.call("VerifyPerson", collection="guests", person_id="gast", photograph=photograph)
    leaving = program.run(*make, "--account", "closed", "--all-scopes", key=operator).strip()
    left = program.client(leaving)
    left.call("CreateCollection", name="emptied")
    imports(left, "emptied", [("last", [features.one()], {})], model, token(tokens))

    # Keys change, and people go: after this there is a receipt of every kind but OVERRIDE.
    program.run("key", "rotate", "signing", key=operator)
    program.run("key", "rotate", "wrapping", key=operator)
    call("DeletePerson", collection="staff", person_id="eve", idempotency_token=token(tokens))
    call("DeleteCollection", name="gone")
    program.run("account", "close", "closed", "--confirm", "closed", key=operator)
    for _ in range(120):
        if json.loads(program.run("receipt", "status", "--json", key=operator)).get("unpurged", 0) in (0, []):
            break
        time.sleep(0.5)
    # Not purged: the log ends with what is still to be done.
    call("DeletePerson", collection="staff", person_id="fay")
    return {"key": operator, "acme": acme, "reader": reader, "revoked": ended}, now


def expected(program, api_keys):
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    answers = []
    for who, *command in COMMANDS:
        command = [part.replace("{day}", day) for part in command]
        said = program.run(*command, "--json", key=api_keys[who])
        answers.append({"key": who, "command": command, "answer": objects(said)})
    return answers


def objects(said):
    """One JSON object, or one a line, without what belongs to the call and not to the data."""
    try:
        found = [json.loads(said)]
    except json.JSONDecodeError:
        found = [json.loads(line) for line in said.splitlines()]
    for value in walk(found):
        for name in ("call", "checkpoint", "running_log", "step_micros"):
            value.pop(name, None)
    return found


def main():
    binary, assets, out = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
    out.mkdir()
    program = Program(str(binary), assets, out)
    public_key = json.loads(program.offline("key", "init", "--json"))["public_key"]
    operator = program.offline("api-key", "create", "--all-scopes", "--label", "the operator").strip()
    program.serve()
    api_keys, written = fill(program, operator, assets / "photographs")
    program.stop()
    # Twice more: tables are part of it then and not only a log, and what was to be done is done.
    program.serve()
    program.stop()
    program.serve()
    answers = expected(program, api_keys)
    program.run("receipt", "export", str(out / "receipts.log"), key=operator)
    program.stop()
    for path in (out / "data/records").iterdir():
        if path.name.startswith(("LOG", "LOCK", "OPTIONS")):
            path.unlink()
    # A slot file is made large at once; the end of it is empty.
    slots = out / "data/slots"
    used = len(slots.read_bytes().rstrip(b"\0"))
    os.truncate(slots, -(-used // SLOT_BYTES) * SLOT_BYTES)
    (out / "keys/lock").unlink(missing_ok=True)
    (out / "api-keys.json").write_text(json.dumps(api_keys, indent=1) + "\n")
    record = {
        "program": program.run("--version").strip(),
        "written": written,
        "public_key": public_key,
        "answers": answers,
    }
    (out / "expected.json").write_text(json.dumps(record, indent=1) + "\n")


main()
