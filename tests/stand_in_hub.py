"""A stand-in for the Hugging Face hub on this machine, with some repositories; it notes what it is asked for, and takes commits."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_somebody"
BIG = ".parquet"  # what ends so is sent before a commit, to where the hub says (in the way of Git LFS)
LARGE = 1 << 16  # bytes from which on a file is kept elsewhere, to which the hub sends whoever asks


class Answers(BaseHTTPRequestHandler):
    """What the hub library asks of a repository: its files, their tree, and each of them."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self):
        self.server.asked.append(self.path.partition("?")[0])
        self.answer()

    def do_HEAD(self):
        self.server.heads.append(self.path.partition("?")[0])
        self.answer()

    def answer(self):
        path, error = self.path.partition("?")[0], self.server.error
        if path == "/api/whoami-v2":
            known = self.headers["Authorization"] == f"Bearer {TOKEN}"
            me = {"type": "user", "name": "somebody", "orgs": [{"name": "some-team"}]}
            return self.send_json(me) if known else self.send_json({"error": "Invalid"}, 401)
        if error and path.startswith(error["at"]):
            return self.send(b"", error["status"], {"X-Error-Code": error["code"]})
        for name, files in self.server.repositories.items():
            about = f"/api/{name if name.startswith('datasets/') else f'models/{name}'}"
            if path == f"{about}/tree/{COMMIT}":
                return self.send_json([{"type": "file", "path": path, "size": len(data), "oid": path} for path, data in files.items()])
            if path in (about, *(f"{about}/revision/{revision}" for revision in self.server.revisions)):
                about = {"id": name, "sha": COMMIT, "private": name in self.server.private}
                return self.send_json({**about, "siblings": [{"rfilename": path} for path in files]})
            if path.startswith(prefix := f"/{name}/resolve/{COMMIT}/"):
                return self.send_file(name, path.removeprefix(prefix), files[path.removeprefix(prefix)])
            if path.startswith(prefix := f"/elsewhere/{name}/"):
                return self.send(files[path.removeprefix(prefix)], 200, {})
        return self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self):
        path, body = self.path.partition("?")[0], self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(path)
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or path in self.server.refuses:
            return self.send_json({"error": "Forbidden"}, 403)
        if path == "/api/validate-yaml":
            return self.send_json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith("/preupload/main"):
            modes = [(file["path"], "lfs" if file["path"].endswith(BIG) else "regular") for file in json.loads(body)["files"]]
            return self.send_json({"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.send_json({"transfer": "basic", "objects": [self.place_for(wanted) for wanted in json.loads(body)["objects"]]})
        name = path.removeprefix("/api/").removesuffix("/commit/main")
        if name not in self.server.repositories:
            return self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})
        self.commit(name, [json.loads(line) for line in body.splitlines()])
        return self.send_json({"commitUrl": f"{self.server.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(body).hexdigest() == self.path.rpartition("/")[2]
        self.server.sent[self.path.rpartition("/")[2]] = body
        self.send(b"", 200, {})

    def create(self, wanted):
        """Make a repository of somebody's, unless there is one."""
        name = f"{wanted['type']}s/{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.server.endpoint}/{name}"}
        if name in self.server.repositories:
            return self.send_json(url, 409)
        self.server.repositories[name] = {".gitattributes": b"*.parquet filter=lfs"}
        self.server.private |= {name} if wanted["visibility"] == "private" else set()
        return self.send_json(url)

    def place_for(self, wanted):
        """Where a large file goes."""
        upload = {"href": f"{self.server.endpoint}/elsewhere/{wanted['oid']}", "header": {}}
        return {**wanted, "actions": {"upload": upload}}

    def commit(self, name, lines):
        """Do all that a commit says, at once."""
        files = dict(self.server.repositories[name])
        for kind, value in ((line["key"], line["value"]) for line in lines):
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.server.sent[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        self.server.repositories[name] = files
        self.server.commits.append(name)

    def send_file(self, repository: str, path: str, data: bytes):
        etag = f'"{path.replace("/", "-")}"'
        if len(data) < LARGE:
            return self.send(data, 200, {"ETag": etag, "X-Repo-Commit": COMMIT})
        where = f"http://localhost:{self.server.server_port}/elsewhere/{repository}/{path}"
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data)), "X-Repo-Commit": COMMIT}
        return self.send(b"", 302, {"Location": where, **linked})

    def send_json(self, content, status=200):
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json"})

    def send(self, body: bytes, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: the files of each, by the name of the repository: `someone/model` or `datasets/someone/data`.
        revisions: names of the one commit that each has.
        error: what is answered instead, to all paths that begin as it says.
        asked, heads: paths of all that was asked for, with its content and without. posted: paths of what was to be done.
        private: names of repositories that not everybody sees. commits: names of those that were committed to, in their order.
        refuses: paths at which nothing may be done. sent: large files by their SHA-256, before a commit names them.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]], revisions: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories, self.revisions = repositories, revisions
        self.error: dict | None = None
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.posted: list[str] = []
        self.private: set[str] = set()
        self.commits: list[str] = []
        self.refuses: tuple[str, ...] = ()
        self.sent: dict[str, bytes] = {}

    @property
    def endpoint(self) -> str:
        """Its address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> Counter[tuple[str, str]]:
        """How often each file, by repository and path, was sent."""
        sent: Counter[tuple[str, str]] = Counter()
        for name, files in self.repositories.items():
            for path, data in files.items():
                at = f"/elsewhere/{name}/{path}" if len(data) >= LARGE else f"/{name}/resolve/{COMMIT}/{path}"
                sent[name, path] = self.asked.count(at)
        return +sent


@contextmanager
def opened(repositories: dict[str, dict[str, bytes]], revisions: tuple[str, ...] = ("main", COMMIT)) -> Iterator[Hub]:
    """A hub that is at work inside."""
    with Hub(repositories, revisions) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
