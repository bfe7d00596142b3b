"""A model endpoint on loopback that speaks the chat-completions protocol, with every fault a real one has."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Response:
    """An answer of the endpoint. With `hangs` it never comes."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False


Model = Callable[[Body], Response]


def say(
    content: Any, finish: str = "stop", refusal: str | None = None, usage: tuple[int, int] | None = (90, 10)
) -> Response:
    """A completion; what is not a text is sent as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    message = {"role": "assistant", "content": text, "refusal": refusal}
    body: Body = {"id": "c", "object": "chat.completion", "created": 0, "model": "test"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}]
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Response(body=body)


def refuse(status: int, code: str | None = None, message: str = "No.", **headers: str) -> Response:
    """An error in the protocol's form."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return Response(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


def change_depth(depth: int = 6) -> Body:
    """A whole, useful answer: an experiment on `DEPTH = 4`."""
    return {
        "title": f"DEPTH {depth}", "hypothesis": "Deeper.", "axis": "DEPTH", "direction": "up", "value": str(depth),
        "predicted_effect": -0.01, "refuted_by": "No change.", "files": [],
        "edits": [{"file": "train.py", "search": "DEPTH = 4", "replace": f"DEPTH = {depth}"}],
    }  # fmt: skip


PAPER = {
    "claim": "Depth helps, in one run.",
    "mechanism": "More layers.",
    "caveats": "One run.",
    "follow_ups": "Width.",
}


class ChatServer:
    """Answers with `script`, one by one, then with `model`. `requests` holds what was asked, `keys` with which key."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.script: list[Response] = []
        self.requests: list[Body] = []
        self.keys: list[str] = []
        self.url = ""
        self.ending = threading.Event()

    def answer(self, body: Body, key: str) -> Response:
        self.requests.append(body)
        self.keys.append(key)
        return self.script.pop(0) if self.script else self.model(body)

    def prompts(self) -> str:
        """Everything that was ever sent to the model."""
        return "\n".join(message["content"] for body in self.requests for message in body["messages"])


def honest(body: Body) -> Response:
    """A model that gives what the schema asks for."""
    name = body.get("response_format", {}).get("json_schema", {}).get("name", "ExperimentReply")
    if name == "PaperReply":
        return say(PAPER)
    return say({"explanation": "No idea.", "edits": [], "files": []} if name == "RepairReply" else change_depth())


@contextmanager
def serve_chat(model: Model = honest) -> Iterator[ChatServer]:
    """Serve it for as long as the block."""
    chat = ChatServer(model)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(
                Response(
                    body={"object": "list", "data": [{"id": "test", "object": "model", "created": 0, "owned_by": "t"}]}
                )
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            response = chat.answer(body, self.headers.get("Authorization", ""))
            if response.hangs:
                chat.ending.wait(60)
                self.close_connection = True
                return
            self.send(response)

        def send(self, response: Response) -> None:
            text = response.body if isinstance(response.body, str) else json.dumps(response.body)
            self.send_response(response.status)
            for name, value in {"Content-Type": "application/json", **response.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield chat
        finally:
            chat.ending.set()
            server.shutdown()
            thread.join()
