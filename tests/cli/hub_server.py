"""A hub on loopback, as far as its client uploads to it and reads back: repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub.utils._validators import validate_repo_id

TOKENS = {"hf_writes": ("alice", "write"), "hf_reads": ("alice", "read")}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """Files by path, and the commits' messages."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class HubServer(ThreadingHTTPServer):
    """Its repositories and blobs, the requests that came, and what it refuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: dict[str, tuple[int, str]] = {}  # a part of "METHOD /path": the answer
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, part: str) -> int:
        return sum(part in request for request in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server."""


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Silence."""

    def reply(self, status: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, words: str, **headers: str) -> None:
        self.reply(status, {"error": words}, X_Error_Message=words, **headers)

    def user(self) -> tuple[str, str] | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def body(self) -> bytes:
        """What was sent, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self.body()
        request = f"{self.command} {path}"
        with self.server.lock:
            self.server.requests.append(request)
            fault = next((f for part, f in self.server.faults.items() if part in request), None)
            if fault:
                self.refuse(*fault)
            elif path.startswith("/blobs/"):  # signed addresses, which need no token
                self.store(path, body)
            elif self.user() is None:
                self.refuse(401, "Invalid username or password.")
            elif path == "/api/whoami-v2":
                name, role = self.user() or ("", "")
                about = {"type": "user", "name": name, "orgs": []}
                self.reply(200, {**about, "auth": {"accessToken": {"role": role}}})
            elif path == "/api/repos/create":
                self.create(json.loads(body))
            elif path == "/api/validate-yaml":
                self.validate(json.loads(body)["content"])
            else:
                self.in_repository(path, body)

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def store(self, path: str, body: bytes) -> None:
        oid = path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            self.refuse(400, "These are other bytes.")
            return
        self.server.blobs[oid] = body
        self.reply(200, {})

    def create(self, body: dict[str, Any]) -> None:
        owner = body["organization"]
        name = f"{owner}/{body['name']}"
        user = self.user()
        if user is None or user != (owner, "write"):
            self.refuse(403, f"You don't have the rights to create a model under {owner}")
        elif name in self.server.repositories:
            self.reply(409, {"error": "exists", "url": f"{self.server.url}/{name}"})
        else:
            private = body.get("visibility") == "private" or bool(body.get("private"))
            self.server.repositories[name] = Repository(private)
            self.reply(200, {"url": f"{self.server.url}/{name}"})

    def validate(self, card: str) -> None:
        """What the hub asks of a card, as far as ours have it."""
        about = yaml.safe_load(card.split("---\n")[1])
        if "base_model" in about:
            validate_repo_id(about["base_model"])
        assert {"library_name", "tags"} <= about.keys()
        assert about.get("license") != "other" or about["license_name"]
        self.reply(200, {"errors": [], "warnings": []})

    def in_repository(self, path: str, body: bytes) -> None:
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name = f"{parts[0]}/{parts[1].removesuffix('.git')}"
        found = self.server.repositories.get(name)
        if found is None:
            self.refuse(404, "Repository not found", X_Error_Code="RepoNotFound")
            return
        rest = parts[2:]
        match rest:
            case [] | ["revision", *_]:
                self.reply(200, self.about(name, found))
            case ["tree", *_]:
                self.reply(200, [self.entry(*one) for one in found.files.items()])
            case ["preupload", *_]:
                self.reply(200, {"files": [self.mode(f, found) for f in json.loads(body)["files"]]})
            case ["info", "lfs", "objects", "batch"]:
                self.reply(200, {"objects": [self.upload(o) for o in json.loads(body)["objects"]]})
            case ["commit", *_]:
                self.commit(name, found, body)
            case ["resolve", _, *file]:
                self.send_file(found.files.get("/".join(file)))
            case _:
                self.refuse(404, f"There is no {path}")

    def about(self, name: str, found: Repository) -> dict[str, Any]:
        siblings = [{"rfilename": file} for file in found.files]
        return {"id": name, "sha": COMMIT, "private": found.private, "siblings": siblings}

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}

    def mode(self, file: dict[str, Any], found: Repository) -> dict[str, Any]:
        path, is_large = file["path"], file["path"].endswith((".safetensors", ".bin"))
        ignored = found.files.get(".gitignore", b"").decode().split()
        said = {"path": path, "uploadMode": "lfs" if is_large else "regular"}
        there = found.files.get(path)
        if there is not None:
            said["oid"] = hashlib.sha256(there).hexdigest() if is_large else git_hash(there)
        return {**said, "shouldIgnore": path in ignored}

    def upload(self, thing: dict[str, Any]) -> dict[str, Any]:
        said = {"oid": thing["oid"], "size": thing["size"]}
        if thing["oid"] in self.server.blobs:
            return said
        where = {"href": f"{self.server.url}/blobs/{thing['oid']}", "header": {}}
        return {**said, "actions": {"upload": where}}

    def commit(self, name: str, found: Repository, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                found.commits.append(value["summary"])
            elif line["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                found.files[value["path"]] = self.server.blobs[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{COMMIT}"
        self.reply(200, {"commitUrl": url, "commitOid": COMMIT})

    def send_file(self, content: bytes | None) -> None:
        if content is None:
            self.refuse(404, "Entry not found", X_Error_Code="EntryNotFound")
            return
        tag = hashlib.sha256(content).hexdigest()
        self.reply(200, content, X_Repo_Commit=COMMIT, ETag=f'"{tag}"')


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A hub without repositories."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
