"""A stand-in for wandb's server, which writes down what it is sent."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

KEY = "0123456789" * 4


class Server(ThreadingHTTPServer):
    """As much of a wandb server as pushing runs and saving a view needs; it keeps what it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.rows, self.groups, self.summaries, self.codes, self.views, self.refuses, self.asked = {}, {}, {}, {}, [], (), []
        self.loses = 0  # how often rows are taken and lost
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def environment(self):
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": KEY}

    def answer(self, operation, given):
        """The answer to a GraphQL request."""
        self.asked.append(operation)
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "1", "entity": "somebody", "username": "somebody", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            self.groups.setdefault(given["name"], given["groupName"])
            project = {"id": "2", "name": given["project"], "entity": {"id": "3", "name": "somebody"}}
            lines = len(self.rows.get(given["name"], []))
            bucket = {"id": "4", "name": given["name"], "displayName": "", "sweepName": None, "historyLineCount": lines, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "RunResumeStatus" and given["name"] in self.rows:
            lines = self.rows[given["name"]]
            counts = {"historyLineCount": len(lines), "eventsLineCount": 0, "logLineCount": 0, "historyTail": json.dumps(lines[-1:])}
            known = {
                "summaryMetrics": json.dumps(self.summaries.get(given["name"], {})),
                "config": "{}",
                "tags": [],
                "wandbConfig": '{"t": 1}',
                "eventsTail": "[]",
            }
            bucket = {"id": "4", "name": given["name"], "displayName": "", **counts, **known}
            return {"model": {"id": "2", "name": given["project"], "entity": {"id": "3", "name": "somebody"}, "bucket": bucket}}
        if operation in ("Run", "RunHistoryKeys"):
            steps = [json.loads(line)["_step"] for line in self.rows.get(given["name"], [])]
            run = {"id": "4", "name": given["name"], "displayName": "", "state": "crashed", "config": "{}", "summaryMetrics": "{}"}
            return {"project": {"run": {**run, "historyKeys": {"lastStep": max(steps, default=-1), "keys": {}, "sets": []}}}}
        if operation == "CreateRunFiles":
            urls = [{"name": name, "uploadUrl": f"{self.environment['WANDB_BASE_URL']}/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": urls}}
        if operation == "UpsertView2":
            self.views.append(given)
            return {"upsertView": {"view": {"id": "5", "name": given["name"]}, "inserted": True}}
        return {"model": None}

    def stream(self, run, files):
        """Write lines where the client says that they belong."""
        self.asked.append({name: (sent["offset"], len(sent["content"])) for name, sent in files.items()})
        if "wandb-history.jsonl" in files and self.loses:
            self.loses -= 1
        elif "wandb-history.jsonl" in files:
            sent, lines = files["wandb-history.jsonl"], self.rows.setdefault(run, [])
            lines[sent["offset"] : sent["offset"] + len(sent["content"])] = sent["content"]
        if "wandb-summary.json" in files:
            self.summaries[run] = json.loads(files["wandb-summary.json"]["content"][-1])


class Answers(BaseHTTPRequestHandler):
    """One request to the server above."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if any(word in self.path for word in self.server.refuses):
            return self.reply({"error": "forbidden"}, 403)
        if self.path.endswith("/file_stream"):
            sent = json.loads(body)
            self.server.stream(self.path.split("/")[-2], sent.get("files") or {})
            return self.reply({"exitcode": None, "limits": {}})
        if "graphql" not in self.path:
            return self.reply({})
        asked = json.loads(body)
        operation = asked.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
        return self.reply({"data": self.server.answer(operation, asked.get("variables") or {})})

    def reply(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass
