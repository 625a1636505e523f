"""A stand-in for the Hugging Face hub on this machine, with some repositories; it notes what it is asked for."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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
        if error and path.startswith(error["at"]):
            return self.send(b"", error["status"], {"X-Error-Code": error["code"]})
        for name, files in self.server.repositories.items():
            about = f"/api/{name if name.startswith('datasets/') else f'models/{name}'}"
            if path == f"{about}/tree/{COMMIT}":
                return self.send_json([{"type": "file", "path": path, "size": len(data), "oid": path} for path, data in files.items()])
            if path in (about, *(f"{about}/revision/{revision}" for revision in self.server.revisions)):
                return self.send_json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]})
            if path.startswith(prefix := f"/{name}/resolve/{COMMIT}/"):
                return self.send_file(name, path.removeprefix(prefix), files[path.removeprefix(prefix)])
            if path.startswith(prefix := f"/elsewhere/{name}/"):
                return self.send(files[path.removeprefix(prefix)], 200, {})
        return self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def send_file(self, repository: str, path: str, data: bytes):
        etag = f'"{path.replace("/", "-")}"'
        if len(data) < LARGE:
            return self.send(data, 200, {"ETag": etag, "X-Repo-Commit": COMMIT})
        where = f"http://localhost:{self.server.server_port}/elsewhere/{repository}/{path}"
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data)), "X-Repo-Commit": COMMIT}
        return self.send(b"", 302, {"Location": where, **linked})

    def send_json(self, content):
        self.send(json.dumps(content).encode(), 200, {"Content-Type": "application/json"})

    def send(self, body: bytes, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: the files of each, by the name of the repository: `someone/model` or `datasets/someone/data`.
        revisions: names of the one commit that each has.
        error: what is answered instead, to all paths that begin as it says.
        asked, heads: paths of all that was asked for, with its content and without.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, dict[str, bytes]], revisions: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories, self.revisions = repositories, revisions
        self.error: dict | None = None
        self.asked: list[str] = []
        self.heads: list[str] = []

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
