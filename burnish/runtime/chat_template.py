"""From a conversation to one text, by the Jinja template of its model, which is code that somebody else wrote.

So it runs in jinja2's sandbox, in a process of its own with bounded time and memory: this file is that program too, and
imports nothing of ours. What a template is given is what transformers gives it: the globals, filters and variables of
https://huggingface.co/docs/transformers/chat_templating_writing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.frontends.tokenizers.chat_template import ChatTemplate

__all__ = ["Message", "rendered"]

Message = Mapping[str, Any]  # role and content, at least

CPU = 10  # seconds that a template may compute; usual ones take some milliseconds
MEMORY = 1 << 30  # bytes of address space, of which Python and jinja2 take some 50 MB
WAIT = 120  # seconds until it counts as hanging, for systems that do not bound the two above
LONGEST = 64 << 20  # characters that it may make


def rendered(
    chat: ChatTemplate,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> str:
    """The text of a conversation, up to where the next answer begins if `add_generation_prompt`.

    `variables` are what else a template may know: enable_thinking, for instance. Raises LoadError where the template is
    none, refuses the conversation, or needs too long or too much.
    """
    from burnish.frontends.config import LoadError

    request = {
        "template": chat.text(tools=tools is not None),
        "variables": {
            **chat.tokens,
            **variables,
            "messages": [dict(m) for m in messages],
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        },
        "limits": {"cpu": CPU, "memory": MEMORY, "longest": LONGEST},
    }
    command = [sys.executable, "-P", __file__]  # -P: names of files beside this one are none of Python's own
    try:
        given = json.dumps(request).encode()
        ran = subprocess.run(command, input=given, capture_output=True, timeout=WAIT, check=False)
        answer = json.loads(ran.stdout or "{}")
    except subprocess.TimeoutExpired:
        answer = {}
    if "text" in answer:
        return str(answer["text"])
    fault = answer.get("error", f"needs more than {CPU} seconds or {MEMORY >> 20} MiB")
    raise LoadError(f"{chat.where}: the chat template {fault}")


# ---------------------------------------------------------------------------------------------- in a process of its own


def _main() -> None:
    request = json.load(sys.stdin)
    limits = request["limits"]
    _bound(limits["cpu"], limits["memory"])
    try:
        text = render(request["template"], request["variables"])
        answer = {"text": text} if len(text) <= limits["longest"] else {"error": f"makes {len(text):,} characters"}
    except MemoryError:
        answer = {"error": f"needs more than {limits['memory'] >> 20} MiB"}
    except RecursionError:
        answer = {"error": "calls itself without an end"}
    except Exception as e:
        answer = {"error": _fault(e)}
    json.dump(answer, sys.stdout)


def _bound(cpu: int, memory: int) -> None:
    """Limits for this process, where the system has them; whoever waits for it has one of its own."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    if sys.platform != "darwin":  # which takes no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _fault(error: Exception) -> str:
    import jinja2
    from jinja2.exceptions import SecurityError

    message = str(error)[:300] or type(error).__name__
    match error:
        case jinja2.TemplateSyntaxError():
            return f"cannot be read: line {error.lineno}: {message}"
        case jinja2.UndefinedError() | SecurityError():
            return f"fails: {message}"
        case jinja2.TemplateError():  # what `raise_exception` raises
            return f"refuses the conversation: {message}"
    return f"fails: {type(error).__name__}: {message}"


def render(template: str, variables: Mapping[str, Any]) -> str:
    """The text, in this process and without bounds."""
    messages = [_message(m) for m in variables["messages"]]
    return str(_environment().from_string(template).render({**variables, "messages": messages}))


def _message(given: Message) -> dict[str, Any]:
    """Without what is null; what a model thought before it answered under each name that templates have for it."""
    message = {k: v for k, v in given.items() if v is not None}
    names = ("reasoning_content", "thinking", "reasoning")
    thoughts = next((message[n] for n in names if n in message), None)
    return message if thoughts is None else {"thinking": thoughts, **message, "reasoning_content": thoughts}


def _environment() -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` says which text is the model's own, for training: its body alone counts."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            """The body."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Dict:
        """`dict`, without the attributes of a class."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:
            """As of `dict`."""
            return dict.fromkeys(*args)

    class Names(Namespace):
        """`namespace`, of names that do not begin with an underscore."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, rest = args[0], args[1:]
            given = dict(*rest, **kwargs)
            for name in given:
                Names.check(name)
            Namespace.__init__(self, given)

        def __setitem__(self, name: str, value: Any) -> None:
            Names.check(name)
            super().__setitem__(name, value)

        @staticmethod
        def check(name: object) -> None:
            """Raise SecurityError for a name that reaches into Python."""
            if isinstance(name, str) and name.startswith("_"):
                raise SecurityError(f"a namespace has no {name!r}")

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Without the escapes for web pages of jinja2's own."""
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals.update(
        raise_exception=refuse,
        strftime_now=lambda form: datetime.now().strftime(form),
        dict=Dict(),
        namespace=Names,
    )
    return made


if __name__ == "__main__":
    _main()
