"""A W&B server on this machine, as much of it as wandb asks for: it takes runs, refuses a key, or goes away."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote

KEY = "0" * 40  # of a key's form


@dataclass
class Server:
    """What it was sent.

    Attributes:
        url: for WANDB_BASE_URL.
        rows: history rows by run id, in the order in which they stand there.
        uploads: the last content of each uploaded file by its name.
        tables: by run id and name, what each table that was sent whole holds: contents by path.
        runs: what the last request said of each run, by id.
        exits: exit codes by run id.
        views: reports and workspace views that were saved.
        asked: names of every query.
    """

    url: str
    http: ThreadingHTTPServer
    refuses: bool
    gone: bool = False
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    tables: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    pending: dict[str, tuple[str, str]] = field(default_factory=dict)
    sent: dict[str, dict[str, bytes]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Go away, as a network does: connections that are open are dropped at their next use."""
        self.gone = True
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            return self._query(json.loads(body))
        if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            self._stream(stream[1], json.loads(body))
        elif path.startswith("/upload/"):
            self.uploads[path.removeprefix("/upload/")] = body
        elif path.startswith("/store/"):
            artifact, _, name = path.removeprefix("/store/").partition("/")
            self.sent[artifact][unquote(name)] = body
        return {}

    def _query(self, query: dict[str, Any]) -> dict[str, Any]:
        asked = re.search(r"(?:query|mutation) (\w+)", query["query"])
        name, variables = asked[1] if asked else "", query.get("variables") or {}
        self.asked.append(name)
        if name.lower().startswith("upsertview"):
            self.views.append(variables)
            view = {"id": f"view{len(self.views)}", "name": variables["name"], "displayName": variables["displayName"]}
            more = {"description": "", "spec": variables["spec"], "type": variables["type"], "project": self._project()}
            return {"data": {"upsertView": {"view": view | more, "inserted": True}}}
        if name == "UpsertBucket":
            known = self.runs.setdefault(variables["name"], {})
            known |= {key: value for key, value in variables.items() if value is not None}
            bucket = self._bucket(variables["name"])
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": len(self.rows) == 0}}}
        if name == "RunResumeStatus" and variables["name"] in self.runs:
            return {"data": {"model": {"id": "p", "name": "p", "bucket": self._bucket(variables["name"])}}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        if re.search(r"\bviewer\b", query["query"]):
            who = {"id": "u", "name": "someone", "username": "someone", "entity": "someone", "email": "", "flags": "{}"}
            return {"data": {"viewer": who | {"admin": False, "teams": {"edges": []}, "apiKeys": {"edges": []}}}}
        if name == "ArtifactType":  # of a table of this name that is known: none is
            return {"data": {"project": None}}
        if name == "GetProjects":
            return {"data": {"models": {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}}}
        if re.match("(Create|Update|Commit)Artifact", name):
            return {"data": self._artifact(name, variables)}
        return {"data": {}}

    def _artifact(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Tables are kept apart from runs: created, filled, given the list of what is in them, and committed."""
        asked = variables.get("input") or variables
        if name == "CreateArtifact":
            id = f"a{len(self.pending)}"
            self.pending[id], self.sent[id] = (asked["runName"], asked["artifactCollectionName"]), {}
            created = {"id": id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": created}}
        if name in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            id = asked.get("artifactID") or asked["artifactManifestID"]
            file = {"id": id, "uploadUrl": f"{self.url}/store/{id}/", "uploadHeaders": []}
            return {name[0].lower() + name[1:]: {"artifactManifest": {"id": id, "file": file}}}
        if name == "CreateArtifactFiles":
            files = [
                {"storagePath": one["name"], "uploadUrl": f"{self.url}/store/{one['artifactID']}/{quote(one['name'])}"}
                | {"uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": one["artifactID"]}}
                for one in asked["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}
        id = asked["artifactID"]
        listed = json.loads(self.sent[id].pop(""))["contents"]
        assert listed.keys() == self.sent[id].keys()
        self.tables[self.pending[id]] = self.sent[id]
        return {"commitArtifact": {"artifact": {"id": id, "digest": "d"}}}

    def _project(self) -> dict[str, Any]:
        return {"id": "p", "name": "exfuse-ablation", "entityName": "someone", "entity": {"id": "e", "name": "someone"}}

    def _bucket(self, id: str) -> dict[str, Any]:
        rows = self.rows.get(id, [])
        tail = json.dumps([json.dumps(row) for row in rows[-1:]])
        return {
            "id": f"x{id}",
            "name": id,
            "displayName": self.runs[id].get("displayName") or id,
            "config": self.runs[id].get("config", "{}"),
            "summaryMetrics": self.runs[id].get("summaryMetrics", "{}"),
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "tags": self.runs[id].get("tags", []),
            "wandbConfig": '{"t": 1}',
            "project": self._project(),
        }

    def _stream(self, id: str, sent: dict[str, Any]) -> None:
        rows = self.rows.setdefault(id, [])
        history = (sent.get("files") or {}).get("wandb-history.jsonl")
        if history:
            rows[history["offset"] :] = [json.loads(line) for line in history["content"]]
        if sent.get("complete"):
            self.exits[id] = sent["exitcode"]


@contextmanager
def wandb_server(refuses: bool = False) -> Iterator[Server]:
    """Run a server until the end of the block; one that refuses answers 401 to everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if server.gone:
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer = {"error": "no such key"} if server.refuses else server.answer(self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(401 if server.refuses else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_port}", http, refuses)
    Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.stop()
