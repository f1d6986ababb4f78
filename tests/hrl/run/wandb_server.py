"""A stand-in for W&B's server: it takes what `wandb sync` sends and keeps it in memory."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class WandbServer:
    """Keep the runs, history lines and files that were sent.

    Attributes:
        url: the address for WANDB_BASE_URL.
        runs: the variables of each request that creates a run or changes one.
        history: the lines of the run's history, in the order of their arrival.
        files: content of each uploaded file, by its name in the run.
    """

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.url = ""

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return the answer to a request with a body."""
        if path.endswith("/file_stream"):
            sent = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.history += [json.loads(line) for line in sent.get("content", [])]
            return {}
        if path != "/graphql":
            return {}
        request = json.loads(body)
        variables = request["variables"]
        if request.get("operationName") == "UpsertBucket":
            self.runs.append(variables)
            return {"data": {"upsertBucket": {"inserted": True, "bucket": _bucket(variables)}}}
        if request.get("operationName") == "CreateRunFiles":
            files = [
                {"name": name, "uploadUrl": f"{self.url}/upload/{name}"}
                for name in variables["files"]
            ]
            created = {"runID": "id", "uploadHeaders": [], "files": files}
            return {"data": {"createRunFiles": created}}
        return {"data": {}}


def _bucket(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the server's record of a run."""
    project = {"id": "project", "name": variables["project"], "entity": {"id": "1", "name": "me"}}
    return {
        "id": "bucket",
        "name": variables["name"],
        "displayName": variables.get("displayName"),
        "config": "{}",
        "historyLineCount": 0,
        "project": project,
    }


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Serve on a free port of this machine until the block ends."""
    server = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._send(json.dumps(server.answer(self.path, self._body())).encode())

        def do_PUT(self) -> None:
            server.files[self.path.removeprefix("/upload/")] = self._body()
            self._send(b"")

        def do_GET(self) -> None:
            self._send(b"{}")

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            packed = self.headers.get("Content-Encoding") == "gzip"
            return gzip.decompress(body) if packed else body

        def _send(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
