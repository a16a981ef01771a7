"""A small hub on this machine: it answers what the Hugging Face hub's own library asks, from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: answers, or hangs up; given `send(status, body, headers)`
Fault = Callable[[Callable[[int, bytes, dict[str, str]], None]], None]


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str], dict[str, Fault]]]:
    """The address, the requests so far, and what is answered otherwise, by the ends of requests.

    `root/org/name/revision/…` are the files; `gated` in a name closes it.
    """
    asked: list[str] = []
    faults: dict[str, Fault] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(f"{self.command} {path}")
            for end, fault in faults.items():
                if asked[-1].endswith(end):
                    self.close_connection = True
                    return fault(self._send)
            try:
                self._answer(*_parts(path))
            except FileNotFoundError as e:
                self._send(404, b"{}", {"X-Error-Code": str(e)})

        def _answer(self, what: str, repo: str, revision: str, file: str) -> None:
            if "gated" in repo:
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
                return
            if not (root / repo).is_dir():
                raise FileNotFoundError("RepoNotFound")
            folder = next((f for f in (root / repo).iterdir() if revision in (f.name, _commit(f))), None)
            if folder is None:
                raise FileNotFoundError("RevisionNotFound")
            files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
            match what:
                case "revision":
                    siblings = [{"rfilename": n, "size": len(raw)} for n, raw in files.items()]
                    self._json({"id": repo, "sha": _commit(folder), "siblings": siblings, "private": False})
                case "tree":
                    self._json([{"type": "file", "path": n, "size": len(r), "oid": _oid(r)} for n, r in files.items()])
                case _ if file in files:
                    headers = {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": _commit(folder)}
                    self._send(200, files[file], headers)
                case _:
                    raise FileNotFoundError("EntryNotFound")

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for k, v in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(k, v)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked, faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _parts(path: str) -> tuple[str, str, str, str]:
    """What is asked for, of which model, at which revision, and the file."""
    match path.split("/"):
        case ["api", "models", org, name, ("revision" | "tree") as what, *revision]:
            return what, f"{org}/{name}", "/".join(revision), ""
        case ["api", "models", org, name]:
            return "revision", f"{org}/{name}", "main", ""
        case [org, name, "resolve", revision, *file]:
            return "file", f"{org}/{name}", revision, "/".join(file)
    raise FileNotFoundError("EntryNotFound")


def _commit(folder: Path) -> str:
    return hashlib.sha1(folder.name.encode()).hexdigest()


def _oid(raw: bytes) -> str:
    return hashlib.sha1(raw).hexdigest()
